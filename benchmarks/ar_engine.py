"""A token of our autoregressive engine against reading its weights once, and against Hugging Face's generate.

GPT-2 small (124 M), bfloat16. Tokens are timed at a quarter and at three quarters of a text of 1,024, which the
cost of a token, linear in what the cache holds, averages to that of the whole text. All take turns in each repeat.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.evaluation.sizes import build_pair, hugging_face
from unmask.model import AutoregressiveLM
from unmask.nn.cache import KVCache
from unmask.nn.decoding import SOURCE, compiled_cache, product
from unmask.nn.native.build import build
from unmask.sampling import Canvas, generate
from unmask.sampling.autoregressive import Writer
from unmask.sampling.draws import EXACT, keyed

LENGTH = 1024
HELD = (LENGTH // 4, 3 * LENGTH // 4)
PLAN = {1: (24, 7), 4: (12, 5), 16: (4, 3), 64: (2, 2)}  # batch: tokens at each place, repeats
Turn = Callable[[], float]  # seconds of one token, or of one reading of the weights


def clock(work: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / count


def written(cache: KVCache) -> KVCache:
    """Memory that was never written is one page of zeros, and costs nothing to read."""
    cache.keys.fill_(0.01)
    cache.values.fill_(0.01)
    return cache


def ours(model: AutoregressiveLM, cache: KVCache, count: int) -> Turn:
    batch = cache.keys.shape[1]
    draws = keyed(batch, model.device, seed=0, generator=None, mode=EXACT)
    u, write = draws.uniforms("next", 0, LENGTH), Writer(model, cache, draws)

    def run() -> None:
        x = torch.full((batch, 1), model.bos_id)
        for held in HELD:
            cache.length = held
            for i in range(count):
                x = write(x, u[:, held + i])[:, None]

    return lambda: clock(run, count * len(HELD))


def theirs(model: AutoregressiveLM, batch: int, count: int) -> Turn:
    from transformers import DynamicCache

    net = hugging_face(model)
    c = net.config

    def caches() -> list[DynamicCache]:
        made = [DynamicCache(config=c) for _ in HELD]
        for cache, held in zip(made, HELD, strict=True):
            for layer in range(c.n_layer):
                shape = batch, c.n_head, held, c.n_embd // c.n_head
                cache.update(*(torch.full(shape, 0.01, dtype=net.dtype) for _ in "kv"), layer)
        return made

    def run(made: list[DynamicCache]) -> None:
        for cache, held in zip(made, HELD, strict=True):
            ids = torch.full((batch, held + 1), model.bos_id)
            net.generate(
                ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True, do_sample=True,
                top_k=0, top_p=1.0, temperature=1.0, max_new_tokens=count,
            )  # fmt: skip

    def turn() -> float:
        made = caches()
        return clock(lambda: run(made), count * len(HELD))

    return turn


def reading(weights: list[Tensor]) -> Turn:
    """Every byte of the weights once: the sum of each tensor, as 64-bit numbers."""
    words = [w.detach().view(-1).view(torch.int64) for w in weights]
    return lambda: clock(lambda: [[w.sum() for w in words] for _ in range(8)], 8)


def products(weights: list[Tensor], batch: int, by: Callable[[Tensor, Tensor], Tensor], kind: torch.dtype) -> Turn:
    """The matrices of a token, one after the other, and nothing between them."""
    matrices = [w.detach() for w in weights if w.ndim == 2 and len(w) != LENGTH]
    x = {width: torch.ones(batch, width, dtype=kind) for width in {w.shape[1] for w in matrices}}
    return lambda: clock(lambda: [[by(x[w.shape[1]], w) for w in matrices] for _ in range(2)], 2)


@torch.inference_mode()
def take_turns(entrants: dict[str, Turn], repeats: int) -> dict[str, float]:
    """Median seconds; a first turn of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in entrants}
    for repeat in range(repeats + 1):
        for name, turn in entrants.items():
            seconds = turn()
            if repeat:
                times[name].append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    torch.set_grad_enabled(False)
    building = clock(lambda: build(SOURCE), 1)
    model = build_pair("small", dtype=torch.bfloat16).ar
    weights = list(model.net.parameters())
    facts: dict[str, object] = {
        "build_s": building, "threads": torch.get_num_threads(),
        "weight_bytes": sum(w.numel() * w.element_size() for w in weights),
        "cache_bytes_half_full": model.net.config.depth * model.net.config.width * 2 * 2 * LENGTH // 2,
    }  # fmt: skip
    rows = []
    for batch, (count, repeats) in PLAN.items():
        found = take_turns(
            {
                "read": reading(weights),
                "products": products(weights, batch, product, torch.float32),
                "products, F.linear": products(weights, batch, torch.nn.functional.linear, torch.bfloat16),
                "compiled": ours(model, written(compiled_cache(model.net, batch, LENGTH)), count),
                "plain": ours(model, written(model.net.cache(batch, LENGTH)), count),
                "Hugging Face": theirs(model, batch, count),
            },
            repeats,
        )
        facts[f"batch_{batch}_s"] = found
        print(batch, {name: f"{seconds * 1e3:.2f} ms" for name, seconds in found.items()}, file=sys.stderr, flush=True)
        rows += table(batch, found)
    tokens: list[object] = []
    whole = clock(lambda: tokens.append(generate(model, Canvas.blank(LENGTH), seed=0, compile=True)), LENGTH)
    facts["whole_text_s"] = whole * LENGTH
    rows.append({"what": "AR engine, compiled, batch 1: 1,024 tokens, run whole", "value": f"{whole * LENGTH:.1f} s"})
    rows.append({"what": "AR engine: building its native code, once a process", "value": f"{building:.1f} s"})
    print(json.dumps(facts | {"title": "The autoregressive engine", "table": rows}))


def table(batch: int, found: dict[str, float]) -> list[dict[str, str]]:
    ms = {name: f"{seconds * 1e3:.1f} ms" for name, seconds in found.items()}
    what = f"AR engine, GPT-2 124 M, bfloat16, batch {batch}, a token of each row"
    fast, row = found["compiled"], {"what": f"{what}, compiled", "value": ms["compiled"]}
    against = [
        ("read", "reading the weights once; goal 1.3"),
        ("products", "its matrix products alone"),
        ("plain", "not compiled"),
        ("Hugging Face", "Hugging Face's generate"),
    ]
    return [row | {"floor": f"{ms[name]} ({of})", "ratio": f"{fast / found[name]:.2f}"} for name, of in against]


if __name__ == "__main__":
    main()
