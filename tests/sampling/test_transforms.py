"""Transforms: what they keep, at the edges too."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.sampling.loop import reshaping
from unmask.sampling.transforms import Transform, compose, min_p, temperature, top_k, top_p

P = torch.tensor([[0.1, 0.4, 0.2, 0.3]])


def support(transform: Transform, p: Tensor = P) -> list[int]:
    out = transform(p.log()).exp()
    torch.testing.assert_close(out.sum(-1), torch.ones(len(p)))
    kept = out[0] > 0
    torch.testing.assert_close(out[0][kept], p[0][kept] / p[0][kept].sum())
    return kept.nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("p", "kept"), [(0.05, [1]), (0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 2, 3]), (0.95, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_token_that_crosses(p: float, kept: list[int]) -> None:
    assert support(top_p(p)) == kept


def test_top_p_of_one_changes_nothing_even_in_a_long_tail() -> None:
    log_p = (torch.arange(60_000).float() * -0.001).log_softmax(-1)[None]
    assert torch.equal(top_p(1.0)(log_p), log_p)
    kept = int(top_p(0.999999)(log_p).isfinite().sum())
    assert 13_500 < kept < 14_200  # -log(1e-6) / 0.001 = 13816: a float32 sum could not tell


@pytest.mark.parametrize(("k", "kept"), [(1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_k(k: int, kept: list[int]) -> None:
    assert support(top_k(k)) == kept


def test_top_k_keeps_k_of_equals() -> None:
    assert support(top_k(2), torch.full((1, 5), 0.2)) == [0, 1]


@pytest.mark.parametrize(("p", "kept"), [(0.2, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.74, [1, 3]), (0.9, [1]), (1.0, [1])])
def test_min_p_keeps_a_share_of_the_largest(p: float, kept: list[int]) -> None:
    assert support(min_p(p)) == kept


def test_temperature() -> None:
    torch.testing.assert_close(temperature(0.5)(P.log()).exp(), P**2 / (P**2).sum())
    assert temperature(0)(P.log()).exp().tolist() == [[0, 1, 0, 0]]
    impossible = torch.tensor([[0.5, 0.5, 0.0]]).log()
    torch.testing.assert_close(temperature(2)(impossible), impossible)


def test_compose_goes_from_first_to_last() -> None:
    log_p = P.log()
    hot = compose(temperature(10.0), top_p(0.5))
    assert support_of(hot(log_p)) == [1, 3] and support_of(compose(top_p(0.4), temperature(10.0))(log_p)) == [1]
    torch.testing.assert_close(hot(log_p), top_p(0.5)(temperature(10.0)(log_p)))


def support_of(log_p: Tensor) -> list[int]:
    return log_p[0].isfinite().nonzero()[:, 0].tolist()


def test_reshaping_puts_them_together_and_is_none_for_nothing() -> None:
    assert reshaping(1.0, 1.0, None, None) is None
    made = reshaping(0.7, 0.8, 3, 0.1)
    assert made is not None
    want = compose(temperature(0.7), top_k(3), top_p(0.8), min_p(0.1))(P.log())
    torch.testing.assert_close(made(P.log()), want)
    only = reshaping(1.0, 0.5, 3, None)
    assert only is not None
    torch.testing.assert_close(only(P.log()), compose(top_k(3), top_p(0.5))(P.log()))


@pytest.mark.parametrize(
    ("make", "values"),
    [(top_p, (0.0, 1.1, math.nan)), (min_p, (0.0, 2.0)), (top_k, (0,)), (temperature, (-1, math.nan))],
)
def test_values_out_of_range_are_errors(make: Callable[[float], Transform], values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"is {value}"):
            make(value)
