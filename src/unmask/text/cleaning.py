"""From files made for other eyes to plain paragraphs: text with a blank line between paragraphs."""

import html
import re

_SPACES = re.compile(r"[ \t\f\v\u00a0]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_EMPHASIS = re.compile(r"(?<![\w_])_([^_\n](?:[^_]*[^_\s])?)_(?![\w_])")
_VERSE_NUMBER = re.compile(r"(?<!\S)\d{1,3}:\d{1,3}(?=\s)")
_TITLE = re.compile(r"\A\s*\[[^\]\n]*\]")
_END_OF_BOOK = re.compile(r"^(?:\*\*\* ?END OF|End of (?:the )?Project Gutenberg)", re.MULTILINE | re.IGNORECASE)
_DOC = re.compile(r"<doc [^>]*?title=\"(.*?)\">\n(.*?)\n</doc>", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>")


def newlines(text: str) -> str:
    """Line ends as single newlines, and no byte-order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def paragraphs(text: str) -> str:
    """The text with runs of blanks as one space, blank lines as one, and no control characters."""
    lines = [_SPACES.sub(" ", _CONTROL.sub("", line)).strip() for line in newlines(text).split("\n")]
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def unwrap(text: str) -> str:
    """Hard-wrapped prose with each paragraph on one line.

    A line that is indented keeps its line break: it is verse, a list, or a new paragraph.
    """
    blocks = []
    for block in _BLANK_LINES.split(newlines(text).strip("\n")):
        lines = block.split("\n")
        joined = lines[0]
        for line in lines[1:]:
            joined += ("\n" if line[:1] in (" ", "\t") else " ") + line.strip()
        blocks.append(joined)
    return paragraphs("\n\n".join(blocks))


def book(raw: str, *, verse: bool = False) -> str:
    """A book of NLTK's Gutenberg selection: no title in brackets, no licence at the end, no `_emphasis_`.

    Prose is unwrapped; verse keeps its lines.
    """
    text = _TITLE.sub("", newlines(raw), count=1)
    if end := _END_OF_BOOK.search(text):
        text = text[: end.start()]
    text = paragraphs(text) if verse else unwrap(text)
    return _EMPHASIS.sub(r"\1", text)


def bible(raw: str) -> str:
    """The King James Bible without the numbers of its verses."""
    return unwrap(_VERSE_NUMBER.sub("", book(raw, verse=True)))


def extracts(raw: str) -> list[tuple[str, str]]:
    """(title, text) of the articles in a wikiextractor file; titles without a text are left out.

    The extractor puts a paragraph on a line; here a blank line stands between them. The title comes first.
    """
    articles = []
    for match in _DOC.finditer(newlines(raw)):
        title = html.unescape(match[1])
        lines = [_TAG.sub("", html.unescape(line)).strip() for line in match[2].split("\n")]
        body = [line for line in lines if line]
        if body and body[0] == title:
            body = body[1:]
        if body:
            articles.append((title, paragraphs("\n\n".join([title, *body]))))
    return articles
