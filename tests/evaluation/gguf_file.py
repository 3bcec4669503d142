"""GGUF files, written here from the format's description: what the reader is tested on."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
CODES = {UINT32: "I", FLOAT32: "f", BOOL: "?", UINT64: "Q"}
F32, F16, Q4_0, Q4_1, Q8_0 = 0, 1, 2, 3, 8


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def typed(value: Any) -> tuple[int, bytes]:
    """The type of a value of Python in GGUF, and its bytes."""
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return UINT32, struct.pack("<I", value)
    if isinstance(value, float):
        return FLOAT32, struct.pack("<f", value)
    if isinstance(value, str):
        return STRING, string(value)
    items = [typed(each) for each in value]
    return ARRAY, struct.pack("<IQ", items[0][0], len(items)) + b"".join(data for _, data in items)


def write(
    path: Path,
    metadata: dict[str, Any],
    tensors: dict[str, tuple[tuple[int, ...], int, bytes]],
    *,
    version: int = 3,
    alignment: int = 32,
) -> Path:
    """tensors: name to shape (outermost first), type and bytes."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, data = typed(value)
        head += string(key) + struct.pack("<I", kind) + data
    body = b""
    for name, (shape, kind, data) in tensors.items():
        body += b"\0" * (-len(body) % alignment)
        dims = struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += string(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, len(body))
        body += data
    path.write_bytes(head + b"\0" * (-len(head) % alignment) + body)
    return path


NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def permute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """What llama.cpp's conversion does to the rows of q and k, in its own words."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tokenizer_metadata(tokenizer: Any, pre: str = "smollm") -> dict[str, Any]:
    core = json.loads(tokenizer._core.to_str())
    vocab = tokenizer._core.get_vocab(with_added_tokens=True)
    special = {added["content"] for added in core["added_tokens"]}
    tokens = sorted(vocab, key=vocab.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in core["model"]["merges"]],
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.bos_token_id": 5,
        "tokenizer.ggml.eos_token_id": vocab["<|endoftext|>"],
    }


def llama(tokenizer: Any, *, tied: bool = True) -> Any:
    """A small random Llama of transformers, all of whose parameters matter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=40, rms_norm_eps=1e-5,
        rope_theta=500.0, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator) + (1.0 if p.ndim == 1 else 0.0))
    return model


def llama_tensors(model: Any) -> dict[str, tuple[tuple[int, ...], int, bytes]]:
    config, tensors = model.config, {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = OUTER.get(name)
        if stored is None:
            _, _, layer, rest = name.split(".", 3)
            inner = rest.removesuffix(".weight")
            stored = f"blk.{layer}.{NAMES[inner]}.weight"
            if inner.endswith(("q_proj", "k_proj")):
                heads = config.num_attention_heads if inner.endswith("q_proj") else config.num_key_value_heads
                weight = permute(weight, heads)
        tensors[stored] = (tuple(weight.shape), F32, weight.numpy().astype("<f4").tobytes())
    return tensors


def llama_metadata(model: Any, tokenizer: Any) -> dict[str, Any]:
    config = model.config
    return {
        "general.architecture": "llama",
        "llama.vocab_size": config.vocab_size,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.context_length": config.max_position_embeddings,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": 500.0,
        "llama.rope.dimension_count": 8,
    } | tokenizer_metadata(tokenizer)


def half(value: float) -> bytes:
    return np.float16(value).tobytes()
