"""What a report holds: measured rows, texts, fills, curves, facts and where they come from. Plain values, no layout."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unmask.evaluation.results import Row

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Written:
    """One text that a model wrote from nothing. seconds and nfe are those of the whole batch of `batch` texts.

    rule and reads: which rule sampled which model, as in `unmask.sampling.Sample`.
    """

    model: str
    text: str
    seconds: float
    nfe: int
    batch: int
    seed: int | None
    steps: int | None = None
    rule: str = ""
    reads: str = ""
    top_p: float = 1.0
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Span:
    """A piece of a filled text; `filled` where the model wrote it."""

    text: str
    filled: bool


@dataclasses.dataclass(frozen=True)
class Fill:
    """One filling of a template, as spans whose texts make the whole."""

    model: str
    template: str
    spans: tuple[Span, ...]
    steps: int
    nfe: int
    seed: int | None
    rule: str = ""
    reads: str = ""


@dataclasses.dataclass(frozen=True)
class Timed:
    """How long one sequence takes with so many steps; None for a model that writes one token at a time."""

    row: Row
    steps: int | None


@dataclasses.dataclass(frozen=True)
class Card:
    """What a reader should know of a model. facts: labels and words, in the order in which they are shown."""

    model: str
    kind: str
    facts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything on the page. `diffusion` and `autoregressive` are the models' names in rows and texts.

    curves: for each model, points {step, tokens, loss, heldout_nats?}, nats per token. omitted: what could not be
    shown, and why.
    """

    title: str
    summary: str
    diffusion: str
    autoregressive: str
    rows: tuple[Row, ...]
    samples: tuple[Written, ...]
    fills: tuple[Fill, ...]
    curves: Mapping[str, Sequence[Mapping[str, float]]]
    timings: tuple[Timed, ...]
    cards: tuple[Card, ...]
    provenance: Mapping[str, Any]
    omitted: tuple[str, ...] = ()

    def find(self, name: str, model: str) -> Row | None:
        """The row of a quantity and a model, or None."""
        return next((row for row in self.rows if (row.name, row.model) == (name, model)), None)

    def all_rows(self) -> tuple[Row, ...]:
        """The rows of likelihoods, then those of time."""
        return (*self.rows, *(timed.row for timed in self.timings))

    def protocols(self) -> dict[str, str]:
        """Protocols in order of appearance, each with its letter: a, b, ... z, aa, ab, ..."""
        return protocol_letters(self.all_rows())

    def as_json(self) -> dict[str, Any]:
        """Plain values that strict JSON can hold: a number that is not finite becomes null."""
        values = {
            "format": FORMAT,
            "title": self.title,
            "summary": self.summary,
            "provenance": self.provenance,
            "rows": [row.as_json() for row in self.all_rows()],
            "samples": [dataclasses.asdict(text) for text in self.samples],
            "fills": [dataclasses.asdict(fill) for fill in self.fills],
            "curves": self.curves,
            "timings": [{"model": t.row.model, "steps": t.steps, "seconds": t.row.value} for t in self.timings],
            "models": [{"model": c.model, "kind": c.kind, "facts": dict(c.facts)} for c in self.cards],
            "omitted": self.omitted,
        }
        plain: dict[str, Any] = finite(values)
        return plain


def protocol_letters(rows: Sequence[Row]) -> dict[str, str]:
    """The distinct protocols of rows in order of appearance, each with its letter."""
    return letters(row.protocol for row in rows)


def letters(texts: Iterable[str]) -> dict[str, str]:
    """The distinct texts in order of appearance, each with its letter: a, b, ... z, aa, ab, ..."""
    return {text: _letter(index) for index, text in enumerate(dict.fromkeys(texts))}


def _letter(index: int) -> str:
    rest, last = divmod(index, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("a") + last)


def finite(value: Any) -> Any:
    """The same lists and objects with None for every infinity and NaN, which JSON has no words for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
