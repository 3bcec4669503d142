"""The parts of the engine's benchmark that time single steps."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from floor import PlainTransformer
from probes import (
    Row,
    Setting,
    Times,
    Variant,
    Work,
    body,
    held,
    interleaved,
    mirrored_places,
    published_step,
    ratios,
    spread_places,
    steps_at,
)

import unmask
from unmask.sampling import Canvas

Found = tuple[dict[str, Any], list[Row]]  # facts for the JSON, rows for the table
LENGTHS = (256, 512, 1024, 2048)
SMALL, LARGE = 4096, 131_072  # vocabularies
IN_A_ROW = 16  # times that an accelerator runs `hidden`
WHOLE = f"whole runs; `hidden` {IN_A_ROW} times in a row, from the middle of one"
WHOLE_HEAD = {"tweedie": "raw SEDD, Tweedie", "confidence": "confidence order", "entropy": "entropy order"}


def hidden(setting: Setting, variant: Variant) -> Found:
    """`hidden` over a plain pre-norm transformer of the same matrix products, both without a head."""
    model, shape = setting.model(variant), setting.shape
    plain = PlainTransformer(shape.tokens, shape.width, shape.depth, shape.heads)
    plain.head = torch.nn.Identity()
    plain.to(setting.device, variant.dtype).eval()
    x = setting.text()

    @torch.inference_mode()
    def floor(_: int) -> None:
        plain(x)

    works: dict[str, Work] = {"hidden": lambda _: body(model, x), "plain": floor}
    found = interleaved(works, 2 * setting.rounds, setting.device)
    what = "`hidden` over a plain pre-norm transformer of the same matrix products"
    values, most = ratios(found, "hidden", "plain"), setting.on_cpu_only(1.15)
    return {"seconds": found}, [held(what, variant.name, values, most=most)]


def steps(setting: Setting, variant: Variant) -> Found:
    """One step over `hidden` alone, averaged over a run, batch 1; and 64 steps against the published arithmetic."""
    model, name = setting.model(variant), variant.name
    x, most = setting.halfway(model), max(setting.goals.step)
    works, times = _ancestral(setting, model, 1)
    for rule in WHOLE_HEAD:
        works[rule], times[rule] = _steps(setting, model, 1, most, rule, mirrored_places(setting.rounds))
    works["published"] = _repeated(lambda: published_step(model, x, 0.5, 0.5 - 1 / most), times["hidden"])
    times["published"] = times["hidden"]
    found = _a_step(interleaved(works, setting.rounds, setting.device), times)
    rows = [_step_row(setting, name, found, n, 1) for n in setting.goals.step]
    note = f"{2 * setting.rounds} steps, two a round, mirrored in the middle of the run"
    for rule, words in WHOLE_HEAD.items():
        what = f"a step over `hidden`, {words}, {most} steps, batch 1"
        how = note if setting.on_cpu else WHOLE
        rows.append(held(what, name, ratios(found, rule, "hidden"), most=setting.on_cpu_only(1.6), note=how))
    return {"seconds": found}, rows + _published(found, name, most, setting.on_cpu_only(4))


def _ancestral(setting: Setting, model: unmask.DiffusionLM, batch: int) -> tuple[dict[str, Work], dict[str, int]]:
    """`hidden` alone and ancestral steps for each number of them that has a goal; and how many a turn makes."""
    x, places = setting.halfway(model, batch), spread_places(setting.rounds)
    times = {"hidden": 1 if setting.on_cpu else IN_A_ROW}
    works: dict[str, Work] = {"hidden": _repeated(lambda: body(model, x), times["hidden"])}
    for n in setting.goals.step:
        name = f"ancestral {n}"
        works[name], times[name] = _steps(setting, model, batch, n, "ancestral", places)
    return works, times


def _steps(
    setting: Setting, model: unmask.DiffusionLM, batch: int, n: int, rule: str, places: list[tuple[float, ...]]
) -> tuple[Work, int]:
    """Single steps at some places of a run of n on a CPU, where a whole one takes long; else the whole of it.

    An accelerator is not waited for between steps, so that one by itself takes longer there than it does in a run.
    """
    canvas = _canvas(setting, batch)
    if setting.on_cpu:
        return steps_at(model, canvas, n, places, steps=n, rule=rule), len(places[0])
    return lambda turn: unmask.sample(model, canvas, steps=n, rule=rule, seed=turn), n


def _repeated(call: Callable[[], object], times: int) -> Work:
    return lambda _: [call() for _ in range(times)]


def _a_step(found: Times, times: dict[str, int]) -> Times:
    """Seconds a step."""
    return {name: [seconds / times[name] for seconds in turns] for name, turns in found.items()}


def _published(found: Times, variant: str, steps: int, least: float | None) -> list[Row]:
    """Against the published arithmetic, with the body of both and without it."""
    ours, theirs, alone = found[f"ancestral {steps}"], found["published"], found["hidden"]
    step, body_alone = statistics.median(theirs), statistics.median(alone)
    note = f"a step takes {step:.2f} s, {body_alone:.2f} of it the body; a sampler that cost nothing: "
    note += f"{step / body_alone:.2f} x"
    whole = [a / b for a, b in zip(theirs, ours, strict=True)]
    rows = [held(f"{steps} steps against the published arithmetic, same body", variant, whole, least=least, note=note)]
    extra = statistics.median(ours) - statistics.median(alone)
    if extra > 0:
        value = (statistics.median(theirs) - statistics.median(alone)) / extra
        rows.append(held("the same, what comes on top of the body alone", variant, [value], note="medians"))
    return rows


def _canvas(setting: Setting, batch: int) -> Canvas:
    return Canvas.blank(setting.shape.length, batch=batch)


def batch(setting: Setting, variant: Variant) -> Found:
    """One step over `hidden` alone, normalized ancestral, batch 4."""
    size = 4
    works, times = _ancestral(setting, setting.model(variant), size)
    found = _a_step(interleaved(works, setting.rounds, setting.device), times)
    return {"seconds": found}, [_step_row(setting, variant.name, found, n, size) for n in setting.goals.step]


def _step_row(setting: Setting, variant: str, found: Times, n: int, batch: int) -> Row:
    values = ratios(found, f"ancestral {n}", "hidden")
    what = f"a step over `hidden`, normalized ancestral, {n} steps, batch {batch}"
    note = f"{len(values)} steps, evenly spread over the run" if setting.on_cpu else WHOLE
    return held(what, variant, values, most=setting.goals.step[n], note=note)


def vocabulary(setting: Setting, variant: Variant) -> Found:
    """Time per step with a large vocabulary over that with a small one."""
    places, most = spread_places(setting.rounds), max(setting.goals.step)
    works: dict[str, Work] = {}
    for tokens in (SMALL, LARGE):
        model = setting.model(variant, tokens=tokens)
        works[str(tokens)], _ = _steps(setting, model, 1, most, "ancestral", places)
    found = interleaved(works, setting.rounds, setting.device)
    what = f"time per step, vocabulary of {LARGE:,} over {SMALL:,} (normalized ancestral, {most} steps)"
    values, most_of_it = ratios(found, str(LARGE), str(SMALL)), setting.on_cpu_only(1.15)
    return {"seconds": found}, [held(what, variant.name, values, most=most_of_it)]


def lengths(setting: Setting, variant: Variant) -> Found:
    """Time per step and of `hidden` by length, in one network whose context is the longest of them."""
    places, most = spread_places(setting.rounds), max(setting.goals.step)
    model = setting.model(variant, length=LENGTHS[-1])
    works: dict[str, Work] = {}
    for length in LENGTHS:
        x = setting.halfway(model, length=length)
        works[f"hidden {length}"] = lambda _, x=x: body(model, x)
        works[f"step {length}"] = steps_at(model, Canvas.blank(length), most, places, steps=most, rule="ancestral")
    found = interleaved(works, setting.rounds, setting.device)
    rows = []
    for length in LENGTHS:
        what = f"time per step at {length} tokens (normalized ancestral, {most} steps)"
        over = statistics.median(ratios(found, f"step {length}", f"hidden {length}"))
        rows.append(held(what, variant.name, found[f"step {length}"], unit="s", note=f"{over:.2f} of `hidden`"))
    return {"seconds": found}, rows
