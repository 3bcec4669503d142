import json

import pytest

from unmask.errors import ConfigError
from unmask.report import write as writing
from unmask.report.content import protocol_letters
from unmask.report.write import write

from .example import likelihood_rows, report


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_both_files_are_written_with_the_same_numbers(tmp_path):
    made = write(report(), tmp_path / "a" / "report")
    assert made == tmp_path / "a" / "report" / "index.html"
    assert sorted(path.name for path in made.parent.iterdir()) == ["index.html", "report.json"]
    assert [path.name for path in made.parent.parent.iterdir()] == ["report"]
    values = strict((made.parent / "report.json").read_text())
    assert values["format"] == 1
    assert values["provenance"]["commit"] == "abc123"
    assert values["rows"] == [row.as_json() for row in report().all_rows()]
    assert values["samples"][2]["text"] == "left to<|endoftext|>right"
    assert values["fills"][0]["spans"][1] == {"text": " very", "filled": True}
    assert values["curves"]["AR"][0]["tokens"] == 3e5
    assert values["models"][0]["facts"] == {"Parameters": "81"}
    assert values["timings"][1] == {"model": "SEDD", "steps": 16, "seconds": 1.25}


def test_numbers_that_are_not_finite_are_null(tmp_path):
    rows = tuple(likelihood_rows(float("inf"), float("nan"), gap_error=float("-inf")))
    values = strict((write(report(rows=rows), tmp_path / "r").parent / "report.json").read_text())
    assert [values["rows"][i]["value"] for i in (0, 6)] == [None, None] and values["rows"][8]["stderr"] is None


def test_an_older_report_is_replaced_whole(tmp_path):
    write(report(title="older"), tmp_path / "r")
    made = write(report(title="newer"), tmp_path / "r")
    assert "newer" in made.read_text() and "older" not in made.read_text()


def test_a_failure_leaves_the_older_report_and_nothing_else(tmp_path, monkeypatch):
    made = write(report(title="older"), tmp_path / "r")
    before = made.read_text()

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        write(report(title="newer"), tmp_path / "r")
    assert made.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_other_files_and_a_file_in_the_way_are_not_touched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt") as caught:
        write(report(), tmp_path)
    assert caught.value.hint == "choose a new folder"
    with pytest.raises(ConfigError, match="is a file"):
        write(report(), tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_protocols_get_letters_in_order_of_appearance():
    assert report().protocols() == {
        "the full bound": "a", "the papers' quantity": "b", "the chain rule": "c", "the pairs": "d", "a clock": "e",
    }  # fmt: skip
    many = [row for i in range(28) for row in likelihood_rows(4.8, 4.5)[:1]]
    letters = protocol_letters([type(r)(r.name, r.model, r.value, r.unit, f"p{i}") for i, r in enumerate(many)])
    assert list(letters.values())[24:] == ["y", "z", "aa", "ab"]
