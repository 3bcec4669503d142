"""The `unmask` command: its verbs, and how errors leave it (2 for what the caller gave, 1 for what went wrong)."""

import sys
from typing import Annotated

import typer

from unmask.cli import assets, compare, convert, evaluate, generate, inspect, report, serve, train
from unmask.cli.computing import computing, this_process_is_ours

app = typer.Typer(
    name="unmask",
    help="Diffusion language models: sample, fill gaps, train, score.",
    epilog='Examples:\n\n  unmask sample --steps 32 -n 2\n\n  unmask fill "The state of the [MASK:4] is strong."',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.command("sample", epilog=generate.SAMPLE_EXAMPLES)(computing(generate.sample))
app.command("fill", epilog=generate.FILL_EXAMPLES)(computing(generate.fill))
app.command("serve", epilog=serve.EXAMPLES)(computing(serve.serve))
app.command("train", epilog=train.EXAMPLES)(computing(train.train))
app.add_typer(evaluate.app, name="eval")
app.command("compare", epilog=compare.EXAMPLES)(computing(compare.compare))
app.command("report", epilog=report.EXAMPLES)(computing(report.report))
app.add_typer(assets.app, name="assets")
app.command("convert", epilog=convert.EXAMPLES)(convert.convert)
app.command("info", epilog=inspect.INFO_EXAMPLES)(inspect.info)
app.command("doctor", epilog=inspect.DOCTOR_EXAMPLES)(inspect.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        import unmask

        print(unmask.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diffusion language models: sample, fill gaps, train, score."""


def main() -> None:
    """Entry point of a process of our own."""
    this_process_is_ours()
    run()


def run() -> None:
    """Call the verb, turn an error of ours into two lines and an exit code."""
    from unmask.errors import UnmaskError

    try:
        app()
    except UnmaskError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader, `head` for one, has had enough
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
