"""Exact mask counts: their law, and the law of the noise given them."""

import math

import pytest
import torch

from unmask.evaluation.counts import at_least, count_at, count_masses, counts_and_levels, level_at
from unmask.evaluation.estimators import (
    ESTIMATORS,
    Plan,
)

from .estimator_world import T_MIN, TEXTS, model, nodes


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
    assert masks.sum(-1).float().mean(0).tolist() == pytest.approx([1, 4 / 3, 2.6], abs=0.05)  # up to 1/9, 4/9, 1
    first = masks[:, 0][:, [0, 1, 3]].double()
    assert first.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.08)
    both = masks[:, 0] & masks[:, 1]
    alone = (masks[:, 0].sum(-1) == 1) & (masks[:, 1].sum(-1) == 2)
    assert not both[alone].any()  # one after the other in one order: 1 + 2 of 3 positions do not meet


# --- variance
