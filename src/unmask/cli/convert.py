"""`unmask convert`: other people's checkpoints into our own format."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  unmask convert kuleshov-group/mdlm-owt models/mdlm

  unmask convert jdeschena/sdtt@baselines_kld_step_70000 models/sdtt --dtype bfloat16
"""
DTYPES = ("float32", "bfloat16", "float16")


def convert(
    source: Annotated[str, typer.Argument(help="A folder, a .pth file, or a hub id, with @revision if need be.")],
    dest: Annotated[Path, typer.Argument(help="The folder to write: safetensors, JSON and a model card.")],
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, bfloat16 or float16.")] = "float32",
    push: Annotated[str | None, typer.Option(help="Upload it to the hub as owner/name, too.")] = None,
    private: Annotated[bool, typer.Option("--private", help="--push: to a private repository.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a model that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Convert a model of any known layout into unmask's own: SEDD, MDLM, BD3-LM, Duo, SDTT, GIDD, GPT-2."""
    import torch

    from unmask.checkpoint import check_hub_id, push_to_hub
    from unmask.compat import convert as written
    from unmask.errors import unknown

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if push is not None:
        check_hub_id(push)
    model = written(source, dest, dtype=getattr(torch, dtype), overwrite=force)
    facts = {
        "folder": str(dest), "source": source, "layout": model.card.get("layout", "unmask's own"), "kind": model.kind,
        "parameters": model.net.num_parameters, "dtype": dtype,
    }  # fmt: skip
    if push is not None:
        facts["hub"] = push_to_hub(model, push, private=private, dtype=getattr(torch, dtype))
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['layout']}, {facts['parameters']:,} parameters, as {dtype}", file=sys.stderr)
    print(dest)
    if push is not None:
        print(facts["hub"])
