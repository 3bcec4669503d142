"""The paper's numbers are read as printed, and compared where the protocol is one."""

import math

from unmask.evaluation.results import Entry, Row
from unmask.recipes.paper import numbers
from unmask.recipes.paper.check import compare, lines


def entry(value: float, paper: float, stderr: float | None, unlike: str = "") -> Entry:
    row = Row("perplexity", "m", value, "perplexity", "p", stderr=stderr)
    return Entry("table1", "m", "c", row, paper=paper, unlike=unlike)


def test_three_standard_errors_decide() -> None:
    inside, outside = entry(10.0, 11.4, 0.5), entry(10.0, 11.6, 0.5)
    found = compare([inside, outside])
    assert [each.agrees for each in found] == [True, False]
    assert math.isclose(found[1].z, -3.2)
    assert [line.split()[0] for line in lines(found)] == ["ok", "DIFFERS"]


def test_only_numbers_of_one_protocol_are_compared() -> None:
    assert compare([entry(1.0, 2.0, 0.1, unlike="another judge"), Entry("t", "r", "c", None, paper=1.0)]) == []


def test_an_exact_number_agrees_to_the_digits_that_are_printed() -> None:
    assert [each.agrees for each in compare([entry(39.58, 39.576, None), entry(39.7, 39.576, None)])] == [True, False]


def test_the_papers_numbers() -> None:
    assert numbers.zero_shot("SEDD small", "PTB") == 110.97
    assert numbers.accuracy("GPT-2 large", "WinoGrande") == 55.48
    assert numbers.generative("SEDD 1024 steps") == 40.648
    assert numbers.diversity("OpenWebText", "unigram entropy") == (5.14, 0.31)
    assert numbers.zero_shot("SEDD small", "BoolQ passages") is None
    assert numbers.generative("SEDD 32 steps") is None


def test_a_cell_without_a_number_of_the_paper_is_unlike_nothing() -> None:
    cell = numbers.cell("table1", "m", "c", paper_row="SEDD small", paper=None, unlike="another model")
    assert cell == Entry("table1", "m", "c", None)
