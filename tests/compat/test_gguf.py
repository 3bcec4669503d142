import re
import struct

import numpy as np
import pytest

from evaluation import gguf_file as file
from unmask.compat.gguf import llama_config, llama_state_dict, llama_tokenizer, read_gguf
from unmask.errors import CheckpointError
from unmask.text.tokenizers import train_bpe

NUMBERS = np.random.default_rng(0)


def packed(kind, blocks):
    """Random blocks of a type, and their numbers by the words of ggml's description, one at a time."""
    data, numbers = b"", []
    for _ in range(blocks):
        d, m = NUMBERS.normal(size=2).astype(np.float16)
        if kind == file.Q8_0:
            quants = NUMBERS.integers(-128, 128, 32)
            data += file.half(d) + quants.astype(np.int8).tobytes()
            numbers += [float(d) * int(q) for q in quants]
            continue
        nibbles = NUMBERS.integers(0, 16, 32)
        data += file.half(d) + (file.half(m) if kind == file.Q4_1 else b"")
        data += bytes(int(nibbles[i]) | int(nibbles[i + 16]) << 4 for i in range(16))
        numbers += [float(d) * int(q) + float(m) if kind == file.Q4_1 else float(d) * (int(q) - 8) for q in nibbles]
    return data, np.array(numbers, np.float32)


@pytest.fixture
def small(tmp_path):
    """A file with a tensor of every type, at an alignment of its own."""
    plain = NUMBERS.normal(size=(2, 3)).astype(np.float32)
    tensors = {"f32": ((2, 3), file.F32, plain.tobytes()), "f16": ((5,), file.F16, np.arange(5, dtype="<f2").tobytes())}
    expected = {"f32": plain, "f16": np.arange(5, dtype=np.float32)}
    for name, kind in (("q4_0", file.Q4_0), ("q4_1", file.Q4_1), ("q8_0", file.Q8_0)):
        data, numbers = packed(kind, 6)
        tensors[name], expected[name] = ((3, 64), kind, data), numbers.reshape(3, 64)
    metadata = {"general.alignment": 64, "a.name": "é", "a.flag": True, "a.list": [1, 2], "a.words": ["x", "yz"]}
    return file.write(tmp_path / "small.gguf", metadata | {"a.float": 0.5}, tensors, alignment=64), expected


def test_every_type_is_read_as_described(small):
    path, expected = small
    found = read_gguf(path)
    assert found.metadata == {
        "general.alignment": 64, "a.name": "é", "a.flag": True, "a.list": [1, 2], "a.words": ["x", "yz"], "a.float": 0.5
    }  # fmt: skip
    assert found.tensors.keys() == expected.keys()
    for name, numbers in expected.items():
        read = found.tensors[name].float32()
        assert read.dtype == np.float32 and read.shape == numbers.shape
        np.testing.assert_allclose(read, numbers, rtol=1e-6, atol=0)


def test_a_block_by_hand(tmp_path):
    nibbles = bytes([0x21] * 16)  # the first 16 numbers are 1, the last 16 are 2
    tensors = {
        "q4_0": ((32,), file.Q4_0, file.half(0.5) + nibbles),
        "q4_1": ((32,), file.Q4_1, file.half(0.5) + file.half(10.0) + nibbles),
        "q8_0": ((32,), file.Q8_0, file.half(2.0) + bytes([0xFF] * 32)),
    }
    read = {k: v.float32().tolist() for k, v in read_gguf(file.write(tmp_path / "x.gguf", {}, tensors)).tensors.items()}
    assert read["q4_0"] == [-3.5] * 16 + [-3.0] * 16
    assert read["q4_1"] == [10.5] * 16 + [11.0] * 16
    assert read["q8_0"] == [-2.0] * 32


def test_a_file_cut_anywhere_is_refused(small):
    path, _ = small
    whole = path.read_bytes()
    for size in [*range(4, 400, 7), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_gguf(path)


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 and more"])
def test_what_is_not_gguf(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a GGUF file"):
        read_gguf(path)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_gguf(tmp_path / "nothing.gguf")
    with pytest.raises(CheckpointError, match="version 1"):
        read_gguf(file.write(tmp_path / "x.gguf", {}, {}, version=1))
    with pytest.raises(CheckpointError, match=r"t has type 12.*\n.*known: F32, F16, Q4_0, Q4_1, Q8_0"):
        read_gguf(file.write(tmp_path / "x.gguf", {}, {"t": ((32,), 12, b"\0" * 64)}))
    with pytest.raises(CheckpointError, match="not in blocks of 32"):
        read_gguf(file.write(tmp_path / "x.gguf", {}, {"t": ((4, 8), file.Q8_0, b"\0" * 34)}))
    with pytest.raises(CheckpointError, match="5 dimensions"):
        read_gguf(file.write(tmp_path / "x.gguf", {}, {"t": ((1,) * 5, file.F32, b"\0" * 4)}))
    path = file.write(tmp_path / "x.gguf", {"key": "value"}, {})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"key" + struct.pack("<I", file.STRING), b"key" + struct.pack("<I", 77)))
    with pytest.raises(CheckpointError, match="unknown type 77"):
        read_gguf(path)
    path.write_bytes(data.replace(b"value", b"\xff\xff\xff\xff\xff"))
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_gguf(path)


def test_the_tokenizer_comes_back(tmp_path, small_tokenizer):
    found = llama_tokenizer(
        read_gguf(file.write(tmp_path / "x.gguf", file.tokenizer_metadata(small_tokenizer, "gpt-2"), {}))
    )
    text = "The State of the Union, in 1,234 words; déjà vu 😀\n\n  <|endoftext|>x"
    assert found.encode(text) == small_tokenizer.encode(text) and found.decode(found.encode(text)) == text
    assert found.fingerprint == small_tokenizer.fingerprint and found.eos_id == small_tokenizer.eos_id


def test_smollm_reads_every_digit_by_itself(tmp_path):
    numbers = train_bpe(["12 12 12 12 12"] * 9, 258)  # learns 12
    found = {
        pre: llama_tokenizer(read_gguf(file.write(tmp_path / "x.gguf", file.tokenizer_metadata(numbers, pre), {})))
        for pre in ("gpt-2", "smollm")
    }
    assert len(found["gpt-2"].encode("12")) == 1 and len(found["smollm"].encode("12")) == 2
    assert found["smollm"].decode(found["smollm"].encode("  12 x")) == "  12 x"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.model": None}, "has no tokenizer"),
        ({"tokenizer.ggml.model": "llama"}, "of the kind 'llama'"),
        ({"tokenizer.ggml.pre": "qwen2"}, "'qwen2'"),
        ({"tokenizer.ggml.merges": None}, "lacks 'tokenizer.ggml.merges', a list"),
        ({"tokenizer.ggml.merges": ["ab abc"]}, "does not fit together"),
    ],
)
def test_tokenizers_that_are_refused(tmp_path, small_tokenizer, changes, message):
    metadata = {k: v for k, v in (file.tokenizer_metadata(small_tokenizer) | changes).items() if v is not None}
    with pytest.raises(CheckpointError, match=message):
        llama_tokenizer(read_gguf(file.write(tmp_path / "x.gguf", metadata, {})))


@pytest.mark.parametrize(
    ("changes", "tensors", "message"),
    [
        ({"general.architecture": "mamba"}, {}, "of the kind 'mamba'"),
        ({"llama.rope.scaling.type": "yarn"}, {}, "rotary positions"),
        ({"llama.embedding_length": "wide"}, {}, "has 'wide' as 'llama.embedding_length', a int"),
        ({}, {"blk.1.ffn_up.weight": None}, "lacks blk.1.ffn_up.weight"),
        ({}, {"blk.0.extra.weight": ((1,), 0, b"\0" * 4)}, "has the unknown tensor blk.0.extra.weight"),
        ({}, {"output_norm.weight": ((1,), 0, b"\0" * 4)}, r"has shape \(1,\), expected \(32,\)"),
    ],
)
def test_models_that_are_refused(tmp_path, small_tokenizer, changes, tensors, message):
    model = file.llama(small_tokenizer)
    kept = {k: v for k, v in (file.llama_tensors(model) | tensors).items() if v is not None}
    path = file.write(tmp_path / "x.gguf", file.llama_metadata(model, small_tokenizer) | changes, kept)
    with pytest.raises(CheckpointError, match=message):
        llama_state_dict(read_gguf(path))


@pytest.mark.parametrize("tied", [True, False])
def test_the_weights_are_those_of_transformers(tmp_path, small_tokenizer, tied):
    model = file.llama(small_tokenizer, tied=tied)
    path = file.write(tmp_path / "x.gguf", file.llama_metadata(model, small_tokenizer), file.llama_tensors(model))
    found, expected = llama_state_dict(read_gguf(path)), model.state_dict()
    assert found.keys() == expected.keys() and all(bool((found[k] == v).all()) for k, v in expected.items())
    assert llama_config(read_gguf(path))["tie_word_embeddings"] == tied
