"""A corpus from the user's own files: .txt (one document), .jsonl and .parquet (a document a row), folders of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from unmask.errors import ConfigError, DataError
from unmask.text.cleaning import newlines
from unmask.text.documents import Document, split
from unmask.text.sources import read_text

SUFFIXES = (".txt", ".jsonl", ".parquet")
_FIELD = "the text is in the field {field!r} of each entry; name another with --field"
_KINDS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _files(path: Path) -> list[Path]:
    """The files of a folder, at any depth, in order of path; or the file itself."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(f"{path} holds no {_KINDS} file", "put the texts there, or name a file")
        return files
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is not a {_KINDS} file", "rename it to .txt if it is plain UTF-8 text")
    return [path]


def _lines(path: Path, field: str) -> Iterator[tuple[str, str]]:
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
                    yield _entry(line, place, field), place
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}", "check the file and its permissions") from error


def _entry(line: str, place: str, field: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}", f"a line is one object with a field {field!r}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
        given = f"has the fields {sorted(entry)}" if isinstance(entry, dict) else f"is {type(entry).__name__}"
        raise DataError(f"{place} has no {field}: the entry {given}", _FIELD.format(field=field))
    return str(entry[field])


def _cells(path: Path, field: str) -> Iterator[tuple[str, str]]:
    """(text, place) of the rows of a .parquet file, read a group of rows at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            f"{path} is read with the `pyarrow` library, which is not installed", "pip install 'unmask[datasets]'"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if field not in columns:
                raise DataError(f"{path} has no column {field!r}: it has {columns}", _FIELD.format(field=field))
            for batch in file.iter_batches(batch_size=1024, columns=[field]):
                for cell in batch.column(0).to_pylist():
                    number += 1
                    place = f"{path}, row {number}"
                    if not isinstance(cell, str):
                        raise DataError(f"{place} has no {field}: it is {type(cell).__name__}", "leave out such rows")
                    yield cell, place
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not a whole parquet file: {error}", "check the file, or write it again") from None


def _file(path: Path, field: str) -> Iterator[tuple[str, str]]:
    """(text, place) of every document of a file."""
    kind = path.suffix.lower()
    if kind == ".jsonl":
        return _lines(path, field)
    return _cells(path, field) if kind == ".parquet" else iter([(read_text(path), str(path))])


def documents(path: Path, field: str = "text") -> Iterator[Document]:
    """The documents of a file or folder, in order. Only line ends and blanks at the ends are changed.

    field: what holds the text in a line of .jsonl or a row of .parquet. Held out: see `documents.split`. DataError for
    a file that is not what its name says, and for a corpus with no text.
    """

    def texts() -> Iterator[tuple[str, str]]:
        for file in _files(path):
            for text, place in _file(file, field):
                if clean := newlines(text).strip():
                    yield clean, place

    return split(texts, str(path))
