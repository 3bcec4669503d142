"""Seconds a sequence of the embedded models, against the floor of bare forward passes, with peak memory."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

import unmask

STEPS = (16, 64, 256)


def median(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, one warm-up not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    torch.set_flush_denormal(True)  # as the command does
    sedd, ar = unmask.load("sedd-twin"), unmask.load("ar-twin")
    canvas = unmask.Canvas.blank(sedd.length)
    x, t = torch.full((1, sedd.length), sedd.process.num_states - 1), torch.full((1,), 0.5)

    def forward() -> None:
        with torch.inference_mode():
            sedd.net(x, sedd.condition(t))

    bare = median(forward, 20)
    rows = [{"what": "sedd-twin, one forward pass, 1 x 256, logits everywhere", "value": f"{bare * 1e3:.0f} ms"}]
    facts: dict[str, float] = {"forward_s": bare}
    for rule in ("tweedie", "ancestral"):
        for steps in STEPS:
            made = []
            took = median(lambda: made.append(unmask.sample(sedd, canvas, steps=steps, rule=rule, seed=0)), 3)  # noqa: B023
            nfe = made[-1].nfe
            facts[f"{rule}_{steps}_s"] = took
            rows.append({
                "what": f"sedd-twin, {rule}, {steps} steps ({nfe} evaluations)", "value": f"{took:.2f} s",
                "floor": f"{nfe * bare:.2f} s (bare passes)", "ratio": f"{took / (nfe * bare):.2f}",
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    took = median(lambda: unmask.sample(ar, unmask.Canvas.blank(ar.length), seed=0), 3)
    facts["ar_s"] = took
    rows.append({"what": "ar-twin, 256 tokens with KV cache", "value": f"{took:.2f} s"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    rows.append({"what": "peak memory of the process that sampled all this", "value": f"{peak:.0f} MB"})
    print(json.dumps(facts | {"peak_mb": peak, "table": rows}))


if __name__ == "__main__":
    main()
