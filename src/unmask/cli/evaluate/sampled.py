"""What the commands that measure samples share: a file of samples, or a model that writes them first."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unmask.evaluation.samples import SampleSet

Samples = Annotated[
    Path | None,
    typer.Argument(help="A sample set, JSON lines with a text each, or a text file.", show_default=False),
]  # fmt: skip
Model = Annotated[
    str | None, typer.Option(help="Sample first: a folder, a hub id, or an embedded name.", show_default=False)
]
Out = Annotated[Path | None, typer.Option(help="Keep the samples of --model in this file.", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Denoising steps (diffusion). Default 64.", show_default=False)]
Rule = Annotated[str | None, typer.Option(help="tweedie, euler or ancestral (diffusion). Default: as trained.")]
Number = Annotated[int, typer.Option("-n", "--number", help="How many samples.", min=1)]
Length = Annotated[int | None, typer.Option(help="Tokens of a sample. Default: the context.", min=1)]
TopP = Annotated[float, typer.Option("--top-p", help="Nucleus: the smallest set with this probability.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Only the k likeliest tokens.")]
Draws = Annotated[str, typer.Option("--draws", help="exact, or float32-race: the published arithmetic.")]
Seed = Annotated[int, typer.Option(help="Repeats the samples.")]
Batch = Annotated[int, typer.Option(help="Samples written at a time.", min=1)]
DEFAULT_STEPS = 64


def plain(value: Any) -> Any:
    """A value for JSON, which has no NaN: the error of a single sample is null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def the_samples(
    file: Path | None,
    model: str | None,
    out: Path | None,
    *,
    steps: int | None,
    rule: str | None,
    number: int,
    length: int | None,
    top_p: float,
    top_k: int | None,
    draws: str,
    seed: int,
    batch: int,
) -> Iterator["SampleSet"]:
    """The set in the file, or the one that the model writes, to `out` or to a folder that vanishes."""
    import tempfile

    from unmask.cli.show import progress, say
    from unmask.compat import load
    from unmask.errors import ConfigError
    from unmask.evaluation.samples import SampleSettings, fingerprint, read_samples, write_samples
    from unmask.model import DiffusionLM

    if (file is None) == (model is None):
        raise ConfigError("give either a file of samples or --model, which writes some", "and not both")
    if file is not None:
        if out is not None:
            raise ConfigError("--out is where the samples of --model go", "leave it out: the samples are in a file")
        yield read_samples(file)
        return
    assert model is not None
    lm = load(model)
    diffusion = isinstance(lm, DiffusionLM)
    if not diffusion and (steps, rule) != (None, None):
        raise ConfigError(f"{model} is autoregressive: --steps and --rule are for diffusion models", "leave them out")
    counted = isinstance(lm, DiffusionLM) and lm.block_size is None  # in blocks, each has its own steps
    settings = SampleSettings(
        name=Path(model).name, model=model, weights=fingerprint(lm), n=number, length=length or lm.length, seed=seed,
        steps=steps or DEFAULT_STEPS if counted else steps, rule=rule, draws=draws, top_p=top_p, top_k=top_k,
        batch=min(batch, number),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, progress("sampling") as update:
        made = write_samples(out or Path(folder) / "samples.jsonl", lm, settings, progress=update)
        if out is not None:
            say(f"samples in {out}")
        yield made
