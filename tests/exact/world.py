"""A world small enough to list: every text, its probability, and the exact denoiser. All float64."""

import dataclasses
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.diffusion import (
    Absorbing,
    Cosine,
    Geometric,
    Gidd,
    Hybrid,
    LogLinear,
    Polynomial,
    Process,
    RateMatrix,
    Uniform,
)
from unmask.diffusion.times import spread

EPS = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """tokens: [W, L] every text over `vocab_size` tokens; p: [W] its probability."""

    vocab_size: int
    tokens: Tensor
    p: Tensor

    @classmethod
    def make(cls, vocab_size: int = 3, length: int = 2, *, seed: int = 1, sharpness: float = 1.5) -> "World":
        tokens = torch.tensor(list(itertools.product(range(vocab_size), repeat=length)))
        noise = torch.randn(len(tokens), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return cls(vocab_size, tokens, torch.softmax(sharpness * noise, 0))

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    @property
    def entropy(self) -> float:
        """Of a whole text, in nats."""
        return float(-(self.p * self.p.log()).sum())

    def index(self, x: Tensor) -> Tensor:
        """The row of `tokens` that each clean text x [B, L] is: [B]."""
        powers = self.vocab_size ** torch.arange(self.length - 1, -1, -1)
        return (x * powers).sum(-1)

    def law(self, x: Tensor) -> Tensor:
        """Empirical law of clean texts x [B, L]: [W]."""
        return torch.bincount(self.index(x), minlength=len(self.p)).double() / len(x)

    def log_likelihood(self, process: Process, xt: Tensor, t: Tensor) -> Tensor:
        """log q(xt | text) for every text: [B, W] from xt [B, L], t [B] or [B, L]."""
        sigma = process.schedule.sigma(spread(t.double(), xt).expand(xt.shape))
        into = process.transpose_transition(xt, sigma)[..., : self.vocab_size].log()  # [B, L, V]
        at = self.tokens.T.expand(len(xt), -1, -1)  # [B, L, W]
        return into.gather(-1, at).sum(1)

    def bayes(self, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
        """The exact denoiser: log p(x0 | xt) [B, L, V] of xt [B, L] and t [B] or [B, L]."""
        clean = torch.nn.functional.one_hot(self.tokens, self.vocab_size).double()  # [W, L, V]

        def log_p0(xt: Tensor, t: Tensor) -> Tensor:
            times = spread(t.double(), xt).expand(xt.shape)
            moments, moment = torch.unique(times, return_inverse=True)
            radix = process.num_states * len(moments)
            code = ((moment * process.num_states + xt) * radix ** torch.arange(self.length)).sum(-1)
            rows, back = torch.unique(code, return_inverse=True)
            first = torch.empty(len(rows), dtype=torch.int64).scatter_(0, back, torch.arange(len(xt)))
            w = torch.softmax(self.log_likelihood(process, xt[first], times[first]) + self.p.log(), -1)
            return torch.einsum("rw,wlv->rlv", w, clean).log()[back]

        return log_p0


def absorbing_matrix(vocab_size: int) -> Tensor:
    q = -torch.eye(vocab_size + 1, dtype=torch.float64)
    q[:, -1] += 1
    return q


def uniform_matrix(vocab_size: int) -> Tensor:
    return torch.full((vocab_size, vocab_size), 1 / vocab_size, dtype=torch.float64) - torch.eye(vocab_size)


def with_diagonal(rates: list[list[float]]) -> Tensor:
    q = torch.tensor(rates, dtype=torch.float64)
    return q - q.sum(-1).diag()


SKEW = with_diagonal([[0, 1.7, 0.2], [0.4, 0, 0.9], [0.1, 2.5, 0]])  # rates that depend on the source
UNEVEN_MASK = with_diagonal([[0, 0.3, 0, 0.5], [0.2, 0, 0.1, 1.4], [0, 0.6, 0, 0.9], [0, 0, 0, 0]])

CLOSED: dict[str, Process] = {
    "absorbing-loglinear": Absorbing(3, LogLinear(EPS)),
    "absorbing-geometric": Absorbing(3, Geometric(1e-5, 14.0)),
    "absorbing-cosine": Absorbing(3, Cosine(EPS)),
    "uniform-loglinear": Uniform(3, LogLinear(EPS)),
    "uniform-polynomial": Uniform(3, Polynomial(2, EPS)),
    "hybrid-gidd": Hybrid(3, Gidd(0.2, 1e-10), 0.2),
    "hybrid-loglinear": Hybrid(3, LogLinear(EPS), 0.4),
}
MATRICES: dict[str, Process] = {
    "matrix-absorbing": RateMatrix(3, LogLinear(EPS), absorbing_matrix(3)),
    "matrix-uniform": RateMatrix(3, LogLinear(EPS), uniform_matrix(3)),
    "matrix-skew": RateMatrix(3, LogLinear(EPS), SKEW),
    "matrix-uneven-mask": RateMatrix(3, Cosine(EPS), UNEVEN_MASK),
}
PROCESSES: dict[str, Process] = CLOSED | MATRICES
TWINS = [("absorbing-loglinear", "matrix-absorbing"), ("uniform-loglinear", "matrix-uniform")]
