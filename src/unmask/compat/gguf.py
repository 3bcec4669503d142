"""GGUF, the file format of llama.cpp: a reader of our own, and the Llama kind of model and tokenizer in it.

Layout (ggml's docs/gguf.md): magic, version, counts; metadata as typed key-value pairs; names, dimensions, types and
offsets of the tensors; the tensors, aligned. Everything is little-endian. Nothing in a file is run.
"""

import dataclasses
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from torch import Tensor

from unmask.errors import CheckpointError, ConfigError
from unmask.text.tokenizers import Tokenizer

T = TypeVar("T")
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
_VERSIONS = (2, 3)
_BLOCK = 32  # numbers that share a scale
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_CONTROL = 3  # the token type of special tokens


def _halves(blocks: Bytes, start: int) -> Floats:
    """The float16 number at byte `start` of each block, [N, 1] float32."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    """Two 4-bit numbers a byte, [N, 16] to [N, 32]: all the low halves, then all the high ones."""
    return np.concatenate([packed & 15, packed >> 4], 1).astype(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    return (_nibbles(blocks[:, 2:]) - 8) * _halves(blocks, 0)


def _q4_1(blocks: Bytes) -> Floats:
    return _nibbles(blocks[:, 4:]) * _halves(blocks, 0) + _halves(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _halves(blocks, 0)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to store numbers: `size` of them in `bytes` bytes; `decode` takes blocks [N, bytes] to [N, size]."""

    name: str
    size: int
    bytes: int
    decode: Callable[[Bytes], Floats]


KINDS = {
    0: Kind("F32", 1, 4, lambda blocks: blocks.view("<f4").astype(np.float32)),
    1: Kind("F16", 1, 2, lambda blocks: blocks.view("<f2").astype(np.float32)),
    2: Kind("Q4_0", _BLOCK, 18, _q4_0),
    3: Kind("Q4_1", _BLOCK, 20, _q4_1),
    8: Kind("Q8_0", _BLOCK, 34, _q8_0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class GGUFTensor:
    """A tensor as it stands in the file; `float32` reads it. shape: the outermost dimension first."""

    shape: tuple[int, ...]
    kind: Kind
    data: Bytes

    def float32(self) -> Floats:
        """The numbers, in memory of their own."""
        return self.kind.decode(self.data.reshape(-1, self.kind.bytes)).reshape(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class GGUF:
    """metadata: key to number, string, bool or list. tensors: name to tensor, still in the file (memory-mapped)."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    def need(self, key: str, kind: type[T]) -> T:
        """The value of a key of the metadata; CheckpointError if it is absent or not of this kind."""
        value = self.metadata.get(key)
        if not isinstance(value, kind):
            found = "lacks" if value is None else f"has {value!r:.40} as"
            raise CheckpointError(f"{self.path} {found} {key!r}, a {kind.__name__}", "is it a whole model?")
        return value


class _Reader:
    """A place in the bytes of a file, which moves on as things are read."""

    def __init__(self, path: Path, data: Bytes) -> None:
        self.path, self.data, self.at = path, memoryview(data.data), 0

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise CheckpointError(
                f"{self.path} ends in the middle of its header, after {len(self.data)} bytes",
                "it was not copied whole: fetch it again",
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SCALARS:
                code = _SCALARS[inner]
                return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(code))))
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise CheckpointError(f"{self.path} has metadata of the unknown type {kind}", "it is damaged, or too new")
        return self.number(_SCALARS[kind])


def read_gguf(path: str | Path) -> GGUF:
    """The file's metadata and tensors; tensors of the types F32, F16, Q4_0, Q4_1 and Q8_0.

    CheckpointError for a file that is not there, not GGUF, cut short, or has a tensor of another type.
    """
    path = Path(path)
    try:
        data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "give the path of a .gguf file") from None
    if bytes(data[:4]) != b"GGUF":
        raise CheckpointError(f"{path} is not a GGUF file: it begins with {bytes(data[:4])!r}", "is it the right file?")
    reader = _Reader(path, data[4:])
    version = reader.number("I")
    if version not in _VERSIONS:
        raise CheckpointError(f"{path} is GGUF version {version}", "this reader knows the versions 2 and 3")
    try:
        num_tensors, num_keys = reader.number("Q"), reader.number("Q")
        metadata = {reader.string(): reader.value(reader.number("I")) for _ in range(num_keys)}
        infos = [_info(reader) for _ in range(num_tensors)]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} has a string that is not UTF-8: {error}", "it is damaged") from None
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-(4 + reader.at) // alignment) * alignment
    return GGUF(path, metadata, {info.name: _tensor(path, data[start:], info) for info in infos})


class _Info(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _info(reader: _Reader) -> _Info:
    """What the header says of a tensor. The file counts dimensions from the innermost one."""
    name, rank = reader.string(), reader.number("I")
    if rank > 4:
        raise CheckpointError(f"{reader.path}: {name} has {rank} dimensions", "the file is damaged")
    shape = tuple(reader.number("Q") for _ in range(rank))[::-1]
    return _Info(name, shape, reader.number("I"), reader.number("Q"))


def _tensor(path: Path, data: Bytes, info: _Info) -> GGUFTensor:
    """The tensor in the bytes behind the header."""
    name, shape = info.name, info.shape
    if info.kind not in KINDS:
        known = ", ".join(k.name for k in KINDS.values())
        raise CheckpointError(f"{path}: {name} has type {info.kind}, which is not implemented", f"known: {known}")
    stored = KINDS[info.kind]
    if (shape[-1] if shape else 1) % stored.size:
        raise CheckpointError(f"{path}: {name} of shape {shape} is not in blocks of {stored.size}", "it is damaged")
    end = info.offset + math.prod(shape) // stored.size * stored.bytes
    if end > len(data):
        raise CheckpointError(
            f"{path} ends before {name} does: {len(data)} bytes of tensors, {end} are needed",
            "it was not copied whole: fetch it again",
        )
    return GGUFTensor(shape, stored, data[info.offset : end])


def llama_config(gguf: GGUF) -> dict[str, Any]:
    """The keyword arguments of transformers' LlamaConfig. CheckpointError for what is not a plain Llama."""
    architecture = gguf.need("general.architecture", str)
    if architecture != "llama":
        raise CheckpointError(f"{gguf.path} is a model of the kind {architecture!r}", "only 'llama' is read")
    heads, width = gguf.need("llama.attention.head_count", int), gguf.need("llama.embedding_length", int)
    rotated = gguf.metadata.get("llama.rope.dimension_count", width // heads)
    scaling = gguf.metadata.get("llama.rope.scaling.type", "none")
    if rotated != width // heads or scaling != "none" or "rope_freqs.weight" in gguf.tensors:
        raise CheckpointError(f"{gguf.path} scales or cuts its rotary positions", "only plain ones are implemented")
    tokens = gguf.metadata.get("llama.vocab_size", len(gguf.metadata.get("tokenizer.ggml.tokens", ())))
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": gguf.need("llama.feed_forward_length", int),
        "num_hidden_layers": gguf.need("llama.block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.metadata.get("llama.attention.head_count_kv", heads),
        "max_position_embeddings": gguf.need("llama.context_length", int),
        "rms_norm_eps": gguf.need("llama.attention.layer_norm_rms_epsilon", float),
        "rope_theta": gguf.metadata.get("llama.rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "bos_token_id": gguf.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf.metadata.get("tokenizer.ggml.eos_token_id"),
    }


def _llama_names(config: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name in the file to name in transformers and shape."""
    D, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = D // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = {
        "attn_norm": ("input_layernorm", (D,)),
        "attn_q": ("self_attn.q_proj", (D, D)),
        "attn_k": ("self_attn.k_proj", (kv, D)),
        "attn_v": ("self_attn.v_proj", (kv, D)),
        "attn_output": ("self_attn.o_proj", (D, D)),
        "ffn_norm": ("post_attention_layernorm", (D,)),
        "ffn_gate": ("mlp.gate_proj", (F, D)),
        "ffn_up": ("mlp.up_proj", (F, D)),
        "ffn_down": ("mlp.down_proj", (D, F)),
    }
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_embd.weight": ("model.embed_tokens.weight", (V, D)),
        "output_norm.weight": ("model.norm.weight", (D,)),
    }
    if not config["tie_word_embeddings"]:
        names["output.weight"] = ("lm_head.weight", (V, D))
    for i in range(config["num_hidden_layers"]):
        for theirs, (ours, shape) in layer.items():
            names[f"blk.{i}.{theirs}.weight"] = (f"model.layers.{i}.{ours}.weight", shape)
    return names


def llama_state_dict(gguf: GGUF) -> dict[str, Tensor]:
    """The weights under the names of transformers' LlamaForCausalLM, float32; a tied head is the embedding.

    llama.cpp keeps the rows of q and k of a head in pairs (2i, 2i + 1) that rotate together; transformers in halves
    (i, i + d/2). CheckpointError where a tensor is missing, has another shape, or is not known.
    """
    config = llama_config(gguf)
    names = _llama_names(config)
    wrong = sorted(names.keys() ^ gguf.tensors.keys())
    if wrong:
        verb = "lacks" if wrong[0] in names else "has the unknown tensor"
        raise CheckpointError(f"{gguf.path} {verb} {wrong[0]}", "is it a whole Llama model?")
    state = {}
    for name, (ours, shape) in names.items():
        stored = gguf.tensors[name]
        if stored.shape != shape:
            raise CheckpointError(f"{gguf.path}: {name} has shape {stored.shape}, expected {shape}", "it is damaged")
        weight = torch.from_numpy(stored.float32())
        if ".attn_q." in name or ".attn_k." in name:
            half = shape[1] // config["num_attention_heads"] // 2
            weight = weight.view(-1, half, 2, shape[1]).transpose(1, 2).reshape(shape)
        state[ours] = weight
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    return state


def llama_tokenizer(gguf: GGUF) -> Tokenizer:
    """The byte-level BPE tokenizer in the file, as it was before the conversion.

    Before byte-level BPE, "smollm" cuts every digit from its neighbours. CheckpointError for a file without a
    tokenizer, or with one of another kind.
    """
    model, before = gguf.metadata.get("tokenizer.ggml.model"), gguf.metadata.get("tokenizer.ggml.pre")
    if model is None:
        raise CheckpointError(f"{gguf.path} has no tokenizer", "take a GGUF file that carries its tokenizer")
    if model != "gpt2" or before not in ("smollm", "gpt-2"):
        raise CheckpointError(
            f"{gguf.path} has a tokenizer of the kind {model!r} ({before!r})",
            "byte-level BPE ('gpt2') is read, with the pre-tokenizer 'smollm' or 'gpt-2'",
        )
    tokens, merges = gguf.need("tokenizer.ggml.tokens", list), gguf.need("tokenizer.ggml.merges", list)
    kinds = gguf.need("tokenizer.ggml.token_type", list)
    vocab = {token: i for i, token in enumerate(tokens)}
    try:
        core = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ", 1)) for m in merges]))
    except Exception as error:  # the Rust side raises a bare Exception for everything
        raise CheckpointError(f"{gguf.path}: its tokenizer does not fit together: {error}", "it is damaged") from None
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if before == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    try:
        return Tokenizer(core)
    except ConfigError as error:
        raise CheckpointError(f"{gguf.path}: {error.message}", error.hint) from None
