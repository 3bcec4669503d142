"""A run as plain data: what stood where in each frame, when each token became final, and how sure the model was.

A recording is of one row. It holds text, not ids, so that what shows it (the page, a replay, the terminal, a GIF)
needs no tokenizer. Frames are kept as changes against the frame before, which for noise that commits is one a token.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, Unpack

from unmask.errors import ConfigError
from unmask.sampling.blocks import Blocks
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import Denoising, Frame, Options, denoise
from unmask.sampling.rules import Model
from unmask.sampling.top import Top
from unmask.text.pieces import byte_table, one, pieces
from unmask.text.tokenizers import Tokenizer

TOP = 3  # other tokens that are named beside the one that was drawn


@dataclasses.dataclass(frozen=True)
class Token:
    """One position. given: it was there before the run; the rest is about a token that was written.

    committed_at: the step after which no later frame changes it, None while that is to come. p: its probability then;
    alternatives: the likeliest other tokens with theirs; all of them before temperature and truncations.
    """

    given: bool
    committed_at: int | None = None
    p: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Moment:
    """One frame. changes: (position, its text from now on; None: masked). seconds: since the run began."""

    step: int
    t: float
    nfe: int
    seconds: float
    changes: tuple[tuple[int, str | None], ...]


@dataclasses.dataclass(frozen=True)
class Recording:
    """A whole run. facts: how it was made (model, rule, seed, …), in the order in which they are shown.

    commits: tokens are final when they are first seen; without it, all of them become final in the last frame.
    """

    facts: dict[str, Any]
    commits: bool
    tokens: tuple[Token, ...]
    frames: tuple[Moment, ...]

    def texts(self, frame: int) -> list[str | None]:
        """The text at each position in that frame; None where it is masked."""
        row: list[str | None] = [None] * len(self.tokens)
        for moment in self.frames[: frame + 1]:
            for position, text in moment.changes:
                row[position] = text
        return row

    def settled(self) -> list[int | None]:
        """The frame from which each position keeps its token, None where it was given or is open: [L].

        Where noise commits that is the frame after committed_at; where it does not, that of the last change.
        """
        last = [0] * len(self.tokens)
        for k, moment in enumerate(self.frames):
            for position, _ in moment.changes:
                last[position] = k
        frame = {moment.step: k for k, moment in reversed(list(enumerate(self.frames)))}
        if self.commits:
            return [None if token.committed_at is None else frame.get(token.committed_at) for token in self.tokens]
        return [None if token.given else k for token, k in zip(self.tokens, last, strict=True)]

    @property
    def text(self) -> str:
        """What stands on the canvas in the end."""
        return "".join(text or "" for text in self.texts(len(self.frames) - 1))

    def as_json(self) -> dict[str, Any]:
        """Plain data, for JSON: what a replay holds."""
        return {"format": 1} | dataclasses.asdict(self)


class Recorder:
    """Makes a recording of a run of one row, frame by frame. `texts` and `tokens` say what stands there now."""

    def __init__(self, tokenizer: Tokenizer, denoising: Denoising | Blocks) -> None:
        """denoising: made with `top`, for probabilities. ConfigError where the canvas has several rows."""
        run = denoising.run
        if run.canvas.batch != 1:
            raise ConfigError(f"a recording of {run.canvas.batch} rows", "record one row at a time")
        self._table, self._process, self._denoising = byte_table(tokenizer), run.model.process, denoising
        self._begun = time.perf_counter()
        self.tokens = [Token(given) for given in run.canvas.frozen[0].tolist()]
        self.texts: list[str | None] = [None] * len(self.tokens)
        self.frames: list[Moment] = []

    def __iter__(self) -> Iterator[Moment]:
        """Run to the end; each frame as it is recorded."""
        for frame in self._denoising:
            yield self._add(frame)

    def _add(self, frame: Frame) -> Moment:
        state = self._denoising.state
        assert state is not None
        masked = self._process.is_mask(frame.tokens)[0].tolist()
        ids = [None if hidden else i for i, hidden in zip(frame.tokens[0].tolist(), masked, strict=True)]
        texts = pieces(self._table, ids)
        changes = ((i, new) for i, (old, new) in enumerate(zip(self.texts, texts, strict=True)) if old != new)
        seconds = time.perf_counter() - self._begun
        moment = Moment(state.step, frame.t, frame.nfe, round(seconds, 6), tuple(changes))
        known = {} if frame.top is None else self._named(frame.top)
        for position in frame.committed[0].nonzero()[:, 0].tolist():
            if not self.tokens[position].given and self.tokens[position].committed_at is None:
                p, others = known.get(position, (None, ()))
                self.tokens[position] = Token(False, state.step, p, others)
        self.texts = texts
        self.frames.append(moment)
        return moment

    def _named(self, top: Top) -> dict[int, tuple[float, tuple[tuple[str, float], ...]]]:
        """For the positions that became final: their token's probability, and the others by their text."""
        rows = zip(top.at[0].nonzero()[:, 0].tolist(), top.p.tolist(), top.other, top.other_p, strict=True)
        named = {}
        for position, p, other, other_p in rows:
            pairs = zip(other.tolist(), other_p.tolist(), strict=True)
            named[position] = round(p, 6), tuple((one(self._table, number), round(q, 6)) for number, q in pairs)
        return named

    def recording(self, facts: dict[str, Any] | None = None) -> Recording:
        """What was recorded so far."""
        return Recording(facts or {}, self._process.commits, tuple(self.tokens), tuple(self.frames))


def record(
    model: Model,
    canvas: Canvas,
    tokenizer: Tokenizer,
    *,
    top: int | None = TOP,
    facts: dict[str, Any] | None = None,
    **options: Unpack[Options],
) -> Recording:
    """Fill the canvas, one row, and keep how it went. The other options are those of `denoise`.

    ConfigError as `denoise`, and for several rows.
    """
    recorder = Recorder(tokenizer, denoise(model, canvas, top=top, **options))
    for _ in recorder:
        pass
    return recorder.recording(facts)
