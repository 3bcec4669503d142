"""The one denoising loop: it starts from the prior, clamps, yields, counts, and makes the last step to clean data."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor

from unmask.devices import float_type, rows_of
from unmask.diffusion.parametrizations import RawScore
from unmask.errors import ConfigError
from unmask.sampling import transforms
from unmask.sampling.blocks import Blocks, checked_size, open_blocks, reach, shares
from unmask.sampling.canvas import Canvas
from unmask.sampling.correctors import Corrected
from unmask.sampling.draws import EXACT, keyed
from unmask.sampling.laws import Reads
from unmask.sampling.named import check_process, make, rule_name
from unmask.sampling.rules import Model, Rule, Run, State, advance, to_clean
from unmask.sampling.top import Listening, Top, read_top
from unmask.sampling.transforms import Transform


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One state of a run, as a caller sees it. Its tensors are the caller's own."""

    tokens: Tensor  # [B, L] int64; open positions of an absorbing process may hold the mask
    t: float  # 1 is noise, 0 is data; of the row that is farthest from data
    nfe: int  # evaluations of the network so far
    committed: Tensor  # [B, L] bool: no later frame changes these
    top: Top | None = None  # of the tokens that became final in this frame, where `denoise` was asked for it


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What came out, and how. nfe: evaluations of the network, each on the rows that needed it.

    row_nfe: the evaluations that each row was part of, [B]; with absorbing noise no more than it had open positions.
    steps: moves made, the last one to clean data included (autoregressive: tokens written). seconds: wall time.
    clipped_mass: negative mass dropped from the laws, mean over the decisions. rule and reads: which rule sampled
    which model: the raw "score", the normalized "p0", or, autoregressively, the "next" token.
    seed: what repeats the draws, None where a generator was given. notices: what the caller's words were taken for,
    where they were those of another code base, and what was not used.
    """

    tokens: Tensor  # [B, L] int64
    nfe: int
    steps: int
    seconds: float
    clipped_mass: float
    rule: str
    reads: Reads | Literal["next"]
    draws: str
    seed: int | None
    notices: tuple[str, ...] = ()
    row_nfe: Tensor | None = None


Progress = Callable[[int, int], None]  # (done, in all)


class Options(TypedDict, total=False):
    """The keyword arguments of `denoise`, which documents them and holds their defaults."""

    steps: int | None
    rule: str | Rule | None
    tau: float | None
    gamma: float | None
    grid: str | None
    block_size: int | None
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    seed: int | None
    generator: torch.Generator | None
    draws: str
    first_sample: int | Sequence[int]


def default_rule(model: Model) -> str:
    """Tweedie for raw scores, whose law it samples; ancestral for a normalized p(x0)."""
    return "tweedie" if isinstance(model.parametrization, RawScore) else "ancestral"


def find_rule(model: Model, rule: str | Rule | None, steps: int | None = None, **options: Any) -> Rule:
    """The rule by its name (or `default_rule`), in `steps` steps, with its options; a rule stays what it is.

    Raw scores of a process without commitment have a p(x0) only up to e^sigma = 1e3. There a token has survived with
    probability 1e-3, so that a rule which reads p0 takes the prior at that time instead of t = 1: the same start
    that SEDD's log-linear schedule makes, whose alpha(1) is 1e-3.
    """
    return _find(model, rule, steps, options)[0]


def _find(
    model: Model, rule: str | Rule | None, steps: int | None, options: dict[str, Any]
) -> tuple[Rule, tuple[str, ...]]:
    """The rule, and the notices on the way to it."""
    if not (isinstance(rule, str) or rule is None):
        check_process(rule, model.process)
        given = [k for k, v in options.items() if v is not None]
        if given:
            raise ConfigError(f"{given[0]} with a rule that is made already", "give it to what makes the rule")
        return rule, ()
    name, notices = rule_name(default_rule(model) if rule is None else rule)
    found, more = make(name, steps, options)
    check_process(found, model.process)
    if found.reads == "p0" and isinstance(model.parametrization, RawScore) and not model.process.commits:
        start = float(model.process.schedule.inverse(torch.tensor(1e-3, dtype=torch.float64)))
        found, more = make(name, steps, options, start)
    return found, notices + more


def reshaping(temperature: float, top_p: float, top_k: int | None, min_p: float | None) -> Transform | None:
    """Temperature, then top-k, top-p, min-p; None where they change nothing. ConfigError on a value out of range."""
    parts = [transforms.temperature(temperature), transforms.top_p(top_p)]
    parts = [part for part, value in zip(parts, (temperature, top_p), strict=True) if value != 1]
    if top_k is not None:
        parts.insert(int(temperature != 1), transforms.top_k(top_k))
    if min_p is not None:
        parts.append(transforms.min_p(min_p))
    return transforms.compose(*parts) if parts else None


def check_canvas(canvas: Canvas, length: int, vocab_size: int) -> None:
    """ConfigError where the canvas is longer than the context or holds a token that the model does not know."""
    if canvas.length > length:
        raise ConfigError(
            f"a canvas of {canvas.length} positions, the model's context is {length}",
            "make the canvas shorter",
        )
    most = int(canvas.tokens.masked_fill(~canvas.frozen, 0).max())
    if most >= vocab_size:
        raise ConfigError(
            f"a frozen token {most}, the model has {vocab_size} clean tokens",
            "was the prompt encoded with another tokenizer?",
        )


class Denoising:
    """A run under way: an iterator of frames. `state` is where it is, None before the first frame."""

    def __init__(self, run: Run, rule: Rule, notices: tuple[str, ...] = (), top: int | None = None) -> None:
        self.run, self.rule, self.notices, self._top = run, rule, notices, top
        self.state: State | None = None
        self._final = run.canvas.frozen
        if top is not None:
            self.run = dataclasses.replace(run, model=Listening(run.model), whole=True)

    def __iter__(self) -> "Denoising":
        return self

    def __next__(self) -> Frame:
        before, state = self.state, self._following()
        if state is None:
            raise StopIteration
        self.state = state
        final = self.run.model.process.is_mask(state.tokens).logical_not()
        if not self.run.model.process.commits or isinstance(self.rule, Corrected):
            final = self.run.canvas.frozen.clone()
        if state.t == 0:
            final = torch.ones_like(final)
        top = None
        if self._top is not None:
            top = read_top(self.run, self.rule.reads, before, state.tokens, final & ~self._final, self._top)
        self._final = final
        return Frame(state.tokens.clone(), state.t, state.nfe, final, top)

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices [b] and leave the others: a row's draws do not know its batch."""
        self.run, self._final = self.run.keep(rows), rows_of(self._final, rows)
        if self.state is not None:
            self.state = self.state.keep(rows)

    @torch.inference_mode()
    def _following(self) -> State | None:
        """The state after this one, clamped; None after clean data."""
        run, state, canvas = self.run, self.state, self.run.canvas
        if state is None:
            device = canvas.tokens.device
            u = run.draws.uniforms("prior", 0, canvas.length).to(device, float_type(device))
            prior = canvas.clamp(run.model.process.sample_prior(tuple(u.shape), u=u))
            return State(prior, self.rule.start, row_nfe=torch.zeros(len(prior), dtype=torch.int64))
        if state.done and state.t == 0:
            return None
        rows = self._unfinished(state)
        if rows is None:
            after = self._moved(run, state)
        else:
            after = state.merged(rows, self._moved(run.keep(rows), state.keep(rows)))
        if after.t == 0:
            run.draws.watch.settle()
        return after.clamped(canvas)

    def _moved(self, run: Run, state: State) -> State:
        return advance(run, state, to_clean(self.rule.reads)) if state.done else self.rule(run, state)

    def _unfinished(self, state: State) -> Tensor | None:
        """The rows that still have an open position, [B] bool, where the others can be left out; else None."""
        if self.run.whole or not self.run.model.process.commits or isinstance(self.rule, Corrected):
            return None
        rows = self.run.open(state).any(1)
        return None if bool(rows.all()) or not bool(rows.any()) else rows


def denoise(  # noqa: PLR0913 (all keyword-only)
    model: Model,
    canvas: Canvas,
    *,
    steps: int | None = None,
    rule: str | Rule | None = None,
    tau: float | None = None,
    gamma: float | None = None,
    grid: str | None = None,
    block_size: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    draws: str = EXACT,
    first_sample: int | Sequence[int] = 0,
    top: int | None = None,
) -> "Denoising | Blocks":
    """Fill the canvas step by step: the prior, then a frame after every step; the last one is clean data.

    steps: steps in all, of a rule given by name (default 64); first-hitting, threshold and entropy-bounded take none.
    rule: a name in RULES, a rule, or None for `default_rule`. tau: of threshold, the p0 from which positions unmask
    together. gamma: of entropy-bounded, in nats. grid: of the rules with one, "linear" or "cosine". block_size: of a
    model with blocks, default its own; it writes block by block, `steps` shared among them. temperature (0 is
    greedy), top_p, top_k and min_p reshape the law of a new token; when it comes stays the same. seed: row i is
    sample first_sample + i, and its draws depend on (seed, sample, position, step) alone, not on the batch; without
    a seed one is drawn. first_sample may be the numbers of all rows, too. generator: uniforms from there instead.
    draws: "exact", or "float32-race", the published arithmetic, for comparisons. top: frames say how probable the
    network found the tokens that became final, and that many others (`Frame.top`); it costs the head at these
    positions once more, None costs nothing.
    Frozen tokens keep their ids in every frame. With absorbing noise the filling follows the model's law given the
    frozen tokens; with other noise clamping is approximate. Raises ConfigError at once on anything out of range, and
    UnmaskError on a law of NaN, infinity or no mass: where it is, on CUDA, which is not waited for, at the last frame.
    """
    reshape = reshaping(temperature, top_p, top_k, min_p)
    planned = plan(model, canvas, steps=steps, rule=rule, block_size=block_size, tau=tau, gamma=gamma, grid=grid)
    device = torch.device(getattr(model, "device", canvas.tokens.device))
    chance = keyed(canvas.batch, device, seed=seed, generator=generator, mode=draws, first_sample=first_sample)
    if top is not None and top < 0:
        raise ConfigError(f"top is {top}", "it is how many other tokens are named: at least 0")
    whole = chance.seed is None or not chance.exact  # draws that know all rows
    return begin(Run(model, canvas.to(device), chance, reshape, whole), planned, top)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a canvas is written: a rule for each block with something to write, one where the model has no blocks.

    size: of the blocks, None for a model without.
    """

    rules: tuple[Rule, ...]
    size: int | None
    notices: tuple[str, ...]


def plan(
    model: Model, canvas: Canvas, *, steps: int | None, rule: str | Rule | None, block_size: int | None, **options: Any
) -> Plan:
    """What `denoise` makes of these options; they are those of the rules. ConfigError on anything out of range."""
    size = checked_size(model, block_size)
    check_canvas(canvas, reach(model, canvas), model.process.vocab_size)
    each = [steps] if size is None else shares(steps, len(open_blocks(canvas, size)))
    found = {share: _find(model, rule, share, options) for share in dict.fromkeys(each)}
    return Plan(tuple(found[share][0] for share in each), size, found[each[0]][1])


def begin(run: Run, planned: Plan, top: int | None) -> "Denoising | Blocks":
    """The run under way: of the loop, or of the loop block by block."""
    if planned.size is None:
        return Denoising(run, planned.rules[0], planned.notices, top)
    run = dataclasses.replace(run, whole=True)  # a cache knows all rows
    begin_block = functools.partial(Denoising, top=top)
    return Blocks(run, list(planned.rules), planned.size, begin_block, planned.notices)


def fill(model: Model, canvas: Canvas, *, progress: Progress | None = None, **options: Unpack[Options]) -> Sample:
    """The last frame of `denoise`, with its accounts; the options are those of `denoise`.

    progress: told, after every move, the moves made and how many there will be at the pace that t falls.
    """
    begun = time.perf_counter()
    running = denoise(model, canvas, **options)
    last = next(running)
    for last in running:
        if progress is not None and running.state is not None and last.t < 1:
            progress(running.state.step, round(running.state.step / (1 - last.t)))
    return outcome(running, time.perf_counter() - begun)


def outcome(running: "Denoising | Blocks", seconds: float) -> Sample:
    """What a run that is at its end has come to, in so many seconds."""
    state, draws = running.state, running.run.draws
    assert state is not None
    return Sample(
        tokens=state.tokens,
        nfe=state.nfe,
        steps=state.step,
        seconds=seconds,
        clipped_mass=state.clipped / max(state.decisions, 1),
        rule=running.rule.name,
        reads=running.rule.reads,
        draws=draws.mode,
        seed=draws.seed,
        notices=running.notices,
        row_nfe=state.row_nfe,
    )
