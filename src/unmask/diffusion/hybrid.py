"""GIDD's noise: tokens turn into the mask or into random tokens, and which of the two changes as the noise grows."""

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.processes import Process
from unmask.diffusion.schedules import mask_root
from unmask.diffusion.times import spread
from unmask.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Hybrid(Process):
    """Hybrid noise (GIDD, von Ruette et al. 2025, arXiv 2503.04482): q(xt | x0) = alpha x0 + (1 - alpha) pi_t.

    pi_t mixes the mask and the uniform law over the V tokens. In the clock of sigma, e^sigma - 1 = z^2 + ratio z with
    ratio = 2 p_uniform / (1 - p_uniform): z^2 are the mask's odds against an untouched token, ratio z those of all
    random tokens. Any state, the mask too, is left at rate 1 for a state drawn from (2 z, ratio) / (2 z + ratio): first
    random tokens, later masks. So rates do not depend on the source, and change with sigma; no token is final.
    With the schedule `Gidd` of the same p_uniform it is GIDD's process, random tokens being most, p_uniform, in the
    middle. p_uniform is in (0, 1): without random tokens use Absorbing, without a mask Uniform.
    """

    has_mask: ClassVar[bool] = True

    p_uniform: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.p_uniform < 1:
            raise ConfigError(
                f"hybrid noise: p_uniform is {self.p_uniform}",
                "it is the share of random tokens, in (0, 1); absorbing noise has none, uniform noise nothing else",
            )

    @property
    def ratio(self) -> float:
        """2 p_uniform / (1 - p_uniform)."""
        return 2 * self.p_uniform / (1 - self.p_uniform)

    def odds(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mask and of all random tokens together, against an untouched token: the shape of sigma."""
        root = mask_root(torch.expm1(sigma), self.ratio)
        return root**2, self.ratio * root

    def side_by_side(self, clean: Tensor, mask: Tensor) -> Tensor:
        """clean [..., V] and the mask's entry [...]: [..., S]."""
        return torch.cat([clean, mask[..., None].to(clean.dtype).expand(*clean.shape[:-1], 1)], -1)

    def _spreading(self, dsigma: Tensor, since: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """What noise dsigma after `since` leaves of a state, makes masks of, and each one token of: [...] each."""
        start = torch.zeros_like(dsigma) if since is None else spread(since, dsigma).to(dsigma)
        end = start + dsigma
        (mask, token), (mask0, token0) = self.odds(end), self.odds(start)
        alpha = torch.exp(-end)
        return torch.exp(-dsigma), alpha * (mask - mask0), alpha * (token - token0) / self.vocab_size

    def _row(self, mask: Tensor, token: Tensor) -> Tensor:
        """`token` at each token and `mask` at the mask, both [...]: [..., S]."""
        return self.side_by_side(token[..., None].expand(*token.shape, self.vocab_size), mask)

    def _corrupt(self, x0: Tensor, t: Tensor, u: Tensor) -> Tensor:
        sigma = self.schedule.sigma(t)
        mask, token = self.odds(sigma)
        alpha = torch.exp(-sigma)
        drawn = ((u - alpha) / (alpha * token) * self.vocab_size).to(torch.int64).clamp(0, self.vocab_size - 1)
        return torch.where(u < alpha, x0, torch.where(u < 1 - alpha * mask, drawn, self.vocab_size))

    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """alpha (p0 + the odds of each token), alpha times its odds at the mask."""
        sigma = self.schedule.sigma(wide(spread(t, p0[..., 0]))).expand(p0.shape[:-1])
        mask, token = self.odds(sigma)
        alpha = torch.exp(-sigma)
        clean = alpha[..., None].to(p0.dtype) * (p0 + (token / self.vocab_size)[..., None].to(p0.dtype))
        return self.side_by_side(clean, alpha * mask)

    def _weighed(self, p0: Tensor, xt: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """alpha p0(x0) / q(xt | x0), and alpha times the sum: [..., V] and [..., 1]."""
        mask, token = self.odds(sigma)
        masked = self.is_mask(xt)
        base = torch.where(masked, mask, token / self.vocab_size).to(p0.dtype)
        here = torch.where(masked, 0, xt)[..., None]
        own = torch.where(masked[..., None], p0.gather(-1, here), p0.gather(-1, here) / (1 + 1 / base[..., None]))
        w = p0.scatter(-1, here, own) / base[..., None]
        return w, w.sum(-1, keepdim=True)

    def posterior(self, p0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """(w + odds_s sum w) (alpha_s (odds_t - odds_s)[xt] + 1[xs = xt]), w = p0(x0) / q(xt | x0) alpha_t."""
        s, t = (wide(spread(time, xt)).expand(xt.shape) for time in (s, t))
        early, late = self.schedule.sigma(s), self.schedule.sigma(t)
        (mask_s, token_s), (mask_t, token_t) = self.odds(early), self.odds(late)
        w, total = self._weighed(p0, xt, late)
        noise = self._row(mask_s, token_s / self.vocab_size).to(p0.dtype)
        before = self.side_by_side(w, torch.zeros_like(mask_s)) + noise * total
        jump = torch.where(self.is_mask(xt), mask_t - mask_s, (token_t - token_s) / self.vocab_size)
        jump = (torch.exp(-early) * jump)[..., None].to(p0.dtype)
        return before * jump.expand(before.shape).scatter_add(-1, xt[..., None], torch.ones_like(jump))

    def score(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """w + odds sum w, and 1 at xt."""
        sigma = self.schedule.sigma(wide(spread(t, xt)).expand(xt.shape))
        mask, token = self.odds(sigma)
        w, total = self._weighed(p0, xt, sigma)
        noise = self._row(mask, token / self.vocab_size).to(p0.dtype)
        row = self.side_by_side(w, torch.zeros_like(mask)) + noise * total
        return row.scatter(-1, xt[..., None], 1.0)

    def rate_into(self, xt: Tensor, sigma: Tensor) -> Tensor:
        """The rate from any other state into xt, per unit of sigma, at the total noise sigma: [...]."""
        root = 2 * mask_root(torch.expm1(sigma), self.ratio)
        return torch.where(self.is_mask(xt), root, self.ratio / self.vocab_size) / (root + self.ratio)

    def jump_rates(self, xt: Tensor, *, sigma: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`rate_into` from every other state; these rates change, so sigma is needed."""
        if sigma is None:
            raise ConfigError("the rates of hybrid noise change with the noise", "give sigma, the total noise there")
        rate = self.rate_into(xt, wide(spread(sigma, xt)))[..., None].to(dtype)
        return rate.repeat(*[1] * xt.dim(), self.num_states).scatter_(-1, xt[..., None], 0)

    def transition(self, x: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """What is left of x, and the new mask and tokens everywhere."""
        keep, mask, token = self._spreading(spread(dsigma, x).expand(x.shape), since)
        return self._row(mask, token).scatter_add(-1, x[..., None], keep[..., None])

    def transpose_transition(self, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """Into xt: the same from every state, and from xt what is left of it more."""
        keep, mask, token = self._spreading(spread(dsigma, xt).expand(xt.shape), since)
        into = torch.where(self.is_mask(xt), mask, token)[..., None].repeat(*[1] * xt.dim(), self.num_states)
        return into.scatter_add(-1, xt[..., None], keep[..., None])

    def staggered_score(self, score: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """e^dsigma (score - sum(score) times the law of what was added)."""
        dsigma = wide(spread(dsigma, score[..., 0])).expand(score.shape[:-1])
        keep, mask, token = self._spreading(dsigma, since)
        added = self._row(mask, token).to(score.dtype)
        return (score - score.sum(-1, keepdim=True) * added) / keep[..., None].to(score.dtype)

    def _limit(self) -> tuple[float, float]:
        """The shares of the mask and of random tokens where the schedule ends."""
        mask, token = self.odds(self.schedule.sigma(torch.ones((), dtype=torch.float64)))
        return float(mask / (mask + token)), float(token / (mask + token))

    def _prior(self, u: Tensor) -> Tensor:
        share = self._limit()[1]
        drawn = (u / share * self.vocab_size).to(torch.int64).clamp(0, self.vocab_size - 1)
        return torch.where(u < share, drawn, self.vocab_size)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """pi at the end of the schedule: nearly all of it the mask."""
        mask, token = self._limit()
        return torch.where(self.is_mask(x), math.log(mask), math.log(token / self.vocab_size))
