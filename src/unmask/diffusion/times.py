"""Times: their shape, how a training batch spreads them over [0, 1], the grids that samplers walk down."""

import math

import torch
from torch import Tensor

from unmask.errors import ConfigError


def spread(t: Tensor, like: Tensor) -> Tensor:
    """Give t the rank of `like` by trailing axes of size 1: a sample's time meets every position."""
    return t.reshape(t.shape + (1,) * (like.dim() - t.dim()))


def _onto(fraction: Tensor, t_min: float) -> Tensor:
    """[0, 1) onto [t_min, 1)."""
    if not 0 <= t_min < 1:
        raise ConfigError(f"t_min is {t_min}", "it must be in [0, 1)")
    return t_min + (1 - t_min) * fraction


def _indices(n: int, index: Tensor | None) -> Tensor:
    if n < 1:
        raise ConfigError(f"a batch of {n} times", "n is the size of the whole batch, over all ranks: at least 1")
    return torch.arange(n) if index is None else index


def low_discrepancy(n: int, u: float | Tensor, index: Tensor | None = None, *, t_min: float = 1e-3) -> Tensor:
    """Evenly spaced times with one common offset: t_i = ((i + u) / n mod 1), mapped onto [t_min, 1].

    n: size of the whole batch, over all ranks and accumulation steps. u: one uniform number in [0, 1), or some
    that go with the index. index: [B] which of the n are wanted (default: all). Returns [B] float64. Each t is
    uniform, and together they cover the interval (Kingma et al. 2021, "Variational diffusion models", the low-
    discrepancy sampler). Raises ConfigError for n < 1 or t_min outside [0, 1).
    """
    offset = torch.as_tensor(u, dtype=torch.float64)
    fraction = (_indices(n, index).to(torch.float64) + offset) / n
    return _onto(fraction % 1.0, t_min)


def stratified(n: int, u: Tensor, index: Tensor | None = None, *, t_min: float = 1e-3) -> Tensor:
    """One independent uniform time in each of n equal cells: t_i = (i + u_i) / n, mapped onto [t_min, 1].

    u: [B] uniforms in [0, 1), one for each wanted index; index: [B] (default: all n). Returns [B] float64.
    Raises ConfigError for n < 1 or t_min outside [0, 1).
    """
    return low_discrepancy(n, u, index, t_min=t_min)


def _span(steps: int, t_max: float, t_min: float) -> float:
    if steps < 1:
        raise ConfigError(f"a grid of {steps} steps", "it needs at least 1")
    if not 0 <= t_min < t_max <= 1:
        raise ConfigError(f"a grid from t = {t_max} down to {t_min}", "needs 0 <= t_min < t_max <= 1")
    return t_max - t_min


def linear_grid(steps: int, t_max: float = 1.0, t_min: float = 1e-5) -> Tensor:
    """Equal steps from t_max down to t_min: [steps + 1] float64, descending. Raises ConfigError on a bad
    range.
    """
    fraction = torch.arange(steps + 1, dtype=torch.float64) / max(steps, 1)
    return t_max - _span(steps, t_max, t_min) * fraction


def cosine_grid(steps: int, t_max: float = 1.0, t_min: float = 1e-5) -> Tensor:
    """Small steps near t_max, large ones near t_min: [steps + 1] float64, descending.

    t_k = t_min + (t_max - t_min) cos(pi/2 k / steps), the masking curve of MaskGIT (Chang et al. 2022).
    Raises ConfigError on a bad range.
    """
    fraction = torch.arange(steps + 1, dtype=torch.float64) / max(steps, 1)
    curve = torch.cos(math.pi / 2 * fraction)
    curve[-1] = 0.0
    return t_min + _span(steps, t_max, t_min) * curve
