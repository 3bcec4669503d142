"""Templates by the file: in and out, cut off and gone on with, and bad lines by their numbers."""

import itertools
import json
import os

import pytest
import torch

import unmask
from unmask.errors import ConfigError, DataError
from unmask.evaluation import infill_lines
from unmask.evaluation.infill import Search, infills
from unmask.evaluation.infill_batches import fill_together
from unmask.evaluation.infill_lines import Job, checked, earlier_seed, filled, fresh_seed, read_lines, write_filled
from unmask.sampling.template import Template

GOOD = [
    {"id": 7, "template": "the [MASK:2] of"},
    {"prefix": "a [MASK] ", "suffix": "\r\né", "length": "1-2", "note": {"deep": [1, None, "👧", "\ud800"]}},
    {"suffix": "\x00 end", "length": 3},
    {"template": "\\[MASK] [MASK]", "line": 1, "batch": {"size": 3}},
]


@pytest.fixture(scope="module")
def model(small_models):
    return unmask.load(str(small_models / "sedd"))


@pytest.fixture(scope="module")
def double(small_models):
    return unmask.load(str(small_models / "sedd")).to(dtype=torch.float64)


def source(folder, lines, name="gaps.jsonl"):
    path = folder / name
    path.write_bytes("\n\n".join(json.dumps(line) for line in lines).encode())
    return path


def a_job(path, **changes):
    values = {"source": path, "model": "sedd", "number": 2, "search": Search(repeats=2, times_per_row=2), "seed": 3}
    return Job(**(values | {"options": {"steps": 3}} | changes))


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_lines_come_back_with_their_fields_text_and_how(tmp_path, model):
    job, out = a_job(source(tmp_path, GOOD)), tmp_path / "deep" / "filled.jsonl"
    told = []
    made = write_filled(out, model, job, progress=lambda *at: told.append(at))
    assert told == [(n, 4) for n in (1, 2, 3, 4)]
    assert (made["templates"], made["lines"], made["resumed"], made["seed"]) == (4, 8, 0, 3)
    lines = read(out)
    assert [line["infill"]["sample"] for line in lines] == list(range(8))
    for line, asked in zip(lines, [each for each in GOOD for _ in range(2)], strict=True):
        assert {key: line[key] for key in asked} == asked and set(line) - set(asked) == {"text", "infill"}
        texts = [*(gap["text"] for gap in line["infill"]["gaps"]), ""]
        assert line["text"] == "".join(map("".join, zip(line["infill"]["given"], texts, strict=True)))
    assert lines[2]["text"].startswith("a [MASK] ") and lines[2]["text"].endswith("\r\né")
    assert lines[4]["text"].endswith("\x00 end") and lines[6]["text"].startswith("[MASK] ")
    assert len(lines[2]["infill"]["candidates"]) == 2 and lines[2]["infill"]["candidates"][0]["bound"] > 0
    alone = infills(
        model, Template.between("a [MASK] ", "\r\né", "1-2"), 2, search=job.search, seed=3, first_sample=2, steps=3
    )
    assert [line["text"] for line in lines[2:4]] == [each.text for each in alone]
    assert sorted(os.listdir(out.parent)) == ["filled.jsonl"]


def test_a_run_that_was_cut_off_goes_on_and_ends_the_same(tmp_path, model, monkeypatch):
    job, whole, out = a_job(source(tmp_path, GOOD), batch_size=1), tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    write_filled(whole, model, job)
    calls = []

    def until_the_third(*given, **options):
        calls.append(options["first_sample"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return infills(*given, **options)

    monkeypatch.setattr(infill_lines, "infills", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_filled(out, model, job)
    part = tmp_path / "out.jsonl.part"
    assert not out.exists() and earlier_seed(out) == fresh_seed(out) == 3
    with part.open("ab") as file:
        file.write(b'{"line": {"cut')  # a kill in the middle of a line
    with pytest.raises(ConfigError, match="seed 3, not 4"):
        write_filled(out, model, a_job(job.source, seed=4))
    with pytest.raises(ConfigError, match="source"):
        write_filled(out, model, a_job(source(tmp_path, GOOD[1:], "other.jsonl")))
    made = write_filled(out, model, job)
    assert made["resumed"] == 2 and calls == [0, 2, 4, 4, 6]
    assert out.read_bytes() == whole.read_bytes() and not part.exists()
    assert earlier_seed(out) is None and fresh_seed(None) != fresh_seed(out)


def test_a_file_that_is_there_is_kept(tmp_path, model):
    path = source(tmp_path, GOOD[:1])
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there"):
        write_filled(out, model, a_job(path))
    assert out.read_text() == "mine"
    write_filled(out, model, a_job(path), overwrite=True)
    assert len(read(out)) == 2
    with pytest.raises(ConfigError, match="read and written"):
        write_filled(path, model, a_job(path), overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_filled(path / "below.jsonl", model, a_job(path))


TEXTS = ["the [MASK:2] of", "a [MASK:3]", "[MASK] the [MASK] of", "the [MASK:1-2] of", "of [MASK:2] the", "[MASK:3] a"]
ALIKE = [{"id": i, "template": TEXTS[i % len(TEXTS)]} for i in range(20)]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    "options",
    [{"steps": 4}, {"steps": 5, "rule": "euler"}, {"rule": "first-hitting"}, {"steps": 2, "rule": "margin"}],
    ids=str,
)
def test_a_line_is_the_same_whatever_is_filled_with_it(tmp_path, double, monkeypatch, number, options):
    """Every field, its tokens among them, in float64; lines of several lengths stay alone, all in their order."""
    path, sizes = source(tmp_path, ALIKE), []
    alone = [*filled(double, a_job(path, number=number, options=options, batch_size=1))]

    def counting(model, batch, *others):
        sizes.append([place for place, _ in batch])
        return fill_together(model, batch, *others)

    monkeypatch.setattr(infill_lines, "fill_together", counting)
    job = a_job(path, number=number, options=options, batch_size=6)
    assert [*filled(double, job)] == alone and [*filled(double, job, 7)] == alone[7:]
    assert max(map(len, sizes)) == 6 // number and all(len(some) > 1 for some in sizes)
    assert not any(place % len(TEXTS) == 3 for some in sizes for place in some)
    assert any(b - a > 1 for some in sizes for a, b in itertools.pairwise(some))


@pytest.mark.parametrize(
    "options", [{"rule": "threshold"}, {"rule": "entropy-bounded"}, {"draws": "float32-race", "steps": 3}], ids=str
)
def test_what_a_batch_would_change_goes_line_by_line(tmp_path, double, monkeypatch, options):
    path = source(tmp_path, ALIKE[:3])
    alone = [*filled(double, a_job(path, options=options, batch_size=1))]
    monkeypatch.setattr(infill_lines, "fill_together", lambda *_: pytest.fail("together"))
    assert [*filled(double, a_job(path, options=options))] == alone


def test_a_run_of_batches_that_was_cut_off_ends_the_same(tmp_path, double, monkeypatch):
    job, whole, out = a_job(source(tmp_path, ALIKE), batch_size=4), tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    write_filled(whole, double, job)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_filled(out, double, job, progress=stop)
    made = write_filled(out, double, a_job(job.source, batch_size=7))
    assert made["resumed"] == 5 and out.read_bytes() == whole.read_bytes()


def test_a_batch_of_none():
    with pytest.raises(ConfigError, match="a batch of 0 samples"):
        a_job(None, batch_size=0)


BAD = {
    "not JSON": (b"{", "line 2 is not JSON"),
    "deep": (b"[" * 100_000, "line 2 is not JSON"),
    "not UTF-8": (b'{"template": "\xff[MASK]"}', "line 2 is not UTF-8, at byte 15"),
    "half a surrogate pair": (b'{"template": "\\ud83d[MASK]"}', "line 2: the text is not valid UTF-8, at character 1"),
    "a list": (b"[1]", "line 2 is no object, but list"),
    "no template": (b'{"id": 1}', "line 2 has the fields id"),
    "nothing": (b"{}", "line 2 has the fields none"),
    "two kinds": (
        b'{"template": "[MASK]", "prefix": "a", "length": 1}',
        "line 2 has the fields length, prefix, template",
    ),
    "no length": (b'{"prefix": "a", "suffix": "b"}', "line 2 has the fields prefix, suffix"),
    "no text": (b'{"template": 3}', "line 2: the field 'template' is int"),
    "no suffix": (b'{"suffix": null, "length": 3}', "line 2: the field 'suffix' is NoneType"),
    "a length of words": (b'{"prefix": "a", "length": "few"}', "line 2: a gap of length 'few'"),
    "a length of nothing": (b'{"prefix": "a", "length": 0}', "line 2: a gap of no tokens"),
    "no gap": (b'{"template": "a"}', "line 2: the text has no gap"),
    "the wrong way round": (b'{"template": "[MASK:16-4]"}', "line 2: a gap of 16 to 4 tokens"),
    "too long": (b'{"template": "[MASK:33]"}', r"line 2: the text and its gaps make 33 tokens \(given 0, gaps 33\)"),
    "a field of ours": (b'{"template": "[MASK]", "text": ""}', "line 2 has the field 'text'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_is_named_before_anything_is_written(tmp_path, model, case):
    line, words = BAD[case]
    path = tmp_path / "gaps.jsonl"
    path.write_bytes(b'{"template": "a [MASK]"}\n' + line + b"\n")
    with pytest.raises(DataError, match=words) as raised:
        write_filled(tmp_path / "out.jsonl", model, a_job(path))
    assert raised.value.hint and os.listdir(tmp_path) == ["gaps.jsonl"]


def test_files_that_are_none(tmp_path, model, small_models):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        checked(model, a_job(tmp_path / "none.jsonl"))
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n \n")
    with pytest.raises(DataError, match="holds no line"):
        checked(model, a_job(empty))
    with pytest.raises(ConfigError, match="left to right"):
        checked(unmask.load(str(small_models / "ar")), a_job(source(tmp_path, GOOD)))


def test_a_byte_order_mark_and_the_ends_of_windows_lines_are_no_text(tmp_path, model):
    path = tmp_path / "gaps.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"template": "[MASK]"}\r\n{"template": "[MASK]!"}\r\n')
    assert [line.number for line in read_lines(path)] == [1, 2]
    assert [lines[0]["infill"]["given"][1] for lines in filled(model, a_job(path, number=1), 1)] == ["!"]
