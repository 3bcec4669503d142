"""The sampling engine against its goals.

    python benchmarks/engine.py                                  small size, bfloat16 and float32: 12 minutes on 2 cores
    python benchmarks/engine.py --part steps --variant float32   one part, in one dtype: less than 2 minutes
    python benchmarks/engine.py --size xl                        on an accelerator: 1.45 B, context 2048

Runs are not made whole on a CPU: a step is timed at several places of a run, in turns with what it is compared with.
Prints one JSON object; its "goals" are rows of docs/results.md. `make bench-sampling` runs the first, `make bench-gpu`
the last.
"""

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import run_parts
import step_parts
import torch
from machine import machine, words
from probes import GOALS, VARIANTS, Setting, Variant
from step_parts import Found

from unmask.evaluation.sizes import SIZES

PARTS: dict[str, Callable[[Setting, Variant], Found]] = {
    "hidden": step_parts.hidden, "steps": step_parts.steps, "batch": step_parts.batch,
    "vocabulary": step_parts.vocabulary, "lengths": step_parts.lengths, "memory": run_parts.memory,
    "evaluations": run_parts.evaluations, "generate": run_parts.generate, "batches": run_parts.batches,
}  # fmt: skip
ONCE = ("evaluations",)  # the same in every variant
ON_CPU = ("lengths", "memory", "evaluations")  # of no goal on an accelerator, or what does not depend on the device
COMPILED = ("batch", "vocabulary", "generate", "batches")  # on an accelerator of compiled variants alone
PLAIN = ("hidden",)  # there of the others alone, as what it is held against is not compiled


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(GOALS), default="small", help="xl needs an accelerator")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--variant", nargs="+", choices=list(VARIANTS), help="default: all that are for the device")
    parser.add_argument("--rounds", type=int, default=3, help="how often each work has its turn (default 3)")
    return parser.parse_args()


def where(size: str) -> torch.device:
    """The accelerator for xl, else the CPU."""
    if size != "xl":
        return torch.device("cpu")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        sys.exit("no accelerator here: --size xl would take hours; without --size the CPU's part runs")
    return device


def taking_part(part: str, variants: list[Variant], on_cpu: bool) -> list[Variant]:
    """The variants that a part is measured in, here."""
    if part in ON_CPU and not on_cpu:
        return []
    found = [variant for variant in variants if variant.parts is None or part in variant.parts]
    if part in (*COMPILED, *PLAIN) and not on_cpu:
        found = [variant for variant in found if variant.compile == (part in COMPILED)]
    return found[:1] if part in ONCE else found


def main() -> None:
    given = options()
    setting = Setting(given.size, SIZES[given.size], where(given.size), given.rounds)
    on_cpu = setting.on_cpu
    chosen = given.variant or [name for name, variant in VARIANTS.items() if setting.device.type in variant.where]
    variants = [VARIANTS[name] for name in chosen]
    found = machine(setting.device, tuple(dict.fromkeys(variant.dtype for variant in variants)))
    facts: dict[str, Any] = {"machine": found, "size": given.size, "rounds": given.rounds, "took_s": {}, "parts": {}}
    goals = []
    for part in given.part:
        for variant in taking_part(part, variants, on_cpu):
            name = part if part in ONCE else f"{part}, {variant.name}"
            print(f"== {name}", file=sys.stderr, flush=True)
            began = time.perf_counter()
            facts["parts"][name], rows = PARTS[part](setting, variant)
            facts["took_s"][name] = round(time.perf_counter() - began, 1)
            goals += rows
            for row in rows:
                print(f"  {row}", file=sys.stderr, flush=True)
    device = (
        "" if on_cpu else "_" + re.sub(r"\W+", "-", found.get("accelerator", setting.device.type)).strip("-").lower()
    )
    facts |= {"file": f"engine{device}", "title": f"The sampling engine, {given.size}", "words": words(found)}
    print(json.dumps(facts | {"goals": [dataclasses.asdict(row) for row in goals]}))


if __name__ == "__main__":
    main()
