"""What int8 and compiling gain at the paper's small size: a pass over 1,024 tokens, a cached token, weights in memory.

python benchmarks/faster.py [--dtypes float32 bfloat16] [--size small] [--rounds 3]
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time

import torch
from probes import Work, body, interleaved

from unmask.evaluation.sizes import SIZES, build_pair
from unmask.model import AutoregressiveLM, DiffusionLM

CPU = torch.device("cpu")


def weights(model: DiffusionLM | AutoregressiveLM) -> int:
    """Bytes of the network's state, what is shared counted once."""
    kept = {tensor.data_ptr(): tensor for tensor in model.net.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.itemsize for tensor in kept.values())


def passes(model: DiffusionLM, name: str, facts: dict) -> dict[str, Work]:
    """`hidden` of one row of masks: as it is, and compiled, whose first run is timed."""
    x = torch.full((1, model.length), model.process.num_states - 1)
    fast = copy.deepcopy(model).compile()
    began = time.perf_counter()
    body(fast, x)
    facts[f"{name}, compiling"] = time.perf_counter() - began
    return {name: lambda _: body(model, x), f"{name}, compiled": lambda _: body(fast, x)}


@torch.inference_mode()
def token(model: AutoregressiveLM, batch: int) -> Work:
    """One token a row behind half a context, which it leaves as it was."""
    cache = model.net.cache(batch)
    x, half = torch.zeros(batch, 1, dtype=torch.int64), model.length // 2

    @torch.inference_mode()
    def work(_: int) -> None:
        for _ in range(8):
            cache.length = half
            model.next_logits(x, cache)

    return work


def measured(dtype: str, size: str, rounds: int) -> tuple[dict, list[dict[str, str]]]:
    """Seconds and bytes of one dtype, and rows of docs/results.md."""
    facts: dict = {}
    works: dict[str, Work] = {}
    tokens: dict[str, Work] = {}
    for name, mode in ((dtype, None), (f"int8 in {dtype}", "int8")):
        pair = build_pair(size, dtype=getattr(torch, dtype))
        for model in (pair.sedd, pair.ar):
            if mode is not None:
                model.quantize(mode)
        facts[f"{name}, bytes"] = {"sedd": weights(pair.sedd), "ar": weights(pair.ar)}
        works |= passes(pair.sedd, name, facts)
        for batch in (1, 16):
            tokens[f"{name}, batch {batch}"] = token(pair.ar, batch)
    seconds = interleaved(works, rounds, CPU)
    each = {name: [s / 8 for s in times] for name, times in interleaved(tokens, rounds, CPU).items()}
    facts |= {"pass": seconds, "token": each}
    length, rows = SIZES[size].length, []
    plain = statistics.median(seconds[dtype])
    for name, times in seconds.items():
        took = statistics.median(times)
        note = f"; compiling took {facts[name.removesuffix('ed') + 'ing']:.0f} s" if name.endswith("compiled") else ""
        rows.append({
            "what": f"SEDD-{size}, hidden of 1 x {length}: {name}{note}", "value": f"{took * 1e3:.0f} ms",
            "floor": f"{plain * 1e3:.0f} ms ({dtype})", "ratio": f"{took / plain:.2f}",
        })  # fmt: skip
    for name, times in each.items():
        took, base = statistics.median(times), statistics.median(each[f"{dtype}, {name.split(', ')[-1]}"])
        rows.append({
            "what": f"GPT-2-{size}, a cached token: {name}", "value": f"{took * 1e3:.1f} ms",
            "floor": f"{base * 1e3:.1f} ms ({dtype})", "ratio": f"{took / base:.2f}",
        })  # fmt: skip
    bytes_of = [facts[f"{name}, bytes"] for name in (f"int8 in {dtype}", dtype)]
    for which, said in (("sedd", "SEDD"), ("ar", "GPT-2")):
        small, large = (each[which] / 2**20 for each in bytes_of)
        rows.append({
            "what": f"{said}-{size}, weights: int8 in {dtype}", "value": f"{small:.0f} MiB",
            "floor": f"{large:.0f} MiB ({dtype})", "ratio": f"{small / large:.2f}",
        })  # fmt: skip
    return facts, rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    words.add_argument("--size", choices=list(SIZES), default="small")
    words.add_argument("--rounds", type=int, default=3)
    given = words.parse_args()
    facts, table = {}, []
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # so that compiling is what it is at first
        for dtype in given.dtypes:
            facts[dtype], rows = measured(dtype, given.size, given.rounds)
            table += rows
            for row in rows:
                print(f"  {row}", file=sys.stderr, flush=True)
    print(
        json.dumps(
            {
                "title": "What int8 and compiling gain",
                "threads": torch.get_num_threads(),
                "size": given.size,
                "found": facts,
                "table": table,
            }
        )
    )


if __name__ == "__main__":
    main()
