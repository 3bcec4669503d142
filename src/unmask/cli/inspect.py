"""`unmask info` and `unmask doctor`."""

import json
import sys
from typing import Annotated, Any

import typer

INFO_EXAMPLES = "Examples:\n\n  unmask info sedd-twin\n\n  unmask info runs/mine --json"
DOCTOR_EXAMPLES = "Examples:\n\n  unmask doctor\n\n  unmask doctor --json"


def info(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or an embedded name.")] = "sedd-twin",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What a model is: kind, size, process, tokenizer, and its card."""
    from unmask.checkpoint import describe
    from unmask.compat import load

    lm = load(model)
    facts = {"model": model, "parameters": lm.net.num_parameters} | describe(lm)
    if as_json:
        print(json.dumps(facts))
        return
    _print_tree(facts)


def _print_tree(values: dict[str, Any], indent: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}")
            _print_tree(value, indent + "  ")
        elif isinstance(value, list) and len(value) > 6:
            print(f"{indent}{key:<22} {len(value)} entries")
        else:
            print(f"{indent}{key:<22} {value:,}" if type(value) is int else f"{indent}{key:<22} {value}")


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also connect to the model hub.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check this machine: versions, devices, speed of dtypes, compiler, extras, cache, embedded models.

    Exit 1 if something is broken.
    """
    import os
    import platform

    import torch

    import unmask
    from unmask.assets import cache_folder
    from unmask.compat import EMBEDDED, load
    from unmask.errors import UnmaskError
    from unmask.recipes import machine

    facts: dict[str, Any] = {
        "unmask": unmask.__version__, "python": platform.python_version(), "torch": torch.__version__,
        "cache": str(cache_folder()), **machine.facts(hub=hub),
    }  # fmt: skip
    problems = []
    for name in EMBEDDED:
        try:
            facts[f"model {name}"] = f"{load(name).net.num_parameters:,} parameters"
        except UnmaskError as error:
            facts[f"model {name}"] = f"broken: {error.message}"
            problems.append(name)
    folder = cache_folder()
    nearest = next(p for p in [folder, *folder.parents] if p.exists())
    if not os.access(nearest, os.W_OK):
        problems.append("cache")
        facts["cache"] += " (cannot be written: set UNMASK_CACHE)"
    if as_json:
        print(json.dumps(facts | {"problems": problems}))
    else:
        _print_tree(facts)
    if problems:
        print(f"broken: {', '.join(problems)}", file=sys.stderr)
        raise typer.Exit(1)
