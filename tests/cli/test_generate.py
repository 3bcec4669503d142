"""`unmask sample` and `unmask fill`, called as the shell calls them."""

import json
from pathlib import Path

import pytest

from .call import call


def test_sample_prints_text_and_nothing_else(small_models: Path):
    done = call("sample", "--model", small_models / "sedd", "--steps", 4, "--seed", 1)
    assert done.code == 0 and done.out.strip() and done.err == ""


def test_a_seed_repeats_and_another_differs(small_models: Path):
    runs = [
        call("sample", "--model", small_models / "sedd", "--steps", 4, "--seed", s, "--json").lines()[0]["tokens"]
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_without_a_seed_calls_differ_and_say_which_seed_repeats_them(small_models: Path):
    first, second = (call("sample", "--model", small_models / "sedd", "--steps", 4, "--json").lines()[0] for _ in "ab")
    assert first["tokens"] != second["tokens"]
    again = call("sample", "--model", small_models / "sedd", "--steps", 4, "--json", "--seed", first["seed"]).lines()[0]
    assert again["tokens"] == first["tokens"]


def test_json_is_one_object_a_line_with_how_it_was_made(small_models: Path):
    lines = call("sample", "--model", small_models / "sedd", "-n", 3, "--steps", 4, "--json", "--seed", 0).lines()
    assert [line["sample"] for line in lines] == [0, 1, 2]
    assert all(len(line["tokens"]) == 32 and line["rule"] == "tweedie" and line["reads"] == "score" for line in lines)
    assert lines[0]["steps"] == 5  # four and the one to clean data


def test_several_samples_are_separated_by_dashes(small_models: Path):
    done = call("sample", "--model", small_models / "ar", "-n", 2, "--length", 5, "--seed", 3)
    assert done.out.count("---\n") == 1


def test_a_prompt_comes_out_as_it_went_in(small_models: Path, small_tokenizer):
    for kind in ("sedd", "mdlm", "ar"):
        model = small_models / kind
        line = call("sample", "--model", model, "--prompt", "We the people", "--seed", 0, "--json").lines()[0]
        ids = small_tokenizer.encode("We the people")
        assert line["tokens"][: len(ids)] == ids and line["text"].startswith("We the people")


def test_fill_keeps_what_is_given(small_models: Path):
    done = call("fill", "the [MASK:3] of [MASK]", "--model", small_models / "sedd", "--steps", 4, "--seed", 0, "-n", 2)
    first, second = done.out.split("---\n")
    assert first.startswith("the") and " of" in first and second.startswith("the")


def test_fill_can_write_on(small_models: Path):
    line = call("fill", "the [MASK:3] of", "--model", small_models / "mdlm", "--length", 32, "--json").lines()[0]
    assert len(line["tokens"]) == 32


RULES = {
    **{rule: ["--steps", 3, "--grid", "cosine"] for rule in ("tweedie", "analytic", "euler", "ancestral")},
    **{rule: ["--steps", 3] for rule in ("confidence", "entropy", "left-to-right", "margin", "random-order")},
    "entropy-bounded": ["--gamma", 1000.0],
    "first-hitting": [],
    "threshold": ["--tau", 0.001],
}


@pytest.mark.parametrize("model", ["sedd", "mdlm"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(small_models: Path, rule: str, model: str):
    done = call("sample", "--model", small_models / model, "--rule", rule, *RULES[rule], "--json", "--top-k", 50)
    line = done.lines()[0]
    assert max(line["tokens"]) < 320 and done.err == ""  # no mask leaves the loop
    assert line["rule"] == {"analytic": "tweedie"}.get(rule, rule)
    assert line["reads"] == ("score" if line["rule"] in ("tweedie", "euler") else "p0")
    assert line["nfe"] <= (32 if rule == "first-hitting" else 4)


def test_a_rule_under_another_name_is_taken_with_one_note(small_models: Path):
    options = ["--model", small_models / "sedd", "--steps", 3, "--seed", 1, "--json"]
    done = call("fill", "the [MASK:3] of", "--rule", "low_confidence", *options)
    assert done.code == 0 and done.lines()[0]["rule"] == "confidence"
    assert done.err.startswith("note: rule 'low_confidence' is 'confidence' here") and done.err.count("note: rule") == 1


BAD = {
    "unknown model": (["sample", "--model", "sed-twin"], "sedd-twin"),
    "unknown rule": (["sample", "--rule", "tweedy"], "tweedie"),
    "tau for another rule": (["sample", "--rule", "ancestral", "--tau", "0.5"], "threshold"),
    "gamma below zero": (["sample", "--rule", "entropy-bounded", "--gamma", "-1"], "gamma"),
    "unknown grid": (["sample", "--grid", "square"], "linear"),
    "no remasking by name": (["sample", "--rule", "remdm"], "corrector"),
    "no step": (["sample", "--steps", "0"], "at least 1"),
    "top-p of zero": (["sample", "--top-p", "0"], "top_p"),
    "top-p above one": (["sample", "--top-p", "1.5"], "top_p"),
    "temperature below zero": (["sample", "--temperature", "-1"], "temperature"),
    "length of zero": (["sample", "--length", "0"], "at least 1"),
    "longer than the context": (["sample", "--length", "33"], "32"),
    "unknown draws": (["sample", "--draws", "exacd"], "exact"),
    "unknown device": (["sample", "--device", "cudda"], "device"),
    "unknown option": (["sample", "--stpes", "3"], "--steps"),
    "no gap": (["fill", "no gap here"], "no gap"),
    "gap of letters": (["fill", "a [MASK:x] b"], "MASK:12"),
    "gap of nothing": (["fill", "a [MASK:0] b"], "gap"),
    "open gap": (["fill", "a [MASK:3 b"], "gap"),
    "template beyond the context": (["fill", "a [MASK:40] b"], "32"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(small_models: Path, case: str):
    arguments, words = BAD[case]
    given = arguments if "--model" in arguments else [*arguments, "--model", str(small_models / "sedd")]
    done = call(*given)
    assert done.code == 2 and done.out == "" and words in done.err, done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) <= 4


def test_steps_are_not_for_autoregressive_models(small_models: Path):
    for option in (("--steps", 4), ("--tau", 0.5), ("--rule", "confidence")):
        done = call("sample", "--model", small_models / "ar", *option)
        assert done.code == 2 and "autoregressive" in done.err


def test_an_autoregressive_model_does_not_fill_to_the_left(small_models: Path):
    done = call("fill", "a [MASK:3] b", "--model", small_models / "ar")
    assert done.code == 2 and "left" in done.err


def test_json_lines_are_json_when_text_has_quotes_and_newlines(small_models: Path):
    done = call("sample", "--model", small_models / "ar", "-n", 4, "--json", "--seed", 5)
    assert [json.loads(line)["model"] for line in done.out.splitlines()] == [str(small_models / "ar")] * 4
