"""Rows that began together: they are moved as one batch, and each leaves as soon as it is finished.

Rows of a diffusion model are one run of the denoising loop; rows of an autoregressive model write a token a move and
keep a cache. Shapes: B rows, L length.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.cache import KVCache
from unmask.random import fold, uniform
from unmask.sampling.autoregressive import write_one
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import Draws
from unmask.sampling.loop import Denoising, Frame
from unmask.sampling.rules import Prediction, Run
from unmask.sampling.top import Top
from unmask.serve.sharing import Asking
from unmask.serve.work import Look, Row, Sure


@dataclasses.dataclass(frozen=True, eq=False)
class RowDraws(Draws):
    """The chance of rows that have a seed each: row i is sample samples[i] of seeds[i], whoever stands beside it."""

    seeds: tuple[int, ...] = ()

    def uniforms(self, purpose: str, step: int, length: int) -> Tensor:
        """As Draws: [B, L], the row i that `Draws` of seed seeds[i] has for the sample samples[i]."""
        device = self.samples.device if self.samples.device.type != "mps" else torch.device("cpu")
        keys = torch.tensor([fold(seed, purpose) for seed in self.seeds], device=device)
        position = torch.arange(length, device=device)
        return uniform(keys[:, None], self.samples.to(device)[:, None], position, step)

    def keep(self, rows: Tensor) -> "RowDraws":
        """The draws of the rows of these indices [b]."""
        seeds = tuple(self.seeds[i] for i in rows.tolist())
        return dataclasses.replace(self, samples=self.samples[rows.to(self.samples.device)], seeds=seeds)


def _begin(rows: Sequence[Row], device: torch.device) -> tuple[Canvas, RowDraws]:
    tokens, frozen = (torch.cat([getattr(row.canvas, name) for row in rows]) for name in ("tokens", "frozen"))
    samples = torch.tensor([row.sample for row in rows], device=device)
    return Canvas(tokens, frozen).to(device), RowDraws(samples, seed=0, seeds=tuple(row.seed for row in rows))


class Cohort(Protocol):
    """What the worker moves."""

    rows: list[Row]

    def move(self) -> list[Look]:
        """One move: a look at each row. Raises `Ask` where the network has to be asked first."""

    def keep(self, places: list[int]) -> None:
        """Go on with the rows at these places alone."""


class DiffusionCohort:
    """Rows of a diffusion model: a run of the denoising loop."""

    def __init__(self, model: DiffusionLM, rows: Sequence[Row]) -> None:
        """Rows of one kind."""
        self.rows, way, self._began = list(rows), rows[0].way, time.monotonic()
        self.asking = Asking(model)
        canvas, draws = _begin(rows, model.device)
        run = Run(self.asking, canvas, draws, way.reshape())
        self._running = Denoising(run, way.rule_for(model), top=way.top)

    def move(self) -> list[Look]:
        """A frame, row by row."""
        frame = next(self._running)
        self.asking.forget()
        assert self._running.state is not None
        masked, seconds = self._running.run.model.process.is_mask(frame.tokens), time.monotonic() - self._began
        tokens, here, committed = (x.cpu() for x in (frame.tokens, ~masked, frame.committed))
        sure = _by_row(frame.top, len(self.rows))
        return [
            Look(
                tokens[i], here[i], committed[i], self._running.state.step, frame.t, frame.nfe, seconds,
                self._last(frame, committed[i]), sure[i],
            )
            for i in range(len(self.rows))
        ]  # fmt: skip

    def _last(self, frame: Frame, committed: Tensor) -> bool:
        return frame.t == 0 or bool(committed.all())

    def answer(self, prediction: Prediction) -> None:
        """What the network said to the last question."""
        self.asking.answer(prediction)

    def keep(self, places: list[int]) -> None:
        """Go on with these rows."""
        self.rows = [self.rows[i] for i in places]
        self._running.keep(torch.tensor(places, device=self._running.run.canvas.tokens.device))


def _by_row(top: Top | None, rows: int) -> list[tuple[Sure, ...]]:
    """What `top` says, row by row."""
    out: list[list[Sure]] = [[] for _ in range(rows)]
    if top is not None:
        where, others = top.at.nonzero().tolist(), zip(top.other.tolist(), top.other_p.tolist(), strict=True)
        for (row, position), p, (ids, ps) in zip(where, top.p.tolist(), others, strict=True):
            out[row].append(Sure(position, p, tuple(zip(ids, ps, strict=True))))
    return [tuple(row) for row in out]


class AutoregressiveCohort:
    """Rows of an autoregressive model with equally long prompts: a token of each a move."""

    def __init__(self, model: AutoregressiveLM, rows: Sequence[Row]) -> None:
        """Rows of one kind."""
        self.rows, self._model, self._began = list(rows), model, time.monotonic()
        canvas, self._draws = _begin(rows, model.device)
        self._reshape = rows[0].way.reshape()
        self._start = self._end = int(canvas.frozen[0].sum())
        bos = canvas.tokens.new_full((len(rows), 1), model.bos_id)
        self._read = torch.cat([bos, canvas.tokens], 1)
        self._u = self._draws.uniforms("next", 0, canvas.length)
        self._cache: KVCache = model.net.cache(len(rows), canvas.length)
        self._seen = 0

    @torch.inference_mode()
    def move(self) -> list[Look]:
        """A token for each row."""
        unread = self._read[:, self._seen : self._end + 1]
        new = write_one(self._model, unread, self._cache, self._draws, self._u[:, self._end], self._reshape)
        self._read[:, self._end + 1] = new
        self._seen = self._end = self._end + 1
        tokens = self._read[:, 1:].cpu().clone()
        length, made = tokens.shape[1], self._end - self._start
        here = torch.arange(length) < self._end
        seconds, t = time.monotonic() - self._began, 1 - made / (length - self._start)
        return [Look(row, here, here, made, t, made, seconds, self._end == length) for row in tokens]

    def keep(self, places: list[int]) -> None:
        """Go on with these rows."""
        rows = torch.tensor(places, device=self._read.device)
        self.rows = [self.rows[i] for i in places]
        self._read, self._u, self._draws = self._read[rows], self._u[rows.to(self._u.device)], self._draws.keep(rows)
        self._cache = KVCache(self._cache.keys[:, rows], self._cache.values[:, rows], self._cache.length)


def begin(model: LanguageModel, rows: Sequence[Row]) -> DiffusionCohort | AutoregressiveCohort:
    """The cohort of rows of one kind."""
    return AutoregressiveCohort(model, rows) if isinstance(model, AutoregressiveLM) else DiffusionCohort(model, rows)
