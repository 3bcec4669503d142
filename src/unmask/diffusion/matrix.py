"""Any mass-preserving noise on up to 512 states, by matrix exponential: the oracle that tests the closed
forms.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.processes import Process
from unmask.diffusion.times import spread
from unmask.errors import ConfigError

MAX_STATES = 512
_ELEMENTS = 1 << 22  # of a batch of matrices held at once


def exponential(matrix: Tensor, sigma: Tensor) -> Tensor:
    """exp(sigma Q) for a rate matrix Q [S, S] and sigma [U] >= 0, both float64: [U, S, S], rows sum to 1.

    Uniformization: Q = r (P - 1) with P >= 0, a Taylor series of e^{-h r} e^{h r P} at a short h, then
    squarings. Nothing is subtracted, so that every entry, however small, is accurate relative to itself,
    and a state that cannot be reached has probability 0.
    """
    identity = torch.eye(matrix.shape[0], dtype=matrix.dtype)
    r = float((-matrix.diagonal()).max()) or 1.0
    jump = identity + matrix / r
    squarings = max(0, math.ceil(math.log2(max(float(sigma.max()) * r, 0.5)))) + 1
    h = (sigma * (r * 0.5**squarings))[:, None, None]
    term = identity.expand(len(sigma), -1, -1)
    out = term
    for k in range(1, 19):
        term = (term @ jump) * (h / k)
        out = out + term
    out = out * torch.exp(-h)
    for _ in range(squarings):
        out = out @ out
        out = out / out.sum(-1, keepdim=True)
    return out


def _checked(matrix: Tensor, vocab_size: int) -> Tensor:
    """The matrix as float64 on the CPU with a diagonal that makes its rows sum to 0, or ConfigError."""
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ConfigError(f"rate matrix of shape {tuple(matrix.shape)}", "it must be square: [S, S]")
    states = matrix.shape[0]
    if states > MAX_STATES:
        raise ConfigError(
            f"rate matrix of {states} states, above {MAX_STATES}",
            "its exponential costs S^3; Absorbing and Uniform have closed forms for any vocabulary",
        )
    if states not in (vocab_size, vocab_size + 1):
        raise ConfigError(
            f"rate matrix of {states} states for {vocab_size} clean tokens",
            "S is vocab_size, or vocab_size + 1 with the mask as the last state",
        )
    q = matrix.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(q).all()):
        raise ConfigError("rate matrix with an entry that is not finite", "every rate must be a finite number")
    rates = q - q.diagonal().diag()
    if float(rates.min()) < 0:
        x, y = divmod(int(rates.argmin()), states)
        raise ConfigError(
            f"rate matrix with a negative rate: Q[{x}, {y}] = {float(rates.min()):.6g}",
            "Q[x, y] is the rate from x to y, at least 0 off the diagonal",
        )
    sums = q.sum(-1)
    row = int(sums.abs().argmax())
    if float(sums[row].abs()) > 1e-5 * max(float(q.abs().max()), 1e-30):
        raise ConfigError(
            f"rate matrix whose rows do not sum to 0: row {row} sums to {float(sums[row]):.6g}",
            "Q[x, x] must be minus the sum of the other rates of row x (is the matrix transposed?)",
        )
    return rates - rates.sum(-1).diag()


@dataclasses.dataclass(frozen=True, eq=False)
class RateMatrix(Process):
    """Noise of any constant rate matrix: q(xt | x0) = exp(sigma(t) Q)[x0, xt]. Rates may depend on the
    source.

    matrix: [S, S] with Q[x, y] the rate from x to y per unit of sigma, rows summing to 0, S at most 512. S
    is vocab_size, or vocab_size + 1: then the last state is the mask, which no clean text holds. It is kept
    in float64 on the CPU; results come in the dtype and on the device of what is given. `commits` is False
    whatever the matrix, since the fast paths that it opens also need one rate for all tokens. alpha(t) is
    the schedule's e^-sigma: the clock, not a survival probability. The prior is the limit law from uniform
    clean tokens; a chain with several closed classes has one limit for each start, and this is their mean.
    Raises ConfigError for a matrix that is not square, too large, or no rate matrix.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "matrix", _checked(self.matrix, self.vocab_size))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RateMatrix)
            and (self.vocab_size, self.schedule) == (other.vocab_size, other.schedule)
            and torch.equal(self.matrix, other.matrix)
        )

    def __hash__(self) -> int:
        return hash((type(self), self.vocab_size, self.schedule, tuple(self.matrix[0].tolist())))

    @property
    def num_states(self) -> int:
        """S."""
        return self.matrix.shape[0]

    def _by_sigma(self, *sigmas: Tensor, rows: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Put together rows(i, which, distinct): float64 on the CPU, [N, ...].

        sigmas: tensors [N]. i [n] are the rows whose sigmas are distinct[which], distinct [u, len(sigmas)]:
        few enough for their matrices to be held at once.
        """
        if len(sigmas) == 1:  # much faster than by rows
            flat, inverse = torch.unique(sigmas[0], return_inverse=True)
            distinct = flat[:, None]
        else:
            distinct, inverse = torch.unique(torch.stack(sigmas, -1), dim=0, return_inverse=True)
        size = max(1, _ELEMENTS // self.num_states**2)
        places, parts = [], []
        for start in range(0, len(distinct), size):
            i = ((inverse >= start) & (inverse < start + size)).nonzero()[:, 0]
            places.append(i)
            parts.append(rows(i, inverse[i] - start, distinct[start : start + size]))
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _flat(self, sigma: Tensor, like: Tensor) -> Tensor:
        """sigma ([B] or [...]) for every element of like [...]: [N] float64 on the CPU."""
        return wide(spread(sigma, like)).expand(like.shape).reshape(-1).to("cpu", torch.float64)

    def _sigma(self, t: Tensor, like: Tensor) -> Tensor:
        return self._flat(self.schedule.sigma(wide(t)), like)

    def _mix(self, w: Tensor, kernels: Tensor, which: Tensor) -> Tensor:
        """w [n, A] times kernels[which], of kernels [u, A, S]: [n, S]."""
        if len(kernels) == 1:
            return w @ kernels[0]
        size = max(1, _ELEMENTS // self.num_states**2)
        spans = [slice(start, start + size) for start in range(0, len(w), size)]
        return torch.cat([torch.bmm(w[span, None], kernels[which[span]])[:, 0] for span in spans])

    def _weighed(self, p0: Tensor, into: Tensor) -> Tensor:
        """p0(x0) / q(xt | x0) over the x0 that reach xt, p0 renormalised over those: [n, V]. into: q(xt |
        x0).
        """
        reach = (into > 1e-290).to(p0.dtype)
        p0 = torch.where((p0 * reach).sum(-1, keepdim=True) > 0, p0 * reach, reach)
        p0 = p0 / p0.sum(-1, keepdim=True)
        return torch.where(reach > 0, p0 / into.clamp(min=1e-290), 0.0)

    def _corrupt(self, x0: Tensor, t: Tensor, u: Tensor) -> Tensor:
        law = self.transition(x0, self.schedule.sigma(t)).cpu()
        return _inverse_cdf(law, u.cpu().to(law.dtype)).to(x0.device)

    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """p0 exp(sigma Q)."""
        p = p0.reshape(-1, self.vocab_size).to("cpu", torch.float64)

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            return self._mix(p[i], exponential(self.matrix, sigma[:, 0])[:, : self.vocab_size], which)

        out = self._by_sigma(self._sigma(t, p0[..., 0]), rows=rows)
        return out.reshape(*p0.shape[:-1], self.num_states).to(p0)

    def posterior(self, p0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(xt | xs) sum_x0 q(xs | x0) p0(x0) / q(xt | x0)."""
        p, x = p0.reshape(-1, self.vocab_size).to("cpu", torch.float64), xt.reshape(-1).cpu()

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            early = exponential(self.matrix, sigma[:, 0])[:, : self.vocab_size]
            step = exponential(self.matrix, sigma[:, 1] - sigma[:, 0])
            late = early @ step
            w = self._weighed(p[i], late[which, :, x[i]])
            return self._mix(w, early, which) * step[which, :, x[i]]

        out = self._by_sigma(self._sigma(s, xt), self._sigma(t, xt), rows=rows)
        return out.reshape(*xt.shape, self.num_states).to(p0)

    def score(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """sum_x0 q(y | x0) p0(x0) / q(xt | x0)."""
        p, x = p0.reshape(-1, self.vocab_size).to("cpu", torch.float64), xt.reshape(-1).cpu()

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            kernel = exponential(self.matrix, sigma[:, 0])[:, : self.vocab_size]
            return self._mix(self._weighed(p[i], kernel[which, :, x[i]]), kernel, which)

        out = self._by_sigma(self._sigma(t, xt), rows=rows).scatter(-1, x[:, None], 1.0)
        return out.reshape(*xt.shape, self.num_states).to(p0)

    def jump_rates(self, xt: Tensor, *, sigma: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """The column xt of Q without its diagonal."""
        rates = self.matrix - self.matrix.diagonal().diag()
        return rates.T[xt.cpu()].to(xt.device, dtype)

    def transition(self, x: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """The row x of exp(dsigma Q)."""
        source = x.reshape(-1).cpu()

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            return exponential(self.matrix, sigma[:, 0])[which, source[i]]

        out = self._by_sigma(self._flat(dsigma, x), rows=rows)
        return out.reshape(*x.shape, self.num_states).to(dsigma)

    def transpose_transition(self, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """The column xt of exp(dsigma Q)."""
        target = xt.reshape(-1).cpu()

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            return exponential(self.matrix, sigma[:, 0])[which, :, target[i]]

        out = self._by_sigma(self._flat(dsigma, xt), rows=rows)
        return out.reshape(*xt.shape, self.num_states).to(dsigma)

    def staggered_score(self, score: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
        """score exp(-dsigma Q)."""
        flat = score.reshape(-1, self.num_states).to("cpu", torch.float64)

        def rows(i: Tensor, which: Tensor, sigma: Tensor) -> Tensor:
            return self._mix(flat[i], torch.linalg.matrix_exp(-sigma[:, :, None] * self.matrix), which)

        out = self._by_sigma(self._flat(dsigma, score[..., 0]), rows=rows)
        return out.reshape(score.shape).to(score)

    @functools.cached_property
    def limit_law(self) -> Tensor:
        """The law at sigma = infinity from uniform clean tokens: [S] float64."""
        kernel = exponential(self.matrix, torch.ones(1, dtype=torch.float64))[0]
        for _ in range(60):
            kernel = kernel @ kernel
            kernel = kernel / kernel.sum(-1, keepdim=True)
        return kernel[: self.vocab_size].mean(0)

    def _prior(self, u: Tensor) -> Tensor:
        law = self.limit_law.expand(*u.shape, -1)
        return _inverse_cdf(law, u.cpu().to(law.dtype)).to(u.device)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """log of `limit_law` at x."""
        return self.limit_law.log()[x.cpu()].to(x.device, torch.float32)


def _inverse_cdf(law: Tensor, u: Tensor) -> Tensor:
    """The state at u [...] of law [..., S]: states of probability 0 are never drawn."""
    cdf = law.cumsum(-1)
    state = (cdf <= u[..., None] * cdf[..., -1:]).sum(-1)
    last = law.shape[-1] - 1 - (law > 0).flip(-1).long().argmax(-1)
    return torch.minimum(state, last)
