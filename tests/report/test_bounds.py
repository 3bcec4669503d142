import dataclasses
import math

import numpy as np
import pytest

from unmask.evaluation.likelihood import Bound
from unmask.report.bounds import bound_rows, difference_row

VALUES = (4.0, 5.0, 4.4, 4.9)


def bound(values=VALUES, **changes) -> Bound:
    x = np.array(values)
    mean, stderr = float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else math.nan
    made = Bound(
        nats_per_token=mean, stderr=stderr, n=len(x), exact=False,
        parts={"diffusion": mean - 0.02, "reconstruction": 0.012, "prior": 0.008}, paper=mean - 0.01,
        paper_stderr=stderr, perplexity=math.exp(mean), perplexity_mean_exp=float(np.exp(x).mean()),
        paper_perplexity=math.exp(mean - 0.01), paper_perplexity_mean_exp=float(np.exp(x - 0.01).mean()),
        bits_per_byte=1.7, tokens=len(x) * 32, times_per_row=8, seed=5, rows=tuple(values),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_a_bound_gives_its_numbers_its_parts_and_the_papers_quantity():
    rows = {row.name: row for row in bound_rows(bound(), "SEDD", "rows of a test")}
    assert set(rows) == {
        "nats_per_token", "perplexity", "perplexity_mean_exp", "bits_per_byte", "bound_diffusion",
        "bound_reconstruction", "bound_prior", "paper_nats_per_token", "paper_perplexity", "paper_perplexity_mean_exp",
    }  # fmt: skip
    assert math.fsum(rows[f"bound_{part}"].value for part in ("diffusion", "reconstruction", "prior")) == pytest.approx(
        rows["nats_per_token"].value
    )
    assert all((row.n, row.seed, row.model) == (4, 5, "SEDD") for row in rows.values())
    assert rows["nats_per_token"].protocol != rows["paper_nats_per_token"].protocol
    assert "8 stratified times a row" in rows["perplexity"].protocol
    assert "4 rows of a test of 32 tokens" in rows["perplexity"].protocol


def test_the_error_of_a_perplexity_is_that_of_its_nats_to_first_order():
    x = np.array(VALUES)
    rows = {row.name: row for row in bound_rows(bound(), "SEDD")}
    nats, ppl = rows["nats_per_token"], rows["perplexity"]
    step = 1e-6
    slope = (math.exp(nats.value + step) - math.exp(nats.value - step)) / (2 * step)
    assert ppl.stderr == pytest.approx(slope * nats.stderr, rel=1e-6)
    assert rows["perplexity_mean_exp"].stderr == pytest.approx(np.exp(x).std(ddof=1) / 2)
    assert rows["bits_per_byte"].stderr == pytest.approx(1.7 * nats.stderr / nats.value)


def test_an_exact_value_has_no_parts_and_no_seed():
    rows = bound_rows(bound(exact=True, parts={"likelihood": 4.5}), "AR")
    assert [row.name for row in rows] == ["nats_per_token", "perplexity", "perplexity_mean_exp", "bits_per_byte"]
    assert {row.seed for row in rows} == {None} and "chain rule" in rows[0].protocol


def test_one_row_has_no_error():
    rows = bound_rows(bound((4.5,)), "SEDD")
    assert {row.stderr for row in rows} == {None}


def test_without_bytes_there_are_no_bits_per_byte():
    assert "bits_per_byte" not in {row.name for row in bound_rows(bound(bits_per_byte=None), "SEDD")}


def test_the_difference_is_taken_row_by_row():
    other = tuple(value - gap for value, gap in zip(VALUES, (0.1, 0.2, 0.1, 0.2), strict=True))
    gap = difference_row(bound(), bound(other, exact=True), "SEDD − AR")
    assert gap.value == pytest.approx(0.15)
    assert gap.stderr == pytest.approx(np.std([0.1, 0.2, 0.1, 0.2], ddof=1) / 2)
    assert gap.stderr < bound().stderr / 5  # pairing takes out what rows have in common


def test_different_numbers_of_rows_have_no_difference():
    assert difference_row(bound(), bound(VALUES[:3]), "SEDD − AR") is None
