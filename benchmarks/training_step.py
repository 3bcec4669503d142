"""A training step of SEDD-small's shape, everything counted, against the bare forward and backward of its matmuls.

    python benchmarks/training_step.py [--small] [--repeats 5]

Interleaved repeats in one process; the ratio is that of the medians. Prints one JSON object.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from floor import PlainTransformer, forward_backward

from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.text.loader import Loader
from unmask.text.tokenizers import gpt2
from unmask.training import loop
from unmask.training.loop import TrainSettings
from unmask.training.optim import OptimSettings


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--small", action="store_true", help="a tenth of the size, to try the script")
    arguments.add_argument("--repeats", type=int, default=5)
    given = arguments.parse_args()
    width, depth, heads = (256, 4, 4) if given.small else (768, 12, 12)
    batch, length = 4, 256
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")

    tokenizer = gpt2()
    rows = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (64, length)).astype(np.uint16)
    shape = ModelShape("sedd", width=width, depth=depth, heads=heads, length=1024)
    model = build_model(shape, tokenizer)
    settings = TrainSettings(steps=10_000, optim=OptimSettings(), precision="bfloat16")
    run = loop.prepare(model, Loader(rows, global_batch=batch, seed=0), settings, Path(tempfile.mkdtemp()))
    ours_memory = peak_mb()
    plain = PlainTransformer(tokenizer.vocab_size + 1, width, depth, heads).to(device)
    x = torch.from_numpy(rows[:batch].astype(np.int64)).to(device)

    ours, bare = [], []
    for repeat in range(given.repeats + 1):
        for times, work in ((bare, lambda: forward_backward(plain, x)), (ours, lambda: loop.step(run))):
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            if repeat:  # the first of each warms up
                times.append(time.perf_counter() - began)
        print(f"repeat {repeat}: bare {bare[-1:]} ours {ours[-1:]}", file=sys.stderr, flush=True)
    print(
        json.dumps(
            {
                "name": "training_step",
                "shape": f"width {width}, depth {depth}, V {tokenizer.vocab_size}, batch {batch} x {length}, bf16",
                "parameters": model.net.num_parameters,
                "bare_seconds": statistics.median(bare),
                "step_seconds": statistics.median(ours),
                "ratio": statistics.median(ours) / statistics.median(bare),
                "bare_all": bare,
                "step_all": ours,
                "memory_before_steps_mb": ours_memory,
                "peak_memory_both_mb": peak_mb(),
                "device": str(device),
                "threads": torch.get_num_threads(),
            }
        )
    )


def peak_mb() -> float:
    """The most memory this process has held, in MB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


if __name__ == "__main__":
    main()
