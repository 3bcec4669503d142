"""A piece of work of the paper's evaluation: which cells it fills, what decides them, and what it gives."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from unmask.evaluation.results import Entry, Row
from unmask.report.paper.content import Series, Text

if TYPE_CHECKING:
    from unmask.recipes.paper.bench import Bench


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a task found. rows: for its cells, in their order, None where there is none. values: for later sentences."""

    rows: tuple[Row | None, ...] = ()
    series: tuple[Series, ...] = ()
    texts: tuple[Text, ...] = ()
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """Work that is done whole or not at all.

    key: a path-like name, `table3/sedd-twin-64`; its first part is what `only` selects. cells: the entries that it
    fills, without a measured value. settings: all that decides the outcome besides the weights of `models` and the
    outcomes of `needs`. flops: what it costs, about, in floating-point operations. product: the file that it leaves
    in the results folder, if any. impossible: why it cannot be done at this scale, in which case `run` is not called.
    """

    key: str
    words: str
    run: Callable[["Bench"], Outcome]
    settings: Mapping[str, Any]
    cells: tuple[Entry, ...] = ()
    models: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    flops: float = 0.0
    product: str = ""
    impossible: str = ""

    @property
    def part(self) -> str:
        """`table3` of `table3/sedd-twin-64`."""
        return self.key.partition("/")[0]

    def identity(self, fingerprints: Mapping[str, str], identities: Mapping[str, str]) -> str:
        """A hash of all that decides the outcome. fingerprints: of weights by model; identities: of tasks by key."""
        whole = {
            "key": self.key,
            "settings": self.settings,
            "models": {name: fingerprints[name] for name in self.models},
            "needs": {key: identities[key] for key in self.needs},
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]


def nothing(bench: "Bench") -> Outcome:
    """The run of a task that is never run."""
    raise AssertionError("an impossible task is not run")
