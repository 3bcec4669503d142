"""What the page of the paper holds: entries of tables, series of figures, claims, texts. Plain values, no layout."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from unmask.evaluation.results import Entry

FORMAT = 1
Family = Literal["diffusion", "autoregressive", "data", "theory"]
Verdict = Literal["holds", "fails", "cannot be tested here"]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a curve. error: one standard error of y. measured: False where y was extrapolated."""

    x: float
    y: float
    error: float | None = None
    label: str = ""
    measured: bool = True


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve of the figure of that name."""

    figure: str
    name: str
    family: Family
    points: tuple[Point, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper, quoted, and what our numbers say of it. where: its section or table in the paper."""

    quote: str
    where: str
    verdict: Verdict
    number: str
    because: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A text to look at. label: which model and setting wrote it."""

    label: str
    text: str
    family: Family
    note: str = ""


@dataclasses.dataclass(frozen=True)
class PaperReport:
    """Everything on the page.

    notes: paragraphs by the section that they open ("table3", "figure1", "arithmetic", ...), computed from the
    numbers. provenance: of the whole. pending: keys of work that has not been done yet, with the reason.
    """

    title: str
    scale: str
    entries: tuple[Entry, ...]
    series: tuple[Series, ...]
    claims: tuple[Claim, ...]
    texts: tuple[Text, ...]
    notes: Mapping[str, tuple[str, ...]]
    provenance: Mapping[str, Any]
    pending: Mapping[str, str] = dataclasses.field(default_factory=dict)
