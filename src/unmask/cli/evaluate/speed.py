"""`unmask eval speed`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unmask.evaluation.latency import BreakEven, Latency
    from unmask.evaluation.sizes import Pair

EXAMPLES = """Examples:

  unmask eval speed --steps 16,64,256 --batch 1,4,16

  unmask eval speed --size small --dtype bfloat16 --steps 64,1024 --whole-steps 1 --json
"""


def speed(
    size: Annotated[
        str | None, typer.Option(help="small, medium, xl (random weights) or twins.", show_default="twins")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A diffusion model of your own, instead of a size.")] = None,
    against: Annotated[str | None, typer.Option(help="The autoregressive model that --model is compared with.")] = None,
    steps: Annotated[str, typer.Option(help="Numbers of diffusion steps, joined by commas.")] = "16,32,64",
    batch: Annotated[str, typer.Option(help="Sequences at once, joined by commas.")] = "1",
    tokens: Annotated[
        int | None, typer.Option(help="New tokens a sequence.", min=2, show_default="the context")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    quantize: Annotated[
        str | None, typer.Option(help="int8: round the large matrices of both sides.", show_default=False)
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the networks, before the clock starts.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps ...", show_default="cpu")] = None,
    repeats: Annotated[int, typer.Option(help="Times that each competitor has its turn.", min=1)] = 3,
    whole_steps: Annotated[
        int, typer.Option(help="Run up to so many steps whole, extrapolate the others.", min=0)
    ] = 64,
    whole_tokens: Annotated[
        int | None, typer.Option(help="The same for tokens of the autoregressive side.", min=0, show_default="all")
    ] = None,
    whole_batch: Annotated[int, typer.Option(help="Extrapolate all runs of larger batches.", min=0)] = 1,
    hf: Annotated[
        bool | None,
        typer.Option("--hf/--no-hf", help="Time Hugging Face's generate too.", show_default="where it is GPT-2"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Seconds a sequence and tokens a second: diffusion by steps against a key-value cache, and where they break even.

    Speed does not depend on the weights: the sizes are those of the paper, with random ones.
    """
    from unmask.cli.show import progress, say
    from unmask.evaluation.results import provenance
    from unmask.evaluation.sizes import made_faster
    from unmask.evaluation.speed import against as compared
    from unmask.evaluation.speed import break_even, latency

    pair = made_faster(_pair(size, model, against, device, dtype), quantize=quantize, compile=compile, told=say)
    with progress("timing") as update:
        found = latency(
            pair, steps=_numbers("steps", steps), batches=_numbers("batch", batch), tokens=tokens, repeats=repeats,
            whole_steps=whole_steps, whole_tokens=whole_tokens, whole_batch=whole_batch, hf=hf, progress=update,
        )  # fmt: skip
    even, ratios = break_even(found), compared(found)
    if as_json:
        settings = {"size": pair.name, "steps": steps, "batch": batch, "repeats": repeats}
        print(json.dumps({
            "latency": [x.as_json() | {"protocol": x.protocol} for x in found],
            "break_even": [{"steps": x.steps, "batch": x.batch, "tried": list(x.tried)} for x in even],
            "seconds_over_hugging_face": ratios,
            "provenance": provenance(**settings, arithmetic=pair.arithmetic),
        }))  # fmt: skip
        return
    _show(found, even, ratios)


def _pair(size: str | None, model: str | None, against: str | None, device: str | None, dtype: str) -> "Pair":
    import torch

    from unmask.errors import ConfigError, unknown
    from unmask.evaluation.speed import build_pair, given_pair

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in dtypes:
        raise unknown("dtype", dtype, dtypes)
    if (model is None) != (against is None) or (size is not None and model is not None):
        raise ConfigError("--model and --against go together, and without --size", "give both, or --size alone")
    if model is not None and against is not None:
        return given_pair(model, against, device=device, dtype=dtypes[dtype])
    return build_pair(size or "twins", device=device, dtype=dtypes[dtype])


def _numbers(option: str, given: str) -> list[int]:
    from unmask.errors import ConfigError

    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(f"--{option} {given!r} is not a list of whole numbers", f"as in --{option} 1,4,16") from None


def _show(found: "list[Latency]", even: "list[BreakEven]", ratios: dict[int, float]) -> None:
    first = found[0]
    print(
        f"{first.size}: {first.tokens} new tokens, {first.dtype}, {first.device}, {first.threads} threads, "
        f"{first.weights}; median of {len(first.times)} interleaved repeats, quartiles in brackets"
    )
    print(f"{'':24} {'batch':>5} {'seconds':>10} {'':19} {'tokens/s':>9} {'tokens/evaluation':>18}")
    for x in found:
        mark = "" if x.measured else f"  {x.note}"
        quartiles = f"[{x.low:.3g}, {x.high:.3g}]"
        print(
            f"{x.name:24} {x.batch:5} {x.seconds:10.3g} {quartiles:19} {x.throughput:9.4g} "
            f"{x.tokens_per_evaluation:18.3g}{mark}"
        )
    for point in even:
        print(f"{point.steps} steps: the cache gives more tokens a second {point.words}")
    for size_of_batch, ratio in ratios.items():
        print(f"batch {size_of_batch}: our cached engine takes {ratio:.2f} of the time of Hugging Face's generate")
