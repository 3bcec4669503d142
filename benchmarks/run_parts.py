"""The parts of the engine's benchmark that look at whole runs: memory, evaluations, and against others."""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

from occupancy import expected
from probes import Row, Setting, Variant, held
from step_parts import Found

import unmask
from unmask.evaluation.latency import Latency, against, break_even
from unmask.evaluation.speed import latency
from unmask.sampling import Canvas
from unmask.sampling.profile import profiled

HERE = Path(__file__).parent
COUNTED = ((16, 1), (64, 1), (256, 1), (64, 4))  # steps and batch
ROWS, LENGTH = 48, 64  # whose evaluations are counted
PROBE, PROBE_THERE = (2, 16), (16, 64)  # steps and tokens, on a CPU and on an accelerator
AT_ONCE = 4  # sequences of a batch on a CPU, which gains nothing from more


def memory(setting: Setting, variant: Variant) -> Found:
    """Peak resident memory above the weights after a warm-up, batch 1, each rule in a fresh process."""
    facts, rows, steps = {}, [], max(setting.goals.step)
    for rule in ("ancestral", "tweedie", "confidence"):
        command = [sys.executable, HERE / "peak_memory.py", variant.name, rule, str(steps), setting.size]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        facts[rule] = json.loads(done.stdout)
        what = f"peak resident memory above the weights, batch 1, {rule}"
        rows.append(held(what, variant.name, [facts[rule]["above_mb"]], most=300, unit="MB"))
    return facts, rows


def evaluations(setting: Setting, variant: Variant) -> Found:
    """Evaluations of the network a row, of the embedded twin, against the number of steps that unmask something."""
    model = unmask.load("sedd-twin", device=setting.device)
    facts, rows = [], []
    for steps, batch in COUNTED:
        counts = []
        for first in range(0, ROWS, batch):
            canvas = Canvas.blank(LENGTH, batch=batch)
            with profiled(model) as found:
                unmask.sample(model, canvas, steps=steps, rule="ancestral", seed=0, first_sample=first)
            counts.append(found.rows / batch)
        mean, deviation = expected(steps, LENGTH)
        value, reach = sum(counts) / len(counts), 4 * deviation / ROWS**0.5
        rows.append(Row(
            f"evaluations a row, {steps} steps, {LENGTH} tokens, batch {batch}", "float32, the twin", value, "",
            f"{mean:.2f} ± {reach:.2f}, none above {LENGTH}", abs(value - mean) <= reach and max(counts) <= LENGTH,
            (min(counts), max(counts)), f"{ROWS} rows",
        ))  # fmt: skip
        facts.append({"steps": steps, "batch": batch, "mean": mean, "deviation": deviation, "counts": counts})
    return {"length": LENGTH, "rows": ROWS, "found": facts}, rows


def generate(setting: Setting, variant: Variant) -> Found:
    """A run against Hugging Face's generate with its cache, batch 1. On an accelerator only the last is not whole."""
    steps, least = setting.goals.hf
    whole, probe = not setting.on_cpu, PROBE if setting.on_cpu else PROBE_THERE
    found = latency(
        setting.pair(variant), steps=(steps,), whole_steps=steps if whole else 0, whole_tokens=None if whole else 0,
        whole_hf=False, probe=probe, rule="ancestral", repeats=setting.rounds,
    )  # fmt: skip
    sedd, ours, theirs = found
    values = list(_times(theirs, sedd))
    what = f"{steps} steps against Hugging Face `generate`, {setting.shape.length} tokens, batch 1"
    note = f"{sedd.seconds:.3g} s against {theirs.seconds:.3g} s; our own AR engine takes {ours.seconds:.3g} s"
    note += f"; generate {theirs.note}" if sedd.measured else "; steps and tokens from the middle of their runs"
    rows = [held(what, variant.name, values, least=least, note=note)]
    if setting.goals.ar is not None:
        steps, least = setting.goals.ar
        what = f"{steps} steps against our own AR engine, batch 1"
        rows.append(held(what, variant.name, list(_times(ours, sedd)), least=least))
    return {"latency": _as_json(found), "ours over theirs": against(found)}, rows


def batches(setting: Setting, variant: Variant) -> Found:
    """16, 32 and 64 steps against our own autoregressive engine, batch 1 to 64, and where they break even.

    The engine's text at batch 1 is written whole: a few of its tokens are over before the memory has settled.
    """
    at_once, probe = (AT_ONCE, PROBE) if setting.on_cpu else (None, PROBE_THERE)
    found = latency(
        setting.pair(variant), steps=(16, 32, 64), batches=(1, 4, 16, 64), whole_steps=0, probe=probe,
        rule="ancestral", at_once=at_once, repeats=max(2, setting.rounds - 1), hf=False,
    )  # fmt: skip
    cached, rows = {x.batch: x for x in found if x.side == "ar"}, []
    for even in break_even(found):
        ours = [x for x in found if x.steps == even.steps]
        ahead = [statistics.median(_times(cached[x.batch], x)) for x in ours]
        what = f"{even.steps} steps against our own AR engine, batch {', '.join(str(x.batch) for x in ours)}"
        rates = ", ".join(f"{x.throughput:.3g}" for x in ours)
        note = f"{rates} tokens/s; the AR engine gives more {even.words}"
        rows.append(Row(what, variant.name, ", ".join(f"{x:.2f}" for x in ahead) + " x", "", note=note))
    return {"latency": _as_json(found), "break_even": [dataclasses.asdict(x) for x in break_even(found)]}, rows


def _times(slow: Latency, fast: Latency) -> list[float]:
    """How many times faster, repeat by repeat."""
    return [a / b for a, b in zip(slow.times, fast.times, strict=True)]


def _as_json(found: list[Latency]) -> list[dict]:
    return [x.as_json() | {"protocol": x.protocol} for x in found]
