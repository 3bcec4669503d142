import sys
from pathlib import Path

import pytest

from unmask.errors import ConfigError
from unmask.evaluation.verifier import Verifier, split

EXAMPLE = Path(__file__).parents[2] / "examples" / "verifier" / "verify.py"
TEXTS = {
    "In 1863 he spoke.": True,
    'In 1863 he said "we" and “they”.': True,
    'In 1863 he said "we.': False,
    "In 1863 he said “we.": False,
    "In 1492 and 1863.": False,
    "No year here.": False,
    "A sum of 1,863 and of 18631.": False,
    "Not before 2031.": False,
    "ünïcödé, 2000\nand\0 a second line": True,
}


@pytest.mark.parametrize("way", [f"{EXAMPLE}:accept", f"{sys.executable} '{EXAMPLE}'", "json:loads"])
def test_a_function_and_a_command_judge_alike(way):
    if way == "json:loads":
        with Verifier(way) as verifier:
            assert verifier(["1", "0", "[]", '"a"'] * 5) == [True, False, False, True] * 5
        return
    with Verifier(way, workers=3) as verifier:
        assert verifier(list(TEXTS)) == list(TEXTS.values())
        assert verifier([]) == []


def test_a_module_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rules.py").write_text("def long(text):\n    return len(text) > 3\n")
    monkeypatch.chdir(tmp_path)
    with Verifier("mine.rules:long") as verifier:
        assert verifier(["abc", "abcd"]) == [False, True]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("a.b:c", ("a.b", "c")),
        ("dir/with space/v.py:accept", ("dir/with space/v.py", "accept")),
        ("grep -q a:b", None),
        ("python v.py", None),
        ("true", None),
        (":f", None),
    ],
)
def test_functions_are_told_from_commands(given, parts):
    assert split(given) == parts


def test_processes_end_with_it():
    with Verifier("json:loads", workers=2) as verifier:
        verifier(["1"] * 4)
        workers = verifier._started
    assert workers and all(worker.process.poll() is not None for worker in workers)


def test_a_name_that_is_no_function():
    with pytest.raises(ConfigError, match="is not a function"):
        Verifier("json:__doc__")
