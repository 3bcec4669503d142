r"""Text with gaps, and the text that comes out: the given pieces are kept as they were typed, byte for byte.

`[MASK]` is a gap of one token, `[MASK:8]` of eight, `[MASK:4-16]` of four to sixteen. Gaps side by side are one gap.
A backslash makes it text: `\[MASK:8]` stands for the characters `[MASK:8]`, and of backslashes right before `[MASK`
each two stand for one (`\\[MASK]` is a backslash and a gap). Everywhere else a backslash is a backslash.

One space right before a gap is left to the gap when tokens are made, since tokens of GPT-2's kind carry the space in
front of them. In the text that comes out it is the given one: the gap's text follows without its own first space.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Protocol, Self

from unmask.errors import ConfigError, DataError

_OPEN = "[MASK"
_CLOSE = re.compile(r"(?::([0-9]{1,15})(?:-([0-9]{1,15}))?)?\]")
_RANGE = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")


class Encoder(Protocol):
    """What a template needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """A gap of `least` to `most` tokens. ConfigError below 1, and where `most` is below `least`."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ConfigError(
                f"a gap of {self.least} to {self.most} tokens, {self}", f"write [MASK:{self.most}-{self.least}]"
            )
        if self.least < 1:
            raise ConfigError(f"a gap of no tokens, {self}", "a gap is at least 1 token long")

    def __str__(self) -> str:
        return f"[MASK:{self.least}]" if self.fixed else f"[MASK:{self.least}-{self.most}]"

    @property
    def fixed(self) -> bool:
        """Whether there is one length only."""
        return self.least == self.most

    @classmethod
    def read(cls, length: int | str) -> Self:
        """A gap of n tokens: 8, "8", or "4-16". ConfigError for anything else."""
        found = None if isinstance(length, bool) else _RANGE.fullmatch(str(length))
        if found is None:
            raise ConfigError(f"a gap of length {length!r}", "give a number of tokens, 8, or a range, 4-16")
        return cls(int(found[1]), int(found[2] or found[1]))


@dataclasses.dataclass(frozen=True)
class Template:
    """given[0], a gap, given[1], a gap, …, given[-1]: one given piece more than gaps, the first and last may be empty.

    ConfigError where there is no gap; DataError where a piece is not text (a lone surrogate, which is what bytes that
    are not UTF-8 become on a command line).
    """

    given: tuple[str, ...]
    gaps: tuple[Gap, ...]

    def __post_init__(self) -> None:
        if not self.gaps:
            raise ConfigError("the text has no gap: there is nothing to write", "write [MASK:12] for 12 tokens")
        if len(self.given) != len(self.gaps) + 1:
            raise ConfigError(f"{len(self.given)} given pieces and {len(self.gaps)} gaps", "one piece more than gaps")
        for piece in self.given:
            checked_text(piece)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The template of a text such as "Hi, my name is [MASK:4-12] and that's why I'm late."."""
        checked_text(text)
        given: list[str] = []
        gaps: list[Gap] = []
        piece, done = "", 0
        while (at := text.find(_OPEN, done)) >= 0:
            before = text[done:at]
            slashes = len(before) - len(before.rstrip("\\"))
            piece += before[: len(before) - (slashes + 1) // 2]
            done = at + len(_OPEN)
            if slashes % 2:
                piece += _OPEN
                continue
            gap, done = _read(text, done)
            if gaps and not piece:  # side by side
                gaps[-1] = Gap(gaps[-1].least + gap.least, gaps[-1].most + gap.most)
            else:
                given.append(piece)
                gaps.append(gap)
            piece = ""
        return cls((*given, piece + text[done:]), tuple(gaps))

    @classmethod
    def between(cls, prefix: str, suffix: str, length: int | str) -> Self:
        """A gap of `length` (8, "8" or "4-16") between two texts, in which nothing is read as a gap."""
        return cls((prefix, suffix), (Gap.read(length),))

    @property
    def fixed(self) -> bool:
        """Whether every gap has one length only."""
        return all(gap.fixed for gap in self.gaps)

    def ids(self, tokenizer: Encoder) -> tuple[list[int], ...]:
        """The tokens of each given piece; one space before a gap is the gap's."""
        *before, last = self.given
        return tuple(
            tokenizer.encode(piece) if piece else [] for piece in (*(b.removesuffix(" ") for b in before), last)
        )

    def tokens(self, tokenizer: Encoder) -> int:
        """How many there are, with gaps as short as they may be."""
        return sum(map(len, self.ids(tokenizer))) + sum(gap.least for gap in self.gaps)

    def extended(self, tokens: int) -> Self:
        """The template with `tokens` more to write behind its end."""
        if self.given[-1]:
            return type(self)((*self.given, ""), (*self.gaps, Gap(tokens, tokens)))
        *gaps, last = self.gaps
        return type(self)(self.given, (*gaps, Gap(last.least + tokens, last.most + tokens)))

    def own_text(self, index: int, text: str) -> str:
        """What stands in gap `index`, given the text of its tokens: without its first space where one was given."""
        return text.removeprefix(" ") if self.given[index].endswith(" ") else text

    def filled(self, texts: Sequence[str]) -> str:
        """The given pieces and the gaps' own texts, one after the other."""
        return "".join(piece + text for piece, text in zip(self.given, (*texts, ""), strict=True))


def checked_text(text: str) -> str:
    """The text. DataError where it cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text is not valid UTF-8, at character {error.start + 1}: {text[error.start]!r}",
            "convert it to UTF-8",
        ) from None
    return text


def _read(text: str, start: int) -> tuple[Gap, int]:
    """The gap whose `[MASK` ends at `start`, and where it ends itself."""
    close = _CLOSE.match(text, start)
    if close is None:
        shown = text[start - len(_OPEN) : start - len(_OPEN) + 20]
        raise ConfigError(
            f"a gap that cannot be read, at {shown!r}",
            "a gap is [MASK] for one token, [MASK:12] for 12, [MASK:4-16] for 4 to 16; \\[MASK is text",
        )
    least = int(close[1] or "1")
    return Gap(least, int(close[2] or least)), close.end()
