"""What a network's output means: the concrete score of SEDD, or the law of the clean token.

Row form: logits [N, O] (any float dtype, O >= the columns that are read), states xt [N] int64, times t [N]
in (0, 1]. Leading shapes [B, L] work as well, with t [B] or [B, L]. Outputs are float32, or float64 where
the logits are.

A raw score and its normalisation p0 are two generative models: they agree where the score is that of a
distribution, which a network's never quite is. Score, posterior and p0 are one thing for absorbing noise
and `CleanLogits`; `RawScore` gives `log_score` as the network has it and `log_p0` by inverting the noise.
"""

import dataclasses
import math
from typing import Protocol

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.processes import Process
from unmask.diffusion.times import spread
from unmask.errors import ConfigError

CHUNK, CHUNK_THERE = 8192, 32_768  # columns of logits upcast at a time, on the CPU and on an accelerator
LEAST_SURVIVAL = 1e-3 * (1 - 1e-4)  # alpha; below it a score does not tell x0 from the noise, e^sigma <= 1e3


class Parametrization(Protocol):
    """Reads scores and clean-token laws from logits."""

    def log_score(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p_t(y) / p_t(xt): [N, S], 0 at y = xt."""

    def log_p0(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p(x0 | xt): [N, V], normalised."""

    def log_total(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor, chunk: int | None = None) -> Tensor:
        """log of the sum over y != xt of the scores: [N], a chunk of the vocabulary at a time."""


def upcast(x: Tensor) -> Tensor:
    """float64 stays, everything else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def log_expm1_sigma(process: Process, t: Tensor) -> Tensor:
    """log(e^sigma - 1) = log((1 - alpha) / alpha), accurate at both ends; the shape of t, float64."""
    t = wide(t)
    return torch.log(process.schedule.one_minus_alpha(t)) + process.schedule.sigma(t)


def _columns(logits: Tensor, count: int) -> Tensor:
    """The first `count` columns of the logits."""
    if logits.shape[-1] < count:
        raise ConfigError(
            f"logits have {logits.shape[-1]} columns, the process needs {count}",
            "the network's output and the process' vocabulary do not belong together",
        )
    return logits[..., :count]


def _carry_over(process: Process, log_p0: Tensor, xt: Tensor) -> Tensor:
    """Where tokens are final, an unmasked row is one-hot at xt (MDLM's carry-over, arXiv 2406.07524)."""
    if not process.commits:
        return log_p0
    masked = process.is_mask(xt)
    if xt.device.type == "cpu" and bool(masked.all()):  # what samplers ask for; a device would have to be waited for
        return log_p0
    masked, seen = masked[..., None], torch.where(masked, 0, xt)[..., None]
    return log_p0.masked_fill(~masked, -math.inf).scatter(-1, seen, log_p0.gather(-1, seen).where(masked, 0.0))


def _log_sum(columns: Tensor, chunk: int | None) -> Tensor:
    """logsumexp over the last axis, a chunk upcast at a time: [...]."""
    chunk = chunk or (CHUNK if columns.device.type == "cpu" else CHUNK_THERE)
    total = None
    for start in range(0, columns.shape[-1], chunk):
        term = torch.logsumexp(upcast(columns[..., start : start + chunk]), -1)
        total = term if total is None else torch.logaddexp(total, term)
    assert total is not None
    return total


@dataclasses.dataclass(frozen=True)
class RawScore:
    """SEDD (Lou et al. 2024, arXiv 2310.16834): the logits are log scores over all S states.

    scale_by_sigma: the network's logits are relative to the score of a uniform guess, and
    log s = logits - log(e^sigma - 1) - log V (absorbing; SEDD's code writes V as columns - 1).
    """

    scale_by_sigma: bool

    def _shift(self, process: Process, t: Tensor, logits: Tensor) -> Tensor:
        """What the logits lose: [N]."""
        shift = log_expm1_sigma(process, t) + math.log(process.vocab_size)
        return spread(shift, logits[..., 0]).to(logits.dtype)

    def log_score(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p_t(y) / p_t(xt) as the network has it: [N, S], 0 at y = xt. Raises ConfigError on too few
        columns.
        """
        scores = upcast(_columns(logits, process.num_states))
        if self.scale_by_sigma:
            scores = scores - self._shift(process, t, scores)[..., None]
        return scores.scatter(-1, xt[..., None], 0.0)

    def log_p0(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p(x0 | xt): [N, V], normalised.

        Where tokens are final (absorbing): p0 is proportional to the scores of the clean tokens, unmasked
        rows are one-hot. Else the noise is taken off the score and put back as a likelihood, p0 ~ max(score
        exp(-sigma Q), 0) [x0] exp(sigma Q)[x0, xt], clipped and renormalised: SEDD's last step. That needs
        e^sigma <= 1e3; beyond, ConfigError.
        """
        if process.commits:
            clean = torch.log_softmax(upcast(_columns(logits, process.vocab_size)), -1)
            return _carry_over(process, clean, xt)
        alpha = process.alpha(wide(t))
        if bool((alpha < LEAST_SURVIVAL).any()):
            raise ConfigError(
                f"log_p0 from raw scores at e^sigma = {1 / float(alpha.min()):.4g}, above 1000",
                "so late the score does not tell the clean token: use log_score (Euler, Tweedie)",
            )
        scores = self.log_score(process, logits, xt, t)
        sigma = process.schedule.sigma(wide(t))
        scores = (scores - scores.amax(-1, keepdim=True)).exp()
        clean = process.staggered_score(scores, sigma)[..., : process.vocab_size].clamp(min=0)
        likelihood = process.transpose_transition(xt, sigma.to(scores.dtype))[..., : process.vocab_size]
        return torch.log_softmax(clean.log() + likelihood.log(), -1)

    def log_total(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor, chunk: int | None = None) -> Tensor:
        """log of the sum over y != xt of the scores: [N]. Reads the logits a chunk of columns at a time."""
        others = _columns(logits, process.num_states).scatter(-1, xt[..., None], -math.inf)
        total = _log_sum(others, chunk)
        return total - self._shift(process, t, total[..., None]) if self.scale_by_sigma else total


@dataclasses.dataclass(frozen=True)
class CleanLogits:
    """MDLM's SUBS (Sahoo et al. 2024, arXiv 2406.07524): softmax of the first V logits is p(x0 | xt).

    A mask column is not read; where tokens are final, unmasked rows are one-hot.
    """

    def log_p0(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p(x0 | xt): [N, V], normalised; t is not read. Raises ConfigError on too few columns."""
        clean = torch.log_softmax(upcast(_columns(logits, process.vocab_size)), -1)
        return _carry_over(process, clean, xt)

    def log_score(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p_t(y) / p_t(xt) of the model's own posterior: [N, S], 0 at y = xt."""
        return process.log_score(self.log_p0(process, logits, xt, t), xt, t)

    def log_total(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor, chunk: int | None = None) -> Tensor:
        """log of the sum over y != xt of the scores: [N].

        Absorbing: at the mask it is -log(e^sigma - 1), at a token its negative, whatever the logits.
        Uniform, with p = p0[xt], e = e^sigma - 1, rho = e / (e + V): V (1 - p) / e + (V - 1) (1 - p + rho
        p). Else by enumeration.
        """
        if process.commits:
            late = spread(log_expm1_sigma(process, t), xt).to(upcast(logits[..., :1]).dtype)
            return torch.where(process.is_mask(xt), -late, late)
        scores = self.log_score(process, logits, xt, t)
        return torch.logsumexp(scores.scatter(-1, xt[..., None], -math.inf), -1)


@dataclasses.dataclass(frozen=True)
class LeaveOneOut(CleanLogits):
    """Softmax of the first V logits is the law of the clean token given all *other* positions of xt.

    What training by the plug-in bound makes of a network under noise that does not commit (UDLM, Schiff et al. 2024,
    arXiv 2412.10193; Duo; GIDD): their ratio (alpha x + noise)[y] / (alpha x + noise)[xt] is the score where x is this
    law. Bayes' rule puts the own state back, p(x0 | xt) ~ x(x0) q(xt | x0), and then posterior, score and bound of the
    process are the published ones.
    """

    def log_p0(self, process: Process, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """log p(x0 | xt): [N, V], normalised. Raises ConfigError on too few columns."""
        if process.commits:  # the own state is the mask, which says nothing, or is the token
            return super().log_p0(process, logits, xt, t)
        others = upcast(_columns(logits, process.vocab_size))
        sigma = process.schedule.sigma(wide(t))
        own = process.transpose_transition(xt, sigma)[..., : process.vocab_size].log()
        return torch.log_softmax(others + own.to(others.dtype), -1)


PARAMETRIZATIONS: dict[str, type] = {"score": RawScore, "x0": CleanLogits, "x0-others": LeaveOneOut}
