"""The text of each token where it stands, while some tokens are not known yet.

A character of several bytes may be spread over several tokens. It is shown whole, at the first of them, once all of
them are known; until then it is not shown, and the others stay empty. So a face does not flicker through U+FFFD.
"""

import codecs
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from unmask.text.tokenizers import Tokenizer

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes that stand for themselves in a vocabulary


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet, backwards: the byte that each character of a byte-level vocabulary stands for."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(others)}


@lru_cache(maxsize=8)
def byte_table(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """The bytes of each id, [V]; ends of documents are their name, as `decode(…, keep_special=True)` has them.

    A tokenizer that is not byte-level gives the text that each id decodes to by itself.
    """
    core: Any = getattr(tokenizer, "_core", None)
    size = range(tokenizer.vocab_size)
    if core is None or type(getattr(core, "decoder", None)).__name__ != "ByteLevel":
        return tuple(tokenizer.decode([i], keep_special=True).encode() for i in size)
    byte, added = _byte_of(), core.get_added_tokens_decoder()
    names = [added[i].content if i in added else core.id_to_token(i) or "" for i in size]
    return tuple(
        name.encode() if i in added or not all(c in byte for c in name) else bytes(byte[c] for c in name)
        for i, name in enumerate(names)
    )


def one(table: Sequence[bytes], number: int) -> str:
    """The text of one token by itself; bytes that are no character, and ids that are no token, become U+FFFD."""
    return table[number].decode("utf-8", "replace") if 0 <= number < len(table) else UNKNOWN


def pieces(table: Sequence[bytes], ids: Iterable[int | None]) -> list[str | None]:
    """The text at each position, None where the id is not known (None): joined, what the known tokens say.

    table: `byte_table`. Where all ids are known the pieces join to `decode(ids, keep_special=True)`. Bytes that could
    still be completed by a neighbour that is not known are left out.
    """
    numbers = list(ids)
    out: list[str | None] = [None if number is None else "" for number in numbers]
    first = 0
    while first < len(numbers):
        if numbers[first] is None:
            first += 1
            continue
        last = first
        while last < len(numbers) and numbers[last] is not None:
            last += 1
        known = [table[n] if 0 <= n < len(table) else UNKNOWN.encode() for n in numbers[first:last] if n is not None]
        out[first:last] = _run(known, after_gap=first > 0, before_gap=last < len(numbers))
        first = last
    return out


def _run(parts: list[bytes], *, after_gap: bool, before_gap: bool) -> list[str]:
    """The text at each of the neighbouring tokens whose bytes are `parts`."""
    out, decoder = [""] * len(parts), codecs.getincrementaldecoder("utf-8")("replace")
    begun, pending, orphan = 0, False, after_gap  # where the character that is not complete yet began
    for i, part in enumerate(parts):
        if not pending and not orphan:
            try:
                out[i] = part.decode()
                continue
            except UnicodeDecodeError:
                pass
        for value in part:
            orphan = orphan and 0x80 <= value < 0xC0  # the rest of a character whose beginning is not known
            if orphan:
                continue
            said = decoder.decode(bytes([value]))
            if said and pending:
                out[begun] += said[0]
                said = said[1:]
            out[i] += said
            now = bool(decoder.getstate()[0])
            if now and (said or not pending):
                begun = i
            pending = now
    if pending and not before_gap:
        out[begun] += decoder.decode(b"", final=True)
    return out
