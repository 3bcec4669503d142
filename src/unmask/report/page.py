"""The page: one HTML file that asks for nothing else. What it shows is the report; every text in it is escaped."""

from collections.abc import Callable
from importlib.resources import files

from unmask.report import figures, sections, words
from unmask.report.content import Report
from unmask.report.digits import ABSENT, with_error
from unmask.report.html import Html, head, join, tag

# Nothing may be fetched and nothing may run, whatever a model has written.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SECTIONS: dict[str, tuple[str, str, Callable[[Report], Html]]] = {
    "likelihood": ("Likelihood", "How well each model predicts unseen text", sections.likelihood),
    "samples": ("Samples", "What each model writes", sections.samples),
    "fills": ("Gaps", "Filling gaps", sections.fills),
    "curves": ("Training", "How they learned", sections.curves),
    "timing": ("Speed", "How long one sequence takes", sections.timing),
    "models": ("Models", "The two models", sections.models),
    "provenance": ("Provenance", "Where these numbers come from", sections.provenance),
}


def page(report: Report) -> str:
    """The whole page. Raises ConfigError where matplotlib, which draws the figures, is not installed."""
    figures.require()
    body = [_section(report, index, name) for index, name in enumerate(SECTIONS, 1)]
    links = [tag("li", tag("a", short, href=f"#{name}")) for name, (short, _, _) in SECTIONS.items()]
    whole = tag(
        "html",
        still(report.title, report.provenance.get("unmask", ""), stylesheet()),
        tag(
            "body",
            tag("a", "Skip to the results", href="#likelihood", class_="skip"),
            _header(report),
            tag("nav", tag("ol", links), aria_label="Sections"),
            tag("main", body),
            _footer(report),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{whole}\n"


def _section(report: Report, index: int, name: str) -> Html:
    _, heading, make = SECTIONS[name]
    count = tag("span", str(index), class_="count")
    title = tag("h2", count, " ", heading, id=f"{name}-heading")
    return tag("section", title, make(report), id=name, aria_labelledby=f"{name}-heading")


def stylesheet() -> str:
    """The style that all pages share."""
    return files("unmask.report").joinpath("page.css").read_text(encoding="utf-8")


def still(title: str, version: object, css: str) -> Html:
    """The head of a page that may fetch nothing and run nothing. version: of unmask."""
    return head(title, POLICY, tag("style", Html(css)), version=str(version))


def _header(report: Report) -> Html:
    date = str(report.provenance.get("date", ""))[:10]
    return tag(
        "header",
        tag("p", " · ".join(part for part in ("unmask report", date) if part), class_="kicker"),
        tag("h1", report.title),
        tag("p", report.summary, class_="lede"),
        tag("div", _tile(report, report.diffusion), _tile(report, report.autoregressive), class_="tiles"),
        tag("p", tag("strong", "Verdict. "), words.verdict(report), class_="verdict"),
    )


def _tile(report: Report, model: str) -> Html:
    """One model's perplexity, large."""
    row, nats = report.find("perplexity", model), report.find("nats_per_token", model)
    ours = model == report.diffusion
    mark = "≤ " if ours else ""
    small = f"{with_error(nats.value, nats.stderr)} nats per token" if nats else ""
    return tag(
        "div",
        tag("p", model, class_="name"),
        tag(
            "p", tag("span", mark, class_="bound"), sections.value(row) if row else ABSENT, class_="big"
        ),
        tag("p", f"perplexity, {'upper bound' if ours else 'exact'}", class_="what"),
        tag("p", f"{mark}{small}", class_="what"),
        class_=f"tile {'diffusion' if ours else 'autoregressive'}",
    )  # fmt: skip


def _footer(report: Report) -> Html:
    version = str(report.provenance.get("unmask", ""))
    return tag(
        "footer",
        tag(
            "p",
            join(
                "Made by unmask ", version, ". The same numbers, for machines, are in ", tag("code", "report.json"), "."
            ),
        ),
    )
