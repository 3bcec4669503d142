"""Prompts: windows at the beginning of held-out documents, in an order that never changes."""

import json
import sys
import types

import pytest
import torch

from unmask.errors import ConfigError, DataError
from unmask.text.corpora import corpus
from unmask.text.prompts import prompts, unlike_paper
from unmask.text.tokenizers import train_bpe


@pytest.fixture(scope="module")
def letters():
    """A token a byte."""
    return train_bpe(["abc"], 257)


def write(path, *texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


TEXTS = ("abcdefghijklm", "short", "ABCDEFGHIJ", "0123456789abcdefghij")


def test_first_windows_come_first_then_the_second_ones(tmp_path, letters):
    made = prompts(write(tmp_path / "a.jsonl", *TEXTS), letters, count=4, prompt_tokens=6, reference_tokens=4)
    assert [letters.decode(row) for row in made.ids] == ["abcdef", "ABCDEF", "012345", "abcdef"]
    assert [letters.decode(row) for row in made.references] == ["ghij", "GHIJ", "6789", "ghij"]
    assert made.starts == (0, 0, 0, 10)
    assert [place.rsplit(" ", 1)[1] for place in made.documents] == ["1", "3", "4", "4"]
    assert made.rows.dtype == torch.int64 and made.rows.shape == (4, 10) and len(made) == 4


def test_the_same_call_gives_the_same_prompts_and_fewer_are_the_first(tmp_path, letters):
    path = write(tmp_path / "a.jsonl", *TEXTS)
    many = prompts(path, letters, count=4, prompt_tokens=6, reference_tokens=4)
    few = prompts(path, letters, count=2, prompt_tokens=6, reference_tokens=4)
    assert torch.equal(many.rows[:2], few.rows)


def test_short_documents_are_passed_over(tmp_path, letters):
    made = prompts(
        write(tmp_path / "a.jsonl", *TEXTS), letters, count=2, prompt_tokens=6, reference_tokens=4, min_tokens=11
    )
    assert [place.rsplit(" ", 1)[1] for place in made.documents] == ["1", "4"]


def test_too_few_says_how_many_there_are(tmp_path, letters):
    with pytest.raises(DataError, match="make 4 prompts of 6 tokens with 4 to follow, not 5\nhint: ask for at most 4"):
        prompts(write(tmp_path / "a.jsonl", *TEXTS), letters, count=5, prompt_tokens=6, reference_tokens=4)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"prompt_tokens": 0}, {"reference_tokens": -1}])
def test_numbers_below_one(letters, wrong):
    with pytest.raises(ConfigError, match="each is at least 1"):
        prompts("excerpt", letters, **{"count": 1, **wrong})


def test_a_named_corpus_gives_held_out_documents_only(small_tokenizer):
    made = prompts("excerpt", small_tokenizer, count=6)
    assert set(made.documents) == {"excerpt/1795-Washington-1", "excerpt/1985-Reagan-1"}
    assert made.ids.shape == made.references.shape == (6, 50)
    assert "not WebText's test set" in made.unlike


def test_only_the_paper_s_own_prompts_are_like_the_paper():
    assert unlike_paper("webtext-test", 1000, 50, 50) == ""
    assert unlike_paper("webtext-test", 500, 50, 20) == "500 prompts, not 1000; 50 + 20 tokens, not 50 + 50"


def pages(count=5000):
    """Rows as webtext.test.jsonl has them."""
    return [
        {"id": 255000 + i, "ended": True, "text": f"Is this restaurant family-friendly ? {i}"} for i in range(count)
    ]


@pytest.fixture
def webtext(tmp_path, monkeypatch):
    """The asset's folder, empty."""
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    (tmp_path / "webtext-test").mkdir()
    return tmp_path / "webtext-test"


def test_webtext_from_openai_s_file(webtext):
    (webtext / "webtext.test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pages()))
    documents = list(corpus("webtext-test").items())
    assert len(documents) == 5000 and all(document.heldout for document in documents)
    assert documents[4999].source == "webtext-test/259999" and documents[7].text.endswith("? 7")
    with pytest.raises(DataError, match="holds no text to train on"):
        list(corpus("webtext-test").train())


def test_webtext_from_the_hub_s_table(webtext, monkeypatch):
    (webtext / "data").mkdir()
    (webtext / "data" / "train-00000-of-00001.parquet").touch()
    others = [
        {"id": 255000, "text": "GPT-2 wrote this", "source": "small-117M"},
        {"id": 3, "text": "", "source": "webtext"},
    ]
    rows = [*({**row, "source": "webtext"} for row in reversed(pages())), *others]
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda kind, *, data_files, split, streaming: iter(rows)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    texts = list(corpus("webtext-test").heldout())
    assert texts == [row["text"] for row in pages()]


def test_a_copy_that_is_not_webtext_is_refused(webtext):
    path = webtext / "webtext.test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pages(4999)))
    with pytest.raises(DataError, match=r"holds 4999 of them\nhint: place OpenAI's webtext.test.jsonl in"):
        list(corpus("webtext-test").heldout())
    path.write_text("".join(json.dumps(row | {"text": "other"}) + "\n" for row in pages()))
    with pytest.raises(DataError, match="is 5000 pages and begins 'Is this restaurant"):
        list(corpus("webtext-test").heldout())
    path.write_text("{}\nnot json\n")
    with pytest.raises(DataError, match="line 2 is not a row of JSON"):
        list(corpus("webtext-test").heldout())


def test_webtext_without_the_library_names_the_extra(webtext, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[datasets\]'"):
        list(corpus("webtext-test").heldout())
