"""A language that counts (0 1 2 … 9 0 1 …) but for slips, and a model that knows its exact posterior."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from unmask.diffusion import Absorbing, CleanLogits, LogLinear


class Digits:
    """A token a digit; the last of `size` tokens ends a text."""

    def __init__(self, size: int) -> None:
        self.vocab_size, self.eos_id, self.fingerprint = size, size - 1, "digits"

    def encode(self, text: str) -> list[int]:
        return [int(letter) for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(str(i) for i in ids if i != self.eos_id)


class Posterior:
    def __init__(self, model: "Counting", xt: Tensor, t: Tensor) -> None:
        self.model, self.xt, self.t = model, xt, t

    def log_p0(self, at: Tensor | None = None) -> Tensor:
        rows = torch.stack([self.model.posterior(row) for row in self.xt.tolist()])
        return rows if at is None else rows[at]

    def log_score(self, at: Tensor | None = None) -> Tensor:
        rows = self.model.process.log_score(self.log_p0(), self.xt, self.t)
        return rows if at is None else rows[at]


class Counting:
    """x[0] is uniform, x[i + 1] = x[i] + 1 but for a slip of probability `slip`, to a uniform digit."""

    def __init__(self, digits: int = 10, slip: float = 0.05, length: int = 24) -> None:
        self.process, self.parametrization = Absorbing(digits, LogLinear(1e-6)), CleanLogits()
        self.tokenizer, self.length, self.device = Digits(digits + 1), length, torch.device("cpu")
        step = torch.full((digits, digits), slip / digits).double()
        step += (1 - slip) * torch.eye(digits).double().roll(1, 1)
        self.powers = torch.stack([torch.linalg.matrix_power(step, n) for n in range(length)])
        self.digits = digits

    def nll(self, ids: list[int]) -> float:
        """-log p of a text."""
        steps = self.powers[1].log()
        return float(torch.tensor(float(self.digits)).log() - sum(steps[a, b] for a, b in itertools.pairwise(ids)))

    def posterior(self, row: list[int]) -> Tensor:
        """log p(x_i | what is not masked), [L, V]."""
        known = [i for i, token in enumerate(row) if token < self.digits]
        p = torch.ones(len(row), self.digits).double()
        for i in range(len(row)):
            left, right = [k for k in known if k <= i], [k for k in known if k >= i]
            if left:
                p[i] *= self.powers[i - left[-1]][row[left[-1]]]
            if right:
                p[i] *= self.powers[right[0] - i][:, row[right[0]]]
        return (p / p.sum(1, keepdim=True)).log()

    def predict(self, xt: Tensor, t: Tensor) -> Posterior:
        return Posterior(self, xt, t)

    def log_p0(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        return self.predict(xt, t).log_p0(at)

    def log_score(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        return self.predict(xt, t).log_score(at)
