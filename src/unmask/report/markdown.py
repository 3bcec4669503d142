"""Rows as a Markdown table, protocols as notes below it."""

from collections.abc import Sequence

from unmask.errors import ConfigError
from unmask.evaluation.results import Row
from unmask.report.content import protocol_letters
from unmask.report.digits import ABSENT, row_value

HEAD = ("model", "quantity", "value", "unit", "n", "seed", "protocol")
_RIGHT = {"value", "n", "seed"}


def table(rows: Sequence[Row]) -> str:
    """A table of rows: value ± standard error, and a letter for each protocol, written out below.

    Two rows may be compared where quantity, unit and letter agree. Raises ConfigError for no rows.
    """
    if not rows:
        raise ConfigError("a table of no rows", "measure something first")
    letters = protocol_letters(rows)
    notes = {row.note: None for row in rows if row.note}
    stars = {note: index + 1 for index, note in enumerate(notes)}
    cells = [
        (
            row.model, row.name.replace("_", " "), row_value(row) + (f" [{stars[row.note]}]" if row.note else ""),
            row.unit, _count(row.n), _count(row.seed), letters[row.protocol],
        )
        for row in rows
    ]  # fmt: skip
    below = [f"- ({letter}) {_line(protocol)}" for protocol, letter in letters.items()]
    below += [f"- [{index}] {_line(note)}" for note, index in stars.items()]
    return "\n".join([*grid(HEAD, cells, right=_RIGHT), "", *below]) + "\n"


def grid(
    head: Sequence[str], body: Sequence[Sequence[str]], *, right: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """Lines of a Markdown table, padded so that the source is readable too; `right`: columns set flush right."""
    texts = [[_line(cell).replace("|", "\\|") for cell in row] for row in [head, *body]]
    widths = [max(3, *(len(row[i]) for row in texts)) for i in range(len(head))]
    flush = [name in right for name in head]
    lines = [
        "| " + " | ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, flush, strict=True)) + " |"
        for row in texts
    ]
    rule = "| " + " | ".join("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, flush, strict=True)) + " |"
    return [lines[0], rule, *lines[1:]]


def _count(value: int | None) -> str:
    return ABSENT if value is None else str(value)


def _line(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split())
