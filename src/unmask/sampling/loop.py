"""The one denoising loop: it starts from the prior, clamps, yields, counts, and makes the last step to clean data."""

import dataclasses
import time
from collections.abc import Callable
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from unmask.diffusion.parametrizations import RawScore
from unmask.errors import ConfigError, unknown
from unmask.sampling import transforms
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import EXACT, float_type, keyed
from unmask.sampling.rules import RULES, Model, Reads, Rule, Run, State, advance, to_clean
from unmask.sampling.transforms import Transform


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One state of a run, as a caller sees it. Its tensors are the caller's own."""

    tokens: Tensor  # [B, L] int64; open positions of an absorbing process may hold the mask
    t: float  # 1 is noise, 0 is data
    nfe: int  # evaluations of the network so far
    committed: Tensor  # [B, L] bool: no later frame changes these


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What came out, and how. nfe: evaluations of the network, each on the whole batch.

    steps: moves made, the last one to clean data included (autoregressive: tokens written). seconds: wall time.
    clipped_mass: negative mass dropped from the laws, mean over the decisions. rule and reads: which rule sampled
    which model: the raw "score", the normalized "p0", or, autoregressively, the "next" token.
    seed: what repeats the draws, None where a generator was given.
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


Progress = Callable[[int, int], None]  # (done, in all)


class Options(TypedDict, total=False):
    """The keyword arguments of `denoise`, which documents them and holds their defaults."""

    steps: int
    rule: str | Rule | None
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    seed: int | None
    generator: torch.Generator | None
    draws: str
    first_sample: int


def default_rule(model: Model) -> str:
    """Tweedie for raw scores, whose law it samples; ancestral for a normalized p(x0)."""
    return "tweedie" if isinstance(model.parametrization, RawScore) else "ancestral"


def find_rule(model: Model, rule: str | Rule | None, steps: int) -> Rule:
    """The rule by its name in RULES (or `default_rule`), on a grid of `steps` steps; a rule stays what it is.

    Raw scores of a process without commitment have a p(x0) only up to e^sigma = 1e3. There a token has survived with
    probability 1e-3, so that a rule which reads p0 takes the prior at that time instead of t = 1: the same start
    that SEDD's log-linear schedule makes, whose alpha(1) is 1e-3.
    """
    if not (isinstance(rule, str) or rule is None):
        return rule
    name = default_rule(model) if rule is None else rule
    if name not in RULES:
        raise unknown("rule", name, RULES)
    if steps < 1:
        raise ConfigError(f"{steps} sampling steps", "a run takes at least 1 step")
    found = RULES[name](steps, 1.0)
    if found.reads == "p0" and isinstance(model.parametrization, RawScore) and not model.process.commits:
        start = float(model.process.schedule.inverse(torch.tensor(1e-3, dtype=torch.float64)))
        found = RULES[name](steps, start)
    return found


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

    def __init__(self, run: Run, rule: Rule) -> None:
        self.run, self.rule = run, rule
        self.state: State | None = None

    def __iter__(self) -> "Denoising":
        return self

    def __next__(self) -> Frame:
        state = self._following()
        if state is None:
            raise StopIteration
        self.state = state
        final = self.run.model.process.is_mask(state.tokens).logical_not()
        if not self.run.model.process.commits:
            final = self.run.canvas.frozen.clone()
        if state.t == 0:
            final = torch.ones_like(final)
        return Frame(state.tokens.clone(), state.t, state.nfe, final)

    @torch.inference_mode()
    def _following(self) -> State | None:
        """The state after this one, clamped; None after clean data."""
        run, state, canvas = self.run, self.state, self.run.canvas
        if state is None:
            device = canvas.tokens.device
            u = run.draws.uniforms("prior", 0, canvas.length).to(device, float_type(device))
            return State(canvas.clamp(run.model.process.sample_prior(tuple(u.shape), u=u)), self.rule.start)
        if state.done and state.t == 0:
            return None
        after = advance(run, state, to_clean(self.rule.reads)) if state.done else self.rule(run, state)
        return dataclasses.replace(after, tokens=canvas.clamp(after.tokens))


def denoise(
    model: Model,
    canvas: Canvas,
    *,
    steps: int = 64,
    rule: str | Rule | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    draws: str = EXACT,
    first_sample: int = 0,
) -> Denoising:
    """Fill the canvas step by step: the prior, then a frame after every step; the last one is clean data.

    steps: steps of a rule given by name. rule: a name in RULES, a rule, or None for `default_rule`. temperature (0
    is greedy), top_p, top_k and min_p reshape the law of a new token; when it comes stays the same. seed: row i is
    sample first_sample + i, and its draws depend on (seed, sample, position, step) alone, not on the batch; without
    a seed one is drawn. generator: uniforms from there instead. draws: "exact", or "float32-race", the published
    arithmetic, for comparisons.
    Frozen tokens keep their ids in every frame. With absorbing noise the filling follows the model's law given the
    frozen tokens; with other noise clamping is approximate. Raises ConfigError at once on anything out of range.
    """
    check_canvas(canvas, model.length, model.process.vocab_size)
    reshape = reshaping(temperature, top_p, top_k, min_p)
    found = find_rule(model, rule, steps)
    device = torch.device(getattr(model, "device", canvas.tokens.device))
    chance = keyed(canvas.batch, device, seed=seed, generator=generator, mode=draws, first_sample=first_sample)
    return Denoising(Run(model, canvas.to(device), chance, reshape), found)


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
    state, draws = running.state, running.run.draws
    assert state is not None
    return Sample(
        tokens=last.tokens,
        nfe=state.nfe,
        steps=state.step,
        seconds=time.perf_counter() - begun,
        clipped_mass=state.clipped / max(state.decisions, 1),
        rule=running.rule.name,
        reads=running.rule.reads,
        draws=draws.mode,
        seed=draws.seed,
    )
