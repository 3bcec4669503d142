"""Numbers as people read them: rounded to what their error allows."""

import math

from unmask.evaluation.results import Row

ABSENT = "–"


def number(value: float | None, stderr: float | None = None) -> str:
    """The value, rounded to two digits of its standard error; to four significant digits where it has none."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and not stderr:
        return f"{int(value):,}"
    return f"{value:,.{_decimals(value, stderr)}f}"


def with_error(value: float | None, stderr: float | None = None) -> str:
    """`4.812 ± 0.023`: the value and its standard error, to the same decimals; no ± where there is no error."""
    if value is None or not _usable(stderr) or not math.isfinite(value):
        return number(value)
    return f"{number(value, stderr)} ± {stderr:,.{_decimals(value, stderr)}f}"


def row_value(row: Row) -> str:
    """The value of a row with its error."""
    return with_error(row.value, row.stderr)


def seconds(value: float) -> str:
    """A duration: `850 ms`, `3.4 s`, `2 min 05 s`."""
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    if value < 99.5:
        return f"{value:.3g} s"
    return f"{round(value) // 60} min {round(value) % 60:02d} s"


def large(value: float) -> str:
    """A count in short: `8.1 million`, `61.4 million`, `4,096`."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.{1 if value < 100 * size else 0}f} {word}"
    return f"{round(value):,}"


def _usable(stderr: float | None) -> bool:
    return stderr is not None and math.isfinite(stderr) and stderr > 0


def _decimals(value: float, stderr: float | None) -> int:
    """How many decimals show two digits of the error, or four of the value; from 0 to 6."""
    size, digits = (float(stderr or 0), 2) if _usable(stderr) else (abs(value), 4)
    return min(6, max(0, digits - 1 - math.floor(math.log10(size)))) if size else 0
