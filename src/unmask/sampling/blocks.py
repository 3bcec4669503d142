"""Block by block: a model with blocks writes a canvas from left to right, each block by the one denoising loop.

A block is a canvas of its own for the same rules; the finished blocks before it are its context, read once into an
exact cache of keys and values. Texts longer than the model's context are written too where its positions allow: a
block then sees the last `length` positions, and what is older is dropped from the cache. Shapes: B batch, L length.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from unmask.devices import float_type, rows_of
from unmask.errors import ConfigError
from unmask.model import Clean, DiffusionLM
from unmask.nn.cache import KVCache
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import Draws
from unmask.sampling.rules import Prediction, Rule, Run, StandIn, State

LATER = "given tokens behind a gap are seen in their own block only: a block model reads no block to the right"


def checked_size(model: Any, block_size: int | None) -> int | None:
    """How many tokens are denoised together; None for a model without blocks.

    ConfigError for a block size and a model without blocks, and for one that does not divide the model's.
    """
    own = getattr(model, "block_size", None)
    if own is None or block_size is None:
        if block_size is not None:
            raise ConfigError(
                f"block_size={block_size} with a model without blocks",
                "it denoises the whole canvas at once: leave it out",
            )
        return int(own) if own is not None else None
    if block_size < 1 or own % block_size:
        raise ConfigError(f"block_size is {block_size}, the model has blocks of {own}", "give a size that divides it")
    return block_size


def reach(model: Any, canvas: Canvas) -> int:
    """The longest canvas that the model writes: its context, unless it has blocks and rotary positions."""
    net = getattr(model, "net", None)
    return canvas.length if net is not None and net.slides else int(model.length)


def open_blocks(canvas: Canvas, size: int) -> list[tuple[int, int]]:
    """Where the blocks with something to write begin and end, from left to right; the last one if none has."""
    spans = [(start, min(start + size, canvas.length)) for start in range(0, canvas.length, size)]
    return [(a, b) for a, b in spans if not bool(canvas.here[:, a:b].all())] or spans[-1:]


def shares(steps: int | None, blocks: int) -> list[int | None]:
    """`steps` in all, shared among the blocks as evenly as it goes, the first ones first; None stays None for each.

    ConfigError where there are fewer steps than blocks.
    """
    if steps is None:
        return [None] * blocks
    if steps < blocks:
        raise ConfigError(
            f"{steps} steps for {blocks} blocks to write", "steps is the total: each block takes at least 1"
        )
    return [steps // blocks + (i < steps % blocks) for i in range(blocks)]


@dataclasses.dataclass(frozen=True, eq=False)
class BlockDraws(Draws):
    """The draws of one block: those of its positions in the whole text."""

    start: int = 0

    @classmethod
    def of(cls, draws: Draws, start: int) -> "BlockDraws":
        """Those of the block that begins at `start`; the stream of a race or a generator goes on."""
        made = cls(
            draws.samples, draws.seed, draws.generator, draws.mode, draws.seeds, draws.device, draws.watch, start=start
        )
        object.__setattr__(made, "stream", draws.stream)
        return made

    def uniforms(self, purpose: str, step: int, length: int) -> Tensor:
        """One float64 uniform a sample and position: [B, length]."""
        return super().uniforms(purpose, step, self.start + length)[:, self.start :]


class Context:
    """The finished blocks. cached: keep their keys and values; else read everything again at each move.

    Both are the same model: the second is the training form, in which each block sees the clean ones before it.
    """

    def __init__(self, model: DiffusionLM, canvas: Canvas, size: int, *, cached: bool = True) -> None:
        self.model, self.size = model, size
        self.window = -(-model.length // size) * size  # positions that a block may see, its own included
        room = min(self.window, canvas.length)
        self.cache: KVCache | None = model.net.cache(canvas.batch, room) if cached else None
        self.done = 0  # positions in the cache, dropped ones too
        self.tokens = canvas.tokens[:, :0]  # the finished text

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows."""
        self.tokens = rows_of(self.tokens, rows)
        if self.cache is not None:
            self.cache.keep(rows)

    def read(self, tokens: Tensor) -> int:
        """Read the finished text tokens [B, P], of which more is there each time. How often the network ran."""
        runs, cache, self.tokens = 0, self.cache, tokens
        while cache is not None and self.done < tokens.shape[1]:
            self._make_room(cache)
            left = tokens.shape[1] - self.done
            most = self.window - cache.length if self.size == self.model.block_size else self.size
            some = tokens[:, self.done : self.done + min(most, left)]
            self.model.commit(some, cache)
            self.done, runs = self.done + some.shape[1], runs + 1
        if cache is not None:
            self._make_room(cache)
        return runs

    def _make_room(self, cache: KVCache) -> None:
        """For one more block inside the window."""
        if cache.length + self.size > self.window:
            cache.drop(min(cache.length, cache.length + self.size - self.window))

    def predict(self, xt: Tensor, t: Tensor) -> Prediction:
        """What the network knows of the block xt [B, l] at times t [B], behind the finished text."""
        if self.cache is not None:
            return self.model.predict(xt, t, self.cache)
        whole = torch.cat([self.tokens, xt], 1)
        seen = self.model.predict(whole, t, Clean(whole, self.size))
        start = self.tokens.shape[1]
        return dataclasses.replace(seen, hidden=seen.hidden[:, start:], xt=xt, t=seen.t[:, start:])


class InBlock(StandIn):
    """The model as the rules see it inside a block: the block is all there is to write."""

    def __init__(self, context: Context, length: int) -> None:
        super().__init__(context.model, length)
        self.context = context

    def predict(self, xt: Tensor, t: Tensor) -> Prediction:
        """Run the network once on xt [B, length] at times t [B]."""
        return self.context.predict(xt, t)


class Running(Protocol):
    """A run of the loop over one canvas: `unmask.sampling.loop.Denoising`."""

    state: State | None

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows."""

    def __iter__(self) -> Iterator[Any]:
        """Its frames."""

    def __next__(self) -> Any:
        """The next frame."""


class Blocks:
    """A run under way, block by block: an iterator of frames of the whole canvas, as `Denoising` is one of its own.

    `state` is where it is: t falls evenly over the blocks to write; moves, evaluations (those that read finished blocks
    into the cache, too) and what was clipped are counted over all of them. begin: makes the loop's run over a block.
    """

    def __init__(
        self,
        run: Run,
        rules: list[Rule],
        size: int,
        begin: Callable[[Run, Rule], Running],
        notices: tuple[str, ...] = (),
        *,
        cached: bool = True,
    ) -> None:
        assert isinstance(run.model, DiffusionLM)
        self.run, self.rules, self.rule, self.notices = run, rules, rules[0], notices
        self.spans, self.begin, self.at = open_blocks(run.canvas, size), begin, 0
        self.context = Context(run.model, run.canvas, size, cached=cached)
        self.inner: Running | None = None
        self.state: State | None = None
        self.past = State(run.canvas.tokens, 1.0)  # accounts of the blocks before this one
        if canvas_gives_later(run.canvas, size):
            self.notices += (LATER,)

    def __iter__(self) -> "Blocks":
        return self

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices [b] and leave the others: a row's draws do not know its batch."""
        self.run = self.run.keep(rows)
        self.context.keep(rows)
        self.past = self.past.keep(rows)
        if self.inner is not None and self.state is not None:
            self.inner.keep(rows)
            self.state = self.state.keep(rows)

    def __next__(self) -> Any:
        if self.inner is None:
            self.inner = self._begin()
        frame = next(self.inner, None)
        while frame is None:
            assert self.state is not None
            self.past, self.at = self.state, self.at + 1
            if self.at == len(self.spans):
                raise StopIteration
            self.inner = self._begin()
            next(self.inner)  # the block's own prior, which the last frame showed
            frame = next(self.inner, None)
        return self._whole(frame)

    @torch.inference_mode()
    def _begin(self) -> Running:
        """The loop over the next block with something to write, its context read."""
        run, (start, end) = self.run, self.spans[self.at]
        if self.state is None:
            device = run.canvas.tokens.device
            u = run.draws.uniforms("prior", 0, run.canvas.length).to(device, float_type(device))
            tokens = run.canvas.clamp(run.model.process.sample_prior(tuple(u.shape), u=u))
            row_nfe = torch.zeros(len(tokens), dtype=torch.int64)
            self.past = dataclasses.replace(self.past, tokens=tokens, row_nfe=row_nfe)
        read = self.context.read(self.past.tokens[:, :start])
        assert self.past.row_nfe is not None
        self.past = dataclasses.replace(self.past, nfe=self.past.nfe + read, row_nfe=self.past.row_nfe + read)
        tokens, frozen, here = (x[:, start:end] for x in (run.canvas.tokens, run.canvas.frozen, run.canvas.here))
        canvas = Canvas(tokens, frozen, here=here)
        chance = BlockDraws.of(run.draws, start)
        block = dataclasses.replace(run, model=InBlock(self.context, end - start), canvas=canvas, draws=chance)
        return self.begin(block, self.rules[self.at])

    def _whole(self, frame: Any) -> Any:
        """The frame of the whole canvas, and its state, from one of the block."""
        (start, end), past = self.spans[self.at], self.past
        assert self.inner is not None and self.inner.state is not None
        inner = self.inner.state
        tokens, final = past.tokens.clone(), self.run.canvas.frozen.clone()
        tokens[:, start:end] = frame.tokens
        final[:, :start], final[:, start:end] = True, frame.committed
        left = len(self.spans) - self.at - 1
        assert past.row_nfe is not None and inner.row_nfe is not None
        self.state = State(
            tokens, (left + frame.t) / len(self.spans), past.step + inner.step, past.nfe + inner.nfe,
            past.clipped + inner.clipped, past.decisions + inner.decisions, row_nfe=past.row_nfe + inner.row_nfe,
        )  # fmt: skip
        if self.state.t == 0:
            final = torch.ones_like(final)
        top = frame.top
        if top is not None:
            at = torch.zeros_like(final)
            at[:, start:end] = top.at
            top = dataclasses.replace(top, at=at)
        return dataclasses.replace(
            frame, tokens=tokens.clone(), t=self.state.t, nfe=self.state.nfe, committed=final, top=top
        )


def canvas_gives_later(canvas: Canvas, size: int) -> bool:
    """Whether a block with something to write is followed by a block in which something is given."""
    spans = open_blocks(canvas, size)
    return bool(canvas.here[:, spans[0][1] :].any())
