"""What the page of the paper holds: entries of tables, series of figures, claims, texts. Plain values, no layout."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from unmask.evaluation.results import Entry
from unmask.report.content import finite

FORMAT = 1
KIND = "unmask report of the paper"
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
    """A curve of the figure of that name.

    note: said in the caption. panel: series of one figure with another panel are drawn apart ("small", "1.3 B").
    y: what the points measure, with its unit, where it is not what the figure shows by default; drawn apart too.
    In the figure "mauve" x is the continuation perplexity, NaN where it is not known.
    """

    figure: str
    name: str
    family: Family
    points: tuple[Point, ...]
    note: str = ""
    panel: str = ""
    y: str = ""


@dataclasses.dataclass(frozen=True)
class Fact:
    """A cell of a table that holds words, such as how a model knows positions in table 7. Placed as an Entry is."""

    table: str
    row: str
    column: str
    ours: str
    paper: str = ""
    unlike: str = ""


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

    notes: paragraphs by the table or figure that they open ("table3", "figure1", "arithmetic", ...), computed from the
    numbers; those of "summary" stand under the title, those of "erratum" at the end. provenance: of the whole, with
    the command that makes it under "command". pending: keys of work ("table3/sedd-64") that has not been done yet,
    with the reason. facts: cells of words.
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
    facts: tuple[Fact, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values that strict JSON can hold: a number that is not finite becomes null."""
        plain: dict[str, Any] = finite({"format": FORMAT, "kind": KIND, **dataclasses.asdict(self)})
        return plain
