import math
import os
import re
from pathlib import Path

import pytest

from unmask.errors import ConfigError
from unmask.report.paper import write as writing
from unmask.report.paper.content import Point, Series
from unmask.report.paper.write import write_paper

from ..test_write import strict
from .example import report, row, table1

VARIANCE = Series("variance", "one", "diffusion", (Point(0, 1.0), Point(1, 2.0)))


def small(**changes: object):
    """A report that is quick to draw."""
    return report(**({"series": (VARIANCE,), "entries": tuple(table1())} | changes))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_folder_holds_page_data_words_and_figures(tmp_path):
    made = write_paper(report(), tmp_path / "a" / "report")
    assert made == tmp_path / "a" / "report" / "index.html"
    figures = {s.figure for s in report().series}
    expected = {f"figures/{name}.{form}" for name in figures for form in ("svg", "png")}
    assert set(names(made.parent)) == {"index.html", "report.json", "report.md"} | expected
    assert sum(path.stat().st_size for path in made.parent.rglob("*")) < 5e6
    for picture in re.findall(r"\]\((.*?)\)", (made.parent / "report.md").read_text()):
        assert (made.parent / picture).is_file()


def test_the_data_are_all_there_in_strict_json(tmp_path):
    given = small(entries=(*table1(), table1()[0].__class__("table3", "r", "c", row(math.nan, stderr=math.inf))))
    values = strict((write_paper(given, tmp_path).parent / "report.json").read_text())
    assert values["format"] == 1 and values["kind"] == "unmask report of the paper"
    assert values["entries"][:-1] == [entry.as_json() for entry in table1()]
    assert (values["entries"][-1]["measured"]["value"], values["entries"][-1]["measured"]["stderr"]) == (None, None)
    assert values["claims"][0]["verdict"] == "fails" and values["pending"] == dict(given.pending)
    assert values["series"][0]["points"][1] == {"x": 1, "y": 2.0, "error": None, "label": "", "measured": True}
    assert values["notes"]["erratum"] == list(given.notes["erratum"])
    assert values["provenance"]["commit"] == "abc123" and values["facts"][3]["ours"] == "RoPE"


def test_a_report_is_replaced_and_other_files_are_not_touched(tmp_path):
    more = Series("diversity", "x", "diffusion", (Point(1, 1), Point(2, 2)))
    write_paper(small(title="older", series=(VARIANCE, more)), tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "ar.jsonl").write_text("{}")
    (tmp_path / "figures" / "mine.png").write_text("mine")
    made = write_paper(small(title="newer"), tmp_path)
    assert "newer" in made.read_text() and "older" not in made.read_text()
    assert names(tmp_path) == [
        "figures/mine.png", "figures/variance.png", "figures/variance.svg", "index.html", "report.json", "report.md",
        "samples/ar.jsonl",
    ]  # fmt: skip


def test_the_same_report_is_the_same_bytes(tmp_path):
    first, second = (write_paper(small(), tmp_path / name).parent for name in "ab")
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names(first))


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failure_leaves_the_older_report_and_nothing_else(tmp_path, monkeypatch, call):
    before = write_paper(small(title="older"), tmp_path).read_bytes()
    kept = names(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        write_paper(small(title="newer"), tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before and names(tmp_path) == kept


def test_a_figure_that_cannot_be_drawn_leaves_the_older_report(tmp_path, monkeypatch):
    before = write_paper(small(title="older"), tmp_path).read_bytes()
    monkeypatch.setattr(writing, "page", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_paper(small(title="newer"), tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


@pytest.mark.parametrize("name", ["index.html", "report.json"])
def test_a_page_of_someone_else_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match=re.escape(name)) as caught:
        write_paper(small(), tmp_path)
    assert caught.value.hint == "choose another folder"
    assert names(tmp_path) == [name]
    with pytest.raises(ConfigError, match="is a file"):
        write_paper(small(), tmp_path / name)


def test_a_partial_report_can_be_written(tmp_path):
    empty = report(entries=(), series=(), claims=(), texts=(), facts=(), notes={}, provenance={})
    made = write_paper(empty, tmp_path)
    assert "no rows yet" in made.read_text() and names(tmp_path) == ["index.html", "report.json", "report.md"]
