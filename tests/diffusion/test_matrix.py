"""Rate matrices: the exponential, the limit, and what is refused."""

import math

import pytest
import torch
from torch import Tensor

from unmask.diffusion import Geometric, LogLinear, RateMatrix
from unmask.diffusion.matrix import exponential
from unmask.errors import ConfigError


def chain(n: int, up: float = 1.0, down: float = 0.0) -> Tensor:
    """x -> x + 1 at rate up, x -> x - 1 at rate down."""
    q = torch.diag(torch.full((n - 1,), up).double(), 1) + torch.diag(torch.full((n - 1,), down).double(), -1)
    return q - q.sum(-1).diag()


def test_exponential_against_torch() -> None:
    g = torch.Generator().manual_seed(0)
    q = torch.rand(20, 20, generator=g, dtype=torch.float64)
    q = q - q.sum(-1).diag()
    sigma = torch.tensor([0.0, 1e-6, 0.3, 5.0], dtype=torch.float64)
    torch.testing.assert_close(exponential(q, sigma), torch.linalg.matrix_exp(sigma[:, None, None] * q))


@pytest.mark.parametrize("sigma", [1e-4, 0.7, 20.0])
def test_tiny_entries_are_accurate_and_impossible_ones_are_zero(sigma: float) -> None:
    """k steps up a chain by time sigma are Poisson: sigma^k e^-sigma / k!, 1e-60 and less."""
    got = exponential(chain(16), torch.tensor([sigma], dtype=torch.float64))[0]
    poisson = [math.exp(k * math.log(sigma) - sigma - math.lgamma(k + 1)) for k in range(15)]
    want = torch.tensor(poisson, dtype=torch.float64)
    torch.testing.assert_close(got[0, :15], want, rtol=1e-11, atol=0)
    assert bool((got.tril(-1) == 0).all())
    torch.testing.assert_close(got.sum(-1), torch.ones(16).double())


def test_the_limit_solves_pi_q() -> None:
    process = RateMatrix(6, LogLinear(), chain(6, 1.0, 2.0))
    pi = process.limit_law
    torch.testing.assert_close(pi, torch.tensor([2.0**-k for k in range(6)]).double() / (2 - 2.0**-5))
    torch.testing.assert_close(pi @ process.matrix, torch.zeros(6).double(), rtol=0, atol=1e-12)


def test_many_times_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many matrices are held at once does not change the numbers."""
    process = RateMatrix(6, Geometric(), chain(6, 1.0, 2.0))
    g = torch.Generator().manual_seed(0)
    p0 = torch.softmax(torch.randn(3, 2, 6, generator=g, dtype=torch.float64), -1)
    xt, t = torch.randint(6, (3, 2), generator=g), torch.rand(3, 2, generator=g, dtype=torch.float64)
    score = p0 + 0.5

    def everything() -> list[Tensor]:
        return [
            process.marginal(p0, t),
            process.posterior(p0, xt, 0.5 * t, t),
            process.score(p0, xt, t),
            process.staggered_score(score, t),
            process.transition(xt, t),
        ]

    at_once = everything()
    monkeypatch.setattr("unmask.diffusion.matrix._ELEMENTS", 36 * 3)
    for got, want in zip(everything(), at_once, strict=True):
        torch.testing.assert_close(got, want)
    for b, l in ((0, 0), (2, 1)):
        one = process.marginal(p0[b : b + 1, l : l + 1], t[b : b + 1, l : l + 1])
        torch.testing.assert_close(one[0, 0], at_once[0][b, l])


def test_dtypes_follow_what_is_given() -> None:
    process = RateMatrix(6, LogLinear(), chain(6, 1.0, 2.0).float())
    assert process.matrix.dtype == torch.float64
    p0, xt, t = torch.full((2, 3, 6), 1 / 6), torch.zeros(2, 3, dtype=torch.long), torch.tensor([0.3, 0.6])
    for got in (process.marginal(p0, t), process.posterior(p0, xt, t / 2, t), process.score(p0, xt, t)):
        assert got.dtype == torch.float32 and got.shape == (2, 3, 6)
    assert process.corrupt(xt, t, generator=torch.Generator().manual_seed(0)).dtype == torch.int64


def test_equality_is_by_value() -> None:
    """The inherited comparison would not see the matrix."""
    a, b, c = (RateMatrix(6, LogLinear(), chain(6, 1.0, down)) for down in (2.0, 2.0, 3.0))
    assert a == b and a != c and a != "a" and len({a, b, c}) == 2


def changed(at: tuple[int, int], by: float) -> Tensor:
    q = chain(6, 1.0, 2.0)
    q[at] += by
    return q


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (torch.zeros(3, 4), r"shape \(3, 4\)"),
        (torch.zeros(6), r"shape \(6,\)"),
        (torch.zeros(513, 513), "513 states, above 512"),
        (torch.zeros(9, 9), "9 states for 6 clean tokens"),
        (changed((4, 2), -0.25), r"negative rate: Q\[4, 2\] = -0.25"),
        (changed((4, 4), 0.5), "row 4 sums to 0.5"),
        (chain(6, 1.0, 2.0).T, "row [05] sums to"),
        (changed((1, 2), float("nan")), "not finite"),
    ],
)
def test_what_is_no_rate_matrix_is_refused(matrix: Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RateMatrix(6, LogLinear(), matrix)


def test_a_vocabulary_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 1"):
        RateMatrix(1, LogLinear(), torch.zeros(1, 1))
