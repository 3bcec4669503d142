"""A training step of SEDD-small's shape, everything counted, against the bare forward and backward of its matmuls.

    python benchmarks/training_step.py [--small] [--repeats 5]

The real training loop runs; between its steps, the bare pass is timed in the same process. The ratio is that of
the medians. Prints one JSON object.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import PlainTransformer, forward_backward

from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.text import loader
from unmask.text.tokenizers import gpt2
from unmask.training.loop import train
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

BATCH, LENGTH = 4, 256


class Between(loader.Loader):
    """A loader that, asked for a step's rows, times the bare pass before it hands them over."""

    def __init__(self, rows: Any, plain: PlainTransformer, device: torch.device) -> None:
        super().__init__(rows, global_batch=BATCH, seed=0)
        self.plain, self.device = plain, device
        self.x = torch.from_numpy(rows[:BATCH].astype(np.int64)).to(device)
        self.bare: list[float] = []
        self.ours: list[float] = []
        self.peak_before_bare = 0.0
        self.began: float | None = None

    def batch(self, step: int) -> loader.Batch:
        now = self.clock()
        if self.began is not None:
            self.ours.append(now - self.began)
        if step == 1:
            self.peak_before_bare = peak_mb()
        if step:
            now = self.clock()
            forward_backward(self.plain, self.x)
            self.bare.append(self.clock() - now)
        if self.ours and self.bare:
            print(f"step {step}: bare {self.bare[-1]:.2f} s, ours {self.ours[-1]:.2f} s", file=sys.stderr, flush=True)
        rows = super().batch(step)
        self.began = self.clock()
        return rows

    def clock(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


def peak_mb() -> float:
    """The most memory this process has held, in MB (on a GPU: of its memory)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--small", action="store_true", help="a tenth of the size, to try the script")
    arguments.add_argument("--repeats", type=int, default=6)
    given = arguments.parse_args()
    width, depth, heads = (256, 4, 4) if given.small else (768, 12, 12)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert device is not None
    tokenizer = gpt2()
    rows = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (64, LENGTH)).astype(np.uint16)
    model = build_model(ModelShape("sedd", width=width, depth=depth, heads=heads, length=1024), tokenizer)
    plain = PlainTransformer(tokenizer.vocab_size + 1, width, depth, heads).to(device)
    between = Between(rows, plain, device)
    settings = TrainSettings(given.repeats + 2, OptimSettings(), log_every=1000, save_every=1000)
    with tempfile.TemporaryDirectory() as out:
        train(model, between, settings, Path(out))
    bare, ours = between.bare[1:], between.ours[1:]  # the first of each warms up
    ratio = statistics.median(ours) / statistics.median(bare)
    shape = f"width {width}, depth {depth}, batch {BATCH} x {LENGTH}, bf16"
    table = [
        {
            "what": f"training step, {shape}: optimizer, clipping, EMA counted",
            "value": f"{statistics.median(ours):.2f} s",
            "floor": f"{statistics.median(bare):.2f} s (bare forward + backward, head on all rows); goal 1.25",
            "ratio": f"{ratio:.2f}",
        },
        {
            "what": "peak memory of that training (weights, gradients, AdamW, EMA, the idle plain net)",
            "value": f"{between.peak_before_bare:.0f} MB",
        },
    ]
    facts = {
        "shape": shape, "parameters": model.net.num_parameters, "bare_s": bare, "step_s": ours, "ratio": ratio,
        "peak_mb": between.peak_before_bare, "device": str(device), "threads": torch.get_num_threads(),
    }  # fmt: skip
    print(json.dumps(facts | {"table": table}))


if __name__ == "__main__":
    main()
