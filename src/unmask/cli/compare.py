"""`unmask compare`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask compare

  unmask compare --out my-report --diffusion runs/sedd --autoregressive runs/ar
"""


def compare(
    out: Annotated[Path, typer.Option(help="The folder to write; new or empty, unless --force.")] = Path("report"),
    diffusion: Annotated[str, typer.Option(help="A diffusion model: folder, hub id or embedded name.")] = "sedd-twin",
    autoregressive: Annotated[str, typer.Option(help="An autoregressive model with the same tokens.")] = "ar-twin",
    data: Annotated[
        str | None,
        typer.Option(help="What to score: as for `eval ppl`. Default: the models' own held-out text."),
    ] = None,
    scale: Annotated[str, typer.Option(help="demo (two to three minutes) or smoke (seconds).")] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
) -> None:
    """Put a diffusion model and its autoregressive twin side by side: report/index.html and report.json."""
    from unmask.cli.show import progress, say
    from unmask.compat import load
    from unmask.errors import ConfigError
    from unmask.recipes.heldout import heldout_rows
    from unmask.recipes.report import make_report

    if out.exists() and any(out.iterdir()) and not (force and (out / "report.json").exists()):
        raise ConfigError(f"the output folder {out} is not empty", "choose another, or --force to replace a report")
    sedd, ar = load(diffusion), load(autoregressive)
    rows, protocol = heldout_rows(sedd, data, 2048 if scale == "demo" else 32, say=say)
    with progress("measuring") as update:
        page = make_report(sedd, ar, rows, out, scale=scale, seed=seed, say=say, progress=update, protocol=protocol)
    say(f"open {page}   (the numbers: {page.parent / 'report.json'})")
    print(page)
