"""`unmask eval judge`."""

import json
from typing import Annotated

import typer

from unmask.cli.evaluate import sampled

EXAMPLES = """Examples:

  unmask eval judge --model sedd-twin --steps 32 -n 8 --out samples.jsonl

  unmask eval judge samples.jsonl --judge ar-twin --json
"""


def judge(
    samples: sampled.Samples = None,
    judge: Annotated[
        str, typer.Option(help="smollm2, gpt2-large, ar-twin, a .gguf file, a folder or a hub id.")
    ] = "smollm2",
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
    """Perplexity of samples under another language model, with their entropy: low and low is repetition."""
    from unmask.cli.show import progress
    from unmask.evaluation.judge import find_judge
    from unmask.evaluation.quality import judge_samples

    with sampled.the_samples(
        samples, model, out, steps=steps, rule=rule, number=number, length=length, top_p=top_p, top_k=top_k,
        draws=draws, seed=seed, batch=batch,
    ) as found:  # fmt: skip
        referee = find_judge(judge)
        with progress("judging") as update:
            quality = judge_samples(referee, found, progress=update)
    if as_json:
        print(json.dumps(sampled.plain(quality.as_json())))
        return
    print(
        f"perplexity       {quality.perplexity:.2f} +- {quality.perplexity_stderr:.2f}   "
        f"(exp of the mean; mean of exp over samples: {quality.perplexity_mean_exp:.2f})"
    )
    print(f"nats per token   {quality.nats_per_token:.4f} +- {quality.stderr:.4f}   ({quality.n} samples)")
    print(f"nats per byte    {quality.nats_per_byte:.4f} +- {quality.nats_per_byte_stderr:.4f}")
    print(f"entropy          {quality.entropy:.4f} +- {quality.entropy_stderr:.4f} nats   (tokens of each sample)")
    print(f"protocol         {quality.protocol}")
