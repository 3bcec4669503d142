"""The server on the diffusion twin: batched against the bare batch and against one at a time; 64 clients for 60 s."""

import asyncio
import collections
import json
import os
import re
import statistics
import subprocess
import sys
import time

import httpx2
import torch

import unmask

STEPS, SLOTS, ROUNDS = 8, 16, 3
WHOLE = {"template": "[MASK:256]", "steps": STEPS}
CLIENTS, SECONDS, NEW, NEW_STEPS = 64, 60.0, 64, 16
ASKED = {"prompt": "The state of the Union is", "max_tokens": NEW, "steps": NEW_STEPS}


def start() -> tuple[subprocess.Popen, str]:
    """The server, and its address."""
    command = [sys.executable, "-m", "unmask.cli.main", "serve", "sedd-twin", "--port", "0", "--slots", str(SLOTS)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    said = process.stderr.readline()
    found = re.search(r"http://\S+", said)
    if found is None:
        sys.exit(said + process.stderr.read())
    return process, found[0]


async def many(url: str, clients: int, requests: int) -> float:
    """Samples a second of so many clients that ask one after the other, `requests` in all."""
    left = iter(range(requests))

    async def ask(api: httpx2.AsyncClient) -> None:
        for seed in left:
            (await api.post("/v1/infill", json=WHOLE | {"seed": seed})).raise_for_status()

    async with httpx2.AsyncClient(base_url=url, timeout=120) as api:
        began = time.perf_counter()
        await asyncio.gather(*(ask(api) for _ in range(clients)))
        return requests / (time.perf_counter() - began)


async def load(url: str) -> dict[str, float]:
    """CLIENTS clients for SECONDS: seconds of the answers, what was refused, tokens written."""
    took: list[float] = []
    statuses: collections.Counter[int] = collections.Counter()
    tokens, began = 0, time.perf_counter()

    async def ask(api: httpx2.AsyncClient, seed: int) -> None:
        nonlocal tokens
        while (asked := time.perf_counter()) < began + SECONDS:
            seed += CLIENTS
            answer = await api.post("/v1/completions", json=ASKED | {"seed": seed})
            statuses[answer.status_code] += 1
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            answer.raise_for_status()
            took.append(time.perf_counter() - asked)
            tokens += answer.json()["usage"]["completion_tokens"]

    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as api:
        await asyncio.gather(*(ask(api, i) for i in range(CLIENTS)))
    seconds = time.perf_counter() - began
    if set(statuses) - {200, 429}:
        sys.exit(f"answers other than 200 and 429: {statuses}")
    cuts = statistics.quantiles(took, n=100)
    return {
        "p50_s": cuts[49], "p95_s": cuts[94], "p99_s": cuts[98], "answers": len(took), "refused": statuses[429],
        "answers_per_s": len(took) / seconds, "tokens_per_s": tokens / seconds, "seconds": seconds,
    }  # fmt: skip


def bare(model: unmask.DiffusionLM, batch: int) -> float:
    """Samples a second of a batch without a server."""
    began = time.perf_counter()
    for _ in unmask.denoise(model, unmask.Canvas.blank(256, batch), steps=STEPS, seed=0):
        pass
    return batch / (time.perf_counter() - began)


def rows(facts: dict[str, float]) -> list[dict[str, str]]:
    """The table."""
    where = f"sedd-twin, L = 256, {STEPS} steps"
    return [
        {
            "what": f"server, {where}, {SLOTS} clients", "value": f"{facts['batched_per_s']:.2f} samples/s",
            "floor": f"{facts['bare_batched_per_s']:.2f} samples/s (the batch of {SLOTS} without a server), goal 0.9",
            "ratio": f"{facts['batched_per_s'] / facts['bare_batched_per_s']:.2f}",
        },
        {
            "what": f"server, {where}, {SLOTS} clients against one at a time",
            "value": f"{facts['batched_per_s']:.2f} samples/s",
            "floor": f"{facts['one_per_s']:.2f} samples/s (one client), goal 1.4",
            "ratio": f"{facts['batched_per_s'] / facts['one_per_s']:.2f}",
        },
        {
            "what": f"server, {CLIENTS} clients for {facts['seconds']:.0f} s, {NEW} new tokens, {NEW_STEPS} steps: "
            "p50 / p95 / p99",
            "value": f"{facts['p50_s']:.2f} / {facts['p95_s']:.2f} / {facts['p99_s']:.2f} s",
        },
        {
            "what": f"the same: throughput; {facts['refused']:.0f} of {facts['answers'] + facts['refused']:.0f} refused"
            " (429), no other error",
            "value": f"{facts['answers_per_s']:.1f} answers/s, {facts['tokens_per_s']:.0f} new tokens/s",
        },
    ]  # fmt: skip


def main() -> None:
    torch.set_flush_denormal(True)  # as the command does
    model = unmask.load("sedd-twin")
    assert isinstance(model, unmask.DiffusionLM)
    process, url = start()
    measured: dict[str, list[float]] = collections.defaultdict(list)
    try:
        asyncio.run(many(url, 2, 2)), bare(model, 2)
        for _ in range(ROUNDS):
            measured["bare_batched_per_s"].append(bare(model, SLOTS))
            measured["batched_per_s"].append(asyncio.run(many(url, SLOTS, SLOTS)))
            measured["one_per_s"].append(asyncio.run(many(url, 1, 4)))
            print({name: values[-1] for name, values in measured.items()}, file=sys.stderr, flush=True)
        facts = {name: statistics.median(values) for name, values in measured.items()}
        facts |= asyncio.run(load(url))
    finally:
        process.terminate()
        code = process.wait()
    if code:
        sys.exit(f"the server left with {code}")
    print(json.dumps(facts | {"title": "The server", "table": rows(facts)}))


if __name__ == "__main__":
    main()
