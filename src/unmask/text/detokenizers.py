"""Undoing what data sets do to text (spaces around punctuation, stand-ins for numbers), so that a model can score it.

The rules are those under which the zero-shot tables of the literature (SEDD, MDLM and after) were made,
quirks included, since another detokenizer gives other perplexities. A table is applied from top to bottom.
"""

import re

_Rules = tuple[tuple[re.Pattern[str], str], ...]


def _literal(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(re.escape(old)), new) for old, new in pairs)


def _pattern(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(old), new) for old, new in pairs)


_WIKITEXT = (
    *_literal(("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")),
    *_literal(*((f" {mark} ", f"{mark} ") for mark in ":;.!?,")),
    *_pattern(
        (r"\(\s*([^)]*?)\s*\)", r"(\1)"),
        (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
        (r"\{\s*([^}]*?)\s*\}", r"{\1}"),
        (r'"\s*([^"]*?)\s*"', r'"\1"'),
        (r"'\s*([^']*?)\s*'", r"'\1'"),
    ),
    *_literal(("= = = =", "===="), ("= = =", "==="), ("= =", "==")),
    *_literal((" ° ", "°"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s")),
)

_LM1B = (
    *_literal(("http : / / ", "http://"), ("https : / / ", "https://")),
    *_pattern((r" '(\w+)", r"'\1"), (r" (\w+) \. ", r" \1. "), (r" (\w+) \.$", r" \1.")),
    *_literal((" ? ", "? ")),
    *_pattern((r" \?$", "?")),
    *_literal((" ! ", "! ")),
    *_pattern((r" !$", "!")),
    *_literal((" , ", ", "), (" : ", ": "), (" ; ", "; "), (" / ", "/")),
    *_pattern(
        (r'" ([^"]+) "', r'"\1"'),
        (r"' ([^']+) '", r"'\1'"),
        (r"\( ([^()]+) \)", r"(\1)"),
        (r"\[ ([^\[\]]+) \]", r"[\1]"),
    ),
    *_literal(("$ ", "$"), ("£ ", "£")),
)

_PTB = (
    *_literal((" 's", "'s"), ("s ' ", "s' "), (" n't", "n't"), (" \n ", "\n"), ("\\/", "/")),
    *_literal(*[(" N ", " 1 ")] * 10),  # neighbours share a space, so that one pass leaves every other one
    *_literal(("$ 1", "$1"), ("# 1", "#1"), ("<unk>", "?")),
)

_LAMBADA = _literal(("“", '"'), ("”", '"'))


def _apply(rules: _Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def wikitext(text: str) -> str:
    """Plain text from WikiText's raw tokens: `1 @,@ 000 men .` becomes `1,000 men.`, before a space."""
    return _apply(_WIKITEXT, text)


def lm1b(text: str) -> str:
    """Plain text from an LM1B sentence: `He said , " no . "` loses the spaces that tokenization put in."""
    return _apply(_LM1B, text)


def ptb(text: str) -> str:
    """Plain text from a Penn Treebank line: numbers, N there, become 1, and `<unk>` becomes a question mark."""
    return _apply(_PTB, text)


def lambada(text: str) -> str:
    """A LAMBADA passage with straight double quotes, behind a line break and without blanks at its ends."""
    return "\n" + _apply(_LAMBADA, text).strip()
