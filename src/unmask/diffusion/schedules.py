"""Noise schedules: the survival probability alpha(t) of a clean token at time t in [0, 1].

alpha falls strictly from (about) 1 at t = 0, data, to (about) 0 at t = 1, noise. All else follows: sigma =
-log alpha is the total noise (nats), dsigma its rate per unit of t. Every method takes a float tensor of
any shape with values in [0, 1] and returns the same shape and dtype, finite everywhere, in float32 too.
"""

import abc
import dataclasses
import math

import torch
from torch import Tensor

from unmask.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A survival probability alpha(t), its complement, its derivative and its inverse."""

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is untouched by time t."""

    @abc.abstractmethod
    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """1 - alpha(t) without the cancellation near t = 0."""

    @abc.abstractmethod
    def dalpha(self, t: Tensor) -> Tensor:
        """d alpha / dt, at most 0."""

    @abc.abstractmethod
    def inverse(self, alpha: Tensor) -> Tensor:
        """The t with alpha(t) = alpha; alphas out of range give the nearer end of [0, 1]."""

    def sigma(self, t: Tensor) -> Tensor:
        """Total noise -log alpha(t), in nats."""
        lost = self.one_minus_alpha(t)
        return torch.where(lost < 0.5, -torch.log1p(-lost.clamp(max=0.5)), -torch.log(self.alpha(t)))

    def dsigma(self, t: Tensor) -> Tensor:
        """d sigma / dt: the forward process' rate, per unit of t."""
        return -self.dalpha(t) / self.alpha(t)

    def clock(self, t: Tensor) -> Tensor:
        """What a network that is conditioned on the time is told at t: t itself, unless its training had another."""
        return t

    def weight(self, t: Tensor) -> Tensor:
        """dsigma / (e^sigma - 1) = -alpha' / (1 - alpha): what a masked token's cross-entropy weighs in the
        bound.

        MDLM (Sahoo et al. 2024, arXiv 2406.07524, section 3). Infinite at t = 0 where alpha(0) = 1.
        """
        return -self.dalpha(t) / self.one_minus_alpha(t)


def _check_eps(eps: float) -> None:
    if not 1e-12 <= eps < 1:
        raise ConfigError(
            f"schedule: eps is {eps}", "eps is alpha(1), the share that survives: in [1e-12, 1), say 1e-3"
        )


@dataclasses.dataclass(frozen=True)
class LogLinear(Schedule):
    """alpha = 1 - (1 - eps) t. SEDD's loglinear (Lou et al. 2024, arXiv 2310.16834), MDLM's default."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - (1 - eps) t."""
        return (1 - t) + self.eps * t

    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """(1 - eps) t."""
        return (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        """-(1 - eps)."""
        return torch.full_like(t, self.eps - 1)

    def inverse(self, alpha: Tensor) -> Tensor:
        """(1 - alpha) / (1 - eps)."""
        return ((1 - alpha) / (1 - self.eps)).clamp(0, 1)

    def weight(self, t: Tensor) -> Tensor:
        """1 / t, exactly, whatever eps is."""
        return 1 / t


@dataclasses.dataclass(frozen=True)
class Geometric(Schedule):
    """sigma = sigma_min^(1 - t) sigma_max^t: SEDD's geometric. alpha(0) is exp(-sigma_min), not quite 1."""

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if not 1e-12 <= self.sigma_min < self.sigma_max <= 80:
            raise ConfigError(
                f"geometric schedule: sigma_min is {self.sigma_min}, sigma_max is {self.sigma_max}",
                "needs 1e-12 <= sigma_min < sigma_max <= 80, for e^sigma_max to fit float32",
            )

    @property
    def _span(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)^t: the definition."""
        return torch.exp(math.log(self.sigma_min) + self._span * t)

    def dsigma(self, t: Tensor) -> Tensor:
        """sigma log(sigma_max / sigma_min)."""
        return self._span * self.sigma(t)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-sigma)."""
        return torch.exp(-self.sigma(t))

    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """-expm1(-sigma)."""
        return -torch.expm1(-self.sigma(t))

    def dalpha(self, t: Tensor) -> Tensor:
        """-dsigma exp(-sigma)."""
        return -self.dsigma(t) * self.alpha(t)

    def inverse(self, alpha: Tensor) -> Tensor:
        """log(-log(alpha) / sigma_min) / log(sigma_max / sigma_min)."""
        sigma = (-torch.log(alpha)).clamp(self.sigma_min, self.sigma_max)
        return ((torch.log(sigma) - math.log(self.sigma_min)) / self._span).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = 1 - (1 - eps) cos(pi/2 (1 - t)): the cosine of MD4 (Shi et al. 2024, arXiv 2406.04329) and
    Duo.

    MDLM's own cosine, alpha = eps + (1 - eps) cos(pi/2 t), is another curve.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """eps + (1 - eps) 2 sin^2(pi/4 (1 - t)), which does not cancel near t = 1."""
        return self.eps + (1 - self.eps) * 2 * torch.sin(math.pi / 4 * (1 - t)) ** 2

    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """(1 - eps) sin(pi/2 t)."""
        return (1 - self.eps) * torch.sin(math.pi / 2 * t)

    def dalpha(self, t: Tensor) -> Tensor:
        """-(1 - eps) pi/2 sin(pi/2 (1 - t))."""
        return -(1 - self.eps) * math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))

    def inverse(self, alpha: Tensor) -> Tensor:
        """2/pi arcsin((1 - alpha) / (1 - eps)), by the arctangent that is accurate at both ends."""
        sine = ((1 - alpha) / (1 - self.eps)).clamp(0, 1)
        versine = ((alpha - self.eps) / (1 - self.eps)).clamp(0, 1)
        return 2 / math.pi * torch.atan2(sine, torch.sqrt(versine * (1 + sine)))


@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """alpha = 1 - (1 - eps) t^power, power at least 1 (MD4's polynomial)."""

    power: float = 2.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_eps(self.eps)
        if not 1 <= self.power <= 64:
            raise ConfigError(
                f"polynomial schedule: power is {self.power}",
                "it must be in [1, 64]; below 1 dsigma is infinite",
            )

    def alpha(self, t: Tensor) -> Tensor:
        """eps + (1 - eps) (1 - t^power), which does not cancel near t = 1."""
        return self.eps - (1 - self.eps) * torch.expm1(self.power * torch.log(t))

    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """(1 - eps) t^power."""
        return (1 - self.eps) * t**self.power

    def dalpha(self, t: Tensor) -> Tensor:
        """-(1 - eps) power t^(power - 1)."""
        return -(1 - self.eps) * self.power * t ** (self.power - 1)

    def inverse(self, alpha: Tensor) -> Tensor:
        """((1 - alpha) / (1 - eps))^(1 / power)."""
        return ((1 - alpha) / (1 - self.eps)).clamp(0, 1) ** (1 / self.power)

    def weight(self, t: Tensor) -> Tensor:
        """power / t, exactly, whatever eps is."""
        return self.power / t


def mask_root(excess: Tensor, ratio: float) -> Tensor:
    """The root z >= 0 of z^2 + ratio z = excess (>= 0): what of e^sigma - 1 is the mask's is z^2 (see `Gidd`)."""
    return 2 * excess / (ratio + torch.sqrt(ratio**2 + 4 * excess)).clamp(min=1e-30)


@dataclasses.dataclass(frozen=True)
class Gidd(Schedule):
    """The time of GIDD's hybrid noise (von Ruette et al. 2025, arXiv 2503.04482, section 4, gamma = 1).

    Its own time runs over [eps, 1 - eps]: r = eps + (1 - 2 eps) t. alpha = (1 - r) / (1 + c), where c is
    ratio sqrt(r (1 - r)) and ratio is 2 p_uniform / (1 - p_uniform). Then 1 / alpha = 1 + z^2 + ratio z with
    z^2 = r / (1 - r): the mask's odds against an untouched token, and those of all random tokens. p_uniform 0 is
    linear masking.
    """

    p_uniform: float = 0.1
    eps: float = 1e-4

    def __post_init__(self) -> None:
        _check_eps(self.eps)
        if not (0 <= self.p_uniform < 1 and self.eps < 0.5):
            raise ConfigError(
                f"gidd schedule: p_uniform is {self.p_uniform}, eps is {self.eps}",
                "p_uniform is a share in [0, 1), eps is below 1/2",
            )

    @property
    def ratio(self) -> float:
        """2 p_uniform / (1 - p_uniform)."""
        return 2 * self.p_uniform / (1 - self.p_uniform)

    def clock(self, t: Tensor) -> Tensor:
        """eps + (1 - 2 eps) t: the time that GIDD's networks are told."""
        return self.eps + (1 - 2 * self.eps) * t

    def _parts(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r, 1 - r, and c."""
        late, early = self.clock(t), self.clock(1 - t)
        return late, early, self.ratio * torch.sqrt(late * early)

    def alpha(self, t: Tensor) -> Tensor:
        """(1 - r) / (1 + c)."""
        _, early, c = self._parts(t)
        return early / (1 + c)

    def one_minus_alpha(self, t: Tensor) -> Tensor:
        """(r + c) / (1 + c)."""
        late, _, c = self._parts(t)
        return (late + c) / (1 + c)

    def dalpha(self, t: Tensor) -> Tensor:
        """-(1 - 2 eps) (1 + ratio / 2 sqrt((1 - r) / r)) / (1 + c)^2."""
        late, early, c = self._parts(t)
        return -(1 - 2 * self.eps) * (1 + self.ratio / 2 * torch.sqrt(early / late)) / (1 + c) ** 2

    def inverse(self, alpha: Tensor) -> Tensor:
        """r = z^2 / (1 + z^2)."""
        odds = mask_root((1 - alpha) / alpha, self.ratio) ** 2
        return ((odds / (1 + odds) - self.eps) / (1 - 2 * self.eps)).clamp(0, 1)


SCHEDULES: dict[str, type[Schedule]] = {
    "loglinear": LogLinear,
    "geometric": Geometric,
    "gidd": Gidd,
    "cosine": Cosine,
    "polynomial": Polynomial,
}
