"""`unmask train`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask train --recipe twins/sedd --out runs/sedd

  unmask train --data my_texts/ --out runs/mine --set lr=1e-3

  unmask train --resume runs/sedd
"""


def train(
    run: Annotated[Path | None, typer.Argument(help="With --resume: the folder of the run to go on with.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A named run, for example twins/sedd or smoke.")] = None,
    data: Annotated[str | None, typer.Option(help="A .txt, a .jsonl, a folder of them, or a corpus by name.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; new or empty, unless --resume.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    steps: Annotated[int | None, typer.Option(help="How many steps the whole run has.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the run.")
    ] = None,
) -> None:
    """Train a model, from a recipe or on your own text. Prints the folder of the trained model."""
    from unmask.cli.show import say
    from unmask.errors import ConfigError
    from unmask.recipes import train as recipes
    from unmask.recipes.run import DataSettings, Run, with_settings
    from unmask.recipes.table import recipe as named

    folder = run or out
    if folder is None or (run is not None and out is not None):
        raise ConfigError("say where the run is, once", "unmask train --recipe NAME --out DIR, or --resume DIR")
    if run is not None and not resume:
        raise ConfigError(f"unexpected argument {str(run)!r}", "write --out for a new run, --resume to go on with one")

    def change(base: Run) -> Run:
        return recipes.replace_steps(with_settings(base, changes or []), steps)

    if resume and ((folder / "config.json").exists() or (recipe is None and data is None)):
        recipes.resume(folder, change=change, say=say)
    else:
        if (recipe is None) == (data is None) and recipe is None:
            raise ConfigError("nothing to train on", "give --recipe NAME or --data FILE_OR_FOLDER")
        base = named(recipe) if recipe is not None else Run("custom", data=DataSettings(corpus=str(data)))
        if recipe is not None and data is not None:
            base = dataclasses.replace(base, data=dataclasses.replace(base.data, corpus=data))
        recipes.start(change(base), folder, say=say)
    say(f"the model is in {folder / 'model'}; try: unmask sample --model {folder}")
    print(folder / "model")
