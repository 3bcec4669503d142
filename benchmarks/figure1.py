"""Figure 1 and Table 7: latency and throughput of SEDD by steps against GPT-2 with a key-value cache.

    python benchmarks/figure1.py            the twins, and SEDD-small and GPT-2 small a few steps: minutes on a CPU
    python benchmarks/figure1.py --size xl  1.45 B and 1.3 B, context 2048, on an accelerator

Prints one JSON object. `make bench` runs the first, `make bench-gpu` the second; its JSON is figure1_<device>.json.
"""

import argparse
import json
import re
import sys
from typing import Any

import torch

from unmask.evaluation.latency import BreakEven, Latency, against, break_even
from unmask.evaluation.sizes import made_faster
from unmask.evaluation.speed import SIZES, build_pair, latency

STEPS = (16, 32, 64, 128, 256, 512, 1024)


def on_cpu() -> list[list[Latency]]:
    """The twins, and the small size from the middle of its runs."""
    twins = latency(build_pair("twins"), steps=(16, 64, 256), batches=(1, 4, 16), whole_steps=64, progress=say)
    small = latency(
        build_pair("small", dtype=torch.bfloat16), steps=(16, 64, 1024), batches=(1, 4), whole_steps=0, whole_tokens=0,
        probe=(4, 16), progress=say,
    )  # fmt: skip
    return [twins, small]


def on_accelerator(size: str, device: torch.device) -> list[list[Latency]]:
    """One size, both sides compiled: a single sequence in up to 64 steps is run whole, the others in part."""
    pair = made_faster(build_pair(size, device=device, dtype=torch.bfloat16), quantize=None, compile=True)
    return [latency(
        pair, steps=STEPS, batches=(1, 4, 16, 64), whole_steps=64, whole_hf=False, probe=(16, 64), repeats=3,
        progress=say,
    )]  # fmt: skip


def say(done: int, total: int) -> None:
    print(f"{done} of {total} turns", file=sys.stderr, flush=True)


def table(found: list[Latency], even: list[BreakEven], ratios: dict[int, float]) -> list[dict[str, str]]:
    """Rows of docs/results.md: each latency against the cached engine at its batch, then the break-even batches."""
    cached = {x.batch: x.seconds for x in found if x.side == "ar"}
    rows = []
    for x in found:
        mark = "" if x.measured else " (extrapolated)"
        row = {
            "what": f"{x.size}, {x.dtype}, {x.threads if x.device == 'cpu' else ''} {x.device}: {x.name}, "
            f"batch {x.batch}, {x.tokens} tokens".replace(":  ", ": ").replace(",  ", ", "),
            "value": f"{x.seconds:.3g} s, {x.throughput:.4g} tokens/s{mark}",
        }
        if x.side == "sedd":
            row |= {"floor": f"{cached[x.batch]:.3g} s (cached)", "ratio": f"{x.seconds / cached[x.batch]:.2f}"}
        elif x.side == "ar" and x.batch in ratios:
            row |= {"floor": "Hugging Face generate, goal 1", "ratio": f"{ratios[x.batch]:.2f}"}
        rows.append(row)
    for point in even:
        rows.append({
            "what": f"{found[0].size}: cached generation gives more tokens a second than {point.steps} steps",
            "value": point.words,
        })  # fmt: skip
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--size", choices=SIZES, help="needs an accelerator")
    given = arguments.parse_args()
    name = "cpu"
    if given.size is None:
        runs = on_cpu()
    else:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if device is None:
            sys.exit(f"no accelerator here: --size {given.size} would take hours; without --size the CPU's part runs")
        runs = on_accelerator(given.size, device)
        name = re.sub(r"\W+", "-", runs[0][0].device).strip("-").lower()
    facts: dict[str, Any] = {"file": f"figure1_{name}", "latency": [], "break_even": [], "table": []}
    for found in runs:
        even, ratios = break_even(found), against(found)
        facts["latency"] += [x.as_json() | {"protocol": x.protocol} for x in found]
        facts["break_even"] += [{"size": found[0].size, "steps": x.steps, "batch": x.batch} for x in even]
        facts["table"] += table(found, even, ratios)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
