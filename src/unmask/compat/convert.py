"""Any known layout into our own: a folder of safetensors and JSON, with a model card."""

from pathlib import Path

import torch

from unmask import checkpoint
from unmask.compat.load import load
from unmask.errors import ConfigError
from unmask.model import LanguageModel
from unmask.model_card import model_card


def convert(
    source: str | Path, dest: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> LanguageModel:
    """Read what `load` reads and write it into the folder `dest`, README.md included. Returns the model.

    dtype: of the weights written, default as they are read, float32. The card names the source. Raises ConfigError
    where `dest` is the source or holds something and `overwrite` is not given, and as `load` and `checkpoint.save`.
    """
    target, here = Path(dest).expanduser(), Path(source).expanduser()
    if here.exists() and target.exists() and here.resolve() in (target.resolve(), *target.resolve().parents):
        raise ConfigError(
            f"{target} is the source, or inside of it", "choose another folder: the source stays as it is"
        )
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ConfigError(f"{target} is not empty", "choose another folder, or say that it may be written over")
    model = load(source)
    model.card = {"source": here.name if here.exists() else str(source)} | model.card
    checkpoint.save(model, target, dtype=dtype, readme=model_card(model, target.name, dtype))
    return model
