"""The plan covers the paper: every number that it prints has a cell, at every scale."""

import pytest

from unmask.errors import ConfigError
from unmask.recipes.paper import numbers
from unmask.recipes.paper.claims import CLAIMS, Evidence, claims
from unmask.recipes.paper.notes import notes
from unmask.recipes.paper.plan import hours, plan
from unmask.recipes.paper.report import find_scale
from unmask.recipes.paper.scales import PAPER, SCALES, TINY
from unmask.recipes.paper.series import series


@pytest.mark.parametrize("name", SCALES)
def test_each_task_comes_after_what_it_needs_and_no_name_is_used_twice(name: str) -> None:
    seen: set[str] = set()
    for task in plan(SCALES[name]):
        assert set(task.needs) <= seen, task.key
        assert task.key not in seen
        seen.add(task.key)


@pytest.mark.parametrize("name", SCALES)
def test_each_table_and_the_figure_have_cells_and_no_cell_is_filled_twice(name: str) -> None:
    cells = [(cell.table, cell.row, cell.column) for task in plan(SCALES[name]) for cell in task.cells]
    assert {table for table, _, _ in cells} >= {f"table{n}" for n in range(1, 8)} | {"figure1"}
    assert len(cells) == len(set(cells))


def test_at_the_papers_scale_every_printed_number_has_its_cell() -> None:
    cells = [cell for task in plan(PAPER) for cell in task.cells if cell.paper is not None]
    printed = sorted(cell.paper for cell in cells if cell.table == "table1")
    rows = numbers.tables()["table_1_zero_shot_perplexity"]["rows"]
    assert printed == sorted(value for row in rows.values() for value in row[1:])
    rows = numbers.tables()["table_2_lm_eval_accuracy_percent"]["rows"]
    assert sorted(c.paper for c in cells if c.table == "table2") == sorted(v for row in rows.values() for v in row[1:])
    rows = numbers.tables()["table_3_generative_perplexity"]["rows"]
    assert {c.paper for c in cells if c.table == "table3"} == set(rows.values())
    rows = numbers.tables()["table_4_diversity"]["rows"]
    assert len([c for c in cells if c.table == "table4"]) == sum(len(row) for row in rows.values())
    assert not any(cell.unlike for cell in cells if cell.table in ("table1", "table2", "table3"))


def test_at_the_small_scale_no_number_of_the_paper_goes_unmarked() -> None:
    for task in plan(TINY):
        for cell in task.cells:
            assert cell.paper is None or cell.unlike or cell.table == "table7", cell


def test_the_papers_columns_are_all_there_in_its_order() -> None:
    columns = list(dict.fromkeys(c.column for task in plan(TINY) for c in task.cells if c.table == "table1"))
    assert columns[:5] == ["LAMBADA", "WikiText2", "PTB", "WikiText103", "1BW"]


def test_hours_are_stated_for_each_part() -> None:
    assert 0.3 < hours(plan(TINY), TINY) < 3
    assert 2 < hours(plan(PAPER), PAPER) < 200


def test_without_numbers_every_claim_says_why_it_cannot_be_tested() -> None:
    evidence = Evidence(TINY, {}, {"table3/sedd-32": "no judge"})
    made = claims(evidence)
    assert len(made) == len(CLAIMS) and {claim.verdict for claim in made} == {"cannot be tested here"}
    assert "no judge" in next(claim.because for claim in made if "32 sampling steps" in claim.quote)
    assert series(evidence) == ()
    assert set(notes(evidence)) == {"table1", "figure1"}


def test_an_unknown_scale() -> None:
    with pytest.raises(ConfigError, match="unknown scale 'big'"):
        find_scale("big")
