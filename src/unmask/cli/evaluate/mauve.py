"""`unmask eval mauve`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.evaluate import sampled

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.evaluation.results import Row
    from unmask.evaluation.ways import Way
    from unmask.model import LanguageModel
    from unmask.text.prompts import Prompts

EXAMPLES = """Examples:

  unmask eval mauve --prompts wiki --count 200 --way scratchpad --steps 64

  unmask eval mauve --model ar-twin --way top-p --judge smollm2 --out continued.jsonl --json
"""


Scratchpad = Annotated[
    int | None, typer.Option(help="Tokens that scratchpad writes.", min=1, show_default="the context")
]


def mauve(
    model: Annotated[str, typer.Option(help="A folder, a hub id, or an embedded name.")] = "sedd-twin",
    prompts: Annotated[
        str | None,
        typer.Option(help="A corpus by name (its held-out part) or a path. Default: what the model was trained on."),
    ] = None,
    count: Annotated[int, typer.Option(help="How many prompts.", min=1)] = 500,
    way: Annotated[
        str | None,
        typer.Option(help="scratchpad, short, matched (diffusion); plain, top-p, top-k. Default: the first of these."),
    ] = None,
    steps: sampled.Steps = None,
    rule: sampled.Rule = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Nucleus. Default: as the way has it.")] = None,
    top_k: sampled.TopK = None,
    judge: Annotated[
        str, typer.Option(help="smollm2, gpt2-large, ar-twin, a .gguf file, a folder or a hub id.")
    ] = "smollm2",
    seeds: Annotated[int, typer.Option(help="Seeds of the clustering: 1 to this number.", min=1)] = 5,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt.", min=1)] = 50,
    new_tokens: Annotated[int, typer.Option(help="Tokens that follow it.", min=1)] = 50,
    max_tokens: Annotated[int, typer.Option(help="The judge's tokens of a text that MAUVE sees.", min=1)] = 100,
    length: Scratchpad = None,
    seed: sampled.Seed = 0,
    batch: sampled.Batch = 16,
    out: Annotated[
        Path | None, typer.Option(help="Keep the continuations in this file; a stopped run goes on there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """MAUVE and perplexity of continuations: prompts of real text, continued, against what really follows."""
    from unmask.cli.show import progress
    from unmask.evaluation.conditional import conditional_quality
    from unmask.evaluation.judge import find_judge
    from unmask.text.prompts import prompts as find_prompts

    lm, chosen = _chosen(model, way, steps, rule)
    assert lm.tokenizer is not None
    given = find_prompts(
        prompts or str(lm.card.get("data", {}).get("corpus", "wiki")), lm.tokenizer, count=count,
        prompt_tokens=prompt_tokens, reference_tokens=new_tokens,
    )  # fmt: skip
    options: dict[str, Any] = {
        "top_p": chosen.top_p if top_p is None else top_p, "top_k": chosen.top_k if top_k is None else top_k,
        "seed": seed, "batch": batch, "length": length,
    }  # fmt: skip
    if lm.kind == "diffusion":
        options |= {"steps": steps or sampled.DEFAULT_STEPS, "rule": rule}
    made = _continued(lm, model, given, chosen, options, out)
    with progress("judging") as update:
        found = conditional_quality(
            find_judge(judge), lm.tokenizer, given, made,
            seeds=range(1, seeds + 1), max_tokens=max_tokens, progress=update,
        )  # fmt: skip
    rows = found.rows(model, seed=seed)
    if as_json:
        facts = {"model": model, "way": chosen.name, "unlike": given.unlike, "per_seed": found.mauve.per_seed}
        print(json.dumps(facts | options | {"rows": [row.as_json() for row in rows]}))
        return
    _show(rows, f"{model}, {chosen.words}; {found.protocol}")


def _show(rows: "Sequence[Row]", protocol: str) -> None:
    for row in rows:
        print(f"{row.name:27} {row.value:.4f} +- {row.stderr:.4f}   {row.note}".rstrip())
    print(f"{'protocol':27} {protocol}")


def _chosen(model: str, way: str | None, steps: int | None, rule: str | None) -> "tuple[LanguageModel, Way]":
    """The model, with a tokenizer, and a way that fits it."""
    from unmask.compat import load
    from unmask.errors import ConfigError, DataError
    from unmask.evaluation.ways import find_way

    lm = load(model)
    chosen = find_way(lm, way or ("scratchpad" if lm.kind == "diffusion" else "plain"))
    if lm.tokenizer is None:
        raise DataError(
            f"the model {model} has no tokenizer, so prompts cannot be read", "put its tokenizer.json there"
        )
    if lm.kind != "diffusion" and (steps, rule) != (None, None):
        raise ConfigError(f"{model} is autoregressive: --steps and --rule are for diffusion models", "leave them out")
    return lm, chosen


def _continued(
    lm: "LanguageModel", model: str, given: "Prompts", way: "Way", options: dict[str, Any], out: Path | None
) -> "Tensor":
    """The continuations, [N, P + R]: from the file where they are, and to it."""
    import torch

    from unmask.cli.show import progress, say
    from unmask.evaluation.samples import SampleSettings, fingerprint, write_continuations
    from unmask.evaluation.ways import continuations, continue_prompts

    with progress("continuing") as update:
        if out is None:
            return continue_prompts(lm, given, way.name, progress=update, **options)
        settings = SampleSettings(
            name=way.name, model=model, weights=fingerprint(lm), n=len(given), length=given.rows.shape[1],
            seed=options["seed"], steps=options.get("steps"), rule=options.get("rule"), batch=options["batch"],
            top_p=options["top_p"], top_k=options["top_k"],
            extra={"way": way.name, "prompts": given.source, "prompt_tokens": given.ids.shape[1],
                   "length": options["length"]},
        )  # fmt: skip
        made = write_continuations(
            out, lm.tokenizer, settings, lambda first: continuations(lm, given, way.name, first=first, **options),
            progress=update,
        )  # fmt: skip
    say(f"continuations in {out}")
    return torch.stack([torch.from_numpy(ids) for ids in made.ids])
