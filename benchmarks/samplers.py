"""Every rule on the embedded twin: what another model thinks of its samples, how varied they are, what they cost.

python benchmarks/samplers.py [-n 64] [--folder runs/samplers]    make what is missing, time, judge, print JSON
python benchmarks/samplers.py --make                              only make samples; a killed call goes on by batches

The judge is ar-twin: offline, of the same tokens and training text. It is weak, and the twins share their mistakes.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import processor
from probes import Work, interleaved, mirrored_places, steps_at
from sampler_cases import CASES, STEPS, Case

import unmask
from unmask.evaluation.diversity import repetition_rate, unigram_entropy
from unmask.evaluation.judge import find_judge, token_nll
from unmask.recipes.heldout import heldout_rows
from unmask.sampling import Canvas
from unmask.sampling.profile import profiled

BATCH, LENGTH, ROUNDS = 16, 256, 2  # batches as they are timed
MADE = 8  # samples a file: what a killed call loses; the draws do not depend on it


def make(folder: Path, case: Case, n: int) -> list[dict[str, Any]]:
    """Samples 0 to n, some a file; those that are there are read."""
    found = []
    for first in range(0, n, MADE):
        path = folder / f"{case.name.replace(' ', '_')}.{first}.json"
        if not path.exists():
            text = json.dumps(_batch(case, first))
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").replace(path)
            print(f"{case.name}, samples {first} to {first + MADE}", file=sys.stderr, flush=True)
        found.append(json.loads(path.read_text()))
    return found


def _batch(case: Case, first: int) -> dict[str, Any]:
    canvas = Canvas.blank(LENGTH, batch=MADE)
    model = unmask.load("ar-twin" if case.options is None else "sedd-twin")
    with profiled(model) as profile:
        made = unmask.sample(model, canvas, seed=0, first_sample=first, **(case.options or {}))
    return {
        "tokens": made.tokens.tolist(), "moves": made.steps, "evaluations": profile.evaluations, "reads": made.reads,
    }  # fmt: skip


def judged(tokens: np.ndarray, judge: Any) -> dict[str, Any]:
    """What ar-twin says of sequences [n, L], and their own statistics; standard errors are over sequences."""
    nats = torch.cat(
        [token_nll(judge, torch.from_numpy(rows)) for rows in np.array_split(tokens, -(-len(tokens) // BATCH))]
    )
    values = {
        "nats": nats.double().mean(1).numpy(),
        "entropy": np.array([unigram_entropy(row) for row in tokens]),
        "repetition": np.array([repetition_rate(row) for row in tokens]),
    }
    found: dict[str, Any] = {"n": len(tokens)}
    for name, each in values.items():
        found |= {name: float(each.mean()), f"{name}_stderr": float(each.std(ddof=1) / math.sqrt(len(each)))}
    perplexity = math.exp(found["nats"])
    return found | {"perplexity": perplexity, "perplexity_stderr": perplexity * found["nats_stderr"]}


def timed(moves: dict[str, float]) -> dict[str, list[float]]:
    """Seconds a sequence of each case a round, batch 16: moves at mirrored places of a run, times their number."""
    model, canvas, works = unmask.load("sedd-twin"), Canvas.blank(LENGTH, batch=BATCH), {}
    for case in CASES:
        if case.options is not None:
            places = mirrored_places(ROUNDS)
            works[case.name] = steps_at(model, canvas, round(moves[case.name]), places, **case.options)
    works |= {case.name: _whole(case) for case in CASES if case.options is None}
    found = interleaved(works, ROUNDS, model.device)
    share = {case.name: 1 if case.options is None else moves[case.name] / 2 for case in CASES}
    return {name: [share[name] * seconds / BATCH for seconds in times] for name, times in found.items()}


def _whole(case: Case) -> Work:
    model, canvas = unmask.load("ar-twin"), Canvas.blank(LENGTH, batch=BATCH)
    return lambda _: unmask.sample(model, canvas, seed=0)


def main() -> None:
    torch.set_flush_denormal(True)  # as the command does
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-n", type=int, default=64, help="samples of each rule, a multiple of 8")
    words.add_argument("--folder", type=Path, default=Path("runs/samplers"), help="where samples are kept")
    words.add_argument("--make", action="store_true", help="stop when the samples are made")
    given = words.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    batches: dict[str, list[dict[str, Any]]] = {case.name: [] for case in CASES}
    for end in range(MADE, given.n + 1, MADE):  # some of each first, so that what is there can be compared
        for case in CASES:
            batches[case.name] = make(given.folder, case, end)
    if given.make:
        return
    kept = given.folder / "timing.json"  # to judge again takes no second timing; without the file there is one
    if not kept.exists():
        seconds = timed({name: float(np.mean([b["moves"] for b in found])) for name, found in batches.items()})
        kept.write_text(json.dumps({"seconds": seconds, "threads": torch.get_num_threads(), "cpu": processor()}))
    timing = json.loads(kept.read_text())
    seconds = timing["seconds"]
    judge = find_judge("ar-twin")
    rows = []
    for case in CASES:
        found = batches[case.name]
        tokens = np.array([row for batch in found for row in batch["tokens"]])
        rows.append({
            "name": case.name, "kind": case.kind, "plain": case.plain, "reads": found[0]["reads"],
            "evaluations": float(np.mean([b["evaluations"] for b in found])),
            "seconds": float(np.median(seconds[case.name])), "seconds_rounds": seconds[case.name],
        } | judged(tokens, judge))  # fmt: skip
    text, _ = heldout_rows(judge.model, "excerpt", given.n)
    facts = {"length": LENGTH, "batch": BATCH, "steps": STEPS, "dtype": "float32", "judge": "ar-twin", "seed": 0}
    facts |= {"threads": timing["threads"], "cpu": timing["cpu"]}
    print(json.dumps(facts | {"rows": rows, "text": judged(np.asarray(text, dtype=np.int64), judge)}))


if __name__ == "__main__":
    main()
