"""What logits mean: scores, laws of the clean token, and their totals."""

import math

import pytest
import torch
from torch import Tensor

from unmask.diffusion import (
    Absorbing,
    CleanLogits,
    Cosine,
    Geometric,
    LeaveOneOut,
    LogLinear,
    Parametrization,
    Process,
    RateMatrix,
    RawScore,
    Uniform,
    absorbing_score_entropy_rows,
    denoising_score_entropy,
)
from unmask.errors import ConfigError

V = 11
UNIFORM_Q = torch.full((V, V), 1 / V, dtype=torch.float64) - torch.eye(V)
PROCESSES = [Absorbing(V, LogLinear()), Uniform(V, Cosine()), RateMatrix(V, Cosine(), UNIFORM_Q)]
PARAMETRIZATIONS: list[Parametrization] = [RawScore(True), RawScore(False), CleanLogits(), LeaveOneOut()]
each = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
reads = pytest.mark.parametrize("reading", PARAMETRIZATIONS, ids=repr)


def rows(process: Process, n: int = 64, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """logits [n, S + 5] (padded columns are nan: nothing may read them), xt [n], t [n]."""
    g = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(n, process.num_states + 5, generator=g, dtype=torch.float64)
    logits[:, process.num_states :] = float("nan")
    xt = torch.randint(process.num_states, (n,), generator=g)
    xt[: n // 2] = process.num_states - 1
    return logits.to(dtype), xt, torch.rand(n, generator=g, dtype=torch.float64) * 0.9 + 0.05


@each
@reads
def test_shapes_and_norms(process: Process, reading: Parametrization) -> None:
    logits, xt, t = rows(process)
    log_p0, log_score = reading.log_p0(process, logits, xt, t), reading.log_score(process, logits, xt, t)
    assert log_p0.shape == (64, V) and log_score.shape == (64, process.num_states)
    torch.testing.assert_close(log_p0.exp().sum(-1), torch.ones(64).double())
    assert bool((log_score.gather(-1, xt[:, None]) == 0).all())


@each
@reads
@pytest.mark.parametrize("chunk", [1, 4, 8192])
def test_log_total_is_the_sum_of_the_scores(process: Process, reading: Parametrization, chunk: int) -> None:
    logits, xt, t = rows(process)
    scores = reading.log_score(process, logits, xt, t).scatter(-1, xt[:, None], -math.inf)
    torch.testing.assert_close(reading.log_total(process, logits, xt, t, chunk), torch.logsumexp(scores, -1))


@each
@reads
def test_positions_and_rows_are_one_thing(process: Process, reading: Parametrization) -> None:
    """[B, L] with t [B] gives what rows [N] with t [N] give."""
    logits, xt, t = rows(process)
    grid, states, times = logits.reshape(8, 8, -1), xt.reshape(8, 8), t[:8]
    flat = times[:, None].expand(8, 8).reshape(-1)
    for read in (reading.log_p0, reading.log_score, reading.log_total):
        a = read(process, grid, states, times)
        torch.testing.assert_close(a.reshape(64, *a.shape[2:]), read(process, logits, xt, flat))


@each
@reads
def test_low_precision_is_upcast_first(process: Process, reading: Parametrization) -> None:
    logits, xt, t = rows(process, dtype=torch.bfloat16)
    for read in (reading.log_p0, reading.log_score, reading.log_total):
        got = read(process, logits, xt, t.float())
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), read(process, logits.double(), xt, t.float()), rtol=1e-4, atol=1e-4)


@each
def test_the_score_of_a_law_gives_the_law_back(process: Process) -> None:
    """RawScore inverts the noise: score of any p0 (carried over where tokens are final) -> the same p0."""
    logits, xt, t = rows(process)
    log_p0 = CleanLogits().log_p0(process, logits, xt, t)
    scores = CleanLogits().log_score(process, logits, xt, t)
    back = RawScore(False).log_p0(process, scores, xt, t)
    torch.testing.assert_close(back.exp(), log_p0.exp(), rtol=1e-9, atol=1e-12)


def test_scale_by_sigma_is_sedds() -> None:
    process = PROCESSES[0]
    logits, xt, t = rows(process)
    sigma = process.schedule.sigma(t)
    want = logits[:, : V + 1] - torch.log(torch.expm1(sigma))[:, None] - math.log(V)
    want = want.scatter(-1, xt[:, None], 0.0)
    torch.testing.assert_close(RawScore(True).log_score(process, logits, xt, t), want)


def test_rows_loss_is_the_score_entropy_at_masked_rows() -> None:
    process = Absorbing(V, Geometric())
    logits, _, t = rows(process)
    xt, x0 = torch.full((64,), V), torch.arange(64) % V
    scores = RawScore(True).log_score(process, logits, xt, t)
    sigma = process.schedule.sigma(t)
    torch.testing.assert_close(
        absorbing_score_entropy_rows(logits, x0, sigma, V),
        denoising_score_entropy(process, scores, x0, xt, sigma),
    )


def test_absorbing_rows_carry_over() -> None:
    process = PROCESSES[0]
    logits, xt, t = rows(process)
    seen = xt < V
    assert bool(seen.any()) and not bool(seen.all())
    for reading in PARAMETRIZATIONS:
        p0 = reading.log_p0(process, logits, xt, t).exp()
        torch.testing.assert_close(p0[seen], torch.nn.functional.one_hot(xt[seen], V).double())
        torch.testing.assert_close(p0[~seen], torch.softmax(logits[~seen, :V], -1))


def test_raw_scores_that_are_no_law_are_clipped() -> None:
    """A uniform score below the noise floor has no clean law: weight 0, the rest renormalised."""
    process = Uniform(4, LogLinear())
    t, xt = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0])
    scores = torch.tensor([[0.0, -9.0, 2.0, 1.0]], dtype=torch.float64)
    alpha = float(process.alpha(t))
    s = scores[0].exp()
    clean = ((s / s.sum() - (1 - alpha) / 4) / alpha).clamp(min=0)
    want = clean * torch.tensor([alpha + (1 - alpha) / 4] + [(1 - alpha) / 4] * 3)
    got = RawScore(False).log_p0(process, scores, xt, t)[0].exp()
    torch.testing.assert_close(got, want / want.sum())
    assert got[1] == 0


def test_too_late_for_raw_scores() -> None:
    process = Uniform(V, Geometric())
    logits, xt, _ = rows(process)
    edge = process.schedule.inverse(torch.tensor(1e-3, dtype=torch.float64)).expand(64)
    assert bool(torch.isfinite(RawScore(False).log_p0(process, logits[:, :V], xt, edge).exp()).all())
    with pytest.raises(ConfigError, match="above 1000") as caught:
        RawScore(False).log_p0(process, logits, xt, edge + 0.01)
    assert "log_score" in str(caught.value)


def test_extreme_raw_scores_do_not_overflow() -> None:
    process = Uniform(V, LogLinear())
    logits, xt, t = rows(process, dtype=torch.float32)
    log_p0 = RawScore(False).log_p0(process, logits[:, :V] * 40, xt, t)
    torch.testing.assert_close(log_p0.exp().sum(-1), torch.ones(64))


@reads
def test_too_few_columns(reading: Parametrization) -> None:
    process = PROCESSES[0]
    logits, xt, t = rows(process)
    with pytest.raises(ConfigError, match=f"logits have {V - 1} columns"):
        reading.log_p0(process, logits[:, : V - 1], xt, t)
    with pytest.raises(ConfigError, match=f"logits have {V - 1} columns"):
        reading.log_score(process, logits[:, : V - 1], xt, t)
