"""Decoding at the speed of reading the weights: one token a row through native code, on the CPU.

A token multiplies one row with every matrix. PyTorch's products are made for many rows, and some twenty small calls a
layer stand between them: a token of GPT-2 in bfloat16 takes more than twice the time of reading its weights (LOG.md).
`native/decode.cpp` takes it through all blocks in one call, on the same weights and the same cache. What is between
the weights is float32 there, so that its logits are nearer to those of a float32 network than the plain path's are,
and a row comes out the same whatever rows are beside it.
"""

import ctypes
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.nn.cache import KVCache, StaticCache
from unmask.nn.native.build import build
from unmask.nn.static import StaticStep
from unmask.nn.transformer import Block, Transformer

SOURCE = Path(__file__).parent / "native" / "decode.cpp"
KINDS = {torch.bfloat16: "half", torch.float32: "single"}
MOST_ROWS = 64  # with more, PyTorch's own products are as fast


class _Step(ctypes.Structure):
    """`Step` of decode.cpp."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("batch", "width", "heads", "inner", "depth", "capacity", "length", "threads")
    )


def compiled_cache(net: Transformer, batch: int, capacity: int | None = None) -> KVCache:
    """An empty cache whose tokens, one at a time, take the fast way: native code on the CPU, CUDA graphs on CUDA.

    As `Transformer.cache`, which is what it is for prompts. The weights have to stay as they are while it is used.
    Raises ConfigError for a network that has no such way, naming why; on the CPU also without a C++ compiler.
    """
    device = net.vocab_embed.embedding.device
    if device.type == "cuda":
        cache = StaticCache.like(net.cache(batch, capacity))
        cache.engine = StaticStep(net, cache)
        return cache
    reason = why_not(net)
    if reason is not None:
        raise ConfigError(f"this network cannot be compiled for decoding: {reason}", "leave compile out")
    made = net.cache(batch, capacity)
    made.engine = Decoder(net) if batch <= MOST_ROWS else None
    return made


def why_not(net: Transformer) -> str | None:
    """What keeps a network from native code, or None."""
    kind, device = net.vocab_embed.embedding.dtype, net.vocab_embed.embedding.device
    if sys.platform != "linux" or device.type != "cpu":
        return f"it takes CUDA, or Linux on the CPU, and this is {device.type} on {sys.platform}"
    if net.config.cond_dim is not None:
        return "it reads a condition"
    numbers = [p for module in (*_layers(net), _Head(net)) for p in (module.weight, module.bias) if p is not None]
    if kind not in KINDS or not all(type(p) is nn.Parameter and p.dtype == kind and p.is_contiguous() for p in numbers):
        return "its weights are not plain ones, all float32 or all bfloat16"
    return None


class Decoder:
    """One token a row through a network, for `KVCache.engine`. The weights are bound when it is made."""

    def __init__(self, net: Transformer) -> None:
        self.net, self.kind = net, KINDS[net.vocab_embed.embedding.dtype]
        pointers = [_pointer(p) for layer in _layers(net) for p in (layer.weight, layer.bias)]
        build(SOURCE)  # now, so that what is missing is said before a text is begun
        self.layers = (ctypes.c_void_p * len(pointers))(*pointers)

    def __call__(self, x: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] of the token after x [B, 1], which becomes part of the cache."""
        return self.head(self.hidden(x, cache))

    def hidden(self, x: Tensor, cache: KVCache) -> Tensor:
        """Hidden states [B, D], float32, of x [B, 1], which becomes part of the cache. ConfigError where it is full."""
        net, c, place = self.net, self.net.config, cache.room(1) - 1
        h = net.vocab_embed(x[:, 0]).float()
        if net.position_embed is not None:
            h = h + net.position_embed.embedding[place]
        turn = None if net.rotary_emb is None else torch.cat(net.rotary_emb(place, place + 1, torch.float32)).flatten()
        step = _Step(len(h), c.width, c.heads, 4 * c.width, c.depth, cache.capacity, place, torch.get_num_threads())
        run = _function(f"decode_{self.kind}", 6)
        run(ctypes.byref(step), self.layers, *map(_pointer, (cache.keys, cache.values, turn, h)))
        cache.commit(1)
        return net.output_layer.norm_final(h)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [B, V] of hidden states [B, D], float32, in the type of the weights."""
        head = _Head(self.net)
        return product(hidden, head.weight, head.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b by native code: [B, N] in the weights' type, from x [B, D] float32, weight [N, D] and bias [N]."""
    out = weight.new_empty(len(x), len(weight))
    step = _Step(batch=len(x), width=x.shape[1], inner=len(weight), threads=torch.get_num_threads())
    run = _function(f"project_{KINDS[weight.dtype]}", 5)
    run(ctypes.byref(step), *map(_pointer, (weight, bias, x, out)))
    return out


class _Head:
    """The weights of the last layer."""

    def __init__(self, net: Transformer) -> None:
        own = net.output_layer.linear
        self.weight = net.vocab_embed.embedding if own is None else own.weight
        self.bias = None if own is None else own.bias


def _layers(net: Transformer) -> Iterator[Any]:
    """What has weights in the blocks, in the order of `Layer` in decode.cpp."""
    for block in net.blocks:
        assert isinstance(block, Block)
        yield from (block.norm1, block.attn_qkv, block.attn_out, block.norm2, block.mlp[0], block.mlp[2])


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


@functools.cache
def _function(name: str, arguments: int) -> Any:
    """A function of decode.cpp that takes pointers and returns nothing."""
    found = getattr(build(SOURCE), name)
    found.argtypes, found.restype = [ctypes.c_void_p] * arguments, None
    return found
