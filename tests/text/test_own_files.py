"""A user's own text as rows: .parquet files, other fields, data sets of the hub."""

import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from unmask.errors import AssetError, ConfigError, DataError
from unmask.text.corpora import corpus

TEXTS = [f"Text number {i} tells of the fox." for i in range(60)]


def table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_parquet_file_is_a_document_a_row(tmp_path):
    path = table(tmp_path / "a.parquet", id=list(range(61)), text=[*TEXTS, "  \n"])
    assert list(corpus(path).documents()) == TEXTS
    held = set(corpus(path).heldout())
    assert 0 < len(held) < 30 and not held & set(corpus(path).train())
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert list(corpus(tmp_path / "a.jsonl").heldout()) == list(corpus(path).heldout())  # by the text, not the file


def test_a_folder_may_hold_files_of_every_kind(tmp_path):
    table(tmp_path / "deep" / "b.parquet", text=TEXTS[:2])
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "two"}))
    assert list(corpus(tmp_path).documents()) == ["one", "two", *TEXTS[:2]]


def test_the_text_may_be_in_another_field(tmp_path):
    path = table(tmp_path / "a.parquet", body=TEXTS, text=[1] * 60)
    assert list(corpus(path, field="body").documents()) == TEXTS
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "mine"}))
    assert list(corpus(tmp_path / "a.jsonl", field="body").documents()) == ["mine"]


def test_rows_that_have_no_text_are_told(tmp_path):
    with pytest.raises(DataError, match=r"(?s)a.parquet has no column 'text': it has \['body'\].*--field"):
        list(corpus(table(tmp_path / "a.parquet", body=TEXTS)).documents())
    with pytest.raises(DataError, match=r"b.parquet, row 2 has no text: it is NoneType"):
        list(corpus(table(tmp_path / "b.parquet", text=["x", None])).documents())
    (tmp_path / "c.jsonl").write_text('{"body": "x"}')
    with pytest.raises(DataError, match=r"(?s)c.jsonl, line 1 has no text: the entry has the fields.*--field"):
        list(corpus(tmp_path / "c.jsonl").documents())


def test_a_file_that_is_no_parquet_is_told(tmp_path):
    whole = table(tmp_path / "a.parquet", text=TEXTS).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"b.parquet is not a whole parquet file"):
            list(corpus(tmp_path / "b.parquet").documents())


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    path = table(tmp_path / "a.parquet", text=TEXTS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[datasets\]'"):
        list(corpus(path).documents())


def test_a_data_set_of_the_hub_is_its_train_rows(monkeypatch):
    asked = []

    def load_dataset(name, configuration, *, split):
        asked.append((name, configuration, split))
        return datasets.Dataset.from_dict({"text": [*TEXTS, " "], "body": [f"b {i}" for i in range(61)]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    made = corpus("someone/some-texts")
    assert asked == []  # nothing is fetched before documents are asked for
    assert list(made.documents()) == TEXTS and next(iter(made.items())).source == "someone/some-texts/0"
    assert set(made.train()) | set(made.heldout()) == set(TEXTS) and not set(made.train()) & set(made.heldout())
    assert len(list(corpus("someone/some-texts:part+excerpt", field="body").documents())) == 61 + 13
    assert asked[0] == ("someone/some-texts", None, "train") and asked[-1] == ("someone/some-texts", "part", "train")
    with pytest.raises(DataError, match=r"(?s)has no field 'words': it has \['text', 'body'\].*--field"):
        list(corpus("someone/some-texts", field="words").documents())
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **named: datasets.Dataset.from_dict({"text": [3]}))
    with pytest.raises(DataError, match="row 0 of the data set someone/some-texts has no text"):
        list(corpus("someone/some-texts").documents())


def test_a_data_set_that_cannot_be_had_is_told():
    with pytest.raises(AssetError, match=r"(?s)data set nobody/nothing of the hub cannot be had.*no such path here"):
        list(corpus("nobody/nothing").documents())


def test_a_path_is_a_path_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "texts").mkdir()
    (tmp_path / "my" / "texts" / "a.txt").write_text("mine")
    assert list(corpus("my/texts").documents()) == ["mine"]
    for missing in ("my/gone.txt", "./gone", "gone/", "a/b/c"):
        with pytest.raises(ConfigError, match="unknown corpus"):
            corpus(missing)
