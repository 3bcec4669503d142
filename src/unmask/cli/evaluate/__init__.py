"""`unmask eval`: a command for each measurement, a module for each command."""

import typer

from unmask.cli.computing import computing
from unmask.cli.evaluate import diversity, harness, judge, mauve, ppl, speed

app = typer.Typer(
    help="Measure a model.",
    epilog="Examples:\n\n  unmask eval ppl --data sotu\n\n  unmask eval ppl --model ar-twin --data my_text.txt",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def measures() -> None:
    """Measure a model."""


app.command("ppl", epilog=ppl.EXAMPLES)(computing(ppl.ppl))
app.command("judge", epilog=judge.EXAMPLES)(computing(judge.judge))
app.command("diversity", epilog=diversity.EXAMPLES)(computing(diversity.diversity))
app.command("harness", epilog=harness.EXAMPLES)(computing(harness.harness))
app.command("mauve", epilog=mauve.EXAMPLES)(computing(mauve.mauve))
app.command("speed", epilog=speed.EXAMPLES)(computing(speed.speed))
