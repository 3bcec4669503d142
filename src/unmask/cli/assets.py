"""`unmask assets`: what can be fetched, what is here, where it is."""

import json
from typing import Annotated

import typer

app = typer.Typer(
    help="Corpora, judge models and benchmarks: list them, fetch one, find where it is.",
    epilog="Examples:\n\n  unmask assets list\n\n  unmask assets fetch sotu",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="A name from `unmask assets list`.")]
EXAMPLES = "Examples:\n\n  unmask assets {verb} sotu\n\n  unmask assets {verb} gutenberg"


@app.command("list", epilog="Examples:\n\n  unmask assets list\n\n  unmask assets list --json | head -1")
def list_assets(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List every asset: name, size, whether it is here, licence."""
    from unmask import assets

    for row, folder in assets.listing():
        if as_json:
            print(json.dumps({
                "name": row.name, "bytes": row.size_bytes, "folder": folder and str(folder), "licence": row.licence,
                "description": row.description, "attribution": row.attribution,
            }))  # fmt: skip
        else:
            here = "here" if folder else "-"
            print(f"{row.name:<14} {assets.megabytes(row.size_bytes):>9}  {here:<5} {row.description} ({row.licence})")


@app.command("fetch", epilog=EXAMPLES.format(verb="fetch"))
def fetch(name: Name) -> None:
    """Download an asset, check its hash, and print the folder it is in."""
    from unmask import assets

    print(assets.fetch(name))


@app.command("where", epilog=EXAMPLES.format(verb="where"))
def where(name: Name) -> None:
    """Print the folder of an asset that has been fetched; exit 1 if it has not."""
    from unmask import assets

    folder = assets.where(name)
    if folder is None:
        typer.echo(f"{name} is not here; fetch it with: unmask assets fetch {name}", err=True)
        raise typer.Exit(1)
    print(folder)
