"""`unmask eval diversity`."""

import json
from typing import Annotated

import typer

from unmask.cli.evaluate import sampled

EXAMPLES = """Examples:

  unmask eval diversity --model sedd-twin --steps 32 -n 8 --out samples.jsonl

  unmask eval diversity samples.jsonl --window 50 --json
"""


def diversity(
    samples: sampled.Samples = None,
    window: Annotated[int, typer.Option(help="Tokens that the repetition rate looks back.", min=1)] = 100,
    model: sampled.Model = None,
    out: sampled.Out = None,
    steps: sampled.Steps = None,
    rule: sampled.Rule = None,
    number: sampled.Number = 16,
    length: sampled.Length = None,
    top_p: sampled.TopP = 1.0,
    top_k: sampled.TopK = None,
    draws: sampled.Draws = "exact",
    seed: sampled.Seed = 0,
    batch: sampled.Batch = 16,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Unique tokens, unigram entropy and repetition rate of samples: mean, standard error, standard deviation."""
    from unmask.evaluation.diversity import diversity as measure

    with sampled.the_samples(
        samples, model, out, steps=steps, rule=rule, number=number, length=length, top_p=top_p, top_k=top_k,
        draws=draws, seed=seed, batch=batch,
    ) as found:  # fmt: skip
        result = measure(found, window=window)
    if as_json:
        print(json.dumps(sampled.plain(result.as_json())))
        return
    for words, value, unit in (
        ("unique unigrams", result.unique, ""),
        ("unigram entropy", result.entropy, " nats"),
        ("repetition rate", result.repetition, ""),
    ):
        print(f"{words}  {value.mean:.4f} +- {value.stderr:.4f}{unit}   (standard deviation {value.std:.4f})")
    print(f"protocol         {result.protocol}; {result.n} samples")
