"""`unmask eval ppl`: sets, packings, estimators, errors on every number."""

import dataclasses
import math

import pytest

from unmask.text import zeroshot

from .call import call


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    row = dataclasses.replace(
        zeroshot.zero_shot("boolq"), documents=lambda: iter([f"A sentence, number {i}." for i in range(90)])
    )
    monkeypatch.setitem(zeroshot.ZERO_SHOT, "boolq", row)


def run(small_models, kind, *options):
    return call("eval", "ppl", "--model", small_models / kind, "--data", "boolq", "--rows", 4, *options)


def test_both_quantities_in_both_orders_with_errors(small_models):
    done = run(small_models, "sedd", "--times", 2, "--packing", "mdlm", "--estimator", "mask-count")
    assert done.code == 0, done.err
    assert done.out.count("(exp of the mean)") == 2 and done.out.count("(mean of exp over rows)") == 2
    assert done.out.count("+-") == 7 and "mask-count, 2 evaluations a row in 1 round," in done.out
    assert "packing mdlm" in done.out and "tokens in no row" in done.out and "not as paper" in done.out


@pytest.mark.parametrize("packing", ["sedd", "mdlm", "bd3", "stride", "stream"])
@pytest.mark.parametrize("kind", ["sedd", "ar"])
def test_json_has_everything(small_models, kind, packing):
    (found,) = run(small_models, kind, "--times", 2, "--packing", packing, "--json").lines()
    names = ("perplexity", "perplexity_mean_exp", "paper_perplexity", "paper_perplexity_mean_exp")
    assert all(found[name] > 0 and found[f"{name}_stderr"] >= 0 for name in names)
    assert found["perplexity_mean_exp"] >= found["perplexity"] * (1 - 1e-9)
    assert set(found["parts"]) == set(found["parts_stderr"])
    assert found["protocol"]["packing"] == packing and found["tokens"] == found["protocol"]["scored_tokens"]
    assert found["estimator"] == ("" if kind == "ar" else "stratified") and "rows" not in found
    assert found["bits_per_byte"] == pytest.approx(
        found["nats_per_token"] * found["tokens"] / math.log(2) / found["text_bytes"]
    )


def test_a_target_is_reached_or_said_to_be_missed(small_models):
    (found,) = run(small_models, "sedd", "--times", 2, "--target-stderr", 10, "--json").lines()
    assert found["rounds"] == 2 and found["times_per_row"] == 4 and found["mc_stderr"] <= 10
    done = run(small_models, "mdlm", "--times", 2, "--target-stderr", 1e-9, "--max-times", 6, "--json")
    assert done.lines()[0]["times_per_row"] == 6 and "above target" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--packing", "mdml"], "mdlm"),
        (["--estimator", "counts"], "mask-count"),
        (["--packing", "stride", "--stride", 33], "cannot move by 33"),
        (["--target-stderr", 0.1, "--times", 8, "--max-times", 8], "room for two rounds"),
    ],
)
def test_bad_options_are_one_clear_error(small_models, options, words):
    done = run(small_models, "sedd", *options)
    assert done.code == 2 and done.out == "" and words in done.err and "Traceback" not in done.err
