"""float32 against float64, over every noise level and vocabulary that models are trained with."""

import math

import pytest
import torch
from torch import Tensor

from unmask.diffusion import Absorbing, Geometric, LogLinear, Uniform
from unmask.diffusion.losses import absorbing_score_entropy_rows, bregman, denoising_score_entropy

SIGMAS = torch.tensor([1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 3.0, 6.9, 12.0, 20.0])
VOCABULARIES = [27, 8192, 32000, 50257, 50258, 50304, 128_256]


def definition(log_s: Tensor, q: Tensor, here: int, rate: Tensor) -> float:
    """sum of Q (s - r log s + r (log r - 1)), r = q / q[here], as the paper has it, float64."""
    r = q / q[here]
    terms = rate * (log_s.exp() - r * log_s + torch.xlogy(r, r) - r)
    return float(terms.sum() - terms[here])


def uniform_law(vocab_size: int, x0: int, sigma: float) -> Tensor:
    q = torch.full((vocab_size,), -math.expm1(-sigma) / vocab_size, dtype=torch.float64)
    q[x0] += math.exp(-sigma)
    return q


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize("moved", [False, True], ids=["xt-is-x0", "xt-is-not-x0"])
@pytest.mark.parametrize("trained", [False, True], ids=["any-score", "near-the-truth"])
def test_uniform_score_entropy_in_float32(vocab_size: int, moved: bool, trained: bool) -> None:
    g = torch.Generator().manual_seed(vocab_size)
    noise = torch.randn(len(SIGMAS), vocab_size, generator=g)
    x0, xt = 5, (9 if moved else 5)
    rows, want = [], []
    for i, sigma in enumerate(SIGMAS.double().tolist()):
        q = uniform_law(vocab_size, x0, sigma)
        log_s = (0.5 * noise[i] + (q / q[xt]).log() if trained else 2 * noise[i]).float()
        log_s[xt] = 0.0
        rows.append(log_s)
        want.append(definition(log_s.double(), q, xt, torch.tensor(1 / vocab_size, dtype=torch.float64)))
    n = len(SIGMAS)
    got = denoising_score_entropy(
        Uniform(vocab_size, Geometric()),
        torch.stack(rows),
        torch.full((n,), x0),
        torch.full((n,), xt),
        SIGMAS,
    )
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), torch.tensor(want, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
def test_absorbing_score_entropy_in_float32(vocab_size: int) -> None:
    """From scores and, at masked rows, straight from logits."""
    g = torch.Generator().manual_seed(vocab_size)
    n = len(SIGMAS)
    logits = 3 * torch.randn(n, vocab_size + 1, generator=g)
    logits[:, :vocab_size] -= torch.logsumexp(logits[:, :vocab_size], -1, keepdim=True) - math.log(vocab_size)
    logits += 0.3 * torch.randn(n, 1, generator=g)  # normalised but for a factor
    x0 = torch.randint(vocab_size, (n,), generator=g)
    want = []
    for i, sigma in enumerate(SIGMAS.double().tolist()):
        q = torch.zeros(vocab_size + 1, dtype=torch.float64)
        q[x0[i]], q[-1] = math.exp(-sigma), -math.expm1(-sigma)
        log_s = logits[i].double() - math.log(math.expm1(sigma)) - math.log(vocab_size)
        want.append(definition(log_s, q, vocab_size, torch.tensor(1.0).double()))
    exact = torch.tensor(want, dtype=torch.float64)
    got = absorbing_score_entropy_rows(logits, x0, SIGMAS, vocab_size)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=0)

    shift = (torch.log(torch.expm1(SIGMAS.double())) + math.log(vocab_size)).float()
    process = Absorbing(vocab_size, LogLinear())
    mask = torch.full((n,), vocab_size)
    general = denoising_score_entropy(process, logits - shift[:, None], x0, mask, SIGMAS)
    torch.testing.assert_close(general.double(), exact, rtol=1e-4, atol=0)


def test_rows_do_not_read_the_mask_column_or_padding() -> None:
    g = torch.Generator().manual_seed(0)
    logits, x0, sigma = torch.randn(4, 40, generator=g), torch.tensor([0, 1, 2, 26]), torch.full((4,), 0.7)
    got = absorbing_score_entropy_rows(logits, x0, sigma, 27)
    logits[:, 27:] = float("nan")
    torch.testing.assert_close(absorbing_score_entropy_rows(logits, x0, sigma, 27), got)
    assert absorbing_score_entropy_rows(logits.bfloat16(), x0, sigma, 27).dtype == torch.float32


def test_gradients_in_float32() -> None:
    """What trains: the gradient of both losses, against float64."""
    g = torch.Generator().manual_seed(0)
    n, vocab_size = len(SIGMAS), 50257
    x0, xt = torch.full((n,), 5), torch.tensor([5, 9] * (n // 2))
    base = torch.randn(n, vocab_size, generator=g)
    process = Uniform(vocab_size, Geometric())

    def slopes(dtype: torch.dtype) -> list[Tensor]:
        rows = base.to(dtype).requires_grad_()
        absorbing = absorbing_score_entropy_rows(rows, x0, SIGMAS.to(dtype), vocab_size).sum()
        uniform = denoising_score_entropy(process, rows, x0, xt, SIGMAS.to(dtype)).sum()
        return [torch.autograd.grad(loss, rows)[0].double() for loss in (absorbing, uniform)]

    for got, want in zip(slopes(torch.float32), slopes(torch.float64), strict=True):
        error = (got - want).norm(dim=-1) / want.norm(dim=-1)
        assert bool(torch.isfinite(got).all()) and float(error.max()) < 1e-4


def test_bregman_is_accurate_near_zero_and_at_its_seam() -> None:
    a = torch.cat([torch.logspace(-12, 1, 400), torch.tensor([0.29999, 0.30001])])
    a = torch.cat([a, -a])
    wide = a.double()
    small = wide.abs() < 1e-3
    exact = torch.where(small, wide**2 / 2 + wide**3 / 6 + wide**4 / 24, torch.expm1(wide) - wide)
    torch.testing.assert_close(bregman(a).double(), exact, rtol=2e-6, atol=0)
    torch.testing.assert_close(bregman(wide), exact, rtol=1e-9, atol=0)
    slope = torch.autograd.functional.jacobian(lambda x: bregman(x).sum(), wide)
    torch.testing.assert_close(slope, torch.expm1(wide))
    assert bregman(torch.tensor([-math.inf, math.inf, 0.0])).tolist() == [math.inf, math.inf, 0.0]


@pytest.mark.parametrize("sigma", [1e-4, 0.1, 6.9])
def test_uniform_posterior_and_score_in_float32(sigma: float) -> None:
    """At a vocabulary of 50257 the closed forms keep their relative accuracy, for a confident p0 too."""
    process = Uniform(50257, Geometric())
    t = process.schedule.inverse(torch.tensor([math.exp(-sigma)], dtype=torch.float64))
    g = torch.Generator().manual_seed(0)
    log_p0 = torch.log_softmax(6 * torch.randn(1, 2, 50257, generator=g), -1)
    xt = torch.stack([log_p0[0, 0].argmax(), torch.tensor(17)])[None]
    args = (xt, 0.98 * t, t)
    torch.testing.assert_close(
        process.posterior(log_p0.exp(), *args).double(),
        process.posterior(log_p0.double().exp(), *args),
        rtol=1e-4,
        atol=0,
    )
    narrow, wide = process.log_score(log_p0, xt, t), process.log_score(log_p0.double(), xt, t)
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(wide.exp(), process.score(log_p0.double().exp(), xt, t), rtol=1e-9, atol=0)
