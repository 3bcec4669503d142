"""Optimizers and the learning rate over a run."""

import dataclasses
import math

import torch
from torch import nn

from unmask.errors import ConfigError, unknown

SCHEDULES = ("constant", "cosine", "cooldown")
OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass(frozen=True)
class OptimSettings:
    """optimizer "muon" takes the matrices of the blocks (Jordan et al. 2024) and AdamW the rest.

    lr, muon_lr: peak rates. warmup: steps. schedule: "constant", "cosine" (to zero) or "cooldown" (constant, then
    linear to zero over the last `cooldown` share of the run). clip: largest gradient norm, 0 for none. ema: decay.
    """

    optimizer: str = "adamw"
    lr: float = 3e-4
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 2500
    schedule: str = "constant"
    cooldown: float = 0.2
    clip: float = 1.0
    ema: float = 0.9999

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown("learning-rate schedule", self.schedule, SCHEDULES)
        for name in ("lr", "muon_lr", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"cooldown is a share of the run, in (0, 1], got {self.cooldown}")
        if not all(0 <= x < 1 for x in (*self.betas, self.ema)):
            raise ConfigError(f"betas and the EMA decay must be in [0, 1), got {self.betas} and {self.ema}")


def rate_factor(settings: OptimSettings, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`, as a share of its peak."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    if settings.schedule == "cooldown":
        return warm * min(1.0, (steps - step) / max(1.0, settings.cooldown * steps))
    return warm


def optimizers(net: nn.Module, settings: OptimSettings) -> list[torch.optim.Optimizer]:
    """AdamW over all parameters, or Muon over the matrices of the blocks and AdamW over the rest."""
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    muon = settings.optimizer == "muon"
    matrices = [p for n, p in named if muon and "blocks." in n and p.ndim == 2 and "adaLN" not in n]
    taken = {id(p) for p in matrices}
    rest = [(n, p) for n, p in named if id(p) not in taken]
    groups = [
        {"params": [p for _, p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for _, p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for _, p in rest)
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)
    ]
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay, momentum=0.95))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def set_rate(made: list[torch.optim.Optimizer], factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
