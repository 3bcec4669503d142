"""A corpus from the user's own files: .txt (one document), .jsonl (a document a line), folders of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from unmask.errors import DataError
from unmask.text.cleaning import newlines
from unmask.text.documents import Document, key, one_in_twenty
from unmask.text.sources import read_text

SUFFIXES = (".txt", ".jsonl")
_TAIL = 20  # of a corpus that is one document, the last twentieth is held out


def _files(path: Path) -> list[Path]:
    """The files of a folder, at any depth, in order of path; or the file itself."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} file", "put the texts there, or name a file")
        return files
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is neither {' nor '.join(SUFFIXES)}", "rename it to .txt if it is plain UTF-8 text")
    return [path]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(text, place) of a .jsonl file, read line by line; an empty line is passed over."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                place = f"{path}, line {number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    # in the file: error.start counts from the line's first byte after a byte-order mark
                    at = offset + error.start + (len(raw) - len(error.object))
                    bad = error.object[error.start]
                    raise DataError(
                        f"{place} is not UTF-8: byte 0x{bad:02x} at offset {at}",
                        "convert the file to UTF-8",
                    ) from error
                offset += len(raw)
                if line.strip():
                    yield _entry(line, place), place
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}", "check the file and its permissions") from error


def _entry(line: str, place: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}", "a line is one object with a field 'text'") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        given = f"has the fields {sorted(entry)}" if isinstance(entry, dict) else f"is {type(entry).__name__}"
        raise DataError(f"{place} has no text: the entry {given}", "give each line a field 'text' with a string")
    return str(entry["text"])


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(text, place) of every document that is not blank."""
    for file in _files(path):
        found = _lines(file) if file.suffix.lower() == ".jsonl" else iter([(read_text(file), str(file))])
        for text, place in found:
            if clean := newlines(text).strip():
                yield clean, place


def _cut(text: str) -> int:
    """Where the held-out end of a lone document begins: the last break before its last twentieth."""
    target = len(text) - len(text) // _TAIL
    for mark in ("\n\n", "\n", " "):
        # no further back than another twentieth, or a text without that mark would lose too much
        at = text.rfind(mark, target - len(text) // _TAIL, target)
        if at > 0:
            return at + len(mark)
    return target


def documents(path: Path) -> Iterator[Document]:
    """The documents of a file or folder, in order. Only line ends and blanks at the ends are changed.

    Held out: one text in twenty, decided by the text; if none or all of them falls there, the text with the
    smallest key. A corpus that is one document is cut in two, and its last twentieth is held out.
    DataError for a file that is not what its name says, and for a corpus with no text.
    """
    keys = {key(text) for text, _ in _texts(path)}  # a first pass: the rule needs to know how many there are
    if not keys:
        raise DataError(f"{path} holds no text", "give a file with some text in it")
    if len(keys) == 1:
        text, place = next(_texts(path))
        at = _cut(text)
        yield Document(text[:at], f"{place}, start", False)
        if at < len(text):
            yield Document(text[at:], f"{place}, end", True)
        return
    few = {k % 20 == 0 for k in keys} != {True, False}
    for text, place in _texts(path):
        yield Document(text, place, key(text) == min(keys) if few else one_in_twenty(text))
