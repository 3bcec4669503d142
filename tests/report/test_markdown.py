import re

import pytest

from unmask.errors import ConfigError
from unmask.report.markdown import grid, table

from .example import row

ROWS = [
    row("nats_per_token", "SEDD", 4.81234, "bound | 8 times", 0.0234, seed=3),
    row("nats_per_token", "AR", 4.5, "chain\nrule", 0.03, n=128),
    row("perplexity", "AR", 90.017, "chain\nrule", unit="perplexity", note="its error is not kept"),
]


def test_a_table_holds_every_value_with_its_error_unit_count_seed_and_protocol():
    lines = table(ROWS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:5]]
    assert cells == [
        ["SEDD", "nats per token", "4.812 ± 0.023", "nats/token", "64", "3", "a"],
        ["AR", "nats per token", "4.500 ± 0.030", "nats/token", "128", "–", "b"],
        ["AR", "perplexity", "90.02 [1]", "perplexity", "64", "–", "b"],
    ]
    assert lines[5:] == ["", "- (a) bound | 8 times", "- (b) chain rule", "- [1] its error is not kept"]


def test_columns_line_up_and_numbers_stand_right():
    lines = table(ROWS).splitlines()[:5]
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(m.start() for m in re.finditer(r"\|", line)) for line in lines}) == 1
    assert [cell.strip().endswith(":") for cell in lines[1].strip("|").split("|")] == [
        False,
        False,
        True,
        False,
        True,
        True,
        False,
    ]


def test_a_cell_cannot_break_the_table():
    lines = grid(["a", "b"], [["x | y", "one\ntwo"]])
    assert lines[2] == "| x \\| y | one two |"


def test_no_rows_are_refused():
    with pytest.raises(ConfigError, match="no rows"):
        table([])
