import dataclasses

import pytest

from unmask.report.words import lede, verdict

from .example import likelihood_rows, report


def said(**numbers):
    return verdict(report(rows=tuple(likelihood_rows(**numbers))))


def test_the_autoregressive_model_is_ahead_when_the_bound_is_higher():
    words = said(bound=4.8, exact=4.5)
    assert "SEDD needs at most 4.800 ± 0.020 nats per token" in words and "AR exactly 4.500 ± 0.030" in words
    assert "AR is ahead by 0.300 ± 0.010 nats per token (a perplexity 35 % higher for SEDD)" in words
    assert "same 64 rows" in words and "the true gap may be smaller" in words


def test_the_diffusion_model_is_ahead_when_even_its_bound_is_lower():
    words = said(bound=4.2, exact=4.5)
    assert "SEDD is ahead by at least 0.300 ± 0.010 nats per token" in words and "can only be larger" in words


@pytest.mark.parametrize("bound", [4.481, 4.519])
def test_less_than_two_standard_errors_is_no_difference(bound):
    assert "cannot be told apart" in said(bound=bound, exact=4.5)


@pytest.mark.parametrize("bound", [4.479, 4.521])
def test_more_than_two_standard_errors_is_one(bound):
    assert "is ahead by" in said(bound=bound, exact=4.5)


@pytest.mark.parametrize("gap_error", [None, float("nan")])
def test_without_an_error_there_is_no_verdict(gap_error):
    words = said(bound=4.8, exact=4.5, gap_error=gap_error)
    assert "no error can be stated" in words and "ahead" not in words


def test_the_verdict_never_comes_from_the_papers_quantity():
    words = said(bound=4.51, exact=4.5, gap_error=0.001, paper=4.4)
    assert "AR is ahead by 0.0100" in words
    assert "The quantity the papers report would be 4.400 ± 0.020" in words and "the other order" in words
    assert "the other order" not in said(bound=4.8, exact=4.5, paper=4.7)


def test_without_common_rows_there_is_no_verdict():
    rows = tuple(row for row in likelihood_rows(4.8, 4.5) if row.name != "nats_difference")
    assert "no verdict" in verdict(report(rows=rows))


def test_a_great_difference_is_said_in_times():
    assert "a perplexity 20.1 times higher for SEDD" in said(bound=7.5, exact=4.5)


def test_another_name_is_used_throughout():
    rows = tuple(dataclasses.replace(row, model=row.model.replace("SEDD", "MDLM")) for row in likelihood_rows(4.8, 4.5))
    words = verdict(report(rows=rows, diffusion="MDLM"))
    assert "MDLM needs at most" in words and "SEDD" not in words


CARD = {"data": {"corpus": "sotu"}, "batch_size": 12, "curves": [{"tokens": 3e6}, {"tokens": 61.4e6}]}


def told(second):
    return lede([CARD, second], [8_135_681, 6_830_848], ["SEDD", "AR"], "128 rows", 256)


def test_the_lede_says_the_same_only_where_the_cards_do():
    assert "8.1 million and 6.8 million parameters were trained on the same 61.4 million tokens" in told(CARD)
    shorter = CARD | {"curves": [{"tokens": 30e6}]}
    assert "trained on the same corpus" in told(shorter) and "61.4" not in told(shorter)
    assert "trained apart" in told(CARD | {"data": {"corpus": "wiki"}})
    assert "trained apart" in lede([{}, {}], [1, 1], ["SEDD", "AR"], "128 rows", 256)
