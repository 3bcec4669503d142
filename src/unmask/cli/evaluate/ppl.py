"""`unmask eval ppl`."""

import dataclasses
import json
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask eval ppl --data sotu

  unmask eval ppl --model ar-twin --data my_text.txt --json
"""


def ppl(
    model: Annotated[str, typer.Option(help="A folder, a hub id, or an embedded name.")] = "sedd-twin",
    data: Annotated[
        str, typer.Option(help="A corpus by name (its held-out part), a file or a folder (all of it).")
    ] = "excerpt",
    rows: Annotated[
        int, typer.Option(help="At most this many rows of the model's context, spread evenly.", min=1)
    ] = 64,
    times: Annotated[int, typer.Option(help="Noise levels drawn for each row (diffusion).", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all parts.")] = False,
) -> None:
    """Perplexity of held-out text: exact for autoregressive models, an upper bound for diffusion models."""
    from unmask.cli.show import progress
    from unmask.compat import load
    from unmask.evaluation.likelihood import log_likelihood
    from unmask.recipes.heldout import heldout_rows

    lm = load(model)
    x, info = heldout_rows(lm, data, rows)
    with progress("scoring") as update:
        bound = log_likelihood(lm, x, times_per_row=times, seed=seed, progress=update)
    if as_json:
        values = dataclasses.asdict(bound)
        values.pop("rows")
        print(json.dumps({"model": model, "data": data, "protocol": info} | values))
        return
    sign = "" if bound.exact else "<= "
    print(
        f"perplexity      {sign}{bound.perplexity:.2f}   "
        f"(exp of the mean; mean of exp over rows: {bound.perplexity_mean_exp:.2f})"
    )
    print(
        f"nats per token  {sign}{bound.nats_per_token:.4f} +- {bound.stderr:.4f}   "
        f"({bound.n} rows of {x.shape[1]} tokens)"
    )
    if bound.bits_per_byte is not None:
        print(f"bits per byte   {sign}{bound.bits_per_byte:.4f}")
    if not bound.exact:
        parts = " + ".join(f"{name} {value:.4f}" for name, value in bound.parts.items())
        print(f"  of which      {parts}")
        print(
            f"as the paper    {bound.paper:.4f} +- {bound.paper_stderr:.4f}   "
            f"(t in [0.001, 1] only: not a bound; perplexity {bound.paper_perplexity:.2f})"
        )
