"""The sections of the page, each a function of the report."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from unmask.report.digits import ABSENT
from unmask.report.html import Html, join, tag
from unmask.report.paper import figures, tables
from unmask.report.paper.content import Claim, PaperReport, Text
from unmask.report.paper.layout import SECTIONS, Marks, Section, slug
from unmask.text.tokenizers import EOS

VERDICTS = {"holds": ("holds", "✓"), "fails": ("fails", "✗"), "cannot be tested here": ("open", "○")}
PAPER = "Deschenaux and Gulcehre (2024), Promises, Outlooks and Challenges of Diffusion Language Modeling"
LONG = 280  # characters of prose that fill a column beside a figure
ELSEWHERE = ("summary", "erratum")  # notes that no table and no figure opens


def claims(report: PaperReport) -> Html:
    """What the paper says, and what our numbers say of it."""
    if not report.claims:
        return tag("p", "No claim has been judged yet.", class_="absent")
    heads = [tag("th", text, scope="col", role="columnheader") for text in ("Verdict", "The paper says", "We find")]
    inner = tag(
        "table",
        tag("caption", "The paper's claims, in its words, and what the numbers below say of each."),
        tag("thead", tag("tr", heads, role="row"), role="rowgroup"),
        tag("tbody", [_claim(claim) for claim in report.claims], role="rowgroup"),
        class_="claims",
        role="table",
    )
    return join(tag("p", tally(report), class_="tally"), inner)


def tally(report: PaperReport) -> str:
    """`4 hold, 2 fail, 2 cannot be tested here.`"""
    words = {
        "holds": ("holds", "hold"), "fails": ("fails", "fail"),
        "cannot be tested here": ("cannot be tested here", "cannot be tested here"),
    }  # fmt: skip
    counts = {verdict: sum(c.verdict == verdict for c in report.claims) for verdict in words}
    said = ", ".join(f"{n} {words[verdict][n != 1]}" for verdict, n in counts.items() if n)
    return f"Of {len(report.claims)} claim{'s' * (len(report.claims) != 1)}: {said}."


def _claim(claim: Claim) -> Html:
    kind, sign = VERDICTS[claim.verdict]
    badge = tag("span", tag("span", sign, aria_hidden="true"), " ", claim.verdict, class_=f"badge {kind}")
    return tag(
        "tr",
        tag("td", badge, role="cell"),
        tag("th", tag("q", claim.quote), tag("span", claim.where, class_="where"), scope="row", role="rowheader"),
        tag("td", tag("strong", claim.number), tag("span", claim.because, class_="because"), role="cell"),
        role="row",
    )


def measured(report: PaperReport, section: Section, marks: Marks) -> Html:
    """Paragraphs, tables and figures of one section."""
    before = [name for name in section.tables if name not in section.figures]
    parts: list[Html] = paragraphs(report, section.name)
    for name in before:
        parts += [*paragraphs(report, name), tables.table(report, name, marks)]
    plates = [_plate(report, section, name) for name in section.figures]
    after = [tables.table(report, name, marks) for name in section.tables if name not in before]
    return join(parts, tag("div", plates, class_="plates") if plates else None, after)


def _plate(report: PaperReport, section: Section, name: str) -> Html:
    """A figure under the paragraphs that open it; beside them where they are long and there is room."""
    opening = [] if name == section.name else paragraphs(report, name)
    prose = tag("div", opening, class_="prose") if opening else None
    long = sum(map(len, opening)) > LONG
    return tag("div", prose, _figure(report, section, name), class_="plate told" if long else "plate")


def paragraphs(report: PaperReport, name: str) -> list[Html]:
    """The notes of that name."""
    return [tag("p", text, class_="note") for text in report.notes.get(name, ())]


def _figure(report: PaperReport, section: Section, name: str) -> Html:
    made = figures.figure(report, name)
    if made is None:
        return tag("p", figures.absent(report, section, name), class_="absent", id=f"figure-{slug(name)}")
    caption = tag("figcaption", tag("strong", f"{made.title}."), f" {made.caption}")
    return tag("figure", made.picture.inline, caption, id=f"figure-{slug(name)}")


def further_notes(report: PaperReport, listed: list[Section]) -> list[Html]:
    """Notes that open nothing on this page."""
    used = {name for s in (*SECTIONS, *listed) for name in (s.name, *s.tables, *s.figures)} | set(ELSEWHERE)
    return [part for name in report.notes if name not in used for part in paragraphs(report, name)]


def texts(report: PaperReport) -> Html:
    """A fold for each text, by who wrote it."""
    if not report.texts:
        return tag("p", "No texts are kept yet.", class_="absent")
    return join(
        tag("p", "The first of each set, not chosen. A grey mark stands where a document ends.", class_="note"),
        tag("div", [_texts(label, list(own)) for label, own in groupby(report.texts, lambda t: t.label)]),
    )


def _texts(label: str, own: list[Text]) -> Html:
    count = f" ({len(own)})" if len(own) > 1 else ""
    inner = [
        join(tag("p", text.note, class_="facts") if text.note else None, tag("blockquote", _marked(text.text)))
        for text in own
    ]
    name = tag("summary", tag("span", label, class_="name"), count)
    return tag("details", name, inner, class_=f"text {own[0].family}")


def _marked(text: str) -> Html:
    pieces: list[Html] = []
    for piece in text.split(EOS):
        if pieces:
            pieces.append(tag("span", "end of document", class_="end"))
        pieces.append(join(piece.strip()))
    return join(pieces)


def repeat(report: PaperReport, marks: Marks) -> Html:
    """The command, where the numbers come from, the protocols, every number, and what is not done."""
    protocols = [
        tag("div", tag("dt", letter), tag("dd", text), id=f"protocol-{letter}")
        for text, letter in marks.protocols.items()
    ]
    erratum = paragraphs(report, "erratum")
    return join(
        tag("pre", tag("code", command(report)), tabindex=0),
        _facts(report.provenance),
        tag("h3", "Protocols", id="protocols"),
        tag("p", "Two numbers may be compared where quantity, unit and protocol agree.", class_="note"),
        tag("dl", protocols, class_="protocols") if protocols else tag("p", "No number yet.", class_="absent"),
        [tag("h3", "Errata of the paper", id="errata"), *erratum] if erratum else None,
        _pending(report),
        tag("h3", "Every number", id="numbers"),
        tag("details", tag("summary", _counted(report)), tables.every_number(report, marks)),
    )


def command(report: PaperReport) -> str:
    """The words that make this report again."""
    said = report.provenance.get("command") or report.provenance.get("settings", {}).get("command")
    return str(said or f"unmask report --scale {report.scale}")


def counts(report: PaperReport) -> tuple[int, int]:
    """How many entries have a number, and how many there are."""
    return sum(entry.measured is not None for entry in report.entries), len(report.entries)


def _counted(report: PaperReport) -> str:
    done, whole = counts(report)
    return f"{whole} entries, {done} of them measured"


def _facts(said: Mapping[str, Any]) -> Html:
    labels = {
        "unmask": "Version", "commit": "Commit", "machine": "Machine", "device": "Device", "python": "Python",
        "torch": "PyTorch", "settings_hash": "Settings hash",
    }  # fmt: skip
    facts = [(label, str(said.get(key) or ABSENT)) for key, label in labels.items() if key in said]
    if said.get("date"):
        facts.append(("Date", str(said["date"]).replace("T", " ").replace("+00:00", " UTC")))
    others = {k: v for k, v in said.items() if k not in (*labels, "date", "settings", "command")}
    others |= {k: v for k, v in (said.get("settings") or {}).items() if k != "command"}
    facts += [(_label(key), str(value)) for key, value in others.items() if value not in ("", None)]
    return tag("dl", [tag("div", tag("dt", label), tag("dd", text)) for label, text in facts], class_="facts-list")


def _pending(report: PaperReport) -> Html | None:
    """Work that is not done, by its reason."""
    if not report.pending:
        return None
    reasons: dict[str, list[str]] = {}
    for key, reason in report.pending.items():
        reasons.setdefault(reason, []).append(key)
    items = [
        tag("li", f"{reason}: ", join([join(", " if i else None, tag("code", key)) for i, key in enumerate(keys)]))
        for reason, keys in reasons.items()
    ]
    return join(tag("h3", "Not done", id="pending"), tag("ul", items, class_="pending"))


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()
