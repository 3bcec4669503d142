"""`unmask serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.generate import Compile, Device, Dtype, Quantize

if TYPE_CHECKING:
    from unmask.cli.loading import Arithmetic
    from unmask.model import LanguageModel

EXAMPLES = """Examples:

  unmask serve

  unmask serve sedd-twin ar-twin --port 8080 --votes votes.jsonl

  UNMASK_API_KEY=... unmask serve runs/mine --host 0.0.0.0
"""


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, hub ids or embedded names; the first is the default. Default: sedd-twin."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own wants an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one and says which.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="UNMASK_API_KEY", help="What clients have to send.", show_default=False),
    ] = None,
    votes: Annotated[Path | None, typer.Option(help="Keep the votes of blind comparisons in this file.")] = None,
    slots: Annotated[int, typer.Option(help="Samples of a model that are moved at once.")] = 16,
    queue: Annotated[int, typer.Option(help="Samples of a model that may wait beside them; more get 429.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take, its wait included.")] = 120.0,
    max_n: Annotated[int, typer.Option(help="Samples of one request at most.")] = 16,
    max_steps: Annotated[int, typer.Option(help="Denoising steps of one request at most.")] = 1024,
    max_length: Annotated[int, typer.Option(help="Tokens of one sample at most, the given ones included.")] = 2048,
    max_body: Annotated[int, typer.Option(help="Bytes of one request at most.")] = 1 << 20,
    device: Device = None,
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    compile: Compile = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line for every request, on stderr.")] = False,
) -> None:
    """Serve models over HTTP: OpenAI's completions, fill-in-the-middle, templates with gaps, a page that shows it."""
    from unmask.cli.loading import Arithmetic
    from unmask.errors import ConfigError

    try:
        from unmask.serve.server import serve as run
        from unmask.serve.settings import Settings
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}", "pip install 'unmask[serve]'") from None

    settings = Settings(
        host=host, port=port, api_key=api_key, votes=votes, slots=slots, queue=queue, timeout=timeout, max_n=max_n,
        max_steps=max_steps, max_length=max_length, body=max_body,
    )  # fmt: skip
    served = _named(models or ["sedd-twin"], device, Arithmetic(dtype, quantize, compile))
    run(served, settings, access_log=access_log)


def _named(models: list[str], device: str | None, arithmetic: "Arithmetic") -> "dict[str, LanguageModel]":
    """The models by the names that clients use: a folder's is its last part."""
    from unmask.cli.loading import load_model
    from unmask.errors import ConfigError

    found: dict[str, LanguageModel] = {}
    for given in models:
        name = Path(given).resolve().name if Path(given).exists() else given
        if name in found:
            raise ConfigError(f"two models are called {name}", "serve each once; a folder is called by its last part")
        found[name] = load_model(given, device, arithmetic)
    return found
