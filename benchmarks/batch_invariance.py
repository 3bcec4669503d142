"""How many samples differ between batch sizes, by dtype: matrix products round differently by shape.

python benchmarks/batch_invariance.py [--model sedd-twin] [-n 32] [--steps 16] [--length 64] [--batches 1 16]
"""

import argparse
import json
import sys

import torch

import unmask
from unmask.sampling.batching import many

DTYPES = ("float64", "float32", "bfloat16")


def samples(model: unmask.DiffusionLM, length: int, n: int, batch: int, options: dict) -> torch.Tensor:
    """Samples 0 to n, [n, L], made `batch` at a time."""
    canvas = unmask.Canvas.blank(length)
    firsts = range(0, n, batch)
    made = [unmask.sample(model, many(canvas, min(batch, n - i)), first_sample=i, **options).tokens for i in firsts]
    return torch.cat(made).cpu()


def compare(name: str, dtype: str, given: argparse.Namespace) -> list[dict]:
    """Against the smallest batch: the share of samples that differ, and of tokens."""
    model = unmask.load(name, device=given.device, dtype=getattr(torch, dtype))
    options = {"seed": given.seed} | ({"steps": given.steps} if model.kind == "diffusion" else {})
    first, *others = sorted(given.batches)
    base, rows = samples(model, given.length, given.n, first, options), []
    for batch in others:
        differ = samples(model, given.length, given.n, batch, options) != base
        share, tokens = float(differ.any(1).double().mean()), float(differ.double().mean())
        rows.append({"model": name, "dtype": dtype, "batches": [first, batch], "samples": share, "tokens": tokens})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["sedd-twin", "ar-twin"])
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    found = [row for name in given.model for dtype in given.dtypes for row in compare(name, dtype, given)]
    goals = [
        {
            "what": f"{row['model']}: samples that differ, batch {row['batches'][1]} against {row['batches'][0]}",
            "variant": row["dtype"], "value": 100 * row["samples"], "unit": "%", "spread": None,
            "goal": "0 %" if row["dtype"] == "float64" else "",
            "reached": row["samples"] == 0 if row["dtype"] == "float64" else None,
            "note": f"{given.n} samples of {given.length} tokens, {given.steps} steps; {row['tokens']:.2%} of tokens",
        }
        for row in found
    ]  # fmt: skip
    facts = {"n": given.n, "length": given.length, "steps": given.steps, "threads": torch.get_num_threads()}
    threads = "1 thread" if facts["threads"] == 1 else f"{facts['threads']} threads"
    words = f"The same seed in two batch sizes; matrix products round by shape. {threads}"
    print(json.dumps(facts | {"rows": found, "title": "What the batch changes", "words": words, "goals": goals}))


if __name__ == "__main__":
    main()
