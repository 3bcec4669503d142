import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from unmask import checkpoint
from unmask.errors import ConfigError
from unmask.evaluation.likelihood import exact_nll, nelbo
from unmask.recipes.report import SCALES, SHORTEST, make_report
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.sampling import Canvas, sample
from unmask.text.corpora import corpus
from unmask.text.packing import pack, tokenize
from unmask.text.tokenizers import train_bpe

TEMPLATE = "We [MASK:5] in [MASK] peace."


@pytest.fixture(scope="module")
def twins(small_models):
    return checkpoint.load(small_models / "sedd"), checkpoint.load(small_models / "ar")


@pytest.fixture(scope="module")
def heldout(small_tokenizer):
    texts = list(corpus("excerpt").heldout())
    return pack(tokenize(texts, small_tokenizer), 32, small_tokenizer.eos_id).rows[:20]


@pytest.fixture(scope="module")
def made(twins, heldout, tmp_path_factory):
    """A smoke report: its page, its numbers, what was said and heard, and how long it took."""
    heard, said = [], []
    began = time.monotonic()
    page = make_report(
        *twins, heldout, tmp_path_factory.mktemp("out") / "report", scale="smoke", seed=4, templates=[TEMPLATE],
        protocol={"corpus": "excerpt", "note": ""}, say=said.append, progress=lambda *at: heard.append(at),
    )  # fmt: skip
    values = json.loads((page.parent / "report.json").read_text())
    return {"page": page, "json": values, "heard": heard, "said": said, "seconds": time.monotonic() - began}


def value(made, name, model):
    return next(row for row in made["json"]["rows"] if (row["name"], row["model"]) == (name, model))


def test_smoke_is_quick(made):
    assert made["seconds"] < 15


def test_the_likelihoods_are_those_of_the_same_rows_measured_alone(made, twins, heldout):
    rows = heldout[np.linspace(0, len(heldout) - 1, SCALES["smoke"].rows).astype(int)]
    bound = nelbo(twins[0], rows, times_per_row=SCALES["smoke"].times, seed=4)
    exact = exact_nll(twins[1], rows)
    ours, theirs = value(made, "nats_per_token", "SEDD"), value(made, "nats_per_token", "AR")
    assert (ours["value"], ours["stderr"], ours["n"]) == pytest.approx((bound.nats_per_token, bound.stderr, len(rows)))
    assert (theirs["value"], theirs["stderr"]) == pytest.approx((exact.nats_per_token, exact.stderr))
    assert value(made, "paper_nats_per_token", "SEDD")["value"] == pytest.approx(bound.paper)
    gaps = np.array(bound.rows) - np.array(exact.rows)
    assert value(made, "nats_difference", "SEDD − AR")["value"] == pytest.approx(gaps.mean())
    assert value(made, "bits_per_byte", "AR")["value"] == pytest.approx(exact.bits_per_byte)
    assert "held-out rows from excerpt" in ours["protocol"]


def test_the_samples_are_those_of_the_seed(made, twins):
    scale = SCALES["smoke"]
    samples = made["json"]["samples"]
    assert [(s["model"], s["steps"], s["top_p"]) for s in samples] == [
        *(("SEDD", steps, 1.0) for steps in scale.steps), ("AR", None, 1.0), ("AR", None, 0.95),
    ]  # fmt: skip
    for shown, model in zip(samples, [twins[0]] * len(scale.steps) + [twins[1]] * 2, strict=True):
        options = {"steps": shown["steps"]} if shown["steps"] else {}
        again = sample(model, Canvas.blank(32, scale.batch), top_p=shown["top_p"], seed=4, **options)
        assert shown["text"] == model.tokenizer.decode(again.tokens[0], keep_special=True)
        assert shown["nfe"] == again.nfe and shown["seconds"] > 0


def test_fills_keep_what_was_given(made):
    fills = made["json"]["fills"]
    assert len(fills) == SCALES["smoke"].fills
    for fill in fills:
        spans = fill["spans"]
        assert [span["filled"] for span in spans] == [False, True, False, True, False]
        assert [span["text"] for span in spans if not span["filled"]] == ["We", " in", " peace."]
        assert all(span["text"] for span in spans if span["filled"])


def test_each_way_of_writing_is_timed(made):
    rows = [row for row in made["json"]["rows"] if row["unit"] == "s"]
    steps = SCALES["smoke"].steps
    assert [row["name"] for row in rows] == [
        "seconds_per_sequence", *(f"seconds_per_sequence_{n}_steps" for n in steps)
    ]  # fmt: skip
    assert all(row["value"] > 0 and row["n"] == SCALES["smoke"].repeats for row in rows)
    assert "key-value cache" in rows[0]["protocol"] and "tweedie rule, raw scores" in rows[1]["protocol"]


def test_the_page_shows_the_numbers_of_the_json(made):
    text = made["page"].read_text()
    for model in ("SEDD", "AR"):
        row = value(made, "bits_per_byte", model)
        assert f"{row['value']:.2f}"[:4] in text
    assert made["json"]["provenance"]["settings_hash"] in text
    assert made["json"]["provenance"]["settings"]["seed"] == 4
    assert "excerpt" in text and str(made["page"].parent) not in text


def test_progress_rises_to_its_end(made):
    done = [at for at, _ in made["heard"]]
    totals = {total for _, total in made["heard"]}
    assert done == sorted(done) and len(totals) == 1 and done[-1] == totals.pop() and len(done) > 5
    assert any("timing AR" in words for words in made["said"])


def test_the_same_seed_gives_the_same_numbers(made, twins, heldout, tmp_path):
    page = make_report(*twins, heldout, tmp_path / "r", scale="smoke", seed=4, templates=[TEMPLATE])
    again = json.loads((page.parent / "report.json").read_text())
    kept = ("name", "model", "value", "stderr")
    first, second = (
        [[row[k] for k in kept] for row in values["rows"] if row["unit"] != "s"] for values in (made["json"], again)
    )
    assert first == second and again["fills"] == made["json"]["fills"]
    assert [s["text"] for s in again["samples"]] == [s["text"] for s in made["json"]["samples"]]


def test_a_template_that_is_too_long_is_left_out_and_named(twins, heldout, tmp_path):
    long = "We [MASK:40] in peace."
    page = make_report(*twins, heldout[:2], tmp_path / "r", scale="smoke", templates=[long])
    values = json.loads((page.parent / "report.json").read_text())
    assert values["omitted"] and long in values["omitted"][0] and "What is not here" in page.read_text()
    assert {fill["template"] for fill in values["fills"]} == {SHORTEST}


def refused(*arguments, match, **options):
    with pytest.raises(ConfigError, match=match) as caught:
        make_report(*arguments, **options)
    return caught.value


def test_what_cannot_be_reported_is_refused_before_anything_is_measured(twins, heldout, tmp_path):
    def told(words):
        raise AssertionError(f"measured already: {words}")

    out, quiet = tmp_path / "r", {"say": told}
    assert "smoke" in refused(*twins, heldout, out, scale="smok", match="unknown scale", **quiet).hint
    refused(twins[1], twins[0], heldout, out, match="got autoregressive and diffusion", **quiet)
    refused(twins[0], twins[0], heldout, out, match="got diffusion and diffusion", **quiet)
    refused(*twins, heldout[0], out, match=r"\[N, L\]", **quiet)
    refused(*twins, heldout[:0], out, match=r"\[N, L\]", **quiet)
    refused(*twins, heldout, out, templates=["no gap"], match="no gap", **quiet)
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refused(*twins, heldout, out, match=r"thesis\.tex", **quiet)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_models_with_different_tokenizers_are_refused(twins, heldout, tmp_path):
    other = train_bpe(list(corpus("excerpt").train())[3:5], 320)
    shape = ModelShape("ar", width=32, depth=1, heads=2, length=32)
    refused(twins[0], build_model(shape, other), heldout, tmp_path / "r", match="different tokenizers")
    mute = build_model(shape, other)
    mute.tokenizer = None
    refused(twins[0], mute, heldout, tmp_path / "r", match="with a tokenizer")


def test_rows_may_be_a_tensor_and_a_normalized_model_has_its_own_name(small_models, twins, heldout, tmp_path):
    mdlm = checkpoint.load(small_models / "mdlm")
    rows = torch.as_tensor(np.asarray(heldout[:1]).astype(np.int64))
    page = make_report(mdlm, twins[1], rows, tmp_path / "r", scale="smoke", templates=[TEMPLATE])
    values = json.loads((page.parent / "report.json").read_text())
    assert {row["model"] for row in values["rows"]} == {"MDLM", "AR", "MDLM − AR"}
    assert "no error can be stated" in page.read_text()


def test_matplotlib_is_not_imported_before_it_is_needed():
    code = "import sys, unmask.recipes.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
