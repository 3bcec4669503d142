"""Figure 1: latency and throughput of SEDD by steps against GPT-2 with a key-value cache."""

import functools
import gc
from collections.abc import Sequence
from typing import Any

import torch

from unmask.evaluation.latency import Latency, Side, against, break_even
from unmask.evaluation.sizes import SIZES, Pair, build_pair, given_pair, parameters
from unmask.evaluation.speed import latency
from unmask.recipes.machine import faster_dtype, matmul_rates
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Scale, Speed
from unmask.recipes.paper.task import Outcome, Task
from unmask.report.digits import number
from unmask.report.paper.content import Family, Point, Series

TABLE = "figure1"
THROUGHPUT = "throughput"
QUALITY = "figure1/quality"
SIDES: dict[Side, str] = {"ar": "GPT-2, our cached engine", "hf": "GPT-2, Hugging Face generate"}
FAMILIES: tuple[Family, ...] = ("autoregressive", "diffusion")
DTYPE = "the faster of float32 and bfloat16"  # on this machine; a row's protocol says which it was
COST = 1.7  # operations a parameter and token, for estimates
TEXTS, PARTS = 40, 3  # evaluations that take as long as two texts left to right, and as a probe of both sides


def tasks(scale: Scale) -> list[Task]:
    """For each size its latency at batch 1, for the first its throughput; then the time of the models of table 3."""
    made = [_latency(scale.speed, size) for size in scale.speed.sizes]
    made += [_throughput(scale.speed, size) for size in scale.speed.sizes[:1]]
    return [*made, _quality(scale)]


def _steps(speed: Speed) -> list[int]:
    return sorted({*speed.whole, *speed.extrapolated})


def _options(speed: Speed, size: str) -> dict[str, Any]:
    """Runs of the first size are whole up to the largest of `whole` steps; those of larger ones are probed."""
    whole = size == speed.sizes[0] or not speed.extrapolated
    if whole:
        return {"whole_steps": max(speed.whole), "repeats": speed.repeats, "tokens": speed.tokens}
    return {"whole_steps": 0, "whole_tokens": 1, "probe": (2, 8), "repeats": speed.repeats, "tokens": speed.tokens}


def _latency(speed: Speed, size: str) -> Task:
    steps, options = _steps(speed), _options(speed, size)
    column = f"Seconds, {size}, batch 1"
    cells = [numbers.cell(TABLE, SIDES[side], column) for side in SIDES]
    cells += [numbers.cell(TABLE, f"SEDD, {n:,} steps", column) for n in steps]
    sedd, _ = parameters(SIZES[size])
    whole = sum(n for n in steps if n <= options["whole_steps"])
    return Task(
        key=f"{TABLE}/latency-{size}",
        words=f"latency at size {size}",
        run=functools.partial(_run_latency, size, tuple(steps), options),
        settings={"size": size, "steps": steps, "dtype": DTYPE, **options},
        cells=tuple(cells),
        flops=COST * sedd * SIZES[size].length * (whole + TEXTS if whole else PARTS) * options["repeats"],
    )


def _pair(size: str, bench: Bench) -> Pair:
    dtype = faster_dtype(matmul_rates(bench.device or "cpu"))
    return build_pair(size, device=bench.device, dtype=getattr(torch, dtype))


def _run_latency(size: str, steps: tuple[int, ...], options: dict[str, Any], bench: Bench) -> Outcome:
    pair = _pair(size, bench)
    found = latency(pair, steps=steps, progress=bench.progress, **options)
    by = {(x.side, x.steps): x for x in found}
    order = [by.get((side, None)) for side in SIDES]
    order += [by["sedd", n] for n in steps]
    sizes = pair.sedd.net.num_parameters, pair.ar.net.num_parameters
    words = f"SEDD {sizes[0] / 1e6:,.0f} M, GPT-2 {sizes[1] / 1e6:,.0f} M, {found[0].tokens} tokens, {found[0].dtype}"
    del pair
    gc.collect()
    values = {
        "words": words, "ar_seconds": by["ar", None].seconds,
        "hf_seconds": by["hf", None].seconds if ("hf", None) in by else None,
        "sedd_seconds": {str(n): by["sedd", n].seconds for n in steps},
        "ours_over_hugging_face": {str(batch): value for batch, value in against(found).items()},
        "all": [x.as_json() for x in found],
    }  # fmt: skip
    series = [
        Series(
            TABLE,
            f"{family}, {size}",
            family,
            tuple(_bar(x) for x in order if x is not None and (x.side == "sedd") == (family == "diffusion")),
            panel=f"{size}: {sizes[0] / 1e6:,.0f} M against {sizes[1] / 1e6:,.0f} M",
        )
        for family in FAMILIES
    ]
    return Outcome(tuple(x.row() if x else None for x in order), tuple(series), values=values)


def _bar(found: Latency) -> Point:
    label = f"SEDD, {found.steps} steps" if found.steps else SIDES[found.side]
    return Point(float(found.steps or 0), found.seconds, (found.high - found.low) / 2, label, found.measured)


def _throughput(speed: Speed, size: str) -> Task:
    names = [SIDES["ar"], *(f"SEDD, {n} steps" for n in speed.throughput_steps)]
    cells = [numbers.cell(THROUGHPUT, name, f"Tokens/s, {size}, batch {b}") for name in names for b in speed.batches]
    sedd, _ = parameters(SIZES[size])
    return Task(
        key=f"{TABLE}/throughput-{size}",
        words=f"throughput by batch at size {size}",
        run=functools.partial(_run_throughput, size, speed),
        settings={
            "size": size, "steps": speed.throughput_steps, "batches": speed.batches, "dtype": DTYPE,
            "tokens": speed.tokens,
        },
        cells=tuple(cells),
        flops=COST * sedd * SIZES[size].length * sum(speed.batches) * 2,
    )  # fmt: skip


def _run_throughput(size: str, speed: Speed, bench: Bench) -> Outcome:
    pair = _pair(size, bench)
    found = latency(
        pair, steps=speed.throughput_steps, batches=speed.batches, whole_steps=0, whole_tokens=1, probe=(2, 8),
        repeats=1, hf=False, tokens=speed.tokens, progress=bench.progress,
    )  # fmt: skip
    del pair
    gc.collect()
    return _by_batch(size, found, speed.throughput_steps, speed.batches)


def _by_batch(size: str, found: Sequence[Latency], steps: Sequence[int], batches: Sequence[int]) -> Outcome:
    by = {(x.side, x.steps, x.batch): x for x in found}
    rows = [by["ar", None, b].row(throughput=True) for b in batches]
    rows += [by["sedd", n, b].row(throughput=True) for n in steps for b in batches]
    even = {each.steps: each for each in break_even(found)}
    series = [
        Series(
            THROUGHPUT, f"{SIDES['ar']}, {size}", "autoregressive",
            tuple(_point(by["ar", None, b], b) for b in batches),
        )
    ] + [
        Series(
            THROUGHPUT, f"SEDD, {n} steps, {size}", "diffusion", tuple(_point(by["sedd", n, b], b) for b in batches),
            note=f"break-even at batch {even[n].words}",
        )
        for n in steps
    ]  # fmt: skip
    return Outcome(
        tuple(rows),
        tuple(series),
        values={"break_even": {str(n): even[n].words for n in steps}, "all": [x.as_json() for x in found]},
    )


def _point(found: Latency, batch: int) -> Point:
    return Point(float(batch), found.throughput, None, number(found.throughput), found.measured)


def _quality(scale: Scale) -> Task:
    sedd, ar = scale.diffusion[0], scale.autoregressive[0]
    length = 1024 if scale.name == "paper" else 256
    return Task(
        key=QUALITY,
        words=f"seconds a sequence of {sedd.label} and {ar.label}, by batch",
        run=functools.partial(_run_quality, scale),
        settings={
            "steps": scale.sampling.steps, "batches": scale.speed.batches, "dtype": scale.sampling.dtype,
            "repeats": scale.speed.repeats,
        },
        models=(sedd.model, ar.model),
        flops=2.0 * sedd.parameters * length * 100 * scale.speed.repeats,
    )  # fmt: skip


def _run_quality(scale: Scale, bench: Bench) -> Outcome:
    sedd, ar = (bench.where.get(who.model, who.model) for who in (scale.diffusion[0], scale.autoregressive[0]))
    pair = given_pair(sedd, ar, device=bench.device, dtype=getattr(torch, scale.sampling.dtype))
    steps = scale.sampling.steps
    found = latency(
        pair, steps=steps, batches=scale.speed.batches, whole_steps=64, repeats=scale.speed.repeats, hf=False,
        progress=bench.progress,
    )  # fmt: skip
    values: dict[str, Any] = {}
    for name, side, n in [("ar", "ar", None), *((f"sedd-{n}", "sedd", n) for n in steps)]:
        timed = [x for x in found if (x.side, x.steps) == (side, n)]
        best = min(timed, key=lambda x: x.seconds / x.batch)
        alone = next(x for x in timed if x.batch == min(scale.speed.batches))
        values[name] = {
            "alone": alone.seconds / alone.batch, "best": best.seconds / best.batch, "best_batch": best.batch,
            "measured": alone.measured,
        }  # fmt: skip
    return Outcome(values=values)
