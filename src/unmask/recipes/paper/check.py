"""Is what was measured what the paper prints? Only numbers of one protocol are asked."""

import dataclasses
import math
from collections.abc import Iterable

from unmask.evaluation.results import Entry
from unmask.report.digits import number, row_value

SURE = 3.0


@dataclasses.dataclass(frozen=True)
class Compared:
    """An entry against the paper's number. z: the difference in standard errors; agrees: within three of them."""

    entry: Entry
    z: float
    agrees: bool


def compare(entries: Iterable[Entry]) -> list[Compared]:
    """Every entry that has both numbers, of one protocol. A number without a standard error agrees only exactly."""
    found = []
    for entry in entries:
        row = entry.measured
        if row is None or entry.paper is None or entry.unlike or not math.isfinite(row.value):
            continue
        difference = row.value - entry.paper
        if row.stderr:
            z = difference / row.stderr
        else:
            z = 0.0 if math.isclose(row.value, entry.paper, rel_tol=5e-4) else math.inf
        found.append(Compared(entry, z, abs(z) <= SURE))
    return found


def lines(found: Iterable[Compared]) -> list[str]:
    """A line for each, for people."""
    return [
        f"{'ok      ' if each.agrees else 'DIFFERS '} {each.entry.table}  {each.entry.row}  {each.entry.column}: "
        f"{row_value(each.entry.measured)} against {number(each.entry.paper)} ({each.z:+.1f} standard errors)"
        for each in found
        if each.entry.measured is not None
    ]
