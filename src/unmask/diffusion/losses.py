"""Likelihood bounds, in nats, unreduced.

For the exact posterior, the mean over t ~ U(0, 1) and xt ~ q of a weighted loss, summed over positions, is
-log p(x0) but for what the noise leaves at t = 1. Leading shape [...] is [B, L] or rows [N]; sigma and t
are [B] or [...].
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.hybrid import Hybrid
from unmask.diffusion.processes import Absorbing, Process, Uniform
from unmask.diffusion.times import spread


class _Bregman(torch.autograd.Function):
    """e^a - 1 - a, whose derivative e^a - 1 needs nothing but a: one saved tensor, however long the series."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """A series near 0, the plain form elsewhere, where nothing cancels."""
        ctx.save_for_backward(a)
        near = a.clamp(-0.3, 0.3)
        series = torch.ones_like(near)
        for k in range(9 if a.dtype != torch.float64 else 14, 2, -1):
            series = 1 + series * near / k
        return torch.where(a.abs() < 0.3, near * near * series / 2, torch.expm1(a) - a.clamp(max=100))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """grad (e^a - 1)."""
        (a,) = ctx.saved_tensors
        return grads[0] * torch.expm1(a)


def bregman(a: Tensor) -> Tensor:
    """e^a - 1 - a: never negative, accurate near 0, differentiable. Any shape."""
    out: Tensor = _Bregman.apply(a)  # type: ignore[no-untyped-call]  # torch leaves apply untyped
    return out


def _pick(row: Tensor, at: Tensor) -> Tensor:
    """row[..., at]: [...]."""
    return row.gather(-1, at[..., None])[..., 0]


def _log_expm1(sigma: Tensor) -> Tensor:
    """log(e^sigma - 1) for sigma > 0, without overflow."""
    return sigma + torch.log(-torch.expm1(-sigma))


@functools.singledispatch
def denoising_score_entropy(process: Process, log_score: Tensor, x0: Tensor, xt: Tensor, sigma: Tensor) -> Tensor:
    """SEDD's denoising score entropy per unit of sigma, in nats: [...].

    sum over y != xt of Q[y, xt] (s_y - r_y log s_y + r_y (log r_y - 1)), r_y = q(y | x0) / q(xt | x0) (Lou
    et al. 2024, arXiv 2310.16834, section 3). log_score [..., S], x0 and xt [...], sigma [B] or [...] > 0.
    This is the sum over all states, for every process; Absorbing and Uniform have closed forms.
    """
    law = process.transition(x0, wide(sigma)).to(log_score.dtype)
    ratio = law / _pick(law, xt)[..., None]
    excess = torch.where(ratio > 0, log_score - ratio.log(), 0.0)
    terms = torch.where(ratio > 0, ratio * bregman(excess), log_score.exp())
    rates = process.jump_rates(xt, sigma=wide(sigma), dtype=log_score.dtype)
    return (rates * terms.scatter(-1, xt[..., None], 0.0)).sum(-1)


@denoising_score_entropy.register
def _(process: Absorbing, log_score: Tensor, x0: Tensor, xt: Tensor, sigma: Tensor) -> Tensor:
    """r (e^T - 1 - log(s_x0 / r)), r = 1 / (e^sigma - 1), T = log of the scores' sum over r; 0 where not
    masked.
    """
    clean = log_score[..., : process.vocab_size]
    masked = process.is_mask(xt)
    log_r = -spread(_log_expm1(wide(sigma)), xt).to(log_score.dtype)
    log_sum = torch.logsumexp(clean, -1)
    value = log_r.exp() * (bregman(log_sum - log_r) + (log_sum - _pick(clean, x0)))
    return torch.where(masked, value, 0.0)


@denoising_score_entropy.register
def _(process: Uniform, log_score: Tensor, x0: Tensor, xt: Tensor, sigma: Tensor) -> Tensor:
    """The sum of r_y (e^a - 1 - a) / V, a = log(s_y / r_y), in which no term is negative.

    With rho = e / (e + V), e = e^sigma - 1: at xt = x0 all r_y are rho; else they are 1, and 1 / rho at y =
    x0.
    """
    inverse_rho = 1 + process.vocab_size * torch.exp(-_log_expm1(wide(sigma)))
    inverse_rho = spread(inverse_rho, xt)
    log_rho = -torch.log(inverse_rho).to(log_score.dtype)
    inverse_rho = inverse_rho.to(log_score.dtype)
    same = xt == x0
    excess = log_score - torch.where(same, log_rho, 0.0)[..., None]
    excess = excess.scatter(-1, xt[..., None], 0.0).scatter(-1, x0[..., None], 0.0)
    others = bregman(excess).sum(-1)
    origin = bregman(_pick(log_score, x0) + log_rho) * inverse_rho
    return torch.where(same, others / inverse_rho, others + origin) / process.vocab_size


@denoising_score_entropy.register
def _(process: Hybrid, log_score: Tensor, x0: Tensor, xt: Tensor, sigma: Tensor) -> Tensor:
    """The sum of r_y (e^a - 1 - a), a = log(s_y / r_y), times the rate into xt, which is one for all y != xt.

    r_y = q(y | x0) / q(xt | x0) is the noise at y over that at xt, but for a clean token more at x0.
    """
    mask, token = (odds.to(log_score.dtype) for odds in process.odds(spread(wide(sigma), xt).expand(xt.shape)))
    token = token / process.vocab_size
    at = torch.where(process.is_mask(xt), mask, token) + (xt == x0).to(log_score.dtype)
    law = process.side_by_side(token[..., None].expand(*xt.shape, process.vocab_size), mask)
    law = law.scatter_add(-1, x0[..., None], torch.ones_like(law[..., :1]))
    ratio = (law / at[..., None]).scatter(-1, xt[..., None], 0.0)
    excess = (log_score - (law / at[..., None]).log()).scatter(-1, xt[..., None], 0.0)
    rate = process.rate_into(xt, spread(wide(sigma), xt)).to(log_score.dtype)
    return rate * (ratio * bregman(excess)).sum(-1)


def score_entropy(process: Process, log_score: Tensor, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """The bound's integrand: dsigma(t) times `denoising_score_entropy`, nats per unit of t: [...].

    log_score [..., S], x0 and xt [...], t [B] or [...] in (0, 1].
    """
    t = wide(t)
    rate = spread(process.schedule.dsigma(t), xt).to(log_score.dtype)
    return rate * denoising_score_entropy(process, log_score, x0, xt, process.schedule.sigma(t))


def masked_cross_entropy(process: Process, log_p0: Tensor, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """MDLM's bound: dsigma / (e^sigma - 1) times -log p0(x0) at masked positions, 0 elsewhere: [...].

    (Sahoo et al. 2024, arXiv 2406.07524, section 3.) For absorbing noise, where it equals `score_entropy`
    of the scores that log_p0 implies. The weight is 1/t for the log-linear schedule. log_p0 [..., V], t [B]
    or [...].
    """
    weight = spread(process.schedule.weight(wide(t)), xt).to(log_p0.dtype)
    return torch.where(process.is_mask(xt), -weight * _pick(log_p0, x0), 0.0)


def absorbing_score_entropy_rows(logits: Tensor, x0: Tensor, sigma: Tensor, vocab_size: int) -> Tensor:
    """Score entropy per unit of sigma at masked positions, straight from the logits of
    RawScore(scale_by_sigma=True).

    logits [N, O], O >= vocab_size (later columns, the mask's too, are not read), x0 and sigma [N]; returns
    [N], nats, float32 (float64 for float64 logits). With log s = logits - log(e^sigma - 1) - log V it is
    (CE + e^T - 1 - T) / (e^sigma - 1), CE = logsumexp(logits) - logits[x0] and T = logsumexp(logits) - log
    V: a cross-entropy and a price for scores that do not sum to 1 / (e^sigma - 1), both free of
    cancellation.
    """
    clean = logits[:, :vocab_size]
    clean = clean if clean.dtype == torch.float64 else clean.float()
    # one fused log-softmax forward and backward; logsumexp's own backward costs several times as much
    cross_entropy = F.cross_entropy(clean, x0, reduction="none")
    log_sum = cross_entropy + _pick(clean, x0)
    value = cross_entropy + bregman(log_sum - math.log(vocab_size))
    return value / torch.expm1(sigma.to(value.dtype))
