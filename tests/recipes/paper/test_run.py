"""Tasks are done once, again only where what decides them changed, and a failure leaves its reason."""

import dataclasses
import json
from typing import Any

import pytest

from unmask.errors import ConfigError, DataError
from unmask.evaluation.results import Entry, Row
from unmask.recipes.paper.run import WAITING, carry_out, select
from unmask.recipes.paper.store import Results
from unmask.recipes.paper.task import Outcome, Task, nothing
from unmask.report.paper.content import Point, Series, Text


class FakeBench:
    """Stands in for `Bench`: no model is loaded, a name's weights are what `weights` says."""

    def __init__(self, results: Results, weights: dict[str, str] | None = None) -> None:
        self.results, self.weights, self.said = results, weights or {}, []
        self.progress: Any = None

    def say(self, words: str) -> None:
        self.said.append(words)

    def fingerprint(self, name: str) -> str:
        if name not in self.weights:
            raise ConfigError(f"no model {name}", "look elsewhere")
        return self.weights[name]


def row(value: float) -> Row:
    return Row("quantity", "model", value, "nats", "counted by hand", stderr=0.5, n=3, seed=0)


def task(key: str, ran: list[str], value: float = 1.0, **kwargs: Any) -> Task:
    def run(bench: Any) -> Outcome:
        ran.append(key)
        return Outcome(rows=(row(value),))

    cells = (Entry(key.partition("/")[0], key, "column", None),)
    return Task(key, f"doing {key}", run, {"n": 1}, cells=cells, flops=1.0, **kwargs)


@pytest.fixture
def results(tmp_path: Any) -> Results:
    return Results(tmp_path / "out", "tiny")


def test_a_second_call_does_nothing_and_finds_the_same(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("a/1", ran), task("b/1", ran, needs=("a/1",))]
    first = carry_out(tasks, FakeBench(results))
    second = carry_out(tasks, FakeBench(results))
    assert ran == ["a/1", "b/1"]
    assert second.records["b/1"].outcome == first.records["b/1"].outcome == Outcome(rows=(row(1.0),))
    assert second.reasons == {}


def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("a/1", ran), task("b/1", ran, needs=("a/1",)), task("c/1", ran)]
    carry_out(tasks, FakeBench(results))
    ran.clear()
    tasks[0] = dataclasses.replace(tasks[0], settings={"n": 2})
    carry_out(tasks, FakeBench(results))
    assert ran == ["a/1", "b/1"]


def test_other_weights_redo_what_reads_them(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("a/1", ran, models=("m",)), task("b/1", ran)]
    carry_out(tasks, FakeBench(results, {"m": "old"}))
    carry_out(tasks, FakeBench(results, {"m": "new"}))
    assert ran == ["a/1", "b/1", "a/1"]


def test_a_lost_product_is_made_again(results: Results) -> None:
    ran: list[str] = []
    made = results.folder / "samples" / "x.jsonl"
    tasks = [task("a/1", ran, product="samples/x.jsonl")]
    for _ in range(2):
        carry_out(tasks, FakeBench(results))
    assert ran == ["a/1", "a/1"]
    made.parent.mkdir()
    made.write_text("{}")
    carry_out(tasks, FakeBench(results))
    assert ran == ["a/1", "a/1"]


def test_a_lost_product_does_not_matter_where_nothing_is_done_with_it(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("a/1", ran, product="samples/x.jsonl"), task("b/1", ran, needs=("a/1",)), task("c/1", ran)]
    carry_out(tasks, FakeBench(results))
    assert not (results.folder / "samples/x.jsonl").exists()
    ran.clear()
    assert set(carry_out(tasks, FakeBench(results), only=["c"]).records) == {"a/1", "b/1", "c/1"} and ran == []
    assert set(carry_out(tasks, FakeBench(results), measure=False).records) == {"a/1", "b/1", "c/1"} and ran == []


def test_a_failure_leaves_its_reason_and_the_others_go_on(results: Results) -> None:
    ran: list[str] = []

    def fail(bench: Any) -> Outcome:
        raise DataError("no such set", "fetch it")

    tasks = [
        dataclasses.replace(task("a/1", ran), run=fail),
        task("b/1", ran, needs=("a/1",)),
        task("c/1", ran),
        task("d/1", ran, models=("gone",)),
        Task("e/1", "", nothing, {}, impossible="not at this scale"),
    ]
    done = carry_out(tasks, FakeBench(results))
    assert ran == ["c/1"]
    assert done.reasons["a/1"] == "no such set"
    assert done.reasons["b/1"] == "no such set (a/1)"
    assert done.reasons["d/1"] == "no model gone"
    assert done.reasons["e/1"] == "not at this scale"


def test_an_error_of_the_programme_is_not_swallowed(results: Results) -> None:
    def broken(bench: Any) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        carry_out([dataclasses.replace(task("a/1", []), run=broken)], FakeBench(results))


def test_only_runs_the_named_parts_and_what_they_need(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("samples/1", ran), task("samples/2", ran), task("table3/1", ran, needs=("samples/1",)),
             task("table4/1", ran, needs=("samples/2",))]  # fmt: skip
    done = carry_out(tasks, FakeBench(results), only=("table3",))
    assert ran == ["samples/1", "table3/1"]
    assert done.reasons == {"samples/2": WAITING, "table4/1": WAITING}
    with pytest.raises(ConfigError, match="tabel3"):
        select(tasks, ("tabel3",))


def test_without_measuring_only_what_is_there_is_read(results: Results) -> None:
    ran: list[str] = []
    tasks = [task("a/1", ran), task("b/1", ran)]
    carry_out(tasks, FakeBench(results), only=("a",))
    done = carry_out(tasks, FakeBench(results), measure=False)
    assert ran == ["a/1"] and set(done.records) == {"a/1"} and done.reasons == {"b/1": WAITING}


def test_after_each_task_the_page_may_be_drawn_with_what_is_pending(results: Results) -> None:
    seen = []
    tasks = [task("a/1", []), task("b/1", [])]
    carry_out(tasks, FakeBench(results), after=lambda done: seen.append((set(done.records), dict(done.reasons))))
    assert seen == [({"a/1"}, {"b/1": WAITING}), ({"a/1", "b/1"}, {})]


def test_progress_reaches_the_whole(results: Results) -> None:
    told: list[tuple[int, int]] = []
    tasks = [task("a/1", []), task("b/1", [])]
    carry_out(tasks, FakeBench(results), update=lambda done, total: told.append((done, total)))
    assert told == [(500, 1000), (1000, 1000)]


def test_everything_of_an_outcome_comes_back(results: Results) -> None:
    outcome = Outcome(
        rows=(row(2.5), None),
        series=(Series("figure1", "a", "theory", (Point(1.0, 2.0, 0.5, "here", False),), "note"),),
        texts=(Text("label", "words", "data"),),
        values={"x": [1, 2]},
    )
    cells = (Entry("t", "r", "a", None), Entry("t", "r", "b", None))
    one = Task("t/1", "", lambda bench: outcome, {}, cells=cells)
    carry_out([one], FakeBench(results))
    assert carry_out([one], FakeBench(results)).records["t/1"].outcome == outcome


@pytest.mark.parametrize(
    "content, message",
    [
        ({"format": 99, "scale": "tiny"}, "version 99"),
        ({"format": 1, "scale": "paper"}, "scale paper"),
        ([], "version"),
    ],
)
def test_a_folder_of_another_version_or_scale_is_refused(tmp_path: Any, content: Any, message: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        Results(tmp_path, "tiny")


def test_a_folder_of_other_files_is_refused(tmp_path: Any) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        Results(tmp_path, "tiny")
    assert not (tmp_path / "results.json").exists()


def test_a_setting_of_any_name_is_kept_with_the_outcome(results: Results) -> None:
    one = dataclasses.replace(task("a/1", []), settings={"task": "piqa", "benchmark": "x"})
    made = carry_out([one], FakeBench(results)).records["a/1"].provenance
    assert made["settings"] == {"task": "a/1", "benchmark": "x"}
