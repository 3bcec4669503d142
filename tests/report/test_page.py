import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from unmask.errors import ConfigError
from unmask.report import figures, html
from unmask.report.content import Card, Fill, Span, Written
from unmask.report.html import Html, tag
from unmask.report.page import page

from .example import likelihood_rows, report

EVIL = "<script>alert('x')</script>\"'&<b>"
VOID = {"meta", "link", "br", "hr", "path", "use", "rect", "line", "circle"}


class Reader(HTMLParser):
    """Collects a page, and fails where its elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.seen.append((name, dict(attributes)))
        if name not in VOID or "svg" in self.open:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.seen.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name):
        return [attributes for tag_name, attributes in self.seen if tag_name == name]


@pytest.fixture(scope="module")
def plain() -> Reader:
    return Reader(page(report()))


def test_the_page_holds_what_the_report_holds(plain):
    for words in (
        "Two models", "What is compared.", "AR is ahead by 0.300 ± 0.010", "≤ 4.800 ± 0.020", "4.500 ± 0.030",
        "one text", "another text", "16 steps", "top-p 0.95", "3 tokens", "9.8.7", "abc123", "2026-01-02 03:04:05 UTC",
        "17 evaluations of the network, 1.5 s for a batch of 2, tweedie rule, raw scores", "the full bound",
        "the papers' quantity", "1.250 ± 0.020", "end of document",
    ):  # fmt: skip
        assert words in plain.text, words


def test_the_parts_of_the_bound_are_shown_to_add_up(plain):
    assert all(part in plain.text for part in ("4.7849", "0.0068", "0.0083", "≤ 4.8000"))


def test_written_words_are_marked_and_given_ones_are_not():
    text = page(report())
    assert "I am<mark> very</mark> late." in text


def test_nothing_in_a_report_becomes_markup():
    wicked = report(
        title=EVIL, summary=EVIL, samples=(Written(EVIL, EVIL, 1.0, 1, 1, 0, steps=1, rule=EVIL, reads=EVIL),),
        fills=(Fill(EVIL, EVIL, (Span(EVIL, True), Span(EVIL, False)), 1, 1, 0),),
        cards=(Card(EVIL, EVIL, {EVIL: EVIL}), Card("AR", "autoregressive", {EVIL: "other"})),
        provenance={"unmask": EVIL, "commit": EVIL, "settings": {EVIL: EVIL}}, omitted=(EVIL,), diffusion=EVIL,
    )  # fmt: skip
    text = page(wicked)
    assert "<script" not in text and "<b>" not in text
    read = Reader(text)
    assert read.all("script") == [] and read.text.count("alert('x')") > 10


def test_markup_in_a_figure_is_escaped_too():
    rows = tuple(likelihood_rows(4.8, 4.5))
    drawn = figures.likelihood(report(rows=rows, autoregressive="AR"))
    assert drawn is not None
    evil = figures.inline("<svg width='1'><path/></svg>", "x", EVIL)
    assert "<script" not in evil and Reader(evil).all("svg")[0]["aria-label"] == EVIL


def test_the_page_asks_for_nothing(plain):
    addresses = [
        value for _, attributes in plain.seen for name, value in attributes.items() if name in ("src", "href", "srcset")
    ]
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    text = page(report())
    assert not re.search(r"@import|url\((?!#)|https?://", text)
    policy = [m["content"] for m in plain.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].startswith("default-src 'none'")


def test_ids_are_unique_and_links_lead_somewhere(plain):
    ids = [attributes["id"] for _, attributes in plain.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {address["href"][1:] for address in plain.all("a") + plain.all("use")}
    assert targets and targets <= set(ids)


def test_the_page_can_be_read_aloud(plain):
    assert plain.all("html")[0]["lang"] == "en"
    assert len(plain.all("h1")) == 1
    levels = [int(name[1]) for name, _ in plain.seen if re.fullmatch("h[1-6]", name)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(plain.all("table")) == len(plain.all("caption")) > 3
    assert len(plain.all("figure")) == len(plain.all("figcaption")) == 3
    pictures = plain.all("svg")
    assert len(pictures) == 3 and all(p["role"] == "img" and re.search(r"[0-9]", p["aria-label"]) for p in pictures)
    assert all(cell.get("scope") in ("row", "col") for cell in plain.all("th"))


def test_figures_follow_the_pages_colours_and_say_their_numbers():
    drawn = figures.likelihood(report())
    assert "var(--diffusion)" in drawn and "var(--autoregressive)" in drawn
    assert not re.search("#0[1-6]0[1-6]0[1-6]", drawn)
    assert "AR, exact: 4.500 ± 0.030" in drawn and "SEDD, full bound: 4.800 ± 0.020" in drawn
    assert "<text" in drawn and "4.800" in re.sub("aria-label=.*?>", "", drawn, count=1)


def test_the_same_report_draws_the_same_page():
    assert page(report()) == page(report())


def test_what_was_not_measured_is_said():
    empty = Reader(page(report(rows=(), samples=(), fills=(), curves={"SEDD": [], "AR": []}, timings=(), cards=())))
    for words in ("no verdict", "No samples", "No template fits", "no training curves", "Nothing was timed"):
        assert words in empty.text
    assert empty.all("svg") == []


def test_curves_without_held_out_values_and_numbers_that_are_not_finite_can_be_drawn():
    curve = [{"step": 1.0, "tokens": 10.0, "loss": float("nan")}, {"step": 2.0, "tokens": 20.0, "loss": 3.0}]
    rows = tuple(likelihood_rows(float("inf"), 4.5, gap_error=None))
    read = Reader(page(report(rows=rows, curves={"SEDD": curve, "AR": []})))
    assert "≤ ∞" in read.text and len(read.all("svg")) == 3


def test_a_missing_matplotlib_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="matplotlib") as caught:
        page(report())
    assert "pip install 'unmask[figures]'" in caught.value.hint


def test_tags_escape_text_and_attributes():
    made = tag("p", "a < b", Html("<i>c</i>"), ["d", None, "&"], None, class_="x", data_y='"', hidden=True, lang=None)
    assert made == '<p class="x" data-y="&quot;" hidden>a &lt; b<i>c</i>d&amp;</p>'
    assert tag("br") == "<br>"
    assert html.join("<", [Html("<br>")]) == "&lt;<br>"
