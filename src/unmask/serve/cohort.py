"""Rows that began together: they are moved as one batch, and each leaves as soon as it is finished.

Rows of a diffusion model are one run of the denoising loop; rows of an autoregressive model write a token a move and
keep a cache. Shapes: B rows, L length.
"""

import time
from collections.abc import Sequence
from typing import Protocol

import torch

from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.cache import KVCache
from unmask.sampling.autoregressive import cache_for, draw_next, with_logits
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import Draws
from unmask.sampling.loop import Frame
from unmask.sampling.loop import begin as begin_run
from unmask.sampling.rules import Prediction, Run
from unmask.sampling.top import Top, next_top
from unmask.serve.sharing import Asking
from unmask.serve.work import Look, Row, Sure


def _canvas(rows: Sequence[Row], device: torch.device) -> tuple[Canvas, Draws]:
    """All rows on one canvas, and the draws of each: row i is sample `row.sample` of `row.seed`."""
    tokens, frozen = (torch.cat([getattr(row.canvas, name) for row in rows]) for name in ("tokens", "frozen"))
    samples, seeds = torch.tensor([row.sample for row in rows]), tuple(row.seed for row in rows)
    return Canvas(tokens, frozen).to(device), Draws(samples, seeds[0], seeds=seeds)


class Cohort(Protocol):
    """What the worker moves. evaluated: the rows of each evaluation of the network that it made by itself."""

    rows: list[Row]
    evaluated: list[int]

    def move(self) -> list[Look]:
        """One move: a look at each row. Raises `Ask` where the network has to be asked first."""

    def answer(self, prediction: Prediction) -> None:
        """What the network said to the last question; the move is made again."""

    def keep(self, places: list[int]) -> None:
        """Go on with the rows at these places alone."""


class DiffusionCohort:
    """Rows of a diffusion model: a run of the denoising loop.

    A model with blocks reads its finished blocks from a cache of this cohort's, so that only its own rows share.
    """

    def __init__(self, model: DiffusionLM, rows: Sequence[Row]) -> None:
        """Rows of one kind."""
        self.rows, way, self._began = list(rows), rows[0].way, time.monotonic()
        self.evaluated: list[int] = []
        self._asking = Asking(model) if model.block_size is None else None
        canvas, draws = _canvas(rows, model.device)
        run = Run(self._asking or model, canvas, draws, way.reshape())
        self._running, self._nfe = begin_run(run, way.plan(model, canvas), way.top), 0

    def move(self) -> list[Look]:
        """A frame, row by row."""
        frame: Frame = next(self._running)
        state = self._running.state
        assert state is not None and state.row_nfe is not None
        if self._asking is not None:
            self._asking.forget()
        else:
            self.evaluated += [len(self.rows)] * (state.nfe - self._nfe)
        self._nfe, seconds = state.nfe, time.monotonic() - self._began
        here = ~self._running.run.model.process.is_mask(frame.tokens)
        tokens, here, committed = (x.cpu() for x in (frame.tokens, here, frame.committed))
        self._running.run.draws.watch.settle()
        sure, nfe = _by_row(frame.top, len(self.rows)), state.row_nfe.tolist()
        return [
            Look(
                tokens[i], here[i], committed[i], state.step, frame.t, nfe[i], seconds,
                frame.t == 0 or bool(committed[i].all()), sure[i],
            )
            for i in range(len(self.rows))
        ]  # fmt: skip

    def answer(self, prediction: Prediction) -> None:
        """What the network said to the last question."""
        assert self._asking is not None
        self._asking.answer(prediction)

    def keep(self, places: list[int]) -> None:
        """Go on with these rows."""
        self.rows = [self.rows[i] for i in places]
        self._running.keep(torch.tensor(places))


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
        self.evaluated: list[int] = []
        canvas, self._draws = _canvas(rows, model.device)
        self._reshape, self._top = rows[0].way.reshape(), rows[0].way.top
        self._start = self._end = int(canvas.frozen[0].sum())
        bos = canvas.tokens.new_full((len(rows), 1), model.bos_id)
        self._read = torch.cat([bos, canvas.tokens], 1)
        self._u = with_logits(self._draws.uniforms("next", 0, canvas.length), model.device)
        # On CUDA the fast cache records a graph for one number of rows, and here rows leave.
        fast, size = model.device.type == "cpu", (len(rows), canvas.length)
        self._cache: KVCache = cache_for(model, *size) if fast else model.net.cache(*size)
        self._seen = 0

    @torch.inference_mode()
    def move(self) -> list[Look]:
        """A token for each row."""
        place, unread = self._end, self._read[:, self._seen : self._end + 1]
        logits = self._model.next_logits(unread, self._cache)
        new = draw_next(logits, self._draws, self._u[:, place], self._reshape)
        self._read[:, place + 1] = new
        self._seen = self._end = place + 1
        self.evaluated.append(len(self.rows))
        tokens = self._read[:, 1:].cpu().clone()
        self._draws.watch.settle()
        length, made = tokens.shape[1], self._end - self._start
        here = torch.arange(length) < self._end
        top = None
        if self._top is not None:
            top = next_top(logits, new, (torch.arange(length) == place).expand(tokens.shape), self._top)
        seconds, t = time.monotonic() - self._began, 1 - made / (length - self._start)
        return [
            Look(row, here, here, made, t, made, seconds, self._end == length, sure)
            for row, sure in zip(tokens, _by_row(top, len(tokens)), strict=True)
        ]

    def answer(self, prediction: Prediction) -> None:
        """It never asks."""
        raise AssertionError("an autoregressive cohort runs the network itself")

    def keep(self, places: list[int]) -> None:
        """Go on with these rows."""
        rows = torch.tensor(places, device=self._read.device)
        self.rows = [self.rows[i] for i in places]
        self._read, self._u, self._draws = self._read[rows], self._u[rows.to(self._u.device)], self._draws.keep(rows)
        self._cache.keep(rows)


def begin(model: LanguageModel, rows: Sequence[Row]) -> Cohort:
    """The cohort of rows of one kind."""
    return AutoregressiveCohort(model, rows) if isinstance(model, AutoregressiveLM) else DiffusionCohort(model, rows)
