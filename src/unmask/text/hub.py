"""The corpora of the hub, read from parquet files through the `datasets` library, a document at a time."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unmask import assets
from unmask.errors import AssetError, ConfigError, DataError
from unmask.text.cleaning import newlines
from unmask.text.detokenizers import lm1b, wikitext
from unmask.text.documents import Document, key
from unmask.text.documents import split as held_out
from unmask.text.sources import read_text

_WEBTEXT_TEST = range(255_000, 260_000)  # the ids of its rows
_WEBTEXT_BEGINS = "Is this restaurant family-friendly ?"
DATA_SET = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*(:[\w.-]+)?")  # owner/name, owner/name:configuration
_HEADING = re.compile(r"^ = [^=].* = \n?$")


def rows(files: list[Path], field: str = "text") -> Iterator[str]:
    """The text in `field` of each row, in order, without loading the files into memory."""
    datasets = _library()
    names = [str(file) for file in files]
    for row in datasets.load_dataset("parquet", data_files=names, split="train", streaming=True):
        if not isinstance(row.get(field), str):
            raise DataError(f"{files[0].parent} has rows without a {field}", "check the files of the data set")
        yield row[field]


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "this corpus is read with the `datasets` library, which is not installed",
            "pip install 'unmask[datasets]'",
        ) from error
    return datasets


def split(name: str, part: str) -> list[Path]:
    """The parquet files of a data set whose file or folder is named for the split."""
    _library()  # before a download of gigabytes, not after
    folder = assets.fetch(name)
    files = sorted(folder.rglob("*.parquet"))
    found = [f for f in files if any(piece.startswith(part) for piece in f.relative_to(folder).parts)]
    if not found:
        raise AssetError(f"{folder} holds no parquet files of the split {part!r}", f"fetch {name} again")
    return found


def data_set(name: str, field: str = "text") -> Iterator[Document]:
    """The `train` rows of any data set of the hub, `owner/name` or `owner/name:configuration`, a document a row.

    It is kept in the `datasets` library's own cache; no code of a data set is run. Held out: see `documents.split`.
    ConfigError where the library is not installed, AssetError where the data set cannot be had, DataError where its
    rows have no such field.
    """
    datasets = _library()
    repository, _, configuration = name.partition(":")
    try:
        table = datasets.load_dataset(repository, configuration or None, split="train")
    except Exception as error:  # the library raises its own, the hub client's, its HTTP library's and the system's
        raise AssetError(
            f"the data set {name} of the hub cannot be had: {type(error).__name__}: {str(error).splitlines()[0]}",
            "check its name (owner/name, or owner/name:configuration) and the connection; there is no such path here",
        ) from error
    if field not in table.column_names:
        raise DataError(f"the data set {name} has no field {field!r}: it has {table.column_names}", "give --field NAME")

    def texts() -> Iterator[tuple[str, str]]:
        for number, row in enumerate(table):
            if not isinstance(row[field], str):
                raise DataError(
                    f"row {number} of the data set {name} has no {field}", "name another field with --field"
                )
            if clean := newlines(row[field]).strip():
                yield clean, f"{name}/{number}"

    return held_out(texts, f"the data set {name}")


def openwebtext() -> Iterator[Document]:
    """A document a page. Held out: one page in four hundred, about 100 MB, decided by its text."""
    for number, text in enumerate(rows(split("openwebtext", "train"))):
        yield Document(text, f"openwebtext/{number}", key(text) % 400 == 0)


def _articles(texts: Iterator[str]) -> Iterator[str]:
    """WikiText's lines joined into articles, which begin at a heading of the first level."""
    lines: list[str] = []
    for row in texts:
        if _HEADING.match(row) and lines:
            yield "".join(lines)
            lines = []
        lines.append(row)
    if lines:
        yield "".join(lines)


def _official(name: str, read: Callable[[Iterator[str]], Iterator[str]]) -> Iterator[Document]:
    for part in ("train", "test"):
        for number, text in enumerate(read(rows(split(name, part)))):
            if text.strip():
                yield Document(text, f"{name}/{part}/{number}", part == "test")


def wikitext_103() -> Iterator[Document]:
    """A document an article, detokenized. Held out: the test split; validation is not read."""
    yield from _official("wikitext-103", lambda texts: (wikitext(text) for text in _articles(texts)))


def lm1b_sentences() -> Iterator[Document]:
    """A document a sentence, detokenized. Held out: the official test split."""
    yield from _official("lm1b", lambda texts: (lm1b(text) for text in texts))


def text8() -> Iterator[Document]:
    """The customary first 90 million characters. Held out: the last 5 million. The 5 between are unused."""
    text = "".join(rows(split("text8", "train")))
    if len(text) != 100_000_000:
        raise DataError(f"text8 has 100000000 characters, this copy has {len(text)}", "fetch text8 again")
    yield Document(text[:90_000_000], "text8/train", False)
    yield Document(text[95_000_000:], "text8/test", True)


def webtext_test() -> Iterator[Document]:
    """A document a page, all held out: the 5000 of webtext.test.jsonl in OpenAI's gpt-2-output-dataset.

    That file, placed in the asset's folder, is read where it is there. The hub's copy holds the rows of every file of
    the data set; those of this one have a source that names WebText and ids from 255000 on.
    """
    folder = assets.fetch("webtext-test")
    by_hand = folder / "webtext.test.jsonl"
    found = _json_rows(by_hand) if by_hand.is_file() else _table_rows(sorted(folder.rglob("*.parquet")))
    pages = {
        row["id"]: row["text"]
        for row in found
        if row.get("id") in _WEBTEXT_TEST and "webtext" in str(row.get("source", "webtext")).lower()
    }
    if len(pages) != len(_WEBTEXT_TEST) or not pages[_WEBTEXT_TEST[0]].startswith(_WEBTEXT_BEGINS):
        raise DataError(
            f"WebText's test set is 5000 pages and begins {_WEBTEXT_BEGINS!r}; {folder} holds {len(pages)} of them",
            f"place OpenAI's webtext.test.jsonl in {folder}",
        )
    for number in _WEBTEXT_TEST:
        yield Document(pages[number], f"webtext-test/{number}", True)


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), start=1):
        try:
            yield dict(json.loads(line))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}, line {number} is not a row of JSON: {error}", "place the file again") from None


def _table_rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    names = [str(file) for file in files]
    found: Iterator[dict[str, Any]] = _library().load_dataset(
        "parquet", data_files=names, split="train", streaming=True
    )
    return found


HUB_SOURCES: dict[str, Callable[[], Iterator[Document]]] = {
    "openwebtext": openwebtext,
    "wikitext-103": wikitext_103,
    "lm1b": lm1b_sentences,
    "text8": text8,
    "webtext-test": webtext_test,
}
