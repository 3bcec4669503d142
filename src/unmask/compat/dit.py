"""The body that SEDD's descendants share, behind a prefix: MDLM, BD3-LM, Duo, SDTT and GIDD.

Their parameter names are SEDD's, so the map of the weights is to take the prefix off.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoint import fill
from unmask.compat import files
from unmask.compat.sedd import INV_FREQ, frequencies
from unmask.errors import CheckpointError
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.tokenizers import Tokenizer, gpt2

PREFIXES = ("backbone.backbone.", "backbone.")
GPT2_TOKENS = 50257
_ANCHOR = "vocab_embed.embedding"
# our fields of the body, and the keys of the configs that transformers' classes of MDLM, BD3-LM and Duo write
KEYS = {
    "width": "hidden_dim", "depth": "n_blocks", "heads": "n_heads", "length": "model_length", "cond_dim": "cond_dim",
    "dropout": "dropout",
}  # fmt: skip


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefix that the embedding has; names without it stay, for strict loading to report."""
    prefix = next((p for p in PREFIXES if p + _ANCHOR in tensors), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def drop_scalars(tensors: dict[str, Tensor], names: tuple[str, ...], where: Path) -> dict[str, Tensor]:
    """Without these buffers, which hold settings of a training and no weights; CheckpointError if one is no scalar."""
    for name in names:
        if name in tensors and tensors[name].numel() != 1:
            raise CheckpointError(f"{where}: {name} has shape {list(tensors[name].shape)}, expected one number")
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def shape(
    config: dict[str, Any], states: int, where: Path, *, keys: dict[str, str] = KEYS, **more: Any
) -> TransformerConfig:
    """The body of a config: as many inputs and outputs as `states`. `keys`: our fields by the config's keys."""
    fields: dict[str, Any] = {
        field: files.need(config, key, float if field == "dropout" else int, where) for field, key in keys.items()
    }
    return TransformerConfig(**{"num_inputs": states, "num_outputs": states} | fields | more)


def body(config: TransformerConfig, tensors: dict[str, Tensor], where: Path) -> Transformer:
    """The network with these weights, in eval mode; CheckpointError naming `where` if they do not fit."""
    with torch.device("meta"):
        net = Transformer(config)
    fill(net, tensors | {INV_FREQ: frequencies(tensors.get(INV_FREQ), config, where)}, str(where))
    net.eval()
    return net


def tokenizer(folder: Path, tokens: int, *, mask: bool) -> Tokenizer | None:
    """The tokenizer of a model of `tokens` clean tokens: GPT-2's by its size, padded or not; else the folder's own.

    CheckpointError where the folder's has more ids than the model has states (the mask may be one of them).
    """
    if tokens == GPT2_TOKENS:
        return gpt2()
    if tokens == GPT2_TOKENS + 1:
        return gpt2("[PAD]")
    if not (folder / "tokenizer.json").is_file():
        return None
    found = Tokenizer.load(folder)
    if found.vocab_size > tokens + mask:
        raise CheckpointError(
            f"{folder}: tokenizer.json has {found.vocab_size} tokens, the model {tokens}",
            "the folder mixes files of different models",
        )
    return found


def only(config: dict[str, Any], where: Path, **allowed: Any) -> None:
    """CheckpointError where a key of the config is there and is not this value: what the loader does not have."""
    for key, value in allowed.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{where}: {key} = {config[key]!r} is not implemented", f"only {value!r} is")
