"""`unmask sample` and `unmask fill`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.infilling import (
    Asked,
    Candidates,
    Filled,
    Force,
    Length,
    LinesAtOnce,
    Prefix,
    Prior,
    Repeats,
    Source,
    Suffix,
    Template,
    fill_gaps,
)
from unmask.cli.loading import Arithmetic, load_model
from unmask.cli.watch import Export, Wanted, Watch, watched

if TYPE_CHECKING:
    from unmask.model import LanguageModel
    from unmask.sampling import Canvas, Sample

SAMPLE_EXAMPLES = """Examples:

  unmask sample --steps 32 -n 2 --seed 1

  unmask sample --model ar-twin --top-p 0.95 --prompt "Fellow citizens," --json

  unmask sample --watch --export run.gif

  unmask sample -n 10000 --batch-size auto --out samples.jsonl --seed 1

  unmask sample -n 1000 --verifier verify.py:accept --until 20 --out accepted.jsonl
"""
FILL_EXAMPLES = """Examples:

  unmask fill "Hi, my name is [MASK:12] and that's why I'm late."

  unmask fill "The state of the [MASK:4] is strong." -n 3 --steps 16 --top-p 0.9

  unmask fill "The state of the [MASK:1-8] is strong." --json

  unmask fill --prefix "Fellow citizens of" --suffix ", I thank you." --length 2-5

  unmask fill --in gaps.jsonl --out filled.jsonl --seed 1

  cat gaps.jsonl | unmask fill --in - --seed 1

  unmask fill "The state of the [MASK:4] is strong." --watch --export replay.html
"""

BATCH = 16  # samples at a time, where nothing else is said

Model = Annotated[str, typer.Option(help="A folder, a hub id, or an embedded name: sedd-twin, ar-twin.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps (diffusion). Default 64.", show_default=False)]
Rule = Annotated[
    str | None,
    typer.Option(
        help="tweedie, euler, ancestral, first-hitting, confidence, margin, entropy, random-order, left-to-right, "
        "threshold or entropy-bounded (diffusion). Default: as trained."
    ),
]
Tau = Annotated[float | None, typer.Option(help="threshold: the probability from which tokens are taken together.")]
Gamma = Annotated[float | None, typer.Option(help="entropy-bounded: the bound, in nats.")]
Grid = Annotated[str | None, typer.Option(help="tweedie, euler, ancestral: linear or cosine times.")]
BlockSize = Annotated[
    int | None, typer.Option(help="Of a model with blocks (BD3-LM): tokens denoised together. Default: its own.")
]
TopP = Annotated[float, typer.Option("--top-p", help="Nucleus: the smallest set with this probability.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Only the k likeliest tokens.")]
Temperature = Annotated[float, typer.Option(help="Below 1 is safer, above 1 bolder, 0 is greedy.")]
Number = Annotated[int, typer.Option("-n", "--number", help="How many samples.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Repeats the draws; without it every call differs.")]
DrawMode = Annotated[str, typer.Option("--draws", help="exact, or float32-race: the published arithmetic.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the accelerator, if there is one.")]
Dtype = Annotated[str, typer.Option(help="Of the weights: float32, bfloat16, or float64, which no batch changes.")]
Quantize = Annotated[
    str | None, typer.Option(help="int8: round the large matrices, for speed and memory.", show_default=False)
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network first, with torch.compile.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Keep the samples in this file, batch by batch; go on with it after a kill.", show_default=False),
]
BatchSize = Annotated[
    str | None,
    typer.Option(help="Samples at a time: a number, or auto, which tries. Default: at most 16.", show_default=False),
]
Verify = Annotated[
    str | None,
    typer.Option(
        "--verifier",
        help="Keep what it accepts: module:function, file.py:function, or a command (text on stdin, exit code 0).",
        show_default=False,
    ),
]
Until = Annotated[int | None, typer.Option(help="Stop at so many accepted samples.", min=1, show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line: text, tokens, and how it was made.")]


def sample(
    model: Model = "sedd-twin",
    prompt: Annotated[str, typer.Option(help="Text that the sample begins with.")] = "",
    steps: Steps = None,
    rule: Rule = None,
    tau: Tau = None,
    gamma: Gamma = None,
    grid: Grid = None,
    block_size: BlockSize = None,
    top_p: TopP = 1.0,
    top_k: TopK = None,
    temperature: Temperature = 1.0,
    number: Number = 1,
    length: Annotated[int | None, typer.Option(help="Tokens, the prompt included. Default: the context.")] = None,
    seed: Seed = None,
    draws: DrawMode = "exact",
    device: Device = None,
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    compile: Compile = False,
    batch_size: BatchSize = None,
    out: Out = None,
    verifier: Verify = None,
    until: Until = None,
    verifier_timeout: Annotated[float, typer.Option(help="Seconds that a verifier may take for a text.")] = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Write over an --out of other settings.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say on stderr where the time goes, trials of batches too.")
    ] = False,
    watch: Watch = False,
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Write text. Several samples are separated by a line of three dashes."""
    from unmask.cli import many
    from unmask.errors import ConfigError
    from unmask.sampling import Canvas

    wanted = many.Wanted(number, out, batch_size, verifier, until, verifier_timeout, force, profile, as_json)
    seen = Wanted(watch, export, number)
    seen.check(out=out, batch_size=batch_size, verifier=verifier, until=until, profile=profile)
    ranks = wanted.ranks(device)
    arithmetic = Arithmetic(dtype, quantize, compile)
    lm = load_model(model, device or ranks.device, arithmetic)
    size = lm.length if length is None else length
    if size < 1:
        raise ConfigError(f"a sample of {size} tokens", "ask for a length of at least 1")
    ids = lm.tokenizer.encode(prompt) if lm.tokenizer else []
    canvas = Canvas.prompt(ids, size) if ids else Canvas.blank(size)
    options = {"top_p": top_p, "top_k": top_k, "temperature": temperature, "draws": draws}
    given = _given(lm, model, _steps(steps, rule, tau, gamma, grid, block_size))
    with many.profiling(lm, wanted, new_tokens=int((~canvas.frozen).sum())) as made:
        if wanted.kept:
            many.write(lm, canvas, model, given | options, seed, arithmetic.facts, wanted, ranks, made)
        else:
            made(_generate(lm, canvas, model, given | options, seed, number, as_json, arithmetic, seen, wanted.batch))


def fill(
    template: Template = None,
    model: Model = "sedd-twin",
    prefix: Prefix = None,
    suffix: Suffix = None,
    length: Length = None,
    source: Source = None,
    out: Filled = None,
    batch_size: LinesAtOnce = None,
    force: Force = False,
    prior: Prior = "flat",
    candidates: Candidates = 64,
    repeats: Repeats = 8,
    steps: Steps = None,
    rule: Rule = None,
    tau: Tau = None,
    gamma: Gamma = None,
    grid: Grid = None,
    block_size: BlockSize = None,
    top_p: TopP = 1.0,
    top_k: TopK = None,
    temperature: Temperature = 1.0,
    number: Number = 1,
    seed: Seed = None,
    draws: DrawMode = "exact",
    device: Device = None,
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    compile: Compile = False,
    watch: Watch = False,
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Fill the gaps of a template, anywhere in it; the given text stays as it is, byte for byte."""
    asked = Asked(template, prefix, suffix, length, source, out, force, batch_size)
    asked.check()
    from unmask.evaluation.infill import Search

    seen = Wanted(watch, export, number)
    seen.check(**{"in": source})
    search = Search(prior=prior, candidates=candidates, repeats=repeats)
    arithmetic = Arithmetic(dtype, quantize, compile)
    lm = load_model(model, device, arithmetic)
    options = {"top_p": top_p, "top_k": top_k, "temperature": temperature, "draws": draws}
    given = _given(lm, model, _steps(steps, rule, tau, gamma, grid, block_size))
    by = {"model": model, **arithmetic.facts}
    fill_gaps(lm, asked, by, search, given | options, seed, number, as_json, seen)


def _steps(
    steps: int | None, rule: str | None, tau: float | None, gamma: float | None, grid: str | None, block: int | None
) -> dict[str, Any]:
    """What says how a diffusion model is sampled."""
    return {"steps": steps, "rule": rule, "tau": tau, "gamma": gamma, "grid": grid, "block_size": block}


def _given(lm: "LanguageModel", name: str, steps: dict[str, Any]) -> dict[str, Any]:
    """The options for diffusion models that were given; ConfigError where the model is none."""
    from unmask.errors import ConfigError
    from unmask.model import AutoregressiveLM

    given = {k: v for k, v in steps.items() if v is not None}
    if isinstance(lm, AutoregressiveLM) and given:
        raise ConfigError(
            f"{name} is autoregressive: --{next(iter(given)).replace('_', '-')} is for diffusion models", "leave it out"
        )
    return given


def _generate(
    lm: "LanguageModel",
    canvas: "Canvas",
    name: str,
    options: dict[str, Any],
    seed: int | None,
    number: int,
    as_json: bool,
    arithmetic: Arithmetic,
    seen: Wanted,
    batch: Callable[["LanguageModel", "Canvas", dict[str, Any]], int] | None = None,
) -> int:
    """Sample and print, batch by batch, with a progress bar, or watched one by one. How many samples were made."""
    from unmask.cli.show import progress
    from unmask.model import AutoregressiveLM
    from unmask.random import fold
    from unmask.sampling import sample as draw
    from unmask.sampling.batching import many

    seed = fold("seed", time.time_ns()) if seed is None else seed
    seen.check_model(lm, name)
    if seen and not isinstance(lm, AutoregressiveLM):
        for i, result in enumerate(watched(lm, canvas, name, options, seed, seen)):
            _print(lm, result, name, i, seed, as_json, arithmetic)
        return number
    size = min(BATCH, number) if batch is None else batch(lm, canvas, options)
    for first in range(0, number, size):
        rows = many(canvas, min(size, number - first))
        with progress("sampling" if size >= number else f"samples {first} to {first + rows.batch - 1}") as update:
            result = draw(lm, rows, seed=seed, first_sample=first, progress=update, **options)
        _print(lm, result, name, first, seed, as_json, arithmetic)
    return number


def _print(
    lm: "LanguageModel", result: "Sample", name: str, first: int, seed: int, as_json: bool, arithmetic: Arithmetic
) -> None:
    """The samples first, first + 1, … on stdout; what is to be said of them, once, on stderr."""
    for notice in result.notices if first == 0 else ():
        print(f"note: {notice}", file=sys.stderr)
    assert lm.tokenizer is not None
    for i, tokens in enumerate(result.tokens.tolist(), first):
        text = lm.tokenizer.decode(tokens)
        if as_json:
            facts = {
                "text": text, "tokens": tokens, "model": name, "sample": i, "seed": seed, "rule": result.rule,
                "reads": result.reads, "steps": result.steps, "nfe": result.nfe, "draws": result.draws,
                "seconds": round(result.seconds, 4), **arithmetic.facts,
            }  # fmt: skip
            print(json.dumps(facts))
        else:
            print(("---\n" if i else "") + text)
