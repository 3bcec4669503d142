"""GPT-2 in the hub's layout (Radford et al. 2019, `model_type: gpt2`) as a setting of our transformer."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoint import fill
from unmask.compat import files
from unmask.errors import CheckpointError
from unmask.model import AutoregressiveLM
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.tokenizers import gpt2

GPT2_TOKENS = 50257
# what a key of the config must be, if it is there; the first value is GPT-2's default
_ONLY: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
_OUTER = {
    "wte.weight": "vocab_embed.embedding",
    "wpe.weight": "position_embed.embedding",
    "ln_f.weight": "output_layer.norm_final.weight",
    "ln_f.bias": "output_layer.norm_final.bias",
    "lm_head.weight": "output_layer.linear.weight",
}
_INNER = {
    "ln_1": "norm1",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_out",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
}
_LAYER = re.compile(r"h\.(\d+)\.(.+)\.(weight|bias)")
_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")


def load(folder: Path, config: dict[str, Any]) -> AutoregressiveLM:
    """The model in a hub folder; float32, CPU, eval mode.

    Documents start with the config's eos_token_id. Of its dropouts only resid_pdrop exists here.
    """
    tensors = rename(files.read_published(folder))
    shape = network(config, folder, tied=_tied(config, tensors, folder))
    if shape.tied:
        tensors.pop(_OUTER["lm_head.weight"], None)
    with torch.device("meta"):
        net = Transformer(shape)
    fill(net, tensors, str(folder))
    net.eval()
    tokenizer = gpt2() if shape.num_inputs == GPT2_TOKENS else None
    return AutoregressiveLM(net, bos_id=_document_start(config, folder), tokenizer=tokenizer)


def network(config: dict[str, Any], where: Path, *, tied: bool = True) -> TransformerConfig:
    """The body: causal, learned positions, biases. CheckpointError for a setting it does not have."""
    for key, allowed in _ONLY.items():
        if config.get(key, allowed[0]) not in allowed:
            raise CheckpointError(
                f"{where}: {key} = {config[key]!r} is not implemented",
                f"only {' or '.join(map(repr, allowed))} is",
            )
    width = files.need(config, "n_embd", int, where)
    if config.get("n_inner") not in (None, 4 * width):
        raise CheckpointError(
            f"{where}: n_inner = {config['n_inner']!r} is not implemented",
            f"only null or {4 * width}, 4 n_embd, is",
        )
    tokens = files.need(config, "vocab_size", int, where)
    return TransformerConfig(
        num_inputs=tokens,
        num_outputs=tokens,
        width=width,
        depth=files.need(config, "n_layer", int, where),
        heads=files.need(config, "n_head", int, where),
        length=files.need(config, "n_positions", int, where),
        block_size=1,
        positions="learned",
        bias=True,
        tied=tied,
        dropout=files.need({"resid_pdrop": 0.1} | config, "resid_pdrop", float, where),
    )


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layouts. Names that are not GPT-2's stay as they are: strict loading reports them."""
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix("transformer.")
        if _BUFFER.fullmatch(short):
            continue  # the causal mask
        layer = _LAYER.fullmatch(short)
        if layer is None or layer[2] not in _INNER:
            ours[_OUTER.get(short, name)] = tensor
            continue
        transposed = layer[3] == "weight" and ".c_" in short  # Conv1D keeps [in, out]
        ours[f"blocks.{layer[1]}.{_INNER[layer[2]]}.{layer[3]}"] = tensor.T if transposed else tensor
    return ours


def publish(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The hub's names and layouts of a state of ours: the inverse of `rename`."""
    outer = {name: theirs for theirs, name in _OUTER.items()}
    inner = {name: theirs for theirs, name in _INNER.items()}
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        if name in outer:
            theirs[outer[name] if outer[name].startswith("lm_head") else f"transformer.{outer[name]}"] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        module, kind = rest.rsplit(".", 1)
        flipped = kind == "weight" and ".c_" in inner[module]
        theirs[f"transformer.h.{layer}.{inner[module]}.{kind}"] = tensor.T.contiguous() if flipped else tensor
    return theirs


def _tied(config: dict[str, Any], tensors: dict[str, Tensor], where: Path) -> bool:
    """Whether the head is the embedding; a head that is stored must then equal it."""
    if not files.need({"tie_word_embeddings": True} | config, "tie_word_embeddings", bool, where):
        return False
    head, embedding = tensors.get(_OUTER["lm_head.weight"]), tensors.get(_OUTER["wte.weight"])
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{where}: lm_head.weight differs from wte.weight, which the config ties to it",
            'if they are meant to differ, set "tie_word_embeddings": false in config.json',
        )
    return True


def _document_start(config: dict[str, Any], where: Path) -> int:
    """eos_token_id, which GPT-2 puts between documents; the first where there is a list."""
    value = config.get("eos_token_id", GPT2_TOKENS - 1)
    if isinstance(value, list) and value:
        value = value[0]
    return files.need({"eos_token_id": value}, "eos_token_id", int, where)
