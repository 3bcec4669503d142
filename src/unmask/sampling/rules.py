"""Rules: how a noisy canvas becomes a less noisy one. A rule states its law; the draw is separate.

`Rule(run, state)` gives the next `State` and chooses its own next t. Here are what all rules share, and the rules that
walk down a grid of times; `unmasking` has those that choose positions, `laws` the laws, `named` the names.
Shapes: B batch, L length, V clean tokens, S states (V, or V + 1 with the mask last), N rows asked for.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from unmask.devices import float_type, indices, picked, precise, put, rows_of, sent, wide
from unmask.diffusion.processes import Process
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import Draws, clipped, from_logs
from unmask.sampling.laws import CLEAN, Reads, Weigh, reshape_leaving
from unmask.sampling.transforms import Transform

BYTES = 1 << 25  # of one tensor of laws [N, S]; a few of them are held at once
BYTES_THERE = 1 << 28  # the same on an accelerator, where small works take less time than launching them
LATEST = 1e-5  # the time nearest to data of SEDD's grid, and of what a network is asked about


class Prediction(Protocol):
    """What one run of the network knows; `at` [B, L] bool asks for N rows."""

    def log_p0(self, at: Tensor | None = None) -> Tensor:
        """log p(x0 | xt), [N, V], normalized."""

    def log_score(self, at: Tensor | None = None) -> Tensor:
        """log p_t(y) / p_t(xt), [N, S], 0 at y = xt."""

    def log_total(self, at: Tensor | None = None) -> Tensor:
        """log of the sum of the scores of all y != xt, [N]."""


class Model(Protocol):
    """What is sampled: `unmask.DiffusionLM`, or anything that answers as it does. `length` is its context."""

    @property
    def process(self) -> Process:
        """The forward process."""

    @property
    def parametrization(self) -> Any:
        """What the network's output means."""

    @property
    def length(self) -> int:
        """The longest canvas."""

    def predict(self, xt: Tensor, t: Tensor) -> Prediction:
        """Run the network once on xt [B, L] at times t [B], both where the canvas is; `at` may come from the CPU."""


class StandIn:
    """Stands before the rules in place of `model`, and is like it in all but its answers: `predict` is its own.

    length: the longest canvas, where it is not the model's.
    """

    def __init__(self, model: Model, length: int | None = None) -> None:
        self.model, self.process, self.parametrization = model, model.process, model.parametrization
        self.length = model.length if length is None else length


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from step to step.

    whole: the network is always run on all rows. Else a move leaves out the rows that it does not change, whose draws
    do not depend on the batch they are in.
    """

    model: Model
    canvas: Canvas
    draws: Draws
    reshape: Transform | None = None
    whole: bool = False

    def keep(self, rows: Tensor) -> "Run":
        """The run of some rows: indices [b], or a bool a row."""
        rows = indices(rows)
        return dataclasses.replace(self, canvas=self.canvas.keep(rows), draws=self.draws.keep(rows))

    def predict(self, state: "State") -> Prediction:
        """The network's answer at a state."""
        device = state.tokens.device
        if state.times is not None:
            return self.model.predict(state.tokens, sent(state.times.to(float_type(device)), device))
        one = torch.full((1,), state.t, device=device, dtype=float_type(device))
        return self.model.predict(state.tokens, one.expand(self.canvas.batch))

    def times(self, state: "State") -> Tensor:
        """The time of each row: [B] float64, on the CPU."""
        if state.times is not None:
            return state.times
        return torch.full((1,), state.t, dtype=torch.float64).expand(self.canvas.batch)

    def open(self, state: "State") -> Tensor:
        """Where a token is still to come: not frozen, and masked if the process commits; [B, L] bool, on the CPU."""
        process = self.model.process
        if not process.commits:
            return ~self.canvas.here
        known = state.known
        return ~self.canvas.here & process.is_mask(state.tokens).cpu() if known is None else known


@dataclasses.dataclass(frozen=True)
class State:
    """A canvas on its way from noise (t = 1) to data (t = 0), and what it took so far.

    t is the time of the row that is farthest from data; times [B] the time of each, where a rule moves them apart.
    What is not a token is on the CPU. left: tokens, and what `Run.open` says of them, where whoever wrote them knew it
    (`written`): to look it up is to wait for the device. Of other tokens it says nothing.
    """

    tokens: Tensor  # [B, L]
    t: float
    step: int = 0  # moves made
    nfe: int = 0  # evaluations of the network, each on the rows that needed it
    clipped: float = 0.0  # negative mass dropped from laws, summed over the decisions
    decisions: int = 0  # laws drawn from
    done: bool = False  # no move left but the one to clean data
    times: Tensor | None = None  # [B] float64; None: t for all
    row_nfe: Tensor | None = None  # [B] evaluations that each row was part of
    left: tuple[Tensor, Tensor] | None = None  # [B, L] int64, [B, L] bool

    @property
    def known(self) -> Tensor | None:
        """Which positions are open, [B, L] bool, if that is known of these tokens."""
        return self.left[1] if self.left is not None and self.left[0] is self.tokens else None

    def written(self, tokens: Tensor, left: Tensor | None) -> "State":
        """With other tokens [B, L], of which the positions left [B, L] are open; None where that is not known."""
        return dataclasses.replace(self, tokens=tokens, left=None if left is None else (tokens, left))

    def clamped(self, canvas: Canvas) -> "State":
        """With the frozen tokens put back, which leaves open what is."""
        return self.written(canvas.clamp(self.tokens), self.known)

    def keep(self, rows: Tensor) -> "State":
        """The state of some rows: indices [b], or a bool a row."""
        rows, parts = indices(rows), (self.times, self.row_nfe, self.known)
        times, row_nfe, left = (None if each is None else rows_of(each, rows) for each in parts)
        some = self.written(rows_of(self.tokens, rows), left)
        return dataclasses.replace(
            some, t=self.t if times is None else float(times.max()), times=times, row_nfe=row_nfe
        )

    def merged(self, rows: Tensor, after: "State") -> "State":
        """The state `after` a move of `rows` [B] bool, with the other rows as they are here, at time 0."""
        where, times = indices(rows), None

        def into(whole: Tensor | None, part: Tensor | None) -> Tensor | None:
            return whole if whole is None or part is None else whole.index_copy(0, where, part)

        tokens = self.tokens.index_copy(0, sent(where, self.tokens.device), after.tokens)
        if after.times is not None:
            times = into(torch.zeros(len(tokens), dtype=after.times.dtype), after.times)
        left = None if after.known is None else into(self.known, after.known)
        return dataclasses.replace(after.written(tokens, left), times=times, row_nfe=into(self.row_nfe, after.row_nfe))


class Rule(Protocol):
    """From state to state. `reads` says which model it samples: the raw score, or the normalized p(x0)."""

    @property
    def name(self) -> str:
        """Its name in RULES."""

    @property
    def reads(self) -> Reads:
        """What it asks of the network."""

    @property
    def start(self) -> float:
        """The time at which it takes the prior."""

    def __call__(self, run: Run, state: State) -> State:
        """The next state, with a t of the rule's choice; `done` after its last one."""


@dataclasses.dataclass(frozen=True)
class Move:
    """One step from t down to s.

    odds: under a committing process a masked position turns into token y with probability odds * s_y (or odds *
    p0_y), so that when it turns does not depend on what it turns into. Infinite on the way to clean data.
    """

    reads: Reads
    s: float
    weigh: Weigh
    odds: float

    def law(self, run: Run, prediction: Prediction, state: State, at: Tensor) -> Tensor:
        """Weights of the next states at the True positions of `at`, [N, S]; negative ones as the rule has them."""
        xt = picked(state.tokens, at)
        t, s = (torch.full(xt.shape, x, device=xt.device, dtype=float_type(xt.device)) for x in (state.t, self.s))
        rows = prediction.log_score(at) if self.reads == "score" else prediction.log_p0(at)
        if run.reshape is not None and self.reads == "p0":
            rows = run.reshape(wide(rows))
        weights = self.weigh(run.model.process, rows, xt, t, s)
        if run.reshape is not None and self.reads == "score":
            lost = weights.clamp(max=0)
            weights = reshape_leaving(weights.clamp(min=0), xt, run.reshape) + lost
        return weights


def to_clean(reads: Reads) -> Move:
    """The last move, to clean data: alpha_s := 1 whatever `schedule.alpha(0)` is."""
    return Move(reads, 0.0, CLEAN[reads], math.inf)


def room(device: torch.device) -> int:
    """Bytes for one tensor of laws."""
    return BYTES if device.type == "cpu" else BYTES_THERE


def chunks(at: Tensor, width: int, device: torch.device, itemsize: int = 8) -> Iterator[Tensor]:
    """The True positions of `at` in parts whose laws [N, width] fit `room(device)`: masks like `at`, in its order."""
    where = at.flatten().nonzero()[:, 0]
    for part in torch.split(where, max(1, room(device) // (width * itemsize))) if len(where) else ():
        mask = torch.zeros(at.numel(), dtype=torch.bool, device=at.device)
        mask[part] = True
        yield mask.view(at.shape)


def advance(run: Run, state: State, move: Move) -> State:
    """Make a move: draw the tokens that may change. Does not set `done`."""
    process, at = run.model.process, run.open(state)
    draw = draw_committing if process.commits and run.draws.exact else draw_any
    return dataclasses.replace(draw(run, state, move, at), t=move.s, times=None, step=state.step + 1)


def chance(run: Run, state: State) -> Tensor:
    """The uniforms of the new tokens of a move, [B, L]."""
    return run.draws.uniforms("token", state.step, run.canvas.length)


def draw_any(run: Run, state: State, move: Move, at: Tensor) -> State:
    """Draw every position of `at` [B, L] from its whole law."""
    if not bool(at.any()):
        return state
    prediction, tokens, lost = run.predict(state), state.tokens.clone(), 0.0
    u = chance(run, state)
    for part in chunks(at, run.model.process.num_states, tokens.device):
        weights = move.law(run, prediction, state, part)
        lost += float(clipped(weights).sum())
        put(tokens, part, run.draws.choose(weights, u[part]))
    return count(state, tokens, None, lost, int(at.sum()))


def draw_committing(run: Run, state: State, move: Move, at: Tensor) -> State:
    """The draw of `draw_any` for a committing process, `at` masked: when first, then what, from the same uniform.

    The head runs only where a token turns; with normalized p0, the network only on rows in which one does.
    """
    prediction, lost = None, 0.0
    if move.reads == "p0" or math.isinf(move.odds):
        u = chance(run, state)
        leave = torch.full_like(u, min(move.odds, 1.0))
    else:
        prediction, totals = run.predict(state) if bool(at.any()) else None, [torch.zeros(0, dtype=torch.float64)]
        if prediction is not None:
            parts = chunks(at, run.model.process.num_states, state.tokens.device, itemsize=4)
            totals = [precise(prediction.log_total(part)) for part in parts]
        u = chance(run, state)  # while a device is at the totals
        mass = move.odds * torch.cat(totals).cpu().exp()
        lost = float((mass - 1).clamp(min=0).sum())
        leave = torch.zeros_like(u).masked_scatter_(at, mass.clamp(max=1))
    turns = at & (u < leave)
    left = at & ~turns
    if prediction is not None:
        tokens = write(run, prediction, state.tokens, turns, u / leave, move.reads)
        return count(state, tokens, left, lost, int(at.sum()))
    state, busy = dataclasses.replace(state, decisions=state.decisions + int(at.sum())), turns.any(1)
    if not bool(busy.any()):
        return state
    if run.whole or bool(busy.all()):
        tokens = write(run, run.predict(state), state.tokens, turns, u / leave, move.reads)
        return count(state, tokens, left, lost, 0)
    some, active, own = run.keep(busy), state.keep(busy), (u / leave)[busy]
    tokens = write(some, some.predict(active), active.tokens, turns[busy], own, move.reads)
    after = state.merged(busy, count(active, tokens, left[busy], lost, 0))
    return dataclasses.replace(after.written(after.tokens, left), times=state.times)


def write(run: Run, prediction: Prediction, tokens: Tensor, turns: Tensor, u: Tensor, reads: Reads) -> Tensor:
    """tokens [B, L] with new ones at the True positions of `turns`, each drawn with its u of u [B, L].

    The law of a new token is p0, or the scores normalized, reshaped; the head runs nowhere else. A draw needs weights
    up to a constant, so that they are normalized only where a transform has to see them.
    """
    tokens = tokens.clone()
    for part in chunks(turns, run.model.process.num_states, tokens.device):
        rows = prediction.log_p0(part) if reads == "p0" else prediction.log_score(part)
        log_p = wide(rows[:, : run.model.process.vocab_size])
        if run.reshape is not None:
            weights = run.reshape(torch.log_softmax(log_p, -1)).exp()
        else:
            weights = from_logs(log_p)
        put(tokens, part, run.draws.choose(weights, u[part]))
    return tokens


def count(state: State, tokens: Tensor, left: Tensor | None, lost: float, decisions: int) -> State:
    """The state with new tokens, one evaluation of the network later. left: as of `State.written`."""
    return dataclasses.replace(
        state.written(tokens, left),
        nfe=state.nfe + 1,
        row_nfe=None if state.row_nfe is None else state.row_nfe + 1,
        clipped=state.clipped + lost,
        decisions=state.decisions + decisions,
    )


@dataclasses.dataclass(frozen=True)
class GridRule:
    """A rule that walks down a grid of times, [M + 1] descending: M moves, and one to clean data if it ends above 0."""

    name: str
    reads: Reads
    times: tuple[float, ...]
    weigh: Weigh
    odds: Callable[[Process, Tensor, Tensor], Tensor]

    @property
    def start(self) -> float:
        """The grid's first time."""
        return self.times[0]

    def move(self, process: Process, step: int) -> Move:
        """The move from times[step] to times[step + 1]."""
        t, s = self.times[step], self.times[step + 1]
        if s == 0:
            return to_clean(self.reads)
        both = torch.tensor([t, s], dtype=torch.float64)
        return Move(self.reads, s, self.weigh, float(self.odds(process, both[0], both[1])))

    def __call__(self, run: Run, state: State) -> State:
        """One step down the grid."""
        after = advance(run, state, self.move(run.model.process, state.step))
        return dataclasses.replace(after, done=after.step == len(self.times) - 1)
