"""Entries as the grids of tables, and the letters that stand for protocols and differences. No markup."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from unmask.evaluation.results import Entry
from unmask.report.content import letters
from unmask.report.digits import number
from unmask.report.paper.content import Fact, PaperReport

# Headings of the tables and what to know before reading one.
TABLES: Mapping[str, tuple[str, str]] = {
    "table1": ("Zero-shot perplexity", "Lower is better; ≤ marks an upper bound."),
    "table2": ("Accuracy on benchmarks", "Higher is better."),
    "table3": ("Perplexity of generated text, read by a judge", "Lower is likelier, which is not always better."),
    "table4": ("Diversity of generated text", "To be read against the row of real text."),
    "table5": ("Continuing a prompt, small models", "MAUVE: higher is better; perplexity: lower is likelier."),
    "table6": ("Continuing a prompt, medium models", "MAUVE: higher is better; perplexity: lower is likelier."),
    "table7": ("The models whose speed is measured", ""),
    "figure1": ("Latency of one sequence", "Lower is faster."),
}


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: its tables, then its figures."""

    name: str
    short: str
    heading: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


SECTIONS = (
    Section("perplexity", "Perplexity", "Zero-shot perplexity", ("table1",), ("variance",)),
    Section("benchmarks", "Benchmarks", "Benchmarks", ("table2",)),
    Section(
        "quality", "Quality", "Quality without a prompt",
        ("table3",), ("quality_per_second", "entropy_per_second", "arithmetic"),
    ),
    Section("diversity", "Diversity", "Diversity", ("table4",), ("diversity",)),
    Section("prompted", "Prompted", "Continuing a prompt", ("table5", "table6"), ("mauve",)),
    Section("speed", "Speed", "Speed", ("table7", "figure1"), ("figure1", "throughput")),
)  # fmt: skip


def sections(report: PaperReport) -> list[Section]:
    """The sections of the paper, and one more for tables and figures that the paper does not have."""
    known_tables = {name for section in SECTIONS for name in section.tables}
    known_figures = {name for section in SECTIONS for name in section.figures}
    tables = dict.fromkeys(cell.table for cell in cells(report) if cell.table not in known_tables)
    figures = dict.fromkeys(series.figure for series in report.series if series.figure not in known_figures)
    more = Section("more", "More", "Further measurements", tuple(tables), tuple(figures))
    return [*SECTIONS, *([more] if tables or figures else [])]


def cells(report: PaperReport) -> list[Entry | Fact]:
    """All cells of all tables: numbers, then words."""
    return [*report.entries, *report.facts]


def table_label(table: str) -> str:
    """`Table 3` of "table3", `Figure 1, in numbers` of "figure1", else the name in words."""
    for word in ("table", "figure"):
        if table.startswith(word) and table[len(word) :].isdigit():
            return f"{word.capitalize()} {table[len(word) :]}" + (", in numbers" if word == "figure" else "")
    return table.replace("_", " ").capitalize()


def slug(name: str) -> str:
    """A name as part of an address or of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def anchor(table: str) -> str:
    """The address of a table on the page: its name, if it is one of the paper's."""
    return table if table in TABLES else f"table-{slug(table)}"


LOST = "The paper's numbers for this table are lost in the text at hand."


def title(cells: "Grid") -> tuple[str, str]:
    """`Table 3`, and what it shows, in which unit, and how to read it."""
    label = table_label(cells.table)
    heading, advice = TABLES.get(cells.table, (label, ""))
    unit = f" ({cells.unit})" if cells.unit and cells.unit not in heading.lower() else ""
    lost = LOST if cells.table in ("table5", "table6") and not any(map(cells.has_paper, cells.columns)) else ""
    return label, " ".join(part for part in (f"{heading}{unit}.", advice, lost) if part)


@dataclasses.dataclass(frozen=True)
class Marks:
    """What a letter stands for, all over the report. protocols: small letters; unlikes: capitals."""

    protocols: Mapping[str, str]
    unlikes: Mapping[str, str]

    @classmethod
    def of(cls, report: PaperReport) -> "Marks":
        """Letters in order of appearance."""
        protocols = letters(entry.measured.protocol for entry in report.entries if entry.measured)
        unlikes = letters(cell.unlike for cell in cells(report) if cell.unlike)
        return cls(protocols, {text: letter.upper() for text, letter in unlikes.items()})


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table: rows and columns in order of appearance, and what stands where they meet, mostly one cell."""

    table: str
    cells: tuple[Entry | Fact, ...]

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Names of rows."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of columns."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    @cached_property
    def places(self) -> Mapping[tuple[str, str], tuple[Entry | Fact, ...]]:
        """Cells by row and column."""
        found: dict[tuple[str, str], tuple[Entry | Fact, ...]] = {}
        for cell in self.cells:
            found[cell.row, cell.column] = (*found.get((cell.row, cell.column), ()), cell)
        return found

    def at(self, row: str, column: str) -> tuple[Entry | Fact, ...]:
        """What stands there; nothing where nothing was asked."""
        return self.places.get((row, column), ())

    def in_column(self, column: str) -> list[Entry | Fact]:
        """The cells of a column from top to bottom."""
        return [cell for row in self.rows for cell in self.at(row, column)]

    def has_paper(self, column: str) -> bool:
        """Whether the paper prints anything in a column."""
        return any(has_paper(cell) for cell in self.in_column(column))

    @cached_property
    def footnotes(self) -> Mapping[str, int]:
        """Reasons and notes of the cells, numbered from 1."""
        texts = dict.fromkeys(text for cell in self.cells for text in footnotes(cell))
        return {text: index for index, text in enumerate(texts, 1)}

    @cached_property
    def unlikes(self) -> tuple[str, ...]:
        """Why ours and the paper's differ, each once; only where the paper has a number."""
        return tuple(dict.fromkeys(cell.unlike for cell in self.cells if cell.unlike and has_paper(cell)))

    @cached_property
    def unit(self) -> str:
        """The unit of all measured numbers, if it is one."""
        units = {cell.measured.unit for cell in self.cells if isinstance(cell, Entry) and cell.measured}
        return units.pop() if len(units) == 1 else ""

    def paper_row(self, row: str) -> str:
        """The row of the paper that a row stands beside, where it is one and called something else."""
        named = {cell.paper_row for cell in self.cells if isinstance(cell, Entry) and cell.row == row}
        named -= {""}
        name = named.pop() if len(named) == 1 else ""
        return "" if name == row else name

    def paper_decimals(self, column: str) -> int | None:
        """How many decimals the paper prints in a column; None where that is not one number (table 1)."""
        if self.table == "table1":
            return None
        values = [v for cell in self.in_column(column) if isinstance(cell, Entry) for v in (cell.paper, spread(cell))]
        return max((_decimals(value) for value in values if value is not None), default=0)


def grid(report: PaperReport, table: str) -> Grid:
    """The grid of a table."""
    return Grid(table, tuple(cell for cell in cells(report) if cell.table == table))


def has_paper(cell: Entry | Fact) -> bool:
    """Whether the paper prints something for a cell."""
    return bool(cell.paper) if isinstance(cell, Fact) else cell.paper is not None


def footnotes(cell: Entry | Fact) -> list[str]:
    """Why there is no number, or what its row remarks."""
    if isinstance(cell, Fact):
        return []
    if cell.measured is None:
        return [cell.reason or "not measured"]
    return [cell.measured.note] if cell.measured.note else []


def ours(cell: Entry | Fact) -> tuple[str, str, str]:
    """`≤ ` or nothing, the number, its standard error without a sign or nothing."""
    if isinstance(cell, Fact):
        return "", cell.ours, ""
    row = cell.measured
    if row is None:
        return "", "", ""
    usable = row.stderr if row.stderr and math.isfinite(row.stderr) and math.isfinite(row.value) else None
    mark = "≤ " if row.protocol.startswith("upper bound") else ""
    value = number(row.value, usable)
    return mark, value, _rounded(usable, value) if usable else ""


def our_spread(cell: Entry | Fact) -> str:
    """The standard deviation over what our number averages, or nothing."""
    row = cell.measured if isinstance(cell, Entry) else None
    return "" if row is None or row.spread is None or not math.isfinite(row.spread) else f"{row.spread:.2g}"


def papers(cell: Entry | Fact, decimals: int | None) -> tuple[str, str, str]:
    """The paper's number as printed: `≤ ` or nothing, the number, its spread over sequences or nothing."""
    if isinstance(cell, Fact):
        return "", cell.paper, ""
    if cell.paper is None:
        return "", "", ""
    bound = cell.table == "table1" and cell.paper_row.startswith("SEDD")
    said = spread(cell)
    return "≤ " if bound else "", _printed(cell.paper, decimals), "" if said is None else _printed(said, decimals)


def spread(cell: Entry) -> float | None:
    """The standard deviation that the paper prints."""
    return cell.paper_spread


def fractions(texts: Sequence[str]) -> list[str]:
    """For each number, what to add on its right, unseen, so that the points of all stand under each other."""
    tails = ["." + text.partition(".")[2] if "." in text else "" for text in texts]
    most = max((len(tail) for text, tail in zip(texts, tails, strict=True) if _is_number(text)), default=0)
    full = "." + "0" * (most - 1) if most else ""
    return [full[len(tail) :] if _is_number(text) else "" for text, tail in zip(texts, tails, strict=True)]


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").lstrip("-").isdigit()


def pending(report: PaperReport, names: Sequence[str]) -> str:
    """Why there is nothing of these parts yet; an empty string where no work of theirs is pending."""
    said = dict.fromkeys(reason for key, reason in report.pending.items() if key.partition("/")[0] in names)
    return "; ".join(said)


def _rounded(stderr: float, value: str) -> str:
    return f"{stderr:,.{_places(value)}f}"


def _printed(value: float, decimals: int | None) -> str:
    return f"{value:,.{_decimals(value) if decimals is None else decimals}f}"


def _decimals(value: float) -> int:
    return _places(f"{value:.10g}")


def _places(text: str) -> int:
    return len(text.partition(".")[2])
