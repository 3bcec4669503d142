"""One door for every model: our folders and runs, SEDD's, GPT-2's, hub ids, and those in the package."""

from pathlib import Path
from typing import Any

import torch

from unmask import checkpoint
from unmask.compat import files, hub, sedd
from unmask.compat.layouts import LAYOUTS, OWN, Layout
from unmask.errors import AssetError, CheckpointError, ConfigError, InputError, unknown
from unmask.model import LanguageModel

WEIGHTS = Path(__file__).parents[1] / "weights"
EMBEDDED = {"sedd-twin": "sedd", "ar-twin": "ar"}  # name -> folder below WEIGHTS
_PICKLES = (".pth", ".pt", ".ckpt")


def load(
    folder_or_hub_id: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    """The model that a folder, a .pth file of SEDD's training code, a hub id or an embedded name means.

    A hub id may name a revision: owner/name@revision.

    device: default CPU. dtype: of the weights, default float32. The model is in eval mode. The layout is
    told by config.json; weights are read strictly, and no code of a checkpoint is run. A run's folder gives
    its `model`. Raises CheckpointError, naming the folder, for a model that is not whole; AssetError for
    one that cannot be fetched; ConfigError for a name that means nothing.
    """
    path = locate(folder_or_hub_id)
    try:
        model = _read(path)
    except CheckpointError:
        raise
    except InputError as error:
        raise CheckpointError(f"{path}: {error.message}", error.hint) from None
    return model if device is None and dtype is None else model.to(device=device, dtype=dtype)


def locate(name: str | Path) -> Path:
    """Where a model is: a path that exists, or else an embedded folder, or else a snapshot from the hub."""
    path = Path(name).expanduser()
    if str(name) and path.exists():
        return path
    if isinstance(name, Path):
        raise CheckpointError(f"there is no folder {name}", "give a model folder, or a name as a string")
    if name in EMBEDDED:
        folder = WEIGHTS / EMBEDDED[name]
        if not folder.is_dir():
            raise AssetError(
                f"this installation of unmask does not carry {name!r}: there is no {folder}",
                "install unmask from its wheel, or give a model folder",
            )
        return folder
    repo, _, revision = name.partition("@")
    if checkpoint.HUB_ID.fullmatch(repo) and (revision or "@" not in name):
        return hub.snapshot(repo, revision or None)
    error = unknown("model", name, EMBEDDED)
    raise ConfigError(error.message, f"{error.hint}; or give an existing folder, or a hub id owner/name")


def _read(path: Path) -> LanguageModel:
    """The model in a folder or file, by its layout."""
    if path.is_file():
        if path.suffix not in _PICKLES:
            raise CheckpointError(f"{path} is not a model folder", f"give its folder {path.absolute().parent}")
        return sedd.load_file(path)
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    where = sedd.config_path(path)
    config = files.read_config(where if where is not None else path / "config.json")
    layout = detect(path, config)
    model = layout.load(path, config)
    if layout.name != OWN:
        made_so = {"layout": layout.name, "paper": layout.paper, "code_licence": layout.licence}
        model.card = {key: value for key, value in made_so.items() if value} | model.card
    return model


def detect(path: Path, config: dict[str, Any]) -> Layout:
    """The layout of a config. CheckpointError where it is of none: it lists the known ones and what was seen."""
    for layout in LAYOUTS:
        if layout.fits(config):
            return layout
    if (path / "checkpoints").is_dir():
        raise CheckpointError(f"the run {path} has not written a model yet", "wait for its first save, or resume it")
    keys = f"model_type {config['model_type']!r}" if "model_type" in config else f"the keys {sorted(config)[:8]}"
    raise CheckpointError(
        f"the config in {path} is of no layout that is known: it has {keys}",
        f"known: {', '.join(f'{layout.name} ({layout.told_by})' for layout in LAYOUTS)}",
    )
