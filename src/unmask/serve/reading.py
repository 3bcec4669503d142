"""The text of tokens that are final from the left: as far as no later token can change it, and where it ends."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from unmask.text.tokenizers import Tokenizer

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
Reason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """text: what may be sent; later readings of the same row go on with it. tokens: how many it takes.

    reason: why it ends here, None while it does not: an end of text or a stop ("stop"), or no room ("length").
    """

    text: str
    tokens: int
    reason: Reason | None


def read(tokenizer: Tokenizer, ids: Sequence[int], *, whole: bool, stops: Sequence[str] = ()) -> Reading:
    """What the ids say up to the first end of text, or to the first of `stops`, neither of which is in it.

    whole: no more ids will come. Until then, bytes that are no character yet, and what could become a stop, are held
    back.
    """
    ended = tokenizer.eos_id in ids
    ids = ids[: list(ids).index(tokenizer.eos_id)] if ended else ids
    text = tokenizer.decode(ids)
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if found:
        place = min(found)
        return Reading(text[:place], _tokens_to(tokenizer, ids, place), "stop")
    if ended or whole:
        return Reading(text, len(ids), "stop" if ended else "length")
    text = text.rstrip(UNKNOWN)
    return Reading(text[: len(text) - _begun(text, stops)], len(ids), None)


def _begun(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of the text are the beginning of a stop."""
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest


def _tokens_to(tokenizer: Tokenizer, ids: Sequence[int], place: int) -> int:
    """How many of the ids it takes to write the first `place` characters."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.decode(ids[:middle])) >= place:
            high = middle
        else:
            low = middle + 1
    return low
