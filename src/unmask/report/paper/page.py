"""The page: one HTML file that asks for nothing else. Verdicts first, then tables and figures, then how."""

from collections.abc import Mapping
from importlib.resources import files

from unmask.report.html import Html, join, tag
from unmask.report.page import still, stylesheet
from unmask.report.paper import sections
from unmask.report.paper.content import PaperReport
from unmask.report.paper.layout import Marks
from unmask.report.paper.layout import sections as listed_sections

ABOUT = (
    "Every table and the figure of ",
    tag("cite", "Promises, Outlooks and Challenges of Diffusion Language Modeling"),
    " (Deschenaux and Gulcehre, 2024) measured again, the paper's number beside ours.",
)
SCALES: Mapping[str, str] = {
    "tiny": "The models here are small twins, one diffusion and one autoregressive, not the paper's checkpoints: a "
    "pattern of the paper may show again, a value of it cannot.",
    "paper": "The models here are the paper's own checkpoints.",
    "smoke": "This is a check that every part runs; its numbers mean nothing.",
}


def page(report: PaperReport) -> str:
    """The whole page. Raises ConfigError where there is a figure to draw and matplotlib is not installed."""
    marks = Marks.of(report)
    listed = listed_sections(report)
    blocks: list[tuple[str, str, str, Html]] = [("verdict", "Verdict", "The verdict", sections.claims(report))]
    blocks += [(s.name, s.short, s.heading, sections.measured(report, s, marks)) for s in listed]
    further = sections.further_notes(report, listed)
    if further:
        blocks.append(("remarks", "Remarks", "Further remarks", join(further)))
    blocks.append(("texts", "Texts", "What the models write", sections.texts(report)))
    blocks.append(("repeat", "Repeat", "How to repeat this", sections.repeat(report, marks)))
    css = stylesheet() + files("unmask.report.paper").joinpath("paper.css").read_text(encoding="utf-8")
    body = tag(
        "body",
        tag("a", "Skip to the verdict", href="#verdict", class_="skip"),
        _header(report),
        tag("nav", tag("ol", [tag("li", tag("a", b[1], href=f"#{b[0]}")) for b in blocks]), aria_label="Sections"),
        tag("main", [_section(index, *block, report) for index, block in enumerate(blocks, 1)]),
        _footer(report),
        class_="paper",
    )
    html = tag("html", still(report.title, report.provenance.get("unmask", ""), css), body, lang="en")
    return f"<!doctype html>\n{html}\n"


def _section(index: int, name: str, short: str, heading: str, inner: Html, report: PaperReport) -> Html:
    anchor = tag("a", "#", href=f"#{name}", class_="anchor", aria_label=f"Link to {short}")
    title = tag("h2", tag("span", str(index), class_="count"), " ", heading, " ", anchor, id=f"{name}-heading")
    first_table = index == 2 and bool(report.entries)
    return tag("section", title, _key() if first_table else None, inner, id=name, aria_labelledby=f"{name}-heading")


def _key() -> Html:
    """How to read the tables, once."""
    return tag(
        "p",
        tag("strong", "How to read the tables. "),
        "Ours stands first, with one standard error below; its small letter leads to the protocol. Beside it, in ",
        tag("span", "grey", class_="theirs"),
        ", the paper's, of the row named under ours; a ",
        tag("span", "capital letter", class_="sample unlike"),
        " on it says that the two were not made alike, and in what. The number on a dash gives the reason.",
        class_="note key",
    )


def _header(report: PaperReport) -> Html:
    date = str(report.provenance.get("date", ""))[:10]
    kicker = " · ".join(part for part in ("unmask report", f"scale {report.scale}", date) if part)
    done, whole = sections.counts(report)
    state = f"{done:,} of {whole:,} numbers are measured"
    waiting = f"{state}; the others say why not." if done < whole else f"All {whole:,} numbers are measured."
    scale = SCALES.get(report.scale, "")
    return tag(
        "header",
        tag("p", kicker, class_="kicker"),
        tag("h1", report.title),
        tag("p", ABOUT, f" {scale}" if scale else None, class_="lede"),
        [tag("p", text, class_="lede more") for text in report.notes.get("summary", ())],
        tag("p", waiting, class_="state") if whole else None,
    )


def _footer(report: PaperReport) -> Html:
    version = str(report.provenance.get("unmask", ""))
    return tag(
        "footer",
        tag("p", f"The paper: {sections.PAPER}; the checkpoints it measures: Lou, Meng and Ermon (2024)."),
        tag(
            "p",
            join(
                f"Made by unmask {version}. The same for machines: ", tag("a", "report.json", href="report.json"),
                "; in Markdown: ", tag("a", "report.md", href="report.md"), "; the figures alone: ",
                tag("code", "figures/"), ".",
            ),
        ),
    )  # fmt: skip
