"""`unmask eval harness`."""

import json
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask eval harness --tasks lambada_openai,piqa --limit 100

  unmask eval harness --model ar-twin --limit none --json
"""


def harness(
    model: Annotated[str, typer.Option(help="A folder, a hub id, an embedded name, or smollm2.")] = "sedd-twin",
    tasks: Annotated[
        str, typer.Option(help="Names with commas between; those of the paper by default.")
    ] = "lambada_openai,hellaswag,piqa,arc_easy,arc_challenge,winogrande",
    limit: Annotated[str, typer.Option(help="Documents of each task, spread evenly over it; none takes all.")] = "100",
    mode: Annotated[
        str, typer.Option(help="Likelihood of diffusion models: conditional, joint-difference or full-mean.")
    ] = "conditional",
    canvas: Annotated[str, typer.Option(help="What diffusion models read: exact, eos or full.")] = "exact",
    sigma: Annotated[str, typer.Option(help="What they are told of the noise: target or match.")] = "target",
    reads: Annotated[
        str | None, typer.Option(help="Raw scores or their normalization: score or p0; default the model's own.")
    ] = None,
    mc: Annotated[int, typer.Option(help="Draws of the noise for each likelihood (diffusion).", min=1)] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    greedy: Annotated[
        str, typer.Option(help="Rule of diffusion models for LAMBADA: one-pass, left-to-right or both.")
    ] = "both",
    add_bos: Annotated[
        bool, typer.Option("--add-bos", help="Put the bos token in front of every context (autoregressive).")
    ] = False,
    hub: Annotated[bool, typer.Option("--hub", help="Take the sets from the hub: any task of lm-eval.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all rows.")] = False,
) -> None:
    """Accuracies on benchmarks, through lm-eval with its own prompts and metrics."""
    from unmask.cli.show import progress, say
    from unmask.errors import ConfigError
    from unmask.evaluation.harness import evaluate_tasks

    if limit != "none" and not limit.isdecimal():
        raise ConfigError(f"--limit {limit} is not understood", "give a number of documents, or none for all")
    with progress("asking") as update:
        rows = evaluate_tasks(
            model, [task.strip() for task in tasks.split(",") if task.strip()],
            limit=None if limit == "none" else int(limit), mode=mode, canvas=canvas, sigma=sigma, reads=reads, mc=mc,
            seed=seed, greedy=greedy, add_bos=add_bos, offline=not hub, progress=update,
        )  # fmt: skip
    if as_json:
        print(json.dumps({"model": model, "rows": [row.as_json() for row in rows]}))
        return
    for row in rows:
        rule = next((f" ({word})" for word in ("one-pass", "left-to-right") if f"greedy {word}" in row.protocol), "")
        spread = "" if row.stderr is None else f" +- {row.stderr:.2f}"
        print(f"{row.name.removeprefix('accuracy ') + rule:30s} {row.value:6.2f}{spread} %   ({row.n} documents)")
        if row.note:
            say(f"{row.name}: {row.note}")
    for protocol in dict.fromkeys(row.protocol for row in rows):
        say(protocol)
