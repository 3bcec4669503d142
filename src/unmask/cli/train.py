"""`unmask train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unmask.recipes.run import Run

EXAMPLES = """Examples:

  unmask train --data my_texts/ --out runs/mine --minutes 10

  unmask train --data mine.jsonl --field body --out runs/tuned --init sedd-twin

  unmask train --data my_texts/ --out runs/blocks --block-size 16

  unmask train --recipe twins/sedd --out runs/sedd

  unmask train --resume runs/sedd
"""
DATA = "A .txt, .jsonl or .parquet, a folder of them, a hub data set owner/name, or a corpus by name."


def train(
    run: Annotated[Path | None, typer.Argument(help="With --resume: the folder of the run to go on with.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A named run, for example twins/sedd or smoke.")] = None,
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    field: Annotated[str | None, typer.Option(help="What holds the text in .jsonl, .parquet, data sets: text.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; new or empty, unless --resume.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    init: Annotated[str | None, typer.Option(help="Begin with this model: a name, a folder or a hub id.")] = None,
    lora: Annotated[int | None, typer.Option(help="With --init: train adapters of this rank only.")] = None,
    block_size: Annotated[
        int | None, typer.Option(help="With --data: denoise blocks of so many tokens, from left to right: any length.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="With --data: how long to train, about; 10.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps the whole run has.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the run.")
    ] = None,
) -> None:
    """Train a model, from a recipe or on your own text. Prints the folder of the trained model.

    With --data the sizes are chosen from the text, the machine and the minutes, and printed with their reasons; what
    --set and --steps say wins.
    """
    from unmask.cli.show import say
    from unmask.errors import ConfigError
    from unmask.recipes import train as recipes

    folder = run or out
    if folder is None or (run is not None and out is not None):
        raise ConfigError("say where the run is, once", "unmask train --recipe NAME --out DIR, or --resume DIR")
    if run is not None and not resume:
        raise ConfigError(f"unexpected argument {str(run)!r}", "write --out for a new run, --resume to go on with one")
    by_hand = [*(changes or []), *([] if steps is None else [f"train.steps={steps}"])]
    if block_size is not None:
        by_hand += ["model.kind=mdlm", f"model.block_size={block_size}"]
    if resume and ((folder / "config.json").exists() or (recipe is None and data is None)):
        fixed = {"--init": init, "--lora": lora, "--minutes": minutes, "--field": field, "--block-size": block_size}
        _refuse({name: value for name, value in fixed.items() if value is not None}, "of a run is decided at its start")
        recipes.resume(folder, change=_changed(by_hand), say=say)
    elif recipe is not None:
        own = {"--minutes": minutes, "--field": field, "--lora": lora, "--block-size": block_size}
        _refuse({name: value for name, value in own.items() if value is not None}, "goes with --data")
        recipes.start(_changed(by_hand)(_recipe(recipe, data, init)), folder, say=say)
    elif data is not None:
        recipes.check_new(folder)
        recipes.start(_chosen(data, field or "text", init, lora or 0, minutes, by_hand), folder, say=say)
    else:
        raise ConfigError("nothing to train on", "give --recipe NAME or --data FILE_OR_FOLDER")
    say(f"the model is in {folder / 'model'}; try: unmask sample --model {folder}")
    print(folder / "model")


def _refuse(given: dict[str, object], why: str) -> None:
    from unmask.errors import ConfigError

    if given:
        raise ConfigError(f"{' and '.join(given)} {why}", "leave it out, or start a new run with --data")


def _changed(by_hand: list[str]) -> Callable[[Run], Run]:
    from unmask.recipes.run import with_settings

    return lambda base: with_settings(base, by_hand)


def _recipe(name: str, data: str | None, init: str | None) -> Run:
    """A recipe, on other text or beginning with a model where that is asked for."""
    from unmask.recipes.table import recipe

    base = recipe(name)
    settings = base.data if data is None else dataclasses.replace(base.data, corpus=data)
    if init is not None:
        settings = dataclasses.replace(settings, tokenizer="model")
    return dataclasses.replace(base, data=settings, init=init)


def _chosen(data: str, field: str, init: str | None, lora: int, minutes: float | None, by_hand: list[str]) -> Run:
    """A run on one's own text, its sizes chosen and said with their reasons."""
    from unmask.cli.show import say
    from unmask.compat import load
    from unmask.errors import ConfigError
    from unmask.recipes import own
    from unmask.recipes.run import names, with_settings
    from unmask.text.corpora import corpus
    from unmask.training.loop import accelerator

    if lora and init is None:
        raise ConfigError(
            "--lora trains adapters of a model that is there already", "give --init MODEL, or leave it out"
        )
    base = with_settings(own.own_run(data, field=field, init=init, lora=lora), by_hand)
    first = None if init is None else load(init)
    if accelerator().is_main_process:
        say(f"counting the text of {data}")
    amount, machine = own.Amount.of(corpus(data, field=field)), own.Machine.here()
    time = own.MINUTES if minutes is None else minutes
    run, reasons = own.choose(base, names(by_hand), amount, machine, minutes=time, first=first)
    if not accelerator().is_main_process:
        return run
    size = f"{amount.train_bytes + amount.heldout_bytes:,} bytes of text in {amount.documents:,} documents"
    say(f"chosen for {size}, {machine.words()} and {time:g} minutes (--set KEY=VALUE wins):")
    for settings, why in reasons:
        say(f"  {settings:<42} {why}")
    return run
