"""Estimators of the bound: each is unbiased against full enumeration, and mask counts are the sharpest."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from exact.world import World
from unmask.diffusion import Absorbing, Cosine, Geometric, LogLinear, Process, Uniform
from unmask.diffusion.losses import score_entropy
from unmask.errors import ConfigError
from unmask.evaluation.counts import at_least, count_at, count_masses, counts_and_levels, level_at
from unmask.evaluation.estimators import (
    ESTIMATORS,
    Plan,
    all_draws,
    estimator,
    estimator_variance,
    mean_variance,
    row_variances,
)
from unmask.evaluation.likelihood import log_likelihood, nelbo
from unmask.evaluation.terms import bracket_per_token, prior_kl, reconstruction_term
from unmask.model import DiffusionLM

from .exact_models import BayesModel

LONG = World.make(3, 4)
T_MIN = 0.01


class RawModel(BayesModel):
    """Scores of no distribution: those of the truth, tilted by token, position, what is seen and the time."""

    def log_score(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        rows = super().log_score(xt, t)
        place = torch.arange(xt.shape[1]).double()[:, None]
        token = torch.arange(rows.shape[-1]).double()
        seen = (xt * torch.tensor([1.0, 0.7, 0.4, 0.9])[: xt.shape[1]]).sum(1)[:, None, None]
        tilt = 0.4 * torch.sin(2 * place + 3 * token + seen) + 0.5 * (t[:, None, None] - 0.3)
        rows = (rows + tilt).scatter(-1, xt[..., None], 0.0)
        return rows if at is None else rows[at]


def model(kind: str, process: Process | None = None) -> BayesModel:
    made = RawModel if kind == "raw" else BayesModel
    return made(process or Absorbing(3, LogLinear(1e-3)), LONG)


def nodes(low: float, high: float, count: int = 48) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's points and weights on [low, high]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.tensor(low + (high - low) * (x + 1) / 2), torch.tensor(w * (high - low) / 2)


def by_time(lm: BayesModel, x0: Tensor, scored: Tensor) -> float:
    """The papers' quantity of one text by summing over all masks at every time of a quadrature."""
    times, weights = nodes(T_MIN, 1.0)
    total = 0.0
    for pattern in itertools.product([False, True], repeat=int(scored.sum())):
        at = torch.zeros_like(scored)
        at[scored.nonzero()[:, 0]] = torch.tensor(pattern)
        if not at.any():
            continue
        m = lm.process.schedule.one_minus_alpha(times)
        chance = m ** int(at.sum()) * (1 - m) ** int((scored & ~at).sum())
        xt = torch.where(at, 3, x0).expand(len(times), -1)
        loss = score_entropy(lm.process, lm.log_score(xt, times), x0.expand_as(xt), xt, times)
        total += float((weights * chance * loss.sum(1)).sum())
    return total / (1 - T_MIN) / int(scored.sum())


def by_count(lm: BayesModel, x0: Tensor, scored: Tensor) -> float:
    """The same by the derivation of `counts`: over counts, sets of that count, and m given the count."""
    n = int(scored.sum())
    schedule = lm.process.schedule
    low, high = (float(schedule.one_minus_alpha(torch.tensor(t).double())) for t in (T_MIN, 1.0))
    total = 0.0
    for k, mass in enumerate(count_masses(n, low, high).tolist(), start=1):
        u, weights = nodes(0.0, 1.0)
        m = level_at(n, torch.full((len(u),), k), u, low, high)
        t = schedule.inverse(1 - m)
        sets = list(itertools.combinations(scored.nonzero()[:, 0].tolist(), k))
        for chosen in sets:
            at = torch.zeros_like(scored)
            at[list(chosen)] = True
            xt = torch.where(at, 3, x0).expand(len(t), -1)
            g = bracket_per_token(lm, x0.expand_as(xt), xt, t, at.expand_as(xt))
            total += mass / len(sets) * float((weights * g.sum(1)).sum()) / k
    return total / n / (1 - T_MIN)


TEXTS = LONG.tokens[[0, 13, 40, 77]]
SCORED = torch.tensor([[True] * 4, [True] * 4, [True, False, True, True], [False, True, False, False]])
SCHEDULES = {"loglinear": LogLinear(1e-3), "geometric": Geometric(1e-3, 6.0), "cosine": Cosine(1e-3)}


@pytest.mark.parametrize("kind", ["normalized", "raw"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_sum_over_counts_is_the_integral_over_time(kind, schedule):
    lm = model(kind, Absorbing(3, SCHEDULES[schedule]))
    for x0, scored in zip(TEXTS, SCORED, strict=True):
        assert by_count(lm, x0, scored) == pytest.approx(by_time(lm, x0, scored), rel=2e-5)


@pytest.mark.parametrize("kind", ["normalized", "raw"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_unbiased_for_every_row(kind, name):
    lm, copies = model(kind), 2500
    x, scored = TEXTS.repeat(copies, 1), SCORED.repeat(copies, 1)
    draws = all_draws(lm, x, scored, ESTIMATORS[name], 3, seed=5, batch_size=len(x), t_min=T_MIN)
    found = draws.mean(1).view(copies, 4)
    error = found.std(0) / copies**0.5
    expected = torch.tensor([by_time(lm, *each) for each in zip(TEXTS, SCORED, strict=True)])
    assert bool(((found.mean(0) - expected).abs() < 4 * error + 1e-6).all()), (found.mean(0), expected, error)
    assert float(error.max()) < 0.06


@pytest.mark.parametrize("name", [n for n, kind in ESTIMATORS.items() if not kind.absorbing])
def test_uniform_noise_gives_one_quantity_whatever_the_estimator(name):
    lm = BayesModel(Uniform(3, LogLinear(1e-3)), LONG)
    x = TEXTS.repeat(1500, 1)
    full = torch.ones_like(x, dtype=torch.bool)

    def mean(name, seed):
        draws = all_draws(lm, x, full, ESTIMATORS[name], 3, seed=seed, batch_size=len(x), t_min=T_MIN)
        each = draws.mean(1).view(1500, 4)
        return each.mean(0), each.var(0) / 1500

    (a, va), (b, vb) = mean(name, 1), mean("stratified", 2)
    assert bool(((a - b).abs() < 4.5 * (va + vb).sqrt()).all())


def test_times_over_rows_are_one_even_grid_that_turns():
    lm, x = model("normalized"), TEXTS.repeat(5, 1)
    ESTIMATORS["low-discrepancy"].draws(lm, x, torch.ones_like(x).bool(), Plan(torch.arange(20), 20, 30, 1, T_MIN))
    times = torch.stack([t for _, t in lm.read], 1)  # [20, 30]
    assert times.dtype == torch.float64
    grid = ((times - T_MIN) / (1 - T_MIN)).sort(0).values
    torch.testing.assert_close(
        grid.diff(dim=0), torch.full((19, 30), 1 / 20, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    first = (times[0] - T_MIN) / (1 - T_MIN)  # a row meets all noise, not one cell of the grid
    assert float(first.min()) < 0.15 and float(first.max()) > 0.85


def test_the_whole_bound_is_one_quantity_whatever_the_estimator():
    x = TEXTS.repeat(1500, 1)
    found = {n: nelbo(model("raw"), x, estimator=n, times_per_row=4, batch_size=len(x)) for n in ESTIMATORS}
    base = found["stratified"]
    for name, bound in found.items():
        assert bound.estimator == name
        for field, error in (("nats_per_token", "mc_stderr"), ("paper", "paper_mc_stderr")):
            apart = abs(getattr(bound, field) - getattr(base, field))
            assert apart < 4 * math.hypot(getattr(bound, error), getattr(base, error)) + 1e-9, (name, field)
        assert bound.parts["prior"] == base.parts["prior"] and bound.parts["reconstruction"] > 0
    assert found["mask-count"].mc_stderr < 0.6 * base.mc_stderr


# --- the law of counts and levels


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_the_masses_sum_to_n_times_the_range(n):
    masses = count_masses(n, 1e-3, 0.999)
    assert masses.shape == (n,) and float(masses.sum()) == pytest.approx(n * 0.998, rel=1e-10)
    if n > 2:
        torch.testing.assert_close(masses[n // 2], torch.tensor(1.0).double(), rtol=1e-5, atol=0)


def test_a_tail_of_the_binomial_law_is_that_of_enumeration():
    p = torch.tensor([0.0, 0.3, 1.0])
    exact = [[sum(math.comb(5, j) * q**j * (1 - q) ** (5 - j) for j in range(k, 6)) for k in range(1, 6)] for q in p]
    torch.testing.assert_close(at_least(5, p), torch.tensor(exact).double(), rtol=1e-6, atol=1e-12)


def test_levels_given_the_count_follow_the_truncated_beta_law():
    n, low, high, grid = 6, 0.05, 0.9, (torch.arange(4000) + 0.5).double() / 4000
    for k in (1, 3, 6):
        m = level_at(n, torch.full((4000,), k), grid, low, high)
        x, w = nodes(low, high)
        density = x ** (k - 1) * (1 - x) ** (n - k)
        for power in (1, 2):
            expected = float((w * density * x**power).sum() / (w * density).sum())
            assert float((m**power).mean()) == pytest.approx(expected, rel=1e-4)
        assert low < float(m.min()) and float(m.max()) < high


@pytest.mark.parametrize("n", [1, 2, 31, 1024])
def test_a_level_is_the_inverse_of_the_law_at_every_count_and_quantile(n):
    low, high = 1e-3, 0.999
    k = torch.linspace(1, n, min(n, 40)).long().repeat_interleave(7)
    u = torch.tensor([0.0, 1e-9, 1e-3, 0.5, 0.999, 1 - 1e-9, 1 - 2**-53]).double().repeat(min(n, 40))
    m = level_at(n, k, u, low, high)
    assert bool(((m >= low) & (m <= high)).all())
    at, start, stop = (at_least(n, each).gather(-1, (k - 1)[:, None])[:, 0] for each in (
        m, torch.full_like(m, low), torch.full_like(m, high)
    ))  # fmt: skip
    torch.testing.assert_close((at - start) / (stop - start), u, atol=1e-7, rtol=0)


def test_counts_are_one_in_each_stratum_and_their_law_is_exact():
    n, low, high, grid = 40, 1e-3, 0.999, (torch.arange(8000) + 0.5).double() / 8000
    law = torch.bincount(count_at(n, grid, low, high), minlength=n + 1)[1:] / 8000
    torch.testing.assert_close(law.double(), count_masses(n, low, high) / (n * (high - low)), atol=2e-4, rtol=0)
    u = (torch.arange(8) + torch.rand(50, 8, generator=torch.Generator().manual_seed(0))) / 8
    counts, _ = counts_and_levels(torch.full((50,), n), u.double(), u.double(), low, high)
    assert bool((counts.diff(dim=1) >= 0).all()) and bool(((counts - 5 * torch.arange(8)) <= 6).all())
    assert int(counts.min()) >= 1 and int(counts.max()) <= n


def test_masks_have_the_exact_count_and_cover_a_row_evenly():
    lm = model("normalized")
    scored = torch.tensor([[True, True, False, True]]).repeat(600, 1)
    x = TEXTS[:1].repeat(600, 1)
    ESTIMATORS["mask-count"].draws(lm, x, scored, Plan(torch.arange(600), 600, 3, 4, T_MIN))
    masks = torch.stack([lm.process.is_mask(xt) for xt, _ in lm.read], 1)  # [600, 3, 4]
    assert not masks[..., 2].any()  # what is given is never masked
    assert masks.sum(-1).float().mean(0).tolist() == pytest.approx([1, 2, 3], abs=0.05)  # strata of 1..3
    first = masks[:, 0][:, [0, 1, 3]].double()
    assert first.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.08)
    both = masks[:, 0] & masks[:, 1]
    alone = (masks[:, 0].sum(-1) == 1) & (masks[:, 1].sum(-1) == 2)
    assert not both[alone].any()  # one after the other in one order: 1 + 2 of 3 positions do not meet


# --- variance


def test_variances_are_those_of_repetition():
    lm = model("raw")
    found = estimator_variance(lm, TEXTS.repeat(40, 1), evaluations=4, repeats=12, batch_size=160, t_min=T_MIN)
    assert list(found) == list(ESTIMATORS)
    for name, value in found.items():
        x = TEXTS.repeat(40, 1)
        full = torch.ones_like(x, dtype=torch.bool)
        means = []
        for seed in range(40):
            draws = all_draws(lm, x, full, ESTIMATORS[name], 4, seed=1000 + seed, batch_size=160, t_min=T_MIN)
            means.append(float(draws.mean()))
        again = 160 * float(np.var(means, ddof=1))
        spread = math.hypot(value.stderr, again * math.sqrt(2 / 39))
        assert abs(value.variance - again) < 4 * spread, (name, value, again)
    assert found["mask-count"].variance < found["stratified"].variance / 2
    assert found["mask-count"].variance < found["independent"].variance / 8


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_monte_carlo_error_of_one_round_is_right_or_on_the_safe_side(name):
    lm, x = model("raw"), TEXTS.repeat(30, 1)
    full, kind = torch.ones_like(x, dtype=torch.bool), ESTIMATORS[name]
    weights = torch.full((120,), 1 / 120).double()
    told, means = [], []
    for seed in range(80):
        draws = all_draws(lm, x, full, kind, 6, seed=seed, batch_size=120, t_min=T_MIN)
        told.append(mean_variance(draws, weights, kind))
        means.append(float(draws.mean()))
    truth = float(np.var(means, ddof=1))
    assert np.mean(told) > 0.65 * truth
    if kind.between != "strata":
        assert np.mean(told) < 1.5 * truth


def test_one_evaluation_cannot_tell_its_noise():
    for kind in ESTIMATORS.values():
        assert math.isnan(mean_variance(torch.ones(3, 1).double(), torch.ones(3).double() / 3, kind))
    draws = torch.tensor([[1.0, 3.0]]).double()
    assert float(row_variances(draws, ESTIMATORS["independent"])) == 1.0  # variance 2 over 2 draws
    assert float(row_variances(draws, ESTIMATORS["stratified"])) == 1.0  # (3 - 1)^2 / 2 / 2


# --- errors


def test_mask_counts_are_for_masks():
    with pytest.raises(ConfigError, match="Uniform noise has none\nhint: use stratified"):
        nelbo(BayesModel(Uniform(3, LogLinear()), LONG), TEXTS, estimator="mask-count")
    assert "mask-count" not in estimator_variance(
        BayesModel(Uniform(3, LogLinear()), LONG), TEXTS, evaluations=2, repeats=2
    )


def test_an_unknown_estimator_and_too_few_repeats():
    with pytest.raises(ConfigError, match="unknown estimator 'mask-counts'\nhint: did you mean 'mask-count'"):
        estimator("mask-counts", Absorbing(3, LogLinear()))
    with pytest.raises(ConfigError, match="a variance needs 2 repeats"):
        estimator_variance(model("raw"), TEXTS, repeats=1)


# --- rows of which a part is scored


def test_given_positions_stay_clean_and_cost_nothing():
    lm = model("normalized")
    scored = torch.tensor([[False, True, True, False]] * 4)
    found = nelbo(lm, TEXTS, scored=scored, times_per_row=5)
    assert found.tokens == 8
    for xt, _ in lm.read:
        assert bool((xt[:, [0, 3]] == TEXTS[:, [0, 3]]).all())


@pytest.mark.parametrize("process", [Absorbing(3, LogLinear(1e-6)), Uniform(3, LogLinear(1e-6))], ids=["a", "u"])
def test_with_the_exact_posterior_a_clamped_bound_is_one_on_the_conditional_likelihood(process):
    x = LONG.tokens[(LONG.tokens[:, [0, 3]] == torch.tensor([1, 2])).all(1)]  # the 9 texts with these ends
    law = torch.softmax(LONG.p[LONG.index(x)].log(), 0)
    copies, scored = 1500, torch.tensor([[False, True, True, False]])
    found = nelbo(
        BayesModel(process, LONG), x.repeat(copies, 1), scored=scored.repeat(9 * copies, 1), times_per_row=4,
        t_min=1e-4, batch_size=9 * copies,
    )  # fmt: skip
    values = torch.tensor(found.rows).view(copies, 9)
    gap, error = values.mean(0) + law.log() / 2, values.std(0) / copies**0.5
    if process.commits:  # a clean token is known to be clean, so clamping is exact for every text
        assert bool((gap.abs() < 4.5 * error + 3e-4).all())
    else:  # under uniform noise it could be noise as well: another model, which is no better on the average
        assert abs(float((law * gap).sum())) < 0.05 + 4 * float((law * error).square().sum().sqrt())


def test_rows_count_by_their_scored_tokens():
    scored = torch.tensor([[True, False, False, False], [True] * 4])
    found = nelbo(model("raw"), TEXTS[:2], scored=scored, times_per_row=3)
    a, b = found.rows
    assert found.tokens == 5 and found.nats_per_token == pytest.approx((a + 4 * b) / 5)
    assert found.perplexity_mean_exp == pytest.approx((math.exp(a) + math.exp(b)) / 2)
    assert sum(found.parts.values()) == pytest.approx(found.nats_per_token)
    prior = prior_kl(model("raw").process, TEXTS[:2])
    assert found.parts["prior"] == pytest.approx(float(prior[scored].mean()))


def test_a_reconstruction_of_one_scored_position_is_that_positions():
    lm, copies = model("normalized"), 3000
    x, scored = TEXTS[:1].repeat(copies, 1), SCORED[3:].repeat(copies, 1)
    found = reconstruction_term(lm, x, torch.arange(copies), 3, 0.2, scored)
    t = torch.tensor([0.2]).double()
    xt = TEXTS[:1].clone()
    xt[0, 1] = 3
    expected = (1 - lm.process.alpha(t)) * -lm.log_p0(xt, t)[0, 1, TEXTS[0, 1]]
    torch.testing.assert_close(found, expected.expand(copies))


@pytest.mark.parametrize(
    ("scored", "words"),
    [
        (torch.ones(4, 3, dtype=torch.bool), r"scored must be bool \[4, 4\]"),
        (torch.ones(4, 4), "the shape of rows, got torch.float32"),
        (torch.tensor([[True] * 4, [False] * 4, [True] * 4, [True] * 4]), "row 1 has no scored position"),
    ],
)
def test_a_mask_of_what_is_scored_that_cannot_be_used(scored, words):
    with pytest.raises(ConfigError, match=words):
        nelbo(model("raw"), TEXTS, scored=scored)


# --- rounds


def test_rounds_go_on_until_the_noise_is_small_enough():
    lm, x = model("raw"), TEXTS.repeat(20, 1)
    first = nelbo(lm, x, times_per_row=4, batch_size=80)
    target = first.mc_stderr / 4
    found = nelbo(lm, x, times_per_row=4, batch_size=80, target_stderr=target, max_times_per_row=4000)
    assert found.mc_stderr <= target < first.mc_stderr and found.stderr > found.mc_stderr
    assert found.rounds >= 2 and found.times_per_row == 4 * found.rounds
    assert found.evaluations == found.rounds * 5 * 80
    short = nelbo(lm, x, times_per_row=4, batch_size=80, target_stderr=target, max_times_per_row=11)
    assert short.rounds == 2 and short.mc_stderr > target


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_noise_between_rounds_is_that_of_repetition(name):
    lm, x = model("raw"), TEXTS.repeat(10, 1)
    found = [
        nelbo(lm, x, times_per_row=4, batch_size=40, estimator=name, target_stderr=1e-9, max_times_per_row=16, seed=s)
        for s in range(30)
    ]
    assert {f.rounds for f in found} == {4}
    spread = np.std([f.nats_per_token for f in found], ddof=1)
    assert math.sqrt(np.mean([f.mc_stderr**2 for f in found])) == pytest.approx(spread, rel=0.45)


def test_rounds_are_told_and_the_batch_size_changes_nothing():
    told: list[tuple[int, int]] = []
    lm = model("raw")
    options = {"times_per_row": 2, "target_stderr": 1e-9, "max_times_per_row": 6, "estimator": "mask-count"}
    found = nelbo(lm, TEXTS, batch_size=2, progress=lambda a, b: told.append((a, b)), **options)
    assert [a for a, _ in told] == [2, 4, 6, 8, 10, 12] and told[-1] == (12, 12)
    for size in (1, 3, 4):
        np.testing.assert_allclose(nelbo(lm, TEXTS, batch_size=size, **options).rows, found.rows, rtol=1e-12)


@pytest.mark.parametrize("given", [{"target_stderr": 0.0}, {"target_stderr": 0.1, "max_times_per_row": 15}])
def test_a_target_needs_room_for_two_rounds(given):
    with pytest.raises(ConfigError, match="leave room for two rounds"):
        nelbo(model("raw"), TEXTS, **given)


# --- a network


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_network_is_scored_by_every_estimator(small_models, name):
    from unmask.compat import load

    x = torch.randint(0, 300, (3, 32), generator=torch.Generator().manual_seed(1))
    for kind in ("sedd", "mdlm"):
        lm = load(small_models / kind)
        assert isinstance(lm, DiffusionLM)
        found = log_likelihood(lm, x, estimator=name, times_per_row=4)
        assert found.paper == pytest.approx(math.log(lm.process.vocab_size), rel=0.5)
        if (
            name == "mask-count" and kind == "sedd"
        ):  # a uniform guess before training: exact counts have no noise at all
            assert found.paper == pytest.approx(0.999 * math.log(lm.process.vocab_size), rel=1e-4)
            assert found.paper_mc_stderr < 1e-4


def test_on_long_rows_counts_beat_times_by_what_the_issue_asks():
    """A model whose loss depends on the position and on how much is hidden, as that of a network does."""
    lm = Profile(256)
    found = estimator_variance(lm, torch.zeros(24, 256, dtype=torch.int64), evaluations=16, repeats=6, batch_size=24)
    counts = found["mask-count"].variance
    assert found["independent"].variance > 8 * counts
    assert found["low-discrepancy"].variance > 2 * counts
    assert found["stratified"].variance > counts


class Profile:
    """-log p0 of token 0 is easy at some positions and hard at others, harder the more is hidden."""

    def __init__(self, length: int) -> None:
        self.process, self.length, self.device, self.tokenizer = Absorbing(2, LogLinear()), length, "cpu", None
        chance = torch.rand(length, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        self.hard = -3 * torch.log(1 - chance)  # an exponential law, as tokens of text have about

    def log_score(self, xt: Tensor, t: Tensor, *, at: Tensor) -> Tensor:
        hidden = self.process.is_mask(xt).double().mean(1, keepdim=True)
        nll = 0.05 + self.hard * (0.5 + hidden)
        log_p0 = torch.stack([-nll, torch.log(-torch.expm1(-nll))], -1)
        return self.process.log_score(log_p0[at], xt[at], t[:, None].expand(xt.shape)[at])
