"""A language whose entropy is known exactly, and a SEDD model that learns it by score entropy."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.diffusion import Absorbing, LogLinear
from unmask.diffusion.parametrizations import RawScore
from unmask.evaluation.likelihood import Bound, nelbo
from unmask.model import DiffusionLM
from unmask.nn.starts import look_around
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.loader import Loader
from unmask.training.loop import train
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """A stationary Markov chain: matrix [V, V]; rows are doubly stochastic, so that its stationary law is uniform."""

    matrix: NDArray[np.float64]
    length: int

    @classmethod
    def make(cls, size: int = 16, length: int = 32, seed: int = 0) -> "Chain":
        """Each token is followed by one of four, with probabilities 0.4, 0.3, 0.2 and 0.1."""
        draw, matrix = np.random.default_rng(seed), np.zeros((size, size))
        for p in (0.4, 0.3, 0.2, 0.1):
            matrix[np.arange(size), draw.permutation(size)] += p
        return cls(matrix, length)

    @property
    def size(self) -> int:
        return len(self.matrix)

    @property
    def rate(self) -> float:
        """The entropy of the next token, in nats: every token's row, weighted by the stationary law."""
        p = self.matrix[self.matrix > 0]
        return float(-(p * np.log(p)).sum() / self.size)

    @property
    def entropy(self) -> float:
        """Of a row of `length` tokens, per token, in nats: exact."""
        return (math.log(self.size) + (self.length - 1) * self.rate) / self.length

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        draw, total = np.random.default_rng(seed), self.matrix.cumsum(1)
        x = np.empty((count, self.length), np.int64)
        x[:, 0] = draw.integers(0, self.size, count)
        for i in range(1, self.length):
            x[:, i] = (draw.random(count)[:, None] >= total[x[:, i - 1]]).sum(1).clip(max=self.size - 1)
        return x


def learn(chain: Chain, out: Path, *, steps: int, batch: int = 64) -> tuple[Bound, Bound]:
    """The full bound on 1000 fresh rows, of a model before and after it was trained on as many rows as it could see."""
    V, L = chain.size, chain.length
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Transformer(TransformerConfig(V + 1, V + 1, width=64, depth=2, heads=4, length=L, cond_dim=16))
        look_around(net)
    model = DiffusionLM(net, Absorbing(V, LogLinear()), RawScore(scale_by_sigma=True))
    fresh = chain.draw(1000, seed=99)
    before = nelbo(model, fresh, times_per_row=4, batch_size=250)
    rows = chain.draw(batch * steps, seed=1)
    optim = OptimSettings(
        optimizer="muon", lr=5e-3, muon_lr=0.03, warmup=30, schedule="cooldown", cooldown=0.7, ema=0.99
    )
    settings = TrainSettings(steps=steps, optim=optim, precision="float32", t_power=2.0, save_every=steps)
    train(model, Loader(rows, global_batch=batch, seed=0), settings, out)
    return before, nelbo(model, fresh, times_per_row=16, batch_size=250)
