import dataclasses
import json

import numpy as np
import pytest
import torch

from cli.call import call
from unmask import compat
from unmask.errors import ConfigError, DataError
from unmask.evaluation import samples as module
from unmask.evaluation.samples import (
    SampleSettings,
    data_samples,
    fingerprint,
    read_samples,
    write_continuations,
    write_samples,
)
from unmask.sampling import Canvas, sample

STEPS = {"sedd": 4, "ar": None}


def lively(folder):
    """A model in float64 whose weights all matter: heads start at zero."""
    model = compat.load(folder, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.fixture(scope="module", params=["sedd", "ar"])
def model(request, small_models):
    return lively(small_models / request.param)


@pytest.fixture(scope="module")
def sedd(small_models):
    return lively(small_models / "sedd")


def settings(model, **changes):
    steps = STEPS["ar" if model.kind == "autoregressive" else "sedd"]
    plain = SampleSettings("a set", "tiny", fingerprint(model), n=5, length=12, seed=3, steps=steps, batch=2)
    return dataclasses.replace(plain, **changes)


def rows(found):
    return [ids.tolist() for ids in found.ids]


def test_the_set_is_what_the_seed_says_whatever_the_batch(tmp_path, model):
    wanted = settings(model, top_p=0.9, temperature=0.8)
    made = write_samples(tmp_path / "a.jsonl", model, wanted)
    direct = sample(model, Canvas.blank(12, batch=5), steps=wanted.steps, seed=3, top_p=0.9, temperature=0.8)
    assert rows(made) == direct.tokens.tolist() and len({tuple(r) for r in rows(made)}) == 5
    whole = write_samples(tmp_path / "b.jsonl", model, dataclasses.replace(wanted, batch=5))
    assert rows(whole) == rows(made) and rows(write_samples(tmp_path / "c.jsonl", model, settings(model))) != rows(made)
    assert made.texts == [model.tokenizer.decode(r, keep_special=True) for r in rows(made)]
    assert made.settings == wanted and made.tokenizer == model.tokenizer.fingerprint and made.n == 5
    assert [(b.first, b.size) for b in made.batches] == [(0, 2), (2, 2), (4, 1)]
    assert made.nfe == direct.nfe and all(s > 0 for s in made.seconds) and made.lengths() == "12"
    assert {b.rule for b in made.batches} == {direct.rule} and {b.reads for b in made.batches} == {direct.reads}
    assert made.words() == ", ".join(
        ([f"{wanted.steps} steps"] if wanted.steps else []) + [direct.rule, "temperature 0.8", "top_p 0.9"]
    )


def test_a_file_says_what_it_is(tmp_path, sedd):
    write_samples(tmp_path / "a.jsonl", sedd, settings(sedd))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[0]["format"] == 1 and lines[0]["settings"]["steps"] == 4
    assert [sorted(line) for line in lines[1:4]] == [["ids", "sample", "seed", "text"]] * 2 + [["batch"]]
    assert [line["sample"] for line in lines if "sample" in line] == list(range(5))
    assert not list(tmp_path.glob("*.part"))


def test_a_finished_set_is_read_and_not_made_again(tmp_path, sedd, monkeypatch):
    made = write_samples(tmp_path / "a.jsonl", sedd, settings(sedd))
    monkeypatch.setattr(module, "sample", lambda *a, **k: pytest.fail("sampled"))
    assert rows(write_samples(tmp_path / "a.jsonl", sedd, settings(sedd))) == rows(made)


def test_other_settings_are_refused_or_written_over(tmp_path, sedd):
    made = write_samples(tmp_path / "a.jsonl", sedd, settings(sedd))
    with pytest.raises(ConfigError, match="other settings: seed 3, not 4; steps 4, not 2"):
        write_samples(tmp_path / "a.jsonl", sedd, settings(sedd, seed=4, steps=2))
    assert rows(read_samples(tmp_path / "a.jsonl")) == rows(made)
    other = write_samples(tmp_path / "a.jsonl", sedd, settings(sedd, seed=4, steps=2), overwrite=True)
    assert rows(other) != rows(made) and rows(read_samples(tmp_path / "a.jsonl")) == rows(other)


def test_a_call_that_was_cut_off_goes_on(tmp_path, sedd):
    expected = write_samples(tmp_path / "whole.jsonl", sedd, settings(sedd))
    asked = []

    def canvases(places, stop_at=None):
        asked.append(places)
        if places.start == stop_at:
            raise KeyboardInterrupt
        return Canvas.blank(12, batch=len(places))

    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    with pytest.raises(KeyboardInterrupt):
        write_samples(path, sedd, settings(sedd), canvases=lambda places: canvases(places, 4))
    assert not path.exists() and part.exists()
    whole = part.read_bytes()
    last = whole.rstrip().rsplit(b"\n", 1)[0]  # without the line that closes the second batch
    for content, first in ((whole, 4), (whole + b'{"sample": 4, "te', 4), (last + b"\n", 2), (last[:-9], 2)):
        part.write_bytes(content)
        asked.clear()
        made = write_samples(path, sedd, settings(sedd), canvases=canvases)
        assert asked[0].start == first and rows(made) == rows(expected)
        path.unlink()


def test_what_was_left_by_other_settings_is_refused_or_dropped(tmp_path, sedd):
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    made = write_samples(path, sedd, settings(sedd))
    path.rename(part)
    with pytest.raises(ConfigError, match="seed 3, not 4"):
        write_samples(path, sedd, settings(sedd, seed=4))
    assert rows(write_samples(path, sedd, settings(sedd, seed=4), overwrite=True)) != rows(made)
    part.write_bytes(b"\x00\xff rubbish\n")
    assert rows(write_samples(path, sedd, settings(sedd), overwrite=True)) == rows(made)


def test_given_tokens_stay(tmp_path, model):
    prompt = torch.arange(15).reshape(5, 3)
    made = write_samples(
        tmp_path / "a.jsonl", model, settings(model), canvases=lambda at: Canvas.prompt(prompt[at.start : at.stop], 12)
    )
    assert [r[:3] for r in rows(made)] == prompt.tolist()
    with pytest.raises(ConfigError, match=r"canvases of \[1, 12\], expected \[2, 12\]"):
        write_samples(tmp_path / "b.jsonl", model, settings(model), canvases=lambda at: Canvas.blank(12))


def test_progress_goes_up_to_the_end(tmp_path, model):
    told = []
    write_samples(tmp_path / "a.jsonl", model, settings(model), progress=lambda done, total: told.append(done / total))
    assert told == sorted(told) and 0 < told[0] < 0.3 and 0.9 < told[-1] <= 1


def test_what_does_not_fit_the_model(tmp_path, sedd):
    with pytest.raises(ConfigError, match="context is 32"):
        write_samples(tmp_path / "a.jsonl", sedd, settings(sedd, length=33))
    with pytest.raises(ConfigError, match="0 samples"):
        settings(sedd, n=0)


def test_real_text_as_a_set(tmp_path, small_tokenizer):
    wanted = SampleSettings("data", "text", "", n=4, length=8, seed=None)
    x = np.random.default_rng(0).integers(0, 320, (4, 8)).astype(np.uint16)
    made = data_samples(tmp_path / "a.jsonl", x, small_tokenizer, wanted)
    assert rows(made) == x.tolist() and made.nfe == 0 and made.seconds == (0.0,) and made.words() == ""
    assert rows(data_samples(tmp_path / "a.jsonl", x, small_tokenizer, wanted)) == x.tolist()
    with pytest.raises(ConfigError, match=r"rows of shape \[3, 8\], the settings say \[4, 8\]"):
        data_samples(tmp_path / "b.jsonl", x[:3], small_tokenizer, wanted)
    without = data_samples(tmp_path / "c.jsonl", x, None, wanted)
    assert without.texts == [""] * 4 and without.tokenizer is None


def test_continuations_go_on_too(tmp_path, small_tokenizer):
    wanted = SampleSettings("ways", "tiny", "", n=5, length=3, seed=0, batch=2, extra={"way": "short"})
    x = torch.arange(15).reshape(5, 3)
    asked, told = [], []

    def parts(first, stop=9):
        asked.append(first)
        for start in range(first, min(stop, 5), 2):
            yield x[start : start + 2]

    with pytest.raises(ConfigError, match="4 samples were made, the settings say 5"):
        write_continuations(tmp_path / "a.jsonl", small_tokenizer, wanted, lambda first: parts(first, 3))
    made = write_continuations(
        tmp_path / "a.jsonl", small_tokenizer, wanted, parts, progress=lambda done, n: told.append((done, n))
    )
    assert asked == [0, 4] and rows(made) == x.tolist() and told == [(5, 5)]
    assert made.settings.extra == {"way": "short"} and [b.size for b in made.batches] == [2, 2, 1]


def test_fingerprints(small_models):
    model = compat.load(small_models / "ar")
    first = fingerprint(model)
    assert first == fingerprint(compat.load(small_models / "ar")) and len(first) == 12
    assert fingerprint(compat.load(small_models / "ar", dtype=torch.bfloat16)) != first
    with torch.no_grad():
        model.net.blocks[0].attn_out.weight[0, 0] += 1e-3
    assert fingerprint(model) != first


def test_other_peoples_samples(tmp_path):
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"text": "one", "tokens": [1, 2], "model": "m", "seed": 4}\n\n{"text": "two", "tokens": [3]}\n')
    found = read_samples(path)
    assert found.texts == ["one", "two"] and rows(found) == [[1, 2], [3]] and found.lengths() == "1-2"
    assert (found.settings.name, found.settings.model, found.settings.seed) == ("theirs", "m", 4)
    assert found.tokenizer is None and found.batches == ()
    path.write_text('{"text": "one", "ids": [1]}\n{"text": "two"}\n')
    assert read_samples(path).ids == [] and read_samples(path).lengths() == "?"
    plain = tmp_path / "theirs.txt"
    plain.write_text("one\n\ntwo\n")
    assert read_samples(plain).texts == ["one", "two"]
    plain.write_text("one\nmore\n---\ntwo\n---\n\n")
    assert read_samples(plain).texts == ["one\nmore", "two"]


def test_what_unmask_sample_prints_can_be_read(tmp_path, small_models):
    path = tmp_path / "s.jsonl"
    path.write_text(call("sample", "--model", small_models / "ar", "-n", 2, "--seed", 1, "--json").out)
    assert len(read_samples(path).ids) == 2 and read_samples(path).settings.seed == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no samples"),
        ('{"text": "a"}\n{"text": ', "line 2 of .* is not JSON"),
        ('{"text": "a"}\n[1]', "line 2 of .* is not an object"),
        ('{"text": "a"}\n{"words": "b"}', "line 2 of .* has no text"),
        ('{"settings": {}, "format": 2}', "format 2(.|\n)*this version reads 1"),
        ('{"settings": {"colour": 1}, "format": 1}', "lacks something"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_samples(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_samples(tmp_path / "nothing.jsonl")


def test_an_unfinished_set_is_not_measured(tmp_path, sedd):
    write_samples(tmp_path / "a.jsonl", sedd, settings(sedd))
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(lines[:4]))
    with pytest.raises(DataError, match="holds 2 of 5 samples"):
        read_samples(tmp_path / "b.jsonl")
