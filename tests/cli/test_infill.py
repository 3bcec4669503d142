"""`unmask fill` with flexible gaps, prefix and suffix, and files of templates."""

import json

import pytest

from unmask import checkpoint
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model

from .call import call

QUICK = ("--steps", 3, "--seed", 1, "--repeats", 2)


def fill(small_models, *arguments, kind="sedd", **piped):
    return call("fill", *arguments, "--model", small_models / kind, *QUICK, **piped)


def test_a_flexible_gap_says_what_was_chosen_and_why(small_models):
    done = fill(small_models, "the [MASK:2-4] of", "--json", "--prior", "geometric:2")
    (line,) = done.lines()
    assert [each["lengths"] for each in line["candidates"]] == [[2], [3], [4]]
    chosen = line["candidates"][line["chosen"]]
    assert line["lengths"] == chosen["lengths"] and line["text"] == chosen["text"] and chosen["stderr"] > 0
    assert line["text"].startswith("the ") and line["text"].endswith(" of") and line["approximate"] is False
    assert f"note: lengths {line['lengths'][0]} of 3 combinations" in done.err and "nats per token" in done.err
    assert "".join(map("".join, zip(line["given"], [line["gaps"][0]["text"], ""], strict=True))) == line["text"]


def test_prefix_and_suffix(small_models):
    line = fill(small_models, "--prefix", "a [MASK] ", "--suffix", " b", "--length", 3, "--json").lines()[0]
    assert line["text"].startswith("a [MASK] ") and line["text"].endswith(" b") and line["lengths"] == [3]
    line = fill(small_models, "--suffix", " b", "--length", "1-2", "--json").lines()[0]
    assert len(line["candidates"]) == 2
    assert fill(small_models, "--prefix", "b", "--length", "2").out.startswith("b")


def test_given_text_is_on_stdout_byte_for_byte(small_models):
    done = fill(small_models, "👩‍👧  [MASK:2]\r\n\tx  ")
    assert done.out.startswith("👩‍👧  ") and done.out.endswith("\r\n\tx  \n") and done.code == 0


def test_writing_on_behind_a_template(small_models):
    for text in ("the [MASK:3] of", "the [MASK:3] of ", "the [MASK:3]"):
        line = fill(small_models, text, "--length", 20, "--json").lines()[0]
        assert len(line["tokens"]) == 20
    size = len(fill(small_models, "the [MASK:3] of", "--json").lines()[0]["tokens"])
    line = fill(small_models, "the [MASK:3] of", "--length", size, "--json").lines()[0]
    assert line["lengths"] == [3]


def test_many_samples_choose_each_for_itself(small_models):
    done = fill(small_models, "the [MASK:1-3] of", "-n", 3, "--json")
    lines = done.lines()
    assert [line["sample"] for line in lines] == [0, 1, 2] and done.err.count("note: lengths") == 3


def test_a_file_of_templates(small_models, tmp_path):
    source, out = tmp_path / "gaps.jsonl", tmp_path / "filled.jsonl"
    source.write_text('{"id": 1, "template": "the [MASK:1-2]"}\n{"prefix": "a", "suffix": "b", "length": 2}\n')
    shown = fill(small_models, "--in", source).lines()
    assert [line.get("id") for line in shown] == [1, None] and shown[1]["text"].startswith("a")
    done = fill(small_models, "--in", source, "--out", out, "--batch-size", 2)
    assert done.code == 0 and done.out.startswith(f"{out}: 2 lines of 2 templates")
    assert [json.loads(line) for line in out.read_text().splitlines()] == shown
    again = fill(small_models, "--in", source, "--out", out)
    assert again.code == 2 and "--force" in again.err
    facts = fill(small_models, "--in", source, "--out", out, "--force", "--json").lines()[0]
    assert facts["templates"] == 2 and facts["seed"] == 1


PIPED = b'{"id": 1, "template": "the [MASK:1-2]"}\n\n{"prefix": "a", "suffix": "\xc3\xa9", "length": 2}'


def test_templates_from_stdin_are_those_of_a_file(small_models, tmp_path):
    source, out = tmp_path / "gaps.jsonl", tmp_path / "filled.jsonl"
    source.write_bytes(PIPED)
    shown = fill(small_models, "--in", source).lines()
    assert fill(small_models, "--in", "-", stdin=PIPED).lines() == shown and len(shown) == 2
    done = fill(small_models, "--in", "-", "--out", out, stdin=PIPED)
    assert done.out.startswith(f"{out}: 2 lines of 2 templates")
    assert [json.loads(line) for line in out.read_text().splitlines()] == shown
    again = fill(small_models, "--in", "-", "--out", out, stdin=PIPED)
    assert again.code == 2 and "--force" in again.err


@pytest.mark.parametrize(
    ("piped", "words"),
    [
        (b"", "stdin holds no line"),
        (b" \n\n", "stdin holds no line"),
        (b'{"template": "[MASK]"}\n{', "stdin, line 2 is not JSON"),
        (b'{"template": "\xff[MASK]"}', "stdin, line 1 is not UTF-8, at byte 15"),
        (b'{"template": "a"}', "stdin, line 1: the text has no gap"),
        (b'{"template": "[MASK:40]"}', "stdin, line 1: the text and its gaps make 40 tokens"),
    ],
)
def test_bad_lines_from_stdin_are_named_before_anything_is_written(small_models, tmp_path, piped, words):
    done = fill(small_models, "--in", "-", "--out", tmp_path / "out.jsonl", stdin=piped)
    assert done.code == 2 and done.out == "" and words in done.err and "Traceback" not in done.err, done.err
    assert not list(tmp_path.iterdir())


def test_a_terminal_is_not_waited_for(small_models):
    done = fill(small_models, "--in", "-", stdin=None)
    assert done.code == 2 and "nothing piped in" in done.err


def test_a_seed_is_found_again_in_what_was_cut_off(small_models, tmp_path):
    source, out = tmp_path / "gaps.jsonl", tmp_path / "filled.jsonl"
    source.write_text('{"template": "the [MASK]"}\n')
    options = ("--in", source, "--out", out, "--model", small_models / "sedd", "--steps", 2)
    made = call("fill", *options, "--json").lines()[0]
    text = out.read_text()
    out.unlink()
    assert call("fill", *options, "--seed", made["seed"]).code == 0 and out.read_text() == text


def test_noise_that_does_not_commit_is_labelled(small_models, small_tokenizer, tmp_path):
    shape = ModelShape("sedd", process="uniform", width=32, depth=1, heads=2, length=32, cond_dim=16)
    checkpoint.save(build_model(shape, small_tokenizer), tmp_path / "uniform")
    source, out = tmp_path / "gaps.jsonl", tmp_path / "filled.jsonl"
    source.write_text('{"template": "the [MASK:2]"}\n{"template": "a [MASK]"}\n')
    done = call("fill", "the [MASK:2] of", "--model", tmp_path / "uniform", *QUICK, "--json", "-n", 2)
    assert [line["approximate"] for line in done.lines()] == [True, True]
    assert done.err.count("note: approximate: ") == 1
    done = call("fill", "--in", source, "--out", out, "--model", tmp_path / "uniform", *QUICK)
    assert "note: approximate: " in done.err and "(2 of 2 lines)" in done.err
    assert all(json.loads(line)["infill"]["approximate"] for line in out.read_text().splitlines())


BAD = {
    "nothing": ([], "nothing to fill"),
    "two things": (["a [MASK]", "--prefix", "b", "--length", "3"], "several things"),
    "a template and a file": (["a [MASK]", "--in", "x.jsonl"], "several things"),
    "no length": (["--prefix", "b"], "without --length"),
    "a length of words": (["--prefix", "b", "--length", "few"], "a gap of length 'few'"),
    "a length the wrong way round": (["--prefix", "b", "--length", "9-3"], "9 to 3"),
    "out without in": (["a [MASK]", "--out", "x.jsonl"], "--out without --in"),
    "force without in": (["a [MASK]", "--force"], "--force without --in"),
    "batch size without in": (["a [MASK]", "--batch-size", "2"], "--batch-size without --in"),
    "a batch of none": (["--in", "x.jsonl", "--batch-size", "0"], "a batch of 0 samples"),
    "length and in": (["--in", "x.jsonl", "--length", "3"], "--length with --in"),
    "no such file": (["--in", "none.jsonl"], "none.jsonl cannot be read"),
    "write on, flexible": (["a [MASK:1-2]", "--length", "9"], "several lengths"),
    "write on, a range": (["a [MASK:2]", "--length", "9-12"], "--length 9-12"),
    "write on, too short": (["a [MASK:5]", "--length", "3"], "more than --length 3"),
    "write on, no gap": (["a", "--length", "9"], "no gap"),
    "the wrong way round": (["a [MASK:16-4]"], "[MASK:16-4]"),
    "from nothing": (["a [MASK:0-3]"], "[MASK:0-3]"),
    "more than the context": (["a [MASK:40]"], "given 1, gaps 40"),
    "too many combinations": (["[MASK:1-2]a" * 7], "128 combinations"),
    "no candidates": (["a [MASK:1-2]", "--candidates", "0"], "0 combinations"),
    "one repeat": (["a [MASK:1-2]", "--repeats", "1"], "2 repeats"),
    "unknown prior": (["a [MASK:1-2]", "--prior", "normal"], "geometric:MEAN"),
    "a mean of one": (["a [MASK:1-2]", "--prior", "geometric:1"], "above 1"),
    "not UTF-8": (["a\udcff [MASK]"], "not valid UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(small_models, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, words = BAD[case]
    options = [] if "--repeats" in arguments else ["--repeats", 2]
    done = call("fill", *arguments, "--model", small_models / "sedd", "--seed", 1, *options)
    assert done.code == 2 and done.out == "" and words in done.err, done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) <= 3 and not list(tmp_path.iterdir())


def test_an_autoregressive_model_fills_nothing(small_models):
    for template in ("a [MASK:3] b", "a [MASK:3]", "[MASK:1-2]"):
        done = call("fill", template, "--model", small_models / "ar")
        assert done.code == 2 and "left to right" in done.err and "unmask sample --prompt" in done.err
