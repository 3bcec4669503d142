"""HTML that cannot be broken by what it holds: every string that is not `Html` already is escaped."""

import html
from collections.abc import Iterable

VOID = frozenset({"br", "hr", "meta", "link"})
GENERATOR = "unmask"  # the first word of what a page says of its maker


class Html(str):
    """Text that is markup. Only `tag`, `join` and code that escaped it itself make one."""

    @staticmethod
    def escape(text: str) -> str:
        """Text as it must stand in markup, in an attribute too."""
        return html.escape(text, quote=True)


Child = str | Iterable["str | None"] | None


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. Children are text, which is escaped, or Html, or lists of them; None is left out.

    Attributes: `class_` and `for_` lose their underscore, other underscores become hyphens; None and False are left
    out, True stands without a value.
    """
    parts = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        parts.append(f" {word}" if value is True else f' {word}="{Html.escape(str(value))}"')
    head = f"<{name}{''.join(parts)}>"
    return Html(head) if name in VOID else Html(f"{head}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other, text escaped."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            out.append(str(child))
        elif isinstance(child, str):
            out.append(Html.escape(child))
        else:
            out.append(str(join(*child)))
    return Html("".join(out))


def head(title: str, policy: str, *styles: Html, version: str = "") -> Html:
    """The head of every page here. policy: its Content-Security-Policy. styles: elements. version: of unmask."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"{GENERATOR} {version}".strip()),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        styles,
    )


def table(
    caption: str,
    head: Iterable[str],
    body: Iterable[Iterable[str | None]],
    *,
    numeric: Iterable[int] = (),
) -> Html:
    """A table that scrolls sideways where it is too wide. numeric: columns whose figures are set flush right.

    The first cell of each row is its heading.
    """
    flush = set(numeric)

    def kind(column: int) -> str | None:
        return "number" if column in flush else None

    heads = [tag("th", text, scope="col", class_=kind(i)) for i, text in enumerate(head)]
    rows = []
    for row in body:
        cells = [
            tag("td" if i else "th", cell, scope=None if i else "row", class_=kind(i)) for i, cell in enumerate(row)
        ]
        rows.append(tag("tr", cells))
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", rows))
    return tag("div", inner, class_="scroll", role="region", aria_label=caption, tabindex=0)
