"""Several runs of the denoising loop share evaluations of the network, whatever their rules, steps and ages.

A run is given a model that is never run: asked, it raises `Ask`. The questions of all runs are answered together, and
each move is made again, this time with its answer. Moves are functions of their state, since draws are keyed, so that
making one twice changes nothing. Shapes: B rows of a run, L length, D rows of all.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unmask.sampling.rules import Model, Prediction, StandIn


class Ask(Exception):
    """What a move wants to know of the network: xt [B, L] at times t [B]."""

    def __init__(self, xt: Tensor, t: Tensor) -> None:
        super().__init__("a move waits for the network")
        self.xt, self.t = xt, t


class Asking(StandIn):
    """The model of a run that shares. `answers` are those to the questions of the move under way."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._answers, self._read = list[Prediction](), 0

    def predict(self, xt: Tensor, t: Tensor) -> Prediction:
        """The answer, if it is there; else raises Ask."""
        if self._read == len(self._answers):
            raise Ask(xt, t)
        self._read += 1
        return self._answers[self._read - 1]

    def answer(self, prediction: Prediction) -> None:
        """The answer to the last question; the move has to be made again."""
        self._answers.append(prediction)
        self._read = 0

    def forget(self) -> None:
        """The move is made."""
        self._answers.clear()
        self._read = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The answer to one of the runs that asked together: xt [B, L] are rows first to first + B of the D rows."""

    whole: Prediction
    total: int
    first: int
    xt: Tensor

    def _read(self, reading: Callable[[Tensor], Tensor], at: Tensor | None) -> Tensor:
        where = torch.zeros(self.total, self.xt.shape[1], dtype=torch.bool)
        where[self.first : self.first + len(self.xt)] = True if at is None else at
        rows = reading(where)
        return rows if at is not None else rows.unflatten(0, self.xt.shape)

    def log_p0(self, at: Tensor | None = None) -> Tensor:
        """log p(x0 | xt), [N, V] or [B, L, V], normalized."""
        return self._read(self.whole.log_p0, at)

    def log_score(self, at: Tensor | None = None) -> Tensor:
        """log p_t(y) / p_t(xt), [N, S] or [B, L, S]."""
        return self._read(self.whole.log_score, at)

    def log_total(self, at: Tensor | None = None) -> Tensor:
        """log of the sum of the scores of all y != xt, [N] or [B, L]."""
        return self._read(self.whole.log_total, at)


@torch.inference_mode()
def together(model: Model, asks: Sequence[Ask]) -> list[Prediction]:
    """The answers to questions of one length, from one evaluation of the network on all their rows."""
    if len(asks) == 1:
        return [model.predict(asks[0].xt, asks[0].t)]
    total, first, parts = sum(len(ask.xt) for ask in asks), 0, list[Prediction]()
    times = torch.cat([ask.t for ask in asks])
    if all(ask.t.stride() == (0,) for ask in asks) and bool((times == times[0]).all()):
        times = times[:1].expand(total)  # one time for all, as a run says it: the network reads it once
    whole = model.predict(torch.cat([ask.xt for ask in asks]), times)
    for ask in asks:
        parts.append(Part(whole, total, first, ask.xt))
        first += len(ask.xt)
    return parts
