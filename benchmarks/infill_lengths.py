"""How often `[MASK:1-8]` finds the length of what was cut out of a held-out sentence.

python benchmarks/infill_lengths.py [--model sedd-twin] [--data excerpt] [-n 48] [--rows ROWS.jsonl]

Sentences of most + 8 to 40 tokens; from each, n of 1..most tokens are cut (every n as often), three tokens or more from
its ends. Chance is a length drawn evenly. `nearest`: the score that is lowest, without the tie to the shorter text;
`total`: the lowest bound in nats, not per token; `true words best`: how often the sentence as it was has a lower bound
than all that was filled in at other lengths. Prints one JSON object. With --rows it goes on behind what the file has.
"""

import argparse
import json
import math
import re
from pathlib import Path

import torch

import unmask
from unmask.evaluation.infill import Search, bounds, infill, length_prior
from unmask.random import fold, permutation
from unmask.sampling.template import Gap, Template
from unmask.text.corpora import corpus

PRIORS = ("flat", "geometric:8", "geometric:4", "geometric:2")


def sentences(data: str, tokenizer, least: int = 12, most: int = 40) -> list[str]:
    """Of the held-out documents, in an order decided by a seed."""
    found = [s for text in corpus(data).heldout() for s in re.findall(r"[A-Z][^.!?\n]+[.!?](?=\s)", text)]
    found = [s for s in dict.fromkeys(found) if least <= len(tokenizer.encode(s)) <= most]
    return [found[i] for i in permutation(len(found), 0).tolist()]


def cut(sentence: str, n: int, tokenizer, seed: int) -> tuple[str, str, list[int]]:
    """What stands left and right of n of its tokens, and all of them."""
    ids = tokenizer.encode(sentence)
    room = len(ids) - n - 6
    start = 3 + fold(seed, sentence) % (room + 1)
    left, right = tokenizer.decode(ids[:start]), tokenizer.decode(ids[start + n :])
    return left, right, ids


def choices(found, prior: str) -> dict[str, int]:
    """What the rule and the plain minimum take, under another prior: the bounds are the same."""
    log_p = length_prior(prior)
    lengths = [each.lengths[0] for each in found.candidates]
    top = max(map(log_p, lengths))
    return {n: each.bound + (top - log_p(n)) / each.tokens for n, each in zip(lengths, found.candidates, strict=True)}


def one(model, text: str, place: int, given: argparse.Namespace, search: Search) -> dict:
    """A sentence, cut and filled."""
    n = 1 + place % given.most
    left, right, ids = cut(text, n, model.tokenizer, given.seed)
    found = infill(model, Template((left, right), (Gap(1, given.most),)), search=search, seed=fold(given.seed, place))
    true = float(bounds(model, torch.tensor([ids]), search, found.seed, 0).mean())
    row = {"n": n, "chosen": found.lengths[0], "true_bound": true, "tied": sum(c.tied for c in found.candidates)}
    row["bounds"] = [round(each.bound, 4) for each in found.candidates]
    for prior in PRIORS:
        scores = choices(found, prior)
        row[prior] = min(scores, key=scores.get)
    row["total"] = min(found.candidates, key=lambda each: each.bound * each.tokens).lengths[0]
    row["true"] = true < min(bound for m, bound in enumerate(row["bounds"], 1) if m != n)
    return row


def share(hits: list[bool]) -> list[float]:
    """The share and its standard error."""
    p = sum(hits) / len(hits)
    return [round(p, 4), round(math.sqrt(p * (1 - p) / len(hits)), 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sedd-twin")
    parser.add_argument("--data", default="excerpt")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model = unmask.load(given.model)
    search, rows = Search(repeats=given.repeats), []
    texts = sentences(given.data, model.tokenizer, least=given.most + 8)
    if given.rows is not None and given.rows.exists():
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    for place in range(len(rows), min(given.n, len(texts))):
        rows.append(one(model, texts[place], place, given, search))
        if given.rows is not None:
            with given.rows.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    size = given.most
    chance = {"exact": 1 / size, "within_1": (3 * size - 2) / size**2}
    named = {"rule": "chosen", "total": "total"} | {f"nearest, {prior}": prior for prior in PRIORS}
    answer = {
        name: {
            "exact": share([r[key] == r["n"] for r in rows]),
            "within_1": share([abs(r[key] - r["n"]) <= 1 for r in rows]),
            "mean_length": round(sum(r[key] for r in rows) / len(rows), 3),
        }
        for name, key in named.items()
    }
    answer["true words best"] = share([r["true"] for r in rows])
    facts = {"model": given.model, "data": given.data, "sentences": len(rows), "of": len(texts), "chance": chance}
    print(json.dumps(facts | {"mean_true": sum(r["n"] for r in rows) / len(rows), "answers": answer}, indent=1))


if __name__ == "__main__":
    main()
