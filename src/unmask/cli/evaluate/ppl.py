"""`unmask eval ppl`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unmask.evaluation.bound import Bound

EXAMPLES = """Examples:

  unmask eval ppl --data sotu

  unmask eval ppl --data lambada-openai --packing mdlm --estimator mask-count --target-stderr 0.01 --json
"""


def ppl(
    model: Annotated[str, typer.Option(help="A folder, a hub id, or an embedded name.")] = "sedd-twin",
    data: Annotated[
        str | None,
        typer.Option(
            help="A zero-shot set (lambada, wikitext2, ptb, wikitext103, 1bw; lambada-openai, boolq, wikipedia), "
            "a corpus by name (its held-out part), a file or a folder (all of it). Default: the held-out part of what "
            "the model was trained on."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(help="At most this many rows of the model's context, spread evenly; 0 for all.", min=0)
    ] = 64,
    packing: Annotated[str, typer.Option(help="How text becomes rows: sedd, mdlm, bd3, stride or stream.")] = "sedd",
    stride: Annotated[int | None, typer.Option(help="Of --packing stride, in tokens; half a row if left out.")] = None,
    estimator: Annotated[
        str,
        typer.Option(help="How noise is drawn: stratified, independent, low-discrepancy, or mask-count (absorbing)."),
    ] = "stratified",
    times: Annotated[int, typer.Option(help="Evaluations of each row, or of each round (diffusion).", min=1)] = 8,
    target_stderr: Annotated[
        float | None,
        typer.Option(help="Add rounds of --times until the Monte Carlo error, in nats per token, is no larger."),
    ] = None,
    max_times: Annotated[int, typer.Option(help="With --target-stderr: at most this many evaluations a row.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all parts.")] = False,
) -> None:
    """Perplexity of held-out text: exact for autoregressive models, an upper bound for diffusion models."""
    from unmask.cli.show import progress, say
    from unmask.compat import load
    from unmask.evaluation.likelihood import log_likelihood
    from unmask.recipes.heldout import scoring_rows
    from unmask.recipes.zeroshot import zero_shot_rows
    from unmask.text.zeroshot import ZERO_SHOT

    lm = load(model)
    if data is not None and data in ZERO_SHOT:
        x, scored, info = zero_shot_rows(lm, data, packing, rows * lm.length or None, stride=stride, say=say)
    else:
        x, scored, info = scoring_rows(lm, data, rows or None, packing=packing, stride=stride, say=say)
    with progress("scoring") as update:
        bound = log_likelihood(
            lm, x, scored=scored, times_per_row=times, seed=seed, estimator=estimator, target_stderr=target_stderr,
            max_times_per_row=max_times, progress=update,
        )  # fmt: skip
    if target_stderr is not None and bound.mc_stderr > target_stderr:
        say(f"Monte Carlo error {bound.mc_stderr:.2g} after {bound.times_per_row} evaluations a row: above target")
    if as_json:
        print(json.dumps({"model": model, "data": data or info["corpus"], "protocol": info} | _values(bound)))
        return
    for line in _lines(bound, info):
        print(line)


def _values(bound: "Bound") -> dict[str, Any]:
    """Everything but the single rows; what is no number is null."""
    import dataclasses
    import math

    values = dataclasses.asdict(bound)
    for name in ("rows", "paper_rows"):
        values.pop(name)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {name: plain(value) for name, value in values.items()}


def _lines(bound: "Bound", info: dict[str, Any]) -> list[str]:
    """What a person reads: the bound in every unit, then the paper's quantity, then how they were had."""
    sign = "" if bound.exact else "<= "
    lines = [
        f"perplexity      {sign}{bound.perplexity:.2f} +- {bound.perplexity_stderr:.2f}   (exp of the mean)",
        f"                {sign}{bound.perplexity_mean_exp:.2f} +- {bound.perplexity_mean_exp_stderr:.2f}   "
        "(mean of exp over rows)",
        f"nats per token  {sign}{bound.nats_per_token:.4f} +- {bound.stderr:.4f}   "
        f"({bound.n} rows of {info['row_tokens']} tokens, {bound.tokens} scored)",
    ]
    if bound.bits_per_byte is not None:
        lines.append(f"bits per byte   {sign}{bound.bits_per_byte:.4f} +- {bound.bits_per_byte_stderr or 0:.4f}")
    if not bound.exact:
        parts = " + ".join(f"{name} {value:.4f}" for name, value in bound.parts.items())
        lines += [
            f"  of which      {parts}",
            f"as the paper    {bound.paper:.4f} +- {bound.paper_stderr:.4f}   (t in [0.001, 1] only: not a bound)",
            f"  perplexity    {bound.paper_perplexity:.2f} +- {bound.paper_perplexity_stderr:.2f}   (exp of the mean)",
            f"                {bound.paper_perplexity_mean_exp:.2f} +- {bound.paper_perplexity_mean_exp_stderr:.2f}   "
            "(mean of exp over rows)",
            f"estimator       {bound.estimator}, {bound.times_per_row} evaluations a row in {bound.rounds} "
            f"round{'s' if bound.rounds > 1 else ''}, Monte Carlo error {bound.mc_stderr:.4f}",
        ]
    left = f", {info['leftover_tokens']} tokens in no row" if info["leftover_tokens"] else ""
    lines.append(f"text            {info['corpus']}, packing {info['packing']}{left}")
    if info.get("unlike"):
        lines.append(f"  not as paper  {info['unlike']}")
    return lines
