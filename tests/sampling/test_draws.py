"""Draws: the inverse CDF is exact to the edges; the published race is biased as its closed form says."""

import math

import pytest
import torch
from torch import Tensor

from unmask.errors import ConfigError, UnmaskError
from unmask.sampling.draws import Draws, categorical, clipped, keyed, race

RARE = 5e-8  # the weight of a token in one short step, beside a mask of weight 1
GRID = 2.0**-24
CPU = torch.device("cpu")


def within(count: int, n: int, p: float) -> bool:
    """Count is that of n draws of probability p, to 5 sigma."""
    return abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p))


def biased(w: float) -> float:
    """The rate at which a token of weight w wins the float32 race against a mask of weight 1."""
    return GRID / math.expm1(GRID / w)


def test_the_race_wins_at_the_rate_of_its_closed_form() -> None:
    """Only the top points of the float32 grid can win, so draw those, and count each as 2^-24 of the uniforms."""
    n, top = 4_000_000, 64
    rng = torch.Generator().manual_seed(0)
    u = torch.stack([1 - (1 + torch.randint(top, (n,), generator=rng)).float() * GRID, torch.rand(n, generator=rng)], 1)
    assert float(u[:, 0].max()) == 1 - GRID
    wins = int((race(torch.tensor([[RARE, 1.0]]), u) == 0).sum())
    share = top * GRID
    assert within(wins, n, biased(RARE) / share)
    assert not within(wins, n, RARE / share)
    assert biased(RARE) < 0.53 * RARE


def test_uniforms_of_the_race_are_on_that_grid() -> None:
    u = torch.rand(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    assert torch.equal((u / GRID).round() * GRID, u)


@pytest.mark.parametrize("first", [True, False], ids=["token-first", "mask-first"])
def test_the_exact_draw_has_no_such_bias(first: bool) -> None:
    """Uniforms of the end of [0, 1) that the token owns, 200 times as wide as its weight."""
    n, width = 4_000_000, 200 * RARE
    u = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * width
    weights = torch.tensor([[RARE, 1.0] if first else [1.0, RARE]], dtype=torch.float64)
    wins, token = 0, 0 if first else 1
    for part in (u if first else 1 - u).split(500_000):
        wins += int((categorical(weights.expand(len(part), 2), part) == token).sum())
    assert within(wins, n, RARE / (1 + RARE) / width)
    assert not within(wins, n, biased(RARE) / width)


@pytest.mark.parametrize("narrow", [False, True], ids=["float64", "as-on-mps"])
@pytest.mark.parametrize("K", [1, 3, 256, 257, 5000])
def test_categorical_is_the_inverse_cdf(K: int, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain cumulative sum. Without float64, blocks are summed in float32: the rest stays exact."""
    if narrow:
        monkeypatch.setattr("unmask.devices.float_type", lambda device: torch.float32)
    rng = torch.Generator().manual_seed(K)
    weights = torch.rand(2000, K, generator=rng) ** 4 * (torch.rand(2000, K, generator=rng) < 0.5)
    weights[:, K // 2] += 0.1
    u = torch.rand(2000, generator=rng, dtype=torch.float64)
    cdf = weights.double().cumsum(-1)
    want = (cdf <= u[:, None] * cdf[:, -1:]).sum(-1)
    got = categorical(weights, u)
    off = got != want  # then u is as near to a step of the CDF as rounding is
    edge = cdf.gather(1, torch.minimum(got, want)[:, None])[:, 0] / cdf[:, -1]
    assert float((edge - u)[off].abs().max() if off.any() else 0.0) < (1e-6 if narrow else 1e-13)
    assert int(off.sum()) < (40 if narrow else 2)
    assert bool((weights.gather(1, got[:, None]) > 0).all())


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2.0**-53, 1.0], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("K", [1000, 3000])
def test_a_choice_of_probability_zero_is_never_drawn(u: float, dtype: torch.dtype, K: int) -> None:
    """Leading and trailing zeros, and sums whose rounding puts u times the total above the last step."""
    tenth = K // 10
    weights = torch.rand(500, K, generator=torch.Generator().manual_seed(0), dtype=dtype) + 1e-3
    weights[:, : 3 * tenth], weights[:, 7 * tenth :] = 0, 0
    weights[:100, 4 * tenth :] = -0.5  # clipped, so that these weigh nothing too
    got = categorical(weights, torch.full((500,), u, dtype=torch.float64))
    assert bool((weights.gather(1, got[:, None]) > 0).all())
    if u == 0:
        assert got.unique().tolist() == [3 * tenth]
    if u >= 1 - 2.0**-53:
        assert got[:100].unique().tolist() == [4 * tenth - 1] and got[100:].unique().tolist() == [7 * tenth - 1]


def test_a_step_of_the_cdf_belongs_to_the_next_choice() -> None:
    u = torch.tensor([0.0, 0.25, 0.5, 0.75]).double()
    assert categorical(torch.tensor([[1.0, 1.0, 0.0, 2.0]]).expand(4, 4), u).tolist() == [0, 1, 3, 3]


def test_a_sum_that_is_not_monotone_draws_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's scan rounds each prefix in its own order: a choice of weight 0 may seem to add a bit."""
    cumsum = torch.Tensor.cumsum
    jitter = torch.tensor([0.0, 1e-16, 0.0]).double()
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda x, dim: cumsum(x, dim) * (1 + 4 * jitter))
    weights = torch.tensor([[1.0, 0.0, 1.0]]).double()
    assert float((weights.cumsum(-1) - 1)[0, 1]) > 0
    assert categorical(weights, torch.tensor([0.5]).double()).tolist() == [2]


def test_negative_weights_are_dropped_and_counted() -> None:
    weights = torch.tensor([[0.75, -0.5, 0.25], [1.0, 0.0, 0.0]]).double()
    assert clipped(weights).tolist() == [0.5, 0.0]
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    got = categorical(weights[:1].expand(1000, 3), u)
    assert torch.bincount(got, minlength=3).tolist() == [750, 0, 250]


@pytest.mark.parametrize("row", [[0.0, 0.0], [-1.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]], ids=str)
def test_a_law_that_is_none_is_an_error(row: list[float]) -> None:
    weights = torch.tensor([[0.5, 0.5], row])
    with pytest.raises(UnmaskError, match="1 of 2 laws"):
        categorical(weights, torch.tensor([0.3, 0.3]).double())


def test_no_rows_are_no_draws() -> None:
    assert categorical(torch.zeros(0, 5), torch.zeros(0).double()).shape == (0,)


def uniforms(draws: Draws) -> Tensor:
    return draws.uniforms("token", 3, 7)


def test_uniforms_are_functions_of_their_key() -> None:
    whole = keyed(5, CPU, seed=9, generator=None, mode="exact")
    part = keyed(2, CPU, seed=9, generator=None, mode="exact", first_sample=2)
    u = uniforms(whole)
    assert u.shape == (5, 7) and u.dtype == torch.float64 and len(u.unique()) == 35
    assert torch.equal(u[2:4], uniforms(part))
    assert torch.equal(
        u[[3, 0, 4]], uniforms(keyed(3, CPU, seed=9, generator=None, mode="exact", first_sample=[3, 0, 4]))
    )
    with pytest.raises(ConfigError, match="2 numbers of samples for 3 rows"):
        keyed(3, CPU, seed=9, generator=None, mode="exact", first_sample=[3, 0])
    assert torch.equal(u[:, :4], whole.uniforms("token", 3, 4))
    others = [
        whole.uniforms("token", 4, 7),
        whole.uniforms("prior", 3, 7),
        uniforms(keyed(5, CPU, seed=8, generator=None, mode="exact")),
    ]
    assert not any(bool((u == other).any()) for other in others)


@pytest.mark.parametrize("seeds", [None, (3, 9, 9, 4)])
def test_uniforms_made_ahead_are_those_of_their_step(seeds: tuple[int, ...] | None) -> None:
    """Whatever steps were asked for before, and whatever rows are kept."""

    def fresh() -> Draws:
        return Draws(torch.tensor([5, 0, 2, 7]), 9, seeds=seeds)

    draws, rows = fresh(), torch.arange(4)
    for step, kept in (
        (0, None),
        (1, None),
        (2, [3, 0, 1]),
        (3, None),
        (40, None),
        (39, [2, 0]),
        (41, None),
        (56, None),
    ):
        if kept is not None:
            draws, rows = draws.keep(torch.tensor(kept)), rows[kept]
        for purpose in ("token", "order"):
            want = fresh().uniforms(purpose, step, 7)
            assert len(want.unique()) == 28 and torch.equal(draws.uniforms(purpose, step, 7), want[rows])
    many = Draws(torch.arange(40), 9)
    assert torch.equal(many.uniforms("token", 5, 1000)[:, :7], Draws(torch.arange(40), 9).uniforms("token", 5, 7))


def test_uniforms_come_from_the_generator_if_there_is_one() -> None:
    draws = keyed(5, CPU, seed=None, generator=torch.Generator().manual_seed(4), mode="exact")
    want = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(torch.stack([uniforms(draws), uniforms(draws)]), want)


def test_a_seed_is_drawn_where_none_is_given_and_can_be_read() -> None:
    a, b = (keyed(1, CPU, seed=None, generator=None, mode="exact") for _ in range(2))
    assert a.seed != b.seed
    assert torch.equal(uniforms(a), uniforms(keyed(1, CPU, seed=a.seed, generator=None, mode="exact")))


def test_wrong_draws_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"unknown draws 'float32'\n.*did you mean 'float32-race'"):
        keyed(1, CPU, seed=0, generator=None, mode="float32")
    with pytest.raises(ConfigError, match="not both"):
        keyed(1, CPU, seed=0, generator=torch.Generator(), mode="exact")


def test_a_race_runs_anew_in_every_batch():
    weights, u = torch.full((4, 50), 0.02), torch.zeros(4)
    first, again, later = (
        keyed(4, torch.device("cpu"), seed=3, generator=None, mode="float32-race", first_sample=i).choose(weights, u)
        for i in (0, 0, 4)
    )
    assert first.equal(again) and not first.equal(later)
