"""The numbers that the paper prints, read from `paper_tables.json`."""

import functools
import json
from pathlib import Path
from typing import Any

from unmask.evaluation.results import Entry


@functools.cache
def tables() -> dict[str, Any]:
    """The tables of the paper as plain values."""
    values: dict[str, Any] = json.loads(Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8"))
    return values


def _column(table: str, row: str, column: str) -> Any:
    """A value of a table whose first column is `params`; None where the paper has none."""
    found = tables()[table]
    values = found["rows"].get(row)
    if values is None or column not in found["columns"]:
        return None
    return values[found["columns"].index(column)]


def zero_shot(row: str, column: str) -> float | None:
    """Table 1: perplexity of a model on a set."""
    return _column("table_1_zero_shot_perplexity", row, column)


def accuracy(row: str, column: str) -> float | None:
    """Table 2: accuracy of a model on a benchmark, percent."""
    return _column("table_2_lm_eval_accuracy_percent", row, column)


def generative(row: str) -> float | None:
    """Table 3: GPT-2 large's perplexity of samples."""
    value: float | None = tables()["table_3_generative_perplexity"]["rows"].get(row)
    return value


def diversity(row: str, column: str) -> tuple[float | None, float | None]:
    """Table 4: mean and standard deviation of a statistic of samples."""
    pair = _column("table_4_diversity", row, column)
    return (None, None) if pair is None else (pair[0], pair[1])


def slug(words: str) -> str:
    """A name for files and keys: `SEDD twin` becomes `sedd-twin`."""
    return "".join(c if c.isalnum() else "-" for c in words.lower())


def cell(
    table: str, row: str, column: str, *, paper_row: str = "", paper: float | None = None,
    spread: float | None = None, unlike: str = "",
) -> Entry:  # fmt: skip
    """A cell still to be measured. Without a number of the paper there is nothing to be unlike."""
    known = paper is not None
    return Entry(
        table, row, column, None, paper=paper, paper_spread=spread,
        paper_row=paper_row if known else "", unlike=unlike if known else "",
    )  # fmt: skip
