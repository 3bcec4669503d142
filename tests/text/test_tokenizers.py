"""GPT-2's files are OpenAI's, what is encoded decodes to itself, training is deterministic."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from unmask.errors import CheckpointError, ConfigError, DataError
from unmask.text.corpora import corpus
from unmask.text.tokenizers import EOS, GPT2_FOLDER, Tokenizer, gpt2, train_bpe

TEXTS = [
    "Hello world",
    "naïve café, Łódź, ½ of 3 €",
    "👩‍👩‍👧 and 🇺🇸 in one line\n\n\ttabs  and   spaces ",
    "中文 العربية עברית",
    "\x00\x7f control",
    "",
]


@pytest.fixture(scope="module")
def small():
    return train_bpe(corpus("excerpt").train(), 512)


def test_gpt2_files_are_those_openai_published():
    hashes = {
        "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    }
    for name, expected in hashes.items():
        assert hashlib.sha256((GPT2_FOLDER / name).read_bytes()).hexdigest() == expected
    assert "Modified MIT License" in (GPT2_FOLDER / "LICENSE").read_text(encoding="utf-8")


def test_gpt2_known_ids():
    assert gpt2().encode("Hello world") == [15496, 995]
    assert (gpt2().vocab_size, gpt2().eos_id) == (50257, 50256)


def test_gpt2_agrees_with_transformers():
    from transformers import GPT2TokenizerFast

    other = GPT2TokenizerFast.from_pretrained(GPT2_FOLDER)
    texts = [*corpus("excerpt").documents(), *TEXTS]
    assert gpt2().encode_batch(texts) == [other(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text, small):
    for tokenizer in (gpt2(), small):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_batch_is_each_alone(small):
    assert small.encode_batch(TEXTS) == [small.encode(text) for text in TEXTS]


def test_special_token_is_printed_only_when_asked(small):
    ids = [*small.encode("end"), small.eos_id]
    assert small.decode(ids) == "end"
    assert small.decode(ids, keep_special=True) == "end" + EOS


def test_text_cannot_smuggle_in_the_end_of_a_document(small):
    text = f"before{EOS}after"
    for tokenizer in (gpt2(), small):
        ids = tokenizer.encode(text)
        assert tokenizer.eos_id not in ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_batch([text]) == [ids]


def test_decode_takes_arrays_and_tensors_and_keeps_broken_bytes_visible():
    ids = gpt2().encode("a 👩")
    assert gpt2().decode(np.asarray(ids)) == gpt2().decode(torch.tensor(ids)) == "a 👩"
    assert "\ufffd" in gpt2().decode(ids[:-1])


@pytest.mark.parametrize("bad", [-1, 50257])
def test_decode_refuses_ids_outside_the_vocabulary(bad):
    with pytest.raises(DataError, match=rf"token id {bad} is outside the vocabulary of 50257 tokens"):
        gpt2().decode([1, bad])


def test_trained_vocabulary(small):
    assert small.vocab_size == 512
    assert small.eos_id == 511


def test_training_offers_fewer_ids_than_asked_where_the_text_is_small():
    tokenizer = train_bpe(["ab ab"], 1000)
    assert tokenizer.vocab_size < 1000
    assert tokenizer.eos_id == tokenizer.vocab_size - 1


def test_training_is_deterministic_across_processes_and_threads(small, tmp_path):
    code = (
        "import sys; from unmask.text.corpora import corpus; from unmask.text.tokenizers import train_bpe; "
        "train_bpe(corpus('excerpt').train(), 512).save(sys.argv[1])"
    )
    saved = small.save(tmp_path / "here").read_bytes()
    for threads in ("1", "2"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / threads)], check=True, env=environment)
        assert (tmp_path / threads / "tokenizer.json").read_bytes() == saved


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="256 tokens is too small\nhint: ask for at least 257"):
        train_bpe(["text"], 256)


def test_save_and_load(small, tmp_path):
    for tokenizer in (gpt2(), small):
        tokenizer.save(tmp_path / "deep" / "folder")
        loaded = Tokenizer.load(tmp_path / "deep" / "folder")
        assert (loaded.vocab_size, loaded.eos_id) == (tokenizer.vocab_size, tokenizer.eos_id)
        assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
        assert loaded.encode(EOS) == tokenizer.encode(EOS)


def test_load_says_what_is_missing_or_broken(tmp_path):
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json in"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_an_end_is_refused():
    import tokenizers

    with pytest.raises(ConfigError, match=r"has no '<\|endoftext\|>' token"):
        Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()))
