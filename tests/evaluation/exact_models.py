"""Models that know the truth of a world small enough to list."""

from collections.abc import Callable

import torch
from torch import Tensor

from exact.world import World
from unmask.diffusion import Absorbing, LogLinear, Process, Uniform

WORLD = World.make(3, 2)


class Answer:
    """What `predict` gives: the exact readings at the positions asked for."""

    def __init__(self, model: "BayesModel", xt: Tensor, t: Tensor) -> None:
        self.model, self.xt, self.t = model, xt, t

    def log_total(self, at: Tensor) -> Tensor:
        rows = self.model.log_score(self.xt, self.t, at=at)
        return torch.logsumexp(rows.scatter(-1, self.xt[at][:, None], -torch.inf), -1)


class BayesModel:
    """Answers as a DiffusionLM, with the exact posterior of a world. calls: how many rows it has read."""

    def __init__(self, process: Process, world: World = WORLD, unigram: Tensor | None = None) -> None:
        self.process, self.world, self.unigram = process, world, unigram
        self.bayes: Callable[[Tensor, Tensor], Tensor] = world.bayes(process)
        self.length, self.device, self.tokenizer = world.length, torch.device("cpu"), None
        self.read: list[tuple[Tensor, Tensor]] = []

    def log_p0(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        self.read.append((xt, t))
        rows = self.bayes(xt, t)
        return rows if at is None else rows[at]

    def log_score(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        rows = self.process.log_score(self.log_p0(xt, t), xt, t)
        return rows if at is None else rows[at]

    def predict(self, xt: Tensor, t: Tensor) -> Answer:
        return Answer(self, xt, t)


def absorbing(eps: float = 1e-6) -> Absorbing:
    return Absorbing(3, LogLinear(eps))


def uniform(eps: float = 1e-6) -> Uniform:
    return Uniform(3, LogLinear(eps))
