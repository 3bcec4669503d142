"""`unmask eval speed`."""

import json

import pytest

from .call import call


def test_the_command_prints_a_table_or_one_json_object():
    given = ("eval", "speed", "--size", "tiny", "--steps", "2,64", "--whole-steps", "2", "--batch", "1,2", "--no-hf")
    done = call(*given, "--tokens", 8, "--repeats", 2)
    assert done.code == 0, done.err
    assert done.out.count("SEDD, 2 steps") == 2 and "extrapolated from 8 of 64 steps" in done.out
    assert "2 steps: the cache gives more tokens a second " in done.out
    (value,) = call(*given, "--tokens", 8, "--repeats", 1, "--json").lines()
    assert len(value["latency"]) == 6 and value["seconds_over_hugging_face"] == {}
    assert [point["steps"] for point in value["break_even"]] == [2, 64] and value["provenance"]["commit"]
    assert json.dumps(value["latency"][0]["times"])


@pytest.mark.parametrize(
    "given, words",
    [
        (["--steps", "2,x"], "not a list of whole numbers"),
        (["--model", "sedd-twin"], "--model and --against go together"),
        (["--size", "smal"], "did you mean 'small'"),
        (["--dtype", "int8"], "dtype"),
        (["--size", "twins", "--hf"], "Hugging Face's generate is compared on GPT-2's architecture"),
    ],
)
def test_the_commands_errors(given, words):
    done = call("eval", "speed", *given)
    assert done.code == 2 and words in done.err and "hint:" in done.err
