"""Estimators of the bound: each is unbiased against full enumeration, and mask counts are the sharpest."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.diffusion import Absorbing, LogLinear, Uniform
from unmask.errors import ConfigError
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
from unmask.model import DiffusionLM

from .estimator_world import LONG, SCHEDULES, SCORED, T_MIN, TEXTS, by_count, by_time, model
from .exact_models import BayesModel


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


def test_narrow_strata_come_first_and_share_out_all():
    edges = ESTIMATORS["mask-count"].edges(4)
    assert (16 * edges).tolist() == [0, 1, 4, 9, 16]
    draws = torch.tensor([[1.0, 3.0, 5.0, 7.0]]).double() / 4  # K times the width times one value, 1
    assert float(draws.mean()) == 1.0 and float(row_variances(draws, ESTIMATORS["mask-count"])) == 0.0


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
