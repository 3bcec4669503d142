"""GIDD in the hub's layout (von Ruette et al. 2025, arXiv 2503.04482; dvruette/gidd-small-p_unif-0.1 and others)."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.compat import dit, files
from unmask.diffusion.hybrid import Hybrid
from unmask.diffusion.parametrizations import CleanLogits, LeaveOneOut, Parametrization
from unmask.diffusion.processes import Absorbing, Process
from unmask.diffusion.schedules import Gidd
from unmask.errors import CheckpointError
from unmask.model import DiffusionLM
from unmask.nn.transformer import TransformerConfig

_KEYS = {
    "width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads", "length": "max_seq_len",
    "cond_dim": "timestep_cond_dim", "dropout": "attention_dropout",
}  # fmt: skip
_WAVES = ("rotary_emb.cos_cached", "rotary_emb.sin_cached")


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model: masks and random tokens, conditioned on its own time. The last of vocab_size states is the mask.

    Without random tokens (p_uniform 0) its noise is absorbing, and tokens are final.
    """
    states = files.need(config, "vocab_size", int, folder)
    _check_mask(folder, states)
    share = files.need(config, "p_uniform", float, folder)
    time = Gidd(share, files.need({"t_eps": 1e-4} | config, "t_eps", float, folder))
    shape = dit.shape(config, states, folder, keys=_KEYS)
    tensors = _without_waves(dit.bare(files.read_published(folder)), shape, folder)
    process: Process = Hybrid(states - 1, time, share) if share else Absorbing(states - 1, time)
    reading: Parametrization = LeaveOneOut() if share else CleanLogits()
    return DiffusionLM(
        dit.body(shape, tensors, folder), process, reading, conditioning="t",
        tokenizer=dit.tokenizer(folder, states - 1, mask=True),
    )  # fmt: skip


def _check_mask(folder: Path, states: int) -> None:
    """CheckpointError where the folder's tokenizer has its mask elsewhere than last."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
        masks = [token["id"] for token in added if token["content"] == "[MASK]"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a tokenizer: {error}", "fetch the file again") from None
    if masks not in ([], [states - 1]):
        raise CheckpointError(
            f"{folder}: tokenizer.json has the mask at {masks[0]}, the model has {states} states",
            "the mask must be the last of them: the folder mixes files of different models",
        )


def _without_waves(tensors: dict[str, Tensor], shape: TransformerConfig, where: Path) -> dict[str, Tensor]:
    """Without the tables of rotary cosines and sines, [1, L, 3, 1, d] in halves, checked to be ours."""
    half = shape.width // shape.heads // 2
    angle = torch.arange(shape.length)[:, None] / 10_000 ** (torch.arange(half) / half)
    for name, own in zip(_WAVES, (angle.cos(), angle.sin()), strict=True):
        if name not in tensors:
            continue
        table = tensors[name]
        if table.shape != (1, shape.length, 3, 1, 2 * half):
            raise CheckpointError(f"{where}: {name} has shape {list(table.shape)}, which does not fit its config.json")
        if not torch.allclose(
            table[0, :, 0, 0].float(), own.repeat(1, 2), rtol=0, atol=1e-2 if table.itemsize < 4 else 1e-4
        ):
            raise CheckpointError(f"{where}: {name} is not that of 10000^(-2 i / d)", "the model uses other positions")
    return {name: tensor for name, tensor in tensors.items() if name not in _WAVES}
