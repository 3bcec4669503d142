"""Resident memory above the weights, in a process of its own: python benchmarks/peak_memory.py VARIANT RULE STEPS SIZE

The weights first, then one step that warms up, then three steps of a run at batch 1; the peak of these three, less
what was resident before the first step. Linux only: the peak is reset through /proc/self/clear_refs.
"""

import ctypes
import json
import sys
from pathlib import Path

import torch
from probes import VARIANTS, Setting, steps_at

from unmask.evaluation.sizes import SIZES
from unmask.sampling import Canvas


def resident(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def main() -> None:
    variant, rule, steps, size = sys.argv[1:]
    setting = Setting(size, SIZES[size], torch.device("cpu"), 1)
    model = setting.model(VARIANTS[variant])
    places = [(0.0,), (0.05, 0.5, 0.95)]
    work = steps_at(model, Canvas.blank(setting.shape.length), int(steps), places, steps=int(steps), rule=rule)
    ctypes.CDLL(None).malloc_trim(0)  # what the making of the weights left behind is not there to be used
    weights = resident("VmRSS")
    work(0)
    Path("/proc/self/clear_refs").write_text("5")
    work(1)
    peak = resident("VmHWM")
    print(json.dumps({"weights_mb": weights, "peak_mb": peak, "above_mb": peak - weights}))


if __name__ == "__main__":
    main()
