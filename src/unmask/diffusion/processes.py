"""Forward processes: how a clean token x0 becomes a noisy state xt, and the exact reverse of it.

Shapes: V clean tokens, S states (V, or V + 1 with the mask last). Tensors of states have any leading shape,
written [...] and mostly [B, L]; a distribution adds a last axis. Times s < t have the leading shape or its
first axes: [B] or [B, L] beside [B, L]; [N] beside rows [N]. t is in [0, 1], sigma = -log alpha(t) in nats.
Rates: Q[x, y] is the rate from x to y per unit of sigma, rows sum to 0, q(xt | x0) = exp(sigma Q)[x0, xt].
Where Q changes with the noise (`Hybrid`) the methods that speak of sigma are told where they stand: `since`, the total
noise at the start of a piece of it, and `sigma`, that at the moment; all other processes ignore them.
Coefficients are computed in float64 (not on MPS, which has none), results come in the dtype of the
distribution given.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unmask.devices import float_type, wide
from unmask.diffusion.schedules import Schedule
from unmask.diffusion.times import spread
from unmask.errors import ConfigError


def draw_uniforms(shape: tuple[int, ...], device: torch.device, generator: Generator | None) -> Tensor:
    """Uniforms in [0, 1): float64, or float32 where the device has no float64."""
    return torch.rand(shape, generator=generator, device=device, dtype=float_type(device))


@dataclasses.dataclass(frozen=True)
class Process(abc.ABC):
    """A forward process on each position by itself. vocab_size is V; schedule gives alpha(t).

    commits: a token that is not the mask is final, the reverse process never changes it.
    """

    has_mask: ClassVar[bool] = False
    commits: ClassVar[bool] = False

    vocab_size: int
    schedule: Schedule

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ConfigError(f"process: vocab_size is {self.vocab_size}", "it counts clean tokens: at least 2")

    @property
    def num_states(self) -> int:
        """S: V, or V + 1 where there is a mask."""
        return self.vocab_size + self.has_mask

    @property
    def mask_id(self) -> int | None:
        """The mask's state, V, or None."""
        return self.vocab_size if self.num_states > self.vocab_size else None

    def is_mask(self, xt: Tensor) -> Tensor:
        """Which states are the mask: bool, the shape of xt."""
        return torch.zeros_like(xt, dtype=torch.bool) if self.mask_id is None else xt == self.mask_id

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability at t: the shape of t."""
        return self.schedule.alpha(t)

    def corrupt(self, x0: Tensor, t: Tensor, *, u: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Draw xt ~ q(. | x0): [...] like x0 [...] int64, t [B] or [...].

        u: [...] uniforms in [0, 1), one for each position: xt is a function of (x0, t, u), by the inverse
        CDF of q(. | x0). Give float64: float32 uniforms are too coarse for a large vocabulary. Without u
        they are drawn from `generator`, which then must live on x0's device.
        """
        if u is None:
            u = draw_uniforms(tuple(x0.shape), x0.device, generator)
        return self._corrupt(x0, wide(spread(t, x0)), u)

    @abc.abstractmethod
    def _corrupt(self, x0: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """`corrupt` with t broadcastable to x0 and the uniforms given."""

    @abc.abstractmethod
    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """Law of xt where x0 ~ p0: [..., S] from p0 [..., V], t [B] or [...]."""

    @abc.abstractmethod
    def posterior(self, p0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """E_{x0 ~ p0} q(xs | xt, x0) for s < t: [..., S] from p0 [..., V], xt [...], s and t [B] or [...].

        Exact where p0 = p(x0 | xt); D3PM's reverse step (Austin et al. 2021, section 3). An x0 that cannot
        have led to xt has no posterior; its weight goes to those that can. t > 0.
        """

    @abc.abstractmethod
    def score(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Concrete score p_t(y) / p_t(xt) = E_{x0 ~ p0} q(y | x0) / q(xt | x0): [..., S], 1 at y = xt.

        p0 [..., V] is p(x0 | xt), t > 0; SEDD's score (Lou et al. 2024, arXiv 2310.16834) by the denoiser. It
        is p_t(y) / p_t(xt) for every y that can jump into xt, which is where the reverse process reads it.
        """

    def log_score(self, log_p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log of `score` from log p0 [..., V]: [..., S], 0 at y = xt, -inf where the score is 0."""
        return self.score(log_p0.exp(), xt, t).log()

    @abc.abstractmethod
    def jump_rates(self, xt: Tensor, *, sigma: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Forward rate from every other y INTO xt, per unit of sigma: Q[y, xt], [..., S], 0 at y = xt."""

    def rate(self, t: Tensor, xt: Tensor) -> Tensor:
        """Forward rate from every other y INTO xt, per unit of t: dsigma(t) Q[y, xt], [..., S]."""
        dsigma = spread(self.schedule.dsigma(t), xt)[..., None]
        return dsigma * self.jump_rates(xt, sigma=self.schedule.sigma(t), dtype=dsigma.dtype)

    def reverse_rate(self, xt: Tensor, score: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Rate of the reverse process from xt to every y, per unit of sigma: Q[y, xt] score[y]; [..., S].

        score: [..., S]. Rows sum to 0: the entry at xt is minus the rest (SEDD, Lou et al. 2024).
        """
        flow = self.jump_rates(xt, sigma=sigma, dtype=score.dtype) * score
        here = xt[..., None]
        flow = flow.scatter(-1, here, 0.0)
        return flow.scatter(-1, here, -flow.sum(-1, keepdim=True))

    @abc.abstractmethod
    def transition(self, x: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """Law of the state after noise dsigma ([B] or [...]) from x: row x of exp(dsigma Q), [..., S]."""

    @abc.abstractmethod
    def transpose_transition(self, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """Probability of every y to end in xt: column xt of exp(dsigma Q), [..., S], in dsigma's dtype."""

    @abc.abstractmethod
    def staggered_score(self, score: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """The law before noise dsigma ([B] or [...]), relative to p_t(xt): score exp(-dsigma Q), [..., S].

        Times `transpose_transition` it weighs the states of a Tweedie step (SEDD, Lou et al. 2024).
        The weights of a score that belongs to no distribution can be negative.
        """

    def sample_prior(
        self,
        shape: tuple[int, ...],
        *,
        u: Tensor | None = None,
        generator: Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw from the limit law: int64 of that shape. u: uniforms of that shape, else from `generator`.

        On the device of u, else `device`, else the generator's, else the CPU.
        """
        if u is None:
            where = device or (generator.device if generator is not None else "cpu")
            u = draw_uniforms(shape, torch.device(where), generator)
        return self._prior(u)

    @abc.abstractmethod
    def _prior(self, u: Tensor) -> Tensor:
        """The limit law's inverse CDF at u."""

    @abc.abstractmethod
    def prior_log_prob(self, x: Tensor) -> Tensor:
        """log probability of each state under the limit law (sigma to infinity), nats: float32, like x."""


@dataclasses.dataclass(frozen=True)
class Absorbing(Process):
    """Tokens turn into a mask, state V, and stay there: Q[x, mask] = 1 (D3PM, SEDD absorb, MDLM)."""

    has_mask: ClassVar[bool] = True
    commits: ClassVar[bool] = True

    def _corrupt(self, x0: Tensor, t: Tensor, u: Tensor) -> Tensor:
        return torch.where(u < self.schedule.alpha(t), x0, self.vocab_size)

    def _with_mask(self, clean: Tensor, mask: Tensor) -> Tensor:
        """clean [..., V] and the mask's entry, broadcast to [...], side by side: [..., S]."""
        return torch.cat([clean, mask[..., None].to(clean.dtype).expand(*clean.shape[:-1], 1)], -1)

    def _one_hot(self, xt: Tensor, like: Tensor) -> Tensor:
        zeros = torch.zeros(*xt.shape, self.num_states, dtype=like.dtype, device=xt.device)
        return zeros.scatter_(-1, xt[..., None], 1)

    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """alpha p0, and 1 - alpha at the mask."""
        t = wide(spread(t, p0[..., 0]))
        return self._with_mask(self.alpha(t)[..., None].to(p0.dtype) * p0, self.schedule.one_minus_alpha(t))

    def posterior(self, p0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """From the mask: p0 (alpha_s - alpha_t) / (1 - alpha_t), else still masked; a clean token stays."""
        s, t = wide(spread(s, xt)), wide(spread(t, xt))
        lost_s, lost_t = self.schedule.one_minus_alpha(s), self.schedule.one_minus_alpha(t)
        move = ((lost_t - lost_s) / lost_t)[..., None].to(p0.dtype)
        masked = self._with_mask(move * p0, lost_s / lost_t)
        return torch.where(self.is_mask(xt)[..., None], masked, self._one_hot(xt, p0))

    def score(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """At the mask p0 alpha / (1 - alpha); at a token, which is x0, (1 - alpha) / alpha for the mask."""
        t = wide(spread(t, xt))
        odds = self.schedule.one_minus_alpha(t) / self.alpha(t)
        masked = self._with_mask(p0 / odds[..., None].to(p0.dtype), torch.ones_like(odds))
        clean = self._one_hot(xt, p0)
        clean[..., -1] = odds.to(p0.dtype)
        return torch.where(self.is_mask(xt)[..., None], masked, clean)

    def log_score(self, log_p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log of `score`, without leaving the logarithms."""
        t = wide(spread(t, xt))
        odds = torch.log(self.schedule.one_minus_alpha(t)) + self.schedule.sigma(t)
        masked = self._with_mask(log_p0 - odds[..., None].to(log_p0.dtype), torch.zeros_like(odds))
        clean = self._one_hot(xt, log_p0).log()
        clean[..., -1] = odds.to(log_p0.dtype)
        return torch.where(self.is_mask(xt)[..., None], masked, clean)

    def jump_rates(self, xt: Tensor, *, sigma: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """1 from every token into the mask."""
        rates = self.is_mask(xt)[..., None].to(dtype).repeat(*[1] * xt.dim(), self.num_states)
        rates[..., -1] = 0
        return rates

    def transition(self, x: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """e^-dsigma at x, the rest at the mask."""
        dsigma = spread(dsigma, x)
        row = torch.exp(-dsigma)[..., None] * self._one_hot(x, dsigma)
        row[..., -1] = torch.where(self.is_mask(x), 1.0, -torch.expm1(-dsigma))
        return row

    def transpose_transition(self, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """Into the mask: 1 - e^-dsigma, and 1 from itself; into a token: e^-dsigma from itself."""
        dsigma = spread(dsigma, xt)
        lost = torch.where(self.is_mask(xt), -torch.expm1(-dsigma), 0.0)[..., None]
        return lost + torch.exp(-dsigma)[..., None] * self._one_hot(xt, dsigma)

    def staggered_score(self, score: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """e^dsigma score; the mask gives up what the tokens gain."""
        dsigma = wide(spread(dsigma, score[..., 0]))
        grow, gain = torch.exp(dsigma).to(score.dtype), torch.expm1(dsigma).to(score.dtype)
        clean = score[..., :-1]
        return self._with_mask(grow[..., None] * clean, score[..., -1] - gain * clean.sum(-1))

    def _prior(self, u: Tensor) -> Tensor:
        return torch.full(u.shape, self.vocab_size, dtype=torch.int64, device=u.device)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """0 at the mask, -inf elsewhere."""
        return torch.where(self.is_mask(x), 0.0, -math.inf)


@dataclasses.dataclass(frozen=True)
class Uniform(Process):
    """Tokens are drawn anew from all V, themselves included: Q[x, y] = 1/V (D3PM, SEDD, UDLM, Duo)."""

    def _corrupt(self, x0: Tensor, t: Tensor, u: Tensor) -> Tensor:
        alpha = self.alpha(t)
        return torch.where(u < alpha, x0, self._prior((u - alpha) / self.schedule.one_minus_alpha(t)))

    def _here(self, row: Tensor, xt: Tensor, value: Tensor) -> Tensor:
        """row [..., V] with its entry at xt replaced by value [...]."""
        return row.scatter(-1, xt[..., None], value[..., None].to(row.dtype))

    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """alpha p0 + (1 - alpha) / V."""
        t = wide(spread(t, p0[..., 0]))
        noise = self.schedule.one_minus_alpha(t) / self.vocab_size
        return self.alpha(t)[..., None].to(p0.dtype) * p0 + noise[..., None].to(p0.dtype)

    def _rho(self, t: Tensor) -> Tensor:
        """q(other | x0) / q(x0 | x0) = e / (e + V) with e = e^sigma - 1."""
        lost = self.schedule.one_minus_alpha(t)
        return lost / (lost + self.vocab_size * self.alpha(t))

    def _weighed(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """p0(x0) / q(xt | x0), times (1 - alpha) / V: [..., V]."""
        return self._here(p0, xt, self._rho(t) * p0.gather(-1, xt[..., None])[..., 0])

    def posterior(self, p0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(xt | xs) sum_x0 q(xs | x0) p0(x0) / q(xt | x0), each factor scaled by (1 - alpha_t) / V."""
        s, t = wide(spread(s, xt)), wide(spread(t, xt))
        alpha_s, alpha_t, lost_s = self.alpha(s), self.alpha(t), self.schedule.one_minus_alpha(s)
        lost_t = self.schedule.one_minus_alpha(t)
        w = self._weighed(p0, xt, t)
        noise = (lost_s / self.vocab_size)[..., None].to(p0.dtype) * w.sum(-1, keepdim=True)
        before = alpha_s[..., None].to(p0.dtype) * w + noise
        jump = (lost_t - lost_s) / (alpha_s * lost_t)  # q(xt | xs) for xs != xt, over (1 - alpha_t) / V
        stay = jump + self.vocab_size * alpha_t / (alpha_s * lost_t)
        here = before.gather(-1, xt[..., None])[..., 0] * stay.to(p0.dtype)
        return self._here(before * jump[..., None].to(p0.dtype), xt, here)

    def score(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """V p0 / (e^sigma - 1) + (1 - p0[xt]) + rho p0[xt]."""
        t = wide(spread(t, xt))
        floor = self._weighed(p0, xt, t).sum(-1, keepdim=True)
        scale = self.vocab_size * self.alpha(t) / self.schedule.one_minus_alpha(t)
        return self._here(scale[..., None].to(p0.dtype) * p0 + floor, xt, torch.ones_like(xt))

    def log_score(self, log_p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log of `score`, without leaving the logarithms."""
        t = wide(spread(t, xt))
        seen = log_p0.gather(-1, xt[..., None])[..., 0]
        floor = torch.logsumexp(self._here(log_p0, xt, seen + self._rho(t).log()), -1, keepdim=True)
        scale = math.log(self.vocab_size) - self.schedule.sigma(t) - self.schedule.one_minus_alpha(t).log()
        row = torch.logaddexp(log_p0 + scale[..., None].to(log_p0.dtype), floor)
        return self._here(row, xt, torch.zeros_like(xt))

    def jump_rates(self, xt: Tensor, *, sigma: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """1/V from every other token."""
        rates = torch.full((*xt.shape, self.vocab_size), 1 / self.vocab_size, dtype=dtype, device=xt.device)
        return rates.scatter_(-1, xt[..., None], 0)

    def transition(self, x: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """e^-dsigma at x, and (1 - e^-dsigma) / V everywhere."""
        dsigma = spread(dsigma, x).expand(x.shape)
        noise = -torch.expm1(-dsigma) / self.vocab_size
        row = noise[..., None].repeat(*[1] * x.dim(), self.vocab_size)
        return self._here(row, x, noise + torch.exp(-dsigma))

    def transpose_transition(self, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """`transition`: the kernel is symmetric."""
        return self.transition(xt, dsigma)

    def staggered_score(self, score: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """e^dsigma score - (e^dsigma - 1) / V sum(score)."""
        dsigma = wide(spread(dsigma, score[..., 0]))
        grow, gain = torch.exp(dsigma), torch.expm1(dsigma) / self.vocab_size
        shared = gain.to(score.dtype) * score.sum(-1)
        return grow[..., None].to(score.dtype) * score - shared[..., None]

    def _prior(self, u: Tensor) -> Tensor:
        return (u * self.vocab_size).to(torch.int64).clamp(0, self.vocab_size - 1)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """-log V."""
        return torch.full(x.shape, -math.log(self.vocab_size), device=x.device)
