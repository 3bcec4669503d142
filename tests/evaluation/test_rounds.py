"""Partly scored rows, and rounds of evaluations until the noise is small enough."""

import math

import numpy as np
import pytest
import torch

from unmask.diffusion import Absorbing, LogLinear, Uniform
from unmask.errors import ConfigError
from unmask.evaluation.estimators import (
    ESTIMATORS,
)
from unmask.evaluation.likelihood import nelbo
from unmask.evaluation.terms import prior_kl, reconstruction_term

from .estimator_world import LONG, SCORED, TEXTS, model
from .exact_models import BayesModel


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
