"""The corpora of the hub, read from parquet files through the `datasets` library, a document at a time."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unmask import assets
from unmask.errors import AssetError, ConfigError, DataError
from unmask.text.detokenizers import lm1b, wikitext
from unmask.text.documents import Document, key

_HEADING = re.compile(r"^ = [^=].* = \n?$")


def _rows(files: list[Path]) -> Iterator[str]:
    """The `text` of each row, in order, without loading the files into memory."""
    datasets = _library()
    names = [str(file) for file in files]
    for row in datasets.load_dataset("parquet", data_files=names, split="train", streaming=True):
        if not isinstance(row.get("text"), str):
            raise DataError(f"{files[0].parent} has rows without a text", "check the files of the data set")
        yield row["text"]


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "this corpus is read with the `datasets` library, which is not installed",
            "pip install 'unmask[datasets]'",
        ) from error
    return datasets


def _split(name: str, part: str) -> list[Path]:
    """The parquet files of a data set whose file or folder is named for the split."""
    _library()  # before a download of gigabytes, not after
    folder = assets.fetch(name)
    files = sorted(folder.rglob("*.parquet"))
    found = [f for f in files if any(piece.startswith(part) for piece in f.relative_to(folder).parts)]
    if not found:
        raise AssetError(f"{folder} holds no parquet files of the split {part!r}", f"fetch {name} again")
    return found


def openwebtext() -> Iterator[Document]:
    """A document a page. Held out: one page in four hundred, about 100 MB, decided by its text."""
    for number, text in enumerate(_rows(_split("openwebtext", "train"))):
        yield Document(text, f"openwebtext/{number}", key(text) % 400 == 0)


def _articles(rows: Iterator[str]) -> Iterator[str]:
    """WikiText's lines joined into articles, which begin at a heading of the first level."""
    lines: list[str] = []
    for row in rows:
        if _HEADING.match(row) and lines:
            yield "".join(lines)
            lines = []
        lines.append(row)
    if lines:
        yield "".join(lines)


def _official(name: str, read: Callable[[Iterator[str]], Iterator[str]]) -> Iterator[Document]:
    for part in ("train", "test"):
        for number, text in enumerate(read(_rows(_split(name, part)))):
            if text.strip():
                yield Document(text, f"{name}/{part}/{number}", part == "test")


def wikitext_103() -> Iterator[Document]:
    """A document an article, detokenized. Held out: the test split; validation is not read."""
    yield from _official("wikitext-103", lambda rows: (wikitext(text) for text in _articles(rows)))


def lm1b_sentences() -> Iterator[Document]:
    """A document a sentence, detokenized. Held out: the official test split."""
    yield from _official("lm1b", lambda rows: (lm1b(text) for text in rows))


def text8() -> Iterator[Document]:
    """The customary first 90 million characters. Held out: the last 5 million. The 5 between are unused."""
    text = "".join(_rows(_split("text8", "train")))
    if len(text) != 100_000_000:
        raise DataError(f"text8 has 100000000 characters, this copy has {len(text)}", "fetch text8 again")
    yield Document(text[:90_000_000], "text8/train", False)
    yield Document(text[95_000_000:], "text8/test", True)


HUB_SOURCES: dict[str, Callable[[], Iterator[Document]]] = {
    "openwebtext": openwebtext,
    "wikitext-103": wikitext_103,
    "lm1b": lm1b_sentences,
    "text8": text8,
}
