"""`unmask report`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask report

  unmask report --scale paper --check --only table1,table3 --model louaaron/sedd-small=models/sedd-small
"""


def report(
    scale: Annotated[
        str, typer.Option(help="tiny (the embedded twins, more than an hour on 2 cores), paper (the hub's) or smoke.")
    ] = "tiny",
    out: Annotated[
        Path | None, typer.Option(help="The results folder: new, or that of an earlier run. Default: report-SCALE.")
    ] = None,
    only: Annotated[str, typer.Option(help="Parts to measure, with commas: table1, table3, figure1, ...")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER: read a model of the scale from there. May be repeated.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say how long it takes first, then hold each number against the paper's.")
    ] = False,
    draw: Annotated[bool, typer.Option("--draw", help="Measure nothing: only draw the page again.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the accelerator, if any.")] = None,
) -> None:
    """Reproduce the paper: tables 1 to 7 and figure 1, the paper's number beside ours. Goes on where it was stopped."""
    from unmask.cli.show import progress, say
    from unmask.errors import ConfigError, UnmaskError
    from unmask.recipes.paper.check import compare, lines
    from unmask.recipes.paper.plan import hours, plan
    from unmask.recipes.paper.report import find_scale, paper_report
    from unmask.recipes.paper.run import select

    found = find_scale(scale)
    parts = [part.strip() for part in only.split(",") if part.strip()]
    models = dict(_pair(each) for each in model or [])
    known = {who.model for who in (*found.contenders, *found.references)} | {found.judge}
    for name in models:
        if name not in known:
            raise ConfigError(f"scale {scale} has no model {name}", f"it has {', '.join(sorted(known))}")
    if check:
        estimate = hours(select(plan(found), parts), found)
        say(f"about {estimate:.2g} hours on {'one A100' if scale == 'paper' else 'two CPU cores'}")
    folder = out or Path(f"report-{scale}")
    with progress("measuring") as update:
        page, made = paper_report(
            folder, scale=found, only=parts, models=models, device=device, measure=not draw, say=say, update=update
        )
    say(f"open {page}   (the numbers: {folder / 'report.json'}, {folder / 'report.md'})")
    if not check:
        print(page)
        return
    compared = compare(made.entries)
    for line in lines(compared):
        print(line)
    differing = sum(not each.agrees for each in compared)
    print(f"{len(compared) - differing} of {len(compared)} numbers of the paper's protocol agree with it")
    if differing:
        raise UnmaskError(f"{differing} numbers differ by more than 3 standard errors", f"see {page}")


def _pair(given: str) -> tuple[str, str]:
    from unmask.errors import ConfigError

    name, equals, folder = given.partition("=")
    if not (equals and name and folder):
        raise ConfigError(f"--model {given!r}", "give NAME=FOLDER, such as louaaron/sedd-small=models/sedd-small")
    return name, folder
