"""Low-rank adapters (LoRA, Hu et al. 2022) through the `peft` library: a few new weights train, the others stay.

Only while a run lasts: what it saves as a model has the adapters merged into the weights, so that any model folder is
read as any other.
"""

import copy
from typing import Any

import torch
from torch import nn

from unmask.errors import ConfigError
from unmask.model import LanguageModel
from unmask.random import fold

TARGETS = r"blocks\.\d+\.(attn_qkv|attn_out|mlp\.0|mlp\.2)"  # the matrices of every block


def add(model: LanguageModel, rank: int, *, seed: int) -> int:
    """Put adapters of that rank beside the matrices of the blocks, in place, and freeze all else.

    An adapter adds 2 B A x, A drawn by the seed and B zero, so that nothing changes yet. Returns how many numbers
    train. ConfigError where peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            "adapters need the `peft` library, which is not installed", "pip install 'unmask[lora]'"
        ) from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, init_lora_weights=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "adapters"))
        inject_adapter_in_model(config, model.net)
    return sum(p.numel() for p in model.net.parameters() if p.requires_grad)


def merged(model: LanguageModel) -> LanguageModel:
    """The model with its adapters merged into a copy of its weights; the model itself where it has none."""
    if not any(map(_adapted, model.net.modules())):
        return model
    plain = copy.copy(model)
    plain.net = copy.deepcopy(model.net)
    for parent in list(plain.net.modules()):
        for name, child in list(parent.named_children()):
            if _adapted(child):
                setattr(parent, name, _base(child))
    plain.net.requires_grad_(True)
    return plain


def _adapted(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "get_base_layer")


def _base(layer: Any) -> nn.Module:
    layer.merge(safe_merge=True)
    base: nn.Module = layer.get_base_layer()
    return base
