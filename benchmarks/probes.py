"""What the engine's benchmark is made of: single steps of a run, in turns, and rows that hold a value to a goal."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import unmask
from unmask.devices import settle
from unmask.evaluation.sizes import Pair, Size, build_pair, faster, made_faster, random_sedd
from unmask.random import fold, uniform
from unmask.sampling import Canvas
from unmask.sampling.correctors import Corrected
from unmask.sampling.draws import race
from unmask.sampling.loop import denoise
from unmask.sampling.rules import LATEST, GridRule, State

Work = Callable[[int], object]  # given the number of the round
Times = dict[str, list[float]]  # seconds of each work in each round


@dataclasses.dataclass(frozen=True)
class Variant:
    """How networks are run: the dtype of their weights, and whether they are quantized and compiled.

    parts: of the benchmark that it takes part in; None: in all. where: the kinds of device that it is measured on.
    """

    name: str
    dtype: torch.dtype
    quantize: str | None = None
    compile: bool = False
    parts: tuple[str, ...] | None = None
    where: tuple[str, ...] = ("cpu", "cuda", "mps")


VARIANTS = {
    "bfloat16": Variant("bfloat16", torch.bfloat16),
    "bfloat16-compiled": Variant("bfloat16, compiled", torch.bfloat16, None, True, where=("cuda",)),
    "float32": Variant("float32", torch.float32, where=("cpu",)),
    "int8-compiled": Variant(
        "int8 in float32, compiled", torch.float32, "int8", True, ("steps", "generate"), where=("cpu",)
    ),
}


@dataclasses.dataclass(frozen=True)
class Goals:
    """What is asked of a size. step: the most that a step of T takes, over `hidden`. hf: (steps, times faster)."""

    step: dict[int, float]
    hf: tuple[int, float]
    ar: tuple[int, float] | None = None  # against our own engine, batch 1


GOALS = {
    "tiny": Goals({8: 1.15}, (8, 1.0)),  # to try the script
    "small": Goals({64: 1.10, 32: 1.15}, (32, 3.5)),
    "xl": Goals({64: 1.15}, (64, 8.0), (64, 2.0)),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured, and where. rounds: how often each work has its turn."""

    size: str
    shape: Size
    device: torch.device
    rounds: int

    @property
    def goals(self) -> Goals:
        """What is asked of this size."""
        return GOALS[self.size]

    @property
    def on_cpu(self) -> bool:
        """Whether it is measured on a CPU."""
        return self.device.type == "cpu"

    def on_cpu_only(self, goal: float) -> float | None:
        """A goal that was set for CPUs: None elsewhere."""
        return goal if self.on_cpu else None

    def model(self, variant: Variant, **changes: Any) -> unmask.DiffusionLM:
        """SEDD of this size, or of one that differs in `changes`, with random weights."""
        shape = dataclasses.replace(self.shape, **changes)
        model = random_sedd(shape, device=self.device, dtype=variant.dtype)
        return faster(model, quantize=variant.quantize, compile=variant.compile)

    def pair(self, variant: Variant) -> Pair:
        """SEDD and GPT-2 of this size."""
        pair = build_pair(self.size, device=self.device, dtype=variant.dtype)
        return made_faster(pair, quantize=variant.quantize, compile=variant.compile)

    def text(self, batch: int = 1, length: int | None = None) -> Tensor:
        """Random tokens, [batch, L]: a GPU takes less power, and is faster, where all rows of a matrix are alike."""
        at = torch.arange(batch * (length or self.shape.length)).view(batch, -1)
        return (uniform(fold(0, "text"), at) * self.shape.tokens).long().to(self.device)

    def halfway(self, model: unmask.DiffusionLM, batch: int = 1, length: int | None = None) -> Tensor:
        """The middle of a run, [batch, L]: every second token of a text is a mask."""
        x = self.text(batch, length)
        x[:, ::2] = model.process.vocab_size
        return x


@dataclasses.dataclass(frozen=True)
class Row:
    """A value and the goal it is held to. reached: None where there is none. spread: the least and the most found."""

    what: str
    variant: str
    value: float | str
    unit: str = "x"
    goal: str = ""
    reached: bool | None = None
    spread: tuple[float, float] | None = None
    note: str = ""


def held(
    what: str, variant: str, values: Sequence[float], *, most: float | None = None, least: float | None = None,
    unit: str = "x", note: str = "",
) -> Row:  # fmt: skip
    """The median of what the rounds found, against a limit."""
    value = statistics.median(values)
    spread = (min(values), max(values)) if len(values) > 1 else None
    if most is not None:
        return Row(what, variant, value, unit, f"at most {most:g} {unit}", value <= most, spread, note)
    if least is not None:
        return Row(what, variant, value, unit, f"at least {least:g} {unit}", value >= least, spread, note)
    return Row(what, variant, value, unit, spread=spread, note=note)


def interleaved(works: dict[str, Work], rounds: int, device: torch.device) -> Times:
    """Seconds of each work in each round, all in turns; a round before the first warms up and does not count."""
    found: Times = {name: [] for name in works}
    for turn in range(-1, rounds):
        for name, work in works.items():
            settle(device)
            began = time.perf_counter()
            work(turn % rounds)
            settle(device)
            if turn >= 0:
                found[name].append(time.perf_counter() - began)
        if turn >= 0:
            said = ", ".join(f"{name} {times[-1]:.3f} s" for name, times in found.items())
            print(f"  round {turn + 1} of {rounds}: {said}", file=sys.stderr, flush=True)
    return found


def ratios(found: Times, one: str, other: str, times: float = 1.0) -> list[float]:
    """`times` what `one` took over what `other` took, round by round."""
    return [times * a / b for a, b in zip(found[one], found[other], strict=True)]


def spread_places(rounds: int) -> list[tuple[float, ...]]:
    """A place of the run a round, evenly spread: for steps that cost the same wherever they are."""
    return [((turn + 0.5) / rounds,) for turn in range(rounds)]


def mirrored_places(rounds: int) -> list[tuple[float, ...]]:
    """Two places a round, as far from the start as from the end: for steps whose cost is linear in the masks left."""
    first = [(turn + 0.5) / (2 * rounds) for turn in range(rounds)]
    return [(place, 1 - place) for place in first]


def steps_at(
    model: unmask.DiffusionLM, canvas: Canvas, moves: int, places: Sequence[Sequence[float]], **options: Any
) -> Work:
    """One step at each of the round's places (0 is the start, 1 the end) of a run that takes so many `moves`.

    options: of `unmask.denoise`.
    """
    running = denoise(model, canvas, seed=0, **options)
    prior = next(running).tokens

    def work(turn: int) -> None:
        for place in places[turn]:
            step = min(round(place * moves), moves - 1)
            running.state = _state(model, running.rule, prior, moves, step)
            next(running)

    return work


def _state(model: unmask.DiffusionLM, rule: object, prior: Tensor, moves: int, step: int) -> State:
    """The state before a step: as many masks as are expected then, at random places, random tokens elsewhere."""
    at = torch.arange(prior.numel(), device=prior.device).view(prior.shape)
    text = (uniform(fold(0, "text"), at) * model.process.vocab_size).long()
    order = uniform(fold(0, "masked"), at).argsort(-1).argsort(-1)
    times = rule.rule.times if isinstance(rule, Corrected) else rule.times if isinstance(rule, GridRule) else None
    t = times[step] if times is not None else max(1 - step / moves, LATEST)
    masks = round(prior.shape[1] * (t if times is not None else 1 - step / moves))
    return State(torch.where(order < masks, prior, text), t, step=step)


@torch.inference_mode()
def body(model: unmask.DiffusionLM, x: Tensor) -> None:
    """`hidden` alone, all rows at one time: what every step pays."""
    model.net.hidden(x, model.condition(torch.full((1,), 0.5, device=x.device)))


@torch.inference_mode()
def published_step(model: unmask.DiffusionLM, x: Tensor, t: float, s: float) -> Tensor:
    """One analytic step as the published sampler computes it, over our body: [B, L] tokens.

    Logits of all positions, every pass of the law over all of [B, L, S] in float32, and a race of S exponentials at
    each position; nothing is skipped (Lou et al. 2024).
    """
    process, device = model.process, x.device
    now, then = (torch.full((1,), each, device=device).expand(len(x)) for each in (t, s))
    score = model.predict(x, now).log_score().exp()
    dsigma = (process.schedule.sigma(now) - process.schedule.sigma(then)).float()
    weights = process.staggered_score(score, dsigma) * process.transpose_transition(x, dsigma)
    return race(weights, torch.rand(weights.shape, device=device))
