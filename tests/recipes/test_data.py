"""From text to rows, and the cache between."""

import json
import os
import random

import numpy as np
import pytest
import torch

from unmask.errors import ConfigError, DataError
from unmask.recipes import data
from unmask.recipes.data import prepare
from unmask.recipes.run import DataSettings

WORDS = "the state of the union is strong and its people are free to speak".split()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


def write(path, count=600, seed=1):
    draw = random.Random(seed)
    path.write_text(" ".join(draw.choice(WORDS) for _ in range(count)))
    return path


def settings(path, **given):
    return DataSettings(**({"corpus": str(path), "tokenizer": "bpe:270"} | given))


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "text.txt")


def prepared(*given, **named):
    """What was prepared, and what was said on the way."""
    said = []
    return prepare(*given, say=said.append, **named), said


def test_rows_are_the_text_cut_into_the_models_length(text):
    found, said = prepared(settings(text), 16)
    whole, tokenizer = text.read_text(), found.tokenizer
    ids = np.concatenate([found.train.ravel(), found.heldout.ravel()])
    assert found.train.shape[1] == found.heldout.shape[1] == 16 and tokenizer.vocab_size == 270
    assert tokenizer.decode(found.train.ravel()) == whole[: len(tokenizer.decode(found.train.ravel()))]
    assert int(ids.max()) < 270 and found.info["train_rows"] == len(found.train)
    assert found.info["train_tokens"] == found.train.size + found.info["train_leftover_tokens"]
    assert found.info["train_bytes"] + found.info["heldout_bytes"] == len(whole.encode())
    assert found.info["train_documents"] == found.info["heldout_documents"] == 1
    assert said[0] == f"reading {text}" and "270 tokens" in said[1] and "held out" in said[-1]


def test_the_second_time_it_comes_from_the_cache(text, monkeypatch):
    first, _ = prepared(settings(text), 16)
    monkeypatch.setattr(data, "tokenize", lambda *given, **named: pytest.fail("tokenized again"))
    again, said = prepared(settings(text), 16)
    assert said == [] and again.info == first.info
    assert np.array_equal(first.train, again.train) and np.array_equal(first.heldout, again.heldout)
    assert again.tokenizer.encode("the state") == first.tokenizer.encode("the state")
    assert isinstance(again.train, np.memmap)
    assert prepared(settings(text, heldout_rows=3), 16)[1] == []  # how many are measured is no part of it


@pytest.mark.parametrize("given", [{"tokenizer": "bpe:271"}, {"packing": "stream"}])
def test_other_settings_miss_the_cache(text, given):
    prepared(settings(text), 16)
    assert prepared(settings(text, **given), 16)[1] != []
    assert prepared(settings(text), 15)[1] != []


def test_a_file_that_changed_misses_the_cache(text):
    prepared(settings(text), 1)
    words = text.read_text()
    stat = text.stat()
    text.write_text(words[:-1] + "z")  # the same size
    os.utime(text, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    found, said = prepared(settings(text), 1)
    assert said != [] and found.tokenizer.decode(found.heldout.ravel()).endswith("z")


def test_a_folder_with_a_new_file_and_a_file_behind_a_tilde_miss_the_cache(tmp_path, monkeypatch):
    folder = tmp_path / "home" / "texts"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("a.txt", "b.txt"):
        write(folder / name, seed=ord(name[0]))
    prepared(settings(folder), 8)
    prepared(settings("~/texts/a.txt"), 8)
    assert prepared(settings(folder), 8)[1] == prepared(settings("~/texts/a.txt"), 8)[1] == []
    write(folder / "c.txt", seed=9)
    write(folder / "a.txt", seed=10, count=700)
    assert prepared(settings(folder), 8)[1] != []
    assert prepared(settings("~/texts/a.txt"), 8)[1] != []


def test_a_path_with_a_plus_sign_that_changed_misses_the_cache(tmp_path):
    path = write(tmp_path / "a+b.txt")
    prepared(settings(path), 8)
    write(path, seed=2, count=700)
    assert prepared(settings(path), 8)[1] != []


def test_corpora_may_be_joined(tmp_path):
    a, b = write(tmp_path / "a.txt"), write(tmp_path / "b.txt", seed=2)
    sizes = [prepared(settings(path, tokenizer="gpt2"), 8)[0].info["train_bytes"] for path in (a, b, f"{a}+{b}")]
    assert sizes[2] == sizes[0] + sizes[1]
    write(b, seed=3, count=700)
    assert prepared(settings(f"{a}+{b}", tokenizer="gpt2"), 8)[1] != []


def test_a_folder_with_a_tokenizer_will_do(text, tmp_path):
    own = prepared(settings(text), 16)[0].tokenizer
    own.save(tmp_path / "own")
    found, _ = prepared(settings(text, tokenizer=str(tmp_path / "own")), 8)
    assert found.tokenizer.encode("the union") == own.encode("the union")


def test_the_unigram_law_is_that_of_the_rows_with_one_added(text):
    found, _ = prepared(settings(text), 16)
    counts = torch.bincount(torch.from_numpy(found.train.astype(np.int64)).ravel(), minlength=270).double() + 1
    law = found.unigram()
    torch.testing.assert_close(law, (counts / counts.sum()).float())
    assert law.dtype == torch.float32 and float(law.min()) > 0 and float(law.sum()) == pytest.approx(1)


def test_heldout_rows_are_spread_over_all_of_it(text):
    found, _ = prepared(settings(text), 2)
    count = len(found.heldout)
    some = found.spread_heldout(3)
    assert np.array_equal(some, found.heldout[[0, (count - 1) // 2, count - 1]]) and count > 6
    assert np.array_equal(found.spread_heldout(10_000), found.heldout)


def test_what_a_killed_writer_left_is_not_taken_for_the_rows(text):
    first, _ = prepared(settings(text), 16)
    folder = next((data.cache_folder() / "prepared").iterdir())
    (folder / "info.json").unlink()
    again, said = prepared(settings(text), 16)
    assert said != [] and np.array_equal(first.train, again.train)


def test_a_writer_that_was_overtaken_takes_the_others_rows(text, monkeypatch):
    folder = data.whole_folder

    class Overtaken:
        def __init__(self, target):
            with folder(target) as self.other:
                pass
            self.inner = folder(target)

        def __enter__(self):
            self.at = self.inner.__enter__()
            return self.at

        def __exit__(self, *error):
            self.inner.__exit__(*error)
            raise OSError("Directory not empty")

    monkeypatch.setattr(data, "whole_folder", Overtaken)
    found, _ = prepared(settings(text), 16)
    assert len(found.train) > 5


def test_a_cache_that_cannot_be_written_is_told(text, monkeypatch):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data.np, "save", full)
    with pytest.raises(DataError, match=r"(?s)cannot be written: .*No space left.*UNMASK_CACHE"):
        prepared(settings(text), 16)
    assert list((data.cache_folder() / "prepared").iterdir()) == []


@pytest.mark.parametrize("content", ["", "   \n\n "])
def test_an_empty_corpus_is_told(tmp_path, content):
    (tmp_path / "empty.txt").write_text(content)
    for tokenizer in ("bpe:270", "gpt2"):
        with pytest.raises(DataError, match="holds no text"):
            prepared(settings(tmp_path / "empty.txt", tokenizer=tokenizer), 16)


def test_a_corpus_whose_documents_are_all_blank_is_told(tmp_path):
    (tmp_path / "blank.jsonl").write_text(json.dumps({"text": " "}) + "\n")
    with pytest.raises(DataError, match="holds no text"):
        prepared(settings(tmp_path / "blank.jsonl"), 16)


def test_a_context_longer_than_the_corpus_is_told(text):
    with pytest.raises(DataError, match=r"(?s)does not fill one row of 100000.*a shorter context"):
        prepared(settings(text), 100_000)
    with pytest.raises(DataError, match=r"the held-out documents of .*does not fill one row of 200"):
        prepared(settings(text), 200)


@pytest.mark.parametrize(
    ("given", "words", "kind"),
    [
        ({"tokenizer": "bpe:many"}, "write bpe:4096, gpt2 or a folder", ConfigError),
        ({"tokenizer": "gtp2"}, "tokenizer 'gtp2' is not known", ConfigError),
        ({"tokenizer": "bpe:100"}, "too small", ConfigError),
        ({"packing": "sed"}, "did you mean 'sedd'", ConfigError),
        ({"corpus": "sotuu"}, "did you mean 'sotu'", ConfigError),
        ({"corpus": "missing.txt"}, "unknown corpus 'missing.txt'", ConfigError),
    ],
)
def test_names_that_mean_nothing_are_told(text, given, words, kind):
    with pytest.raises(kind) as caught:
        prepared(settings(text, **given), 16)
    assert words in str(caught.value)
