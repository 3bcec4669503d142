"""Transforms reshape the law of a new token: log p [N, V], normalized, to log p [N, V], normalized.

A rule says when a token changes, a transform only to what. So they hold for raw scores too: there the law of the
new token is the scores normalized, and the rate of change (the mass that leaves) stays what it was.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.errors import ConfigError

Transform = Callable[[Tensor], Tensor]


def _kept(log_p: Tensor, keep: Tensor) -> Tensor:
    """log p where keep [N, V], else -inf, normalized."""
    return torch.log_softmax(log_p.masked_fill(~keep, -math.inf), -1)


def temperature(T: float) -> Transform:
    """p^(1/T), normalized. T = 0 is greedy: the most probable token (the first, where several are)."""
    if not (T >= 0 and math.isfinite(T)):
        raise ConfigError(f"temperature is {T}", "it is at least 0: 0 takes the most probable token, 1 changes nothing")

    def apply(log_p: Tensor) -> Tensor:
        if T == 0:
            best = log_p.argmax(-1, keepdim=True)
            return torch.full_like(log_p, -math.inf).scatter_(-1, best, 0.0)
        return torch.log_softmax(log_p / T, -1)

    return apply


def top_p(p: float) -> Transform:
    """The fewest most probable tokens whose mass reaches p, the one that crosses p included.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751). p in (0, 1].
    """
    if not 0 < p <= 1:
        raise ConfigError(f"top_p is {p}", "it is a probability in (0, 1]; 1 changes nothing")

    def apply(log_p: Tensor) -> Tensor:
        if p == 1:
            return log_p
        ordered, order = log_p.sort(stable=True, dim=-1, descending=True)
        mass = wide(ordered).softmax(-1)
        before = mass.cumsum(-1) - mass
        keep = torch.zeros_like(log_p, dtype=torch.bool).scatter_(-1, order, before < p)
        return _kept(log_p, keep)

    return apply


def top_k(k: int) -> Transform:
    """The k most probable tokens; of equally probable ones the first. k at least 1."""
    if k < 1:
        raise ConfigError(f"top_k is {k}", "it is how many tokens are kept: at least 1")

    def apply(log_p: Tensor) -> Tensor:
        if k >= log_p.shape[-1]:
            return log_p
        order = log_p.sort(stable=True, dim=-1, descending=True).indices[..., :k]
        return _kept(log_p, torch.zeros_like(log_p, dtype=torch.bool).scatter_(-1, order, True))

    return apply


def min_p(p: float) -> Transform:
    """The tokens at least p times as probable as the most probable one (arXiv 2407.01082). p in (0, 1]."""
    if not 0 < p <= 1:
        raise ConfigError(f"min_p is {p}", "it is a share of the largest probability, in (0, 1]")

    def apply(log_p: Tensor) -> Tensor:
        return _kept(log_p, log_p >= log_p.amax(-1, keepdim=True) + math.log(p))

    return apply


def compose(*transforms: Transform) -> Transform:
    """One after the other, the first first."""

    def apply(log_p: Tensor) -> Tensor:
        for transform in transforms:
            log_p = transform(log_p)
        return log_p

    return apply
