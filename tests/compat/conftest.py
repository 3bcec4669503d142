import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import nn

from unmask import compat
from unmask.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def sedd(tmp_path: Path) -> Path:
    """A copy of a SEDD folder in its published layout, to be changed."""
    return Path(shutil.copytree(GOLDEN / "sedd_absorb_tiny", tmp_path / "sedd"))


@pytest.fixture
def hub_folder(tmp_path: Path) -> Callable[..., Path]:
    """A small folder in the layout of a family, as its hub repository has it: golden weights, or made of MDLM's."""

    def make(family: str) -> Path:
        folder = tmp_path / family
        if family in ("mdlm", "bd3lm", "gidd"):
            return Path(shutil.copytree(GOLDEN / f"{family}_tiny", folder))
        if family == "gidd-hybrid":
            shutil.copytree(GOLDEN / "gidd_tiny", folder)
            return _config(folder, p_uniform=0.2)
        if family == "sedd":
            return Path(shutil.copytree(GOLDEN / "sedd_absorb_tiny", folder))
        if family == "sedd-uniform":
            return Path(shutil.copytree(GOLDEN / "sedd_uniform_tiny", folder))
        shutil.copytree(GOLDEN / "mdlm_tiny", folder)
        if family == "duo":
            return _config(folder, architectures=["DUO"], model_type="duo", causal=False, var_min=False)
        assert family in ("sdtt", "sdtt-from-hub")
        weights = load_file(folder / "model.safetensors")
        if family == "sdtt-from-hub":
            save_file({f"backbone.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(SDTT))
        return folder

    return make


# what is read of the Hydra config that SDTT's models carry, among some that is not
SDTT = {
    "seed": 1, "compile": False, "time_conditioning": False,
    "parameterization": {"name": "multi-round-sdtt", "distill_mode": "kl-bwd", "start_from_hf": True},
    "model": {
        "name": "small", "type": "ddit-orig", "hidden_size": 64, "cond_dim": 128, "length": 24, "n_blocks": 2,
        "n_heads": 4, "scale_by_sigma": True, "dropout": 0.1,
    },
    "noise": {"type": "loglinear"}, "tokenizer": {"name": "gpt2"},
}  # fmt: skip


def _config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a folder's config.json; model__length is a key of a key, a value of `...` takes it away."""

    def change(folder: Path, **changes: Any) -> None:
        config = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            where = config
            for part in key.split("__")[:-1]:
                where = where[part]
            if value is ...:
                del where[key.split("__")[-1]]
            else:
                where[key.split("__")[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


@pytest.fixture
def refused() -> Callable[[Path, str], CheckpointError]:
    """Loading raises one CheckpointError, which matches and names the folder."""

    def check(path: Path, message: str) -> CheckpointError:
        with pytest.raises(CheckpointError, match=message) as caught:
            compat.load(path)
        folder = path.parent if path.is_file() else path
        assert str(folder) in str(caught.value)
        return caught.value

    return check


@pytest.fixture
def gpt2(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A small random GPT-2 of transformers, all of whose parameters matter, and the folder it wrote."""
    return make_gpt2(tmp_path / "gpt2")


def make_gpt2(folder: Path, **changes: Any) -> tuple[nn.Module, Path]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 3, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(**shape | {"bos_token_id": 60, "eos_token_id": 60} | changes)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    model.save_pretrained(folder)
    return model, folder
