"""Corpora: a name or a path becomes documents, split whole into those to train on and those held out."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from unmask.assets.table import ASSETS
from unmask.errors import ConfigError, DataError, unknown
from unmask.text import local
from unmask.text.documents import Document
from unmask.text.hub import DATA_SET, HUB_SOURCES, data_set
from unmask.text.sources import SOURCES

__all__ = ["CORPORA", "Corpus", "Document", "corpus", "corpus_licence"]

CORPORA: dict[str, Callable[[], Iterator[Document]]] = {**SOURCES, **HUB_SOURCES}


@dataclass(frozen=True)
class Corpus:
    """Documents in one order, always the same. Reading begins anew at each call; nothing is kept in memory.

    Each method raises DataError, at the end of reading, if it met no text at all.
    """

    name: str
    read: Callable[[], Iterator[Document]]

    def items(self) -> Iterator[Document]:
        """Every document that is not blank, with its source and its side of the split."""
        return self._where("text", lambda document: True)

    def documents(self) -> Iterator[str]:
        """The text of every document."""
        return (document.text for document in self.items())

    def train(self) -> Iterator[str]:
        """The texts to train on: whole documents, none of which is in `heldout`."""
        kept = self._where("text to train on", lambda document: not document.heldout)
        return (document.text for document in kept)

    def heldout(self) -> Iterator[str]:
        """The texts kept from training, by the rule that the corpus names."""
        kept = self._where("held-out text", lambda document: document.heldout)
        return (document.text for document in kept)

    def _where(self, what: str, wanted: Callable[[Document], bool]) -> Iterator[Document]:
        empty = True
        for document in self.read():
            if document.text.strip() and wanted(document):
                empty = False
                yield document
        if empty:
            raise DataError(f"the corpus {self.name} holds no {what}", "give more documents, or another corpus")


def corpus(name: str | Path, *, field: str = "text") -> Corpus:
    """The corpus of a name in CORPORA, of a path, of a hub data set `owner/name`, or several joined with `+`.

    A path is that of a .txt, a .jsonl, a .parquet or a folder of them. A name wins over a path of the same letters
    (write `./wiki` for a folder of one's own), a path over a data set. field: what holds the text in the rows of files
    and data sets of one's own. Nothing is read or fetched before documents are asked for. How a corpus is split is
    said by its reader, in `sources`, `hub` or `local`. ConfigError for what is none of these.
    """
    given = str(name)
    if isinstance(name, Path):
        readers = [_path_reader(name, field)]
    elif given not in CORPORA and os.path.exists(given):  # a path may hold a plus sign
        readers = [_path_reader(Path(given), field)]
    else:
        readers = [_reader(part.strip(), field) for part in given.split("+")]
    return Corpus(given, lambda: chain.from_iterable(read() for read in readers))


def is_path(name: str) -> bool:
    """Whether a corpus of that name is a file or a folder of the user's."""
    return name not in CORPORA and Path(name).expanduser().exists()


def _reader(part: str, field: str) -> Callable[[], Iterator[Document]]:
    if part in CORPORA:
        return CORPORA[part]
    if DATA_SET.fullmatch(part) and Path(part).suffix not in local.SUFFIXES and not is_path(part):
        return lambda: data_set(part, field)
    return _path_reader(Path(part), field)


def _path_reader(path: Path, field: str) -> Callable[[], Iterator[Document]]:
    full = path.expanduser()
    if path.parts and os.path.exists(full):
        return lambda: local.documents(full, field)
    error = unknown("corpus", str(path) if path.parts else "", CORPORA)
    raise ConfigError(error.message, f"{error.hint}; or the path of a .txt, .jsonl or .parquet or a folder of them")


def corpus_licence(name: str) -> str:
    """The licence of a corpus, or of several joined with `+`; of a path it says `the user's own`."""
    rows = {part: ASSETS.get("sotu" if part == "excerpt" else part) for part in name.split("+")}
    lines = [row.licence if row else "the user's own" for row in rows.values()]
    if len(lines) == 1:
        return lines[0]
    return "; ".join(f"{part}: {line}" for part, line in zip(rows, lines, strict=True))
