"""A results folder: what each task found, in a file of its own, with the hash of what decided it.

OUT/results.json          format and scale
OUT/rows/TABLE/NAME.json  a task's rows, series, texts, values, identity, provenance, seconds
OUT/samples/NAME.jsonl    every generated set
"""

import dataclasses
from pathlib import Path
from typing import Any

from unmask.checkpoint import read_json, write_json
from unmask.errors import ConfigError
from unmask.evaluation.results import Row, provenance
from unmask.recipes.paper.task import Outcome, Task
from unmask.report.content import finite
from unmask.report.paper.content import Point, Series, Text

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished task, as it is kept."""

    identity: str
    outcome: Outcome
    seconds: float
    provenance: dict[str, Any]


class Results:
    """The folder of one scale. Raises ConfigError for a folder of another kind, scale or version."""

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder = folder
        marker = folder / "results.json"
        if not marker.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ConfigError(
                    f"{folder} holds other files and no results.json", "choose a new folder, or that of an earlier run"
                )
            folder.mkdir(parents=True, exist_ok=True)
            write_json(marker, {"format": FORMAT, "scale": scale})
        found = read_json(marker)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            version = found.get("format") if isinstance(found, dict) else None
            raise ConfigError(
                f"{folder} holds results of version {version}, this is version {FORMAT}",
                "choose a new folder: results of two versions are not mixed",
            )
        if found.get("scale") != scale:
            raise ConfigError(
                f"{folder} holds results at scale {found.get('scale')}, not {scale}", "choose another folder"
            )

    def path(self, key: str) -> Path:
        """The file of a task."""
        return self.folder / "rows" / f"{key}.json"

    def sample_file(self, name: str) -> Path:
        """The file of a sample set."""
        return self.folder / "samples" / f"{name}.jsonl"

    def find(self, task: Task, identity: str, *, product: bool = True) -> Record | None:
        """What was found, if what decides it is the same. product: only if the file that it left is still there."""
        path = self.path(task.key)
        if not path.exists() or (product and task.product and not (self.folder / task.product).exists()):
            return None
        values = read_json(path)
        if values.get("identity") != identity:
            return None
        return Record(identity, _outcome(values), values["seconds"], values["provenance"])

    def values(self, key: str) -> dict[str, Any]:
        """The other numbers of a finished task, for one that needs it."""
        found: dict[str, Any] = read_json(self.path(key))["outcome"]["values"]
        return found

    def keep(self, task: Task, identity: str, outcome: Outcome, seconds: float) -> Record:
        """Write what a task found, whole or not at all."""
        if len(outcome.rows) != len(task.cells):
            raise AssertionError(f"{task.key} fills {len(task.cells)} cells, not {len(outcome.rows)}")
        record = Record(identity, outcome, seconds, provenance(**{**task.settings, "task": task.key}))
        path = self.path(task.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, finite(dataclasses.asdict(record)))
        return record


def _outcome(values: dict[str, Any]) -> Outcome:
    found = values["outcome"]
    return Outcome(
        rows=tuple(None if row is None else _row(row) for row in found["rows"]),
        series=tuple(Series(**(s | {"points": tuple(Point(**p) for p in s["points"])})) for s in found["series"]),
        texts=tuple(Text(**text) for text in found["texts"]),
        values=found["values"],
    )


def _row(values: dict[str, Any]) -> Row:
    """The row; JSON has no NaN, so that a missing value stands for one."""
    return Row(**(values | {"value": float("nan") if values["value"] is None else values["value"]}))
