import dataclasses
import math
import re
import sys
from itertools import pairwise

import pytest

from unmask.errors import ConfigError
from unmask.evaluation.results import Entry
from unmask.report.paper import figures, layout
from unmask.report.paper.content import Claim, Fact, Point, Series, Text
from unmask.report.paper.markdown import markdown
from unmask.report.paper.page import page

from ..test_page import EVIL, Reader
from .example import MEDIUM, SCALE, STEPS, TWIN, report, row


@pytest.fixture(scope="module")
def plain() -> Reader:
    return Reader(page(report()))


def one(*entries: Entry, **changes: object) -> str:
    """The page of a report of nothing but these entries."""
    nothing = {"series": (), "texts": (), "claims": (), "notes": {}, "facts": (), "pending": {}}
    return page(report(entries=entries, **(nothing | changes)))


def test_every_number_is_on_the_page_twice_with_the_papers(plain):
    for entry in report().entries:
        for words in (entry.row, entry.column, entry.unlike, entry.paper_row):
            assert words in plain.text
        if entry.paper is not None:
            assert f"{entry.paper:.10g}" in plain.text
        if entry.measured is not None:
            assert layout.ours(entry)[1] in plain.text and entry.measured.protocol in plain.text
        else:
            assert plain.text.count(entry.reason) >= 2  # under its table and among all numbers
    every = plain.text.partition("birth certificate.")[2]
    assert every.count("Table 1 ") == 20 and every.count("Figure 1 ") == 8
    assert f"{len(report().entries)} entries, 56 of them measured" in plain.text


def test_the_verdicts_come_first(plain):
    text = plain.text
    assert text.index("Of 5 claims: 2 hold, 2 fail, 1 cannot be tested here.") < text.index("Table 1.")
    for claim in report().claims:
        assert all(words in text for words in (claim.quote, claim.where, claim.number, claim.because, claim.verdict))


def test_numbers_of_unlike_protocol_stand_in_columns_of_their_own_with_a_mark():
    text = one(
        Entry("table1", "ours", "LAMBADA", row(9.5, stderr=0.25), 44.663, None, "GPT-2 small", TWIN),
        Entry("table1", "alike", "LAMBADA", row(8.5, stderr=0.25), 51.146, None, "SEDD small"),
    )
    cells = re.findall(r'<td class="number (ours|theirs)">(.*?)</td>', text)
    assert [kind for kind, _ in cells] == ["ours", "theirs", "ours", "theirs"]
    assert "9.50" in cells[0][1] and "44.663" not in cells[0][1] and "± 0.25" in cells[0][1]
    assert "44.663" in cells[1][1] and 'href="#table1-unlike-A"' in cells[1][1] and 'class="unlike"' in cells[1][1]
    assert "≤ 51.146" in cells[3][1] and "unlike" not in cells[3][1]
    assert re.search(rf'id="table1-unlike-A"><dt>A</dt><dd>{TWIN.replace(chr(39), "&#x27;")}</dd>', text)


def test_a_number_leads_to_its_protocol_and_says_its_size_and_seed():
    text = one(Entry("table3", "AR", "Perplexity", row(9.5, stderr=0.25, protocol="by hand", n=1234, seed=7)))
    assert 'title="ar-twin, perplexity: 9.50 ± 0.25 perplexity, n = 1,234, seed 7"' in text
    assert '<a href="#protocol-a" aria-label="protocol a" title="by hand">a</a>' in text
    assert '<div id="protocol-a"><dt>a</dt><dd>by hand</dd></div>' in text


def test_a_missing_number_shows_why_in_its_cell_and_below():
    text = one(Entry("table6", "SEDD medium", "MAUVE", None, 0.9, None, "SEDD medium", "", MEDIUM))
    assert f'title="{MEDIUM}"' in text and f'id="table6-note-1"><dt>1</dt><dd>{MEDIUM}</dd>' in text
    unsaid = one(Entry("table6", "SEDD medium", "MAUVE", None))
    assert "not measured" in unsaid


def test_points_stand_under_points():
    assert layout.fractions(["9.5", "110.97", "1,024", "–", "124 M", ""]) == ["0", "", ".00", "", "", ""]
    assert layout.fractions(["1", "22"]) == ["", ""]


@pytest.mark.parametrize(
    ("table", "paper", "printed"),
    [("table1", (110.97, 51.146), ("110.97", "51.146")), ("table2", (29.3, 32.54), ("29.30", "32.54"))],
)
def test_the_papers_numbers_are_shown_as_printed(table, paper, printed):
    entries = [Entry(table, f"r{i}", "c", None, value, None, "", "", "no") for i, value in enumerate(paper)]
    grid = layout.Grid(table, tuple(entries))
    assert tuple(layout.papers(e, grid.paper_decimals("c"))[1] for e in entries) == printed


def test_a_bound_is_marked_and_a_spread_shown():
    text = one(
        Entry("table1", "SEDD", "PTB", row(9.5, protocol="upper bound on -log p"), 110.97, None, "SEDD small"),
        Entry("table4", "text", "Entropy", row(5.2), 5.14, 0.31, "OpenWebText"),
    )
    assert '<span class="bound">≤ </span>9.500' in text and "≤ 110.97" in text and "sd 0.31" in text


def test_several_numbers_for_one_place_are_all_shown():
    text = one(*(Entry("table1", "SEDD", "PTB", row(value)) for value in (1.5, 2.5)))
    cell = re.search(r'<td class="number ours">(.*?)</td>', text)
    assert cell and "1.500" in cell[1] and "2.500" in cell[1]


def test_words_have_cells_too(plain):
    assert all(words in plain.text for words in ("RoPE", "1.45B", "the sizes that two cores can time"))


def test_tables_and_figures_that_the_paper_does_not_have_are_not_left_out():
    series = (Series("more <of> it", "one", "theory", (Point(0, 1), Point(1, 2)), "why"),)
    text = one(Entry("extra things", "a row", "a column", row(3.25)), series=series)
    assert "Further measurements" in text and "Extra things" in text and "3.250" in text
    assert 'id="figure-more__of__it"' in text and "one: why." in text
    Reader(text)


def test_notes_open_what_they_name_and_none_is_lost():
    notes = {name: (f"note of {name}",) for name in ("summary", "table1", "diversity", "arithmetic", "erratum", "odd")}
    text = page(report(notes=notes))
    assert all(text.count(f"note of {name}<") == 1 for name in notes)
    assert text.index("note of table1") < text.index("table1-title") < text.index("note of diversity")
    assert text.index("note of arithmetic") < text.index('id="figure-arithmetic"')
    words = markdown(report(notes=notes))
    assert all(words.count(f"note of {name}\n") == 1 for name in notes if name != "odd")


def test_what_is_pending_is_said_where_it_would_stand_and_in_a_list():
    text = one(pending={"table3/sedd-64": "not yet", "throughput/ar": "no time"})
    for words in (
        "Table 3: no rows yet, not yet.", "Quality per second: no figure yet, not yet.",
        "Tokens per second by batch: no figure yet, no time.", "Table 2: no rows yet, nothing was measured for it.",
        "no time: <code>throughput/ar</code>", "No claim has been judged yet.", "No texts are kept yet.",
    ):  # fmt: skip
        assert words in text, words
    assert "<svg" not in text


def test_nothing_in_a_report_becomes_markup():
    wicked = report(
        title=EVIL, scale=EVIL,
        entries=(
            Entry(EVIL, EVIL, EVIL, row(1.5, EVIL, 0.5, EVIL, note=EVIL, model=EVIL, name=EVIL), 1.0, 1.0, EVIL, EVIL),
            Entry("table1", EVIL, EVIL, None, 1.0, None, EVIL, EVIL, EVIL),
        ),
        series=tuple(
            Series(figure, EVIL, "diffusion", (Point(1, 2, label=EVIL), Point(2, 1)), EVIL, EVIL, EVIL)
            for figure in (EVIL, "figure1", "mauve", "arithmetic")
        ),
        claims=(Claim(EVIL, EVIL, "holds", EVIL, EVIL),), texts=(Text(EVIL, EVIL, "data", EVIL),),
        notes={"table1": (EVIL,), EVIL: (EVIL,)}, provenance={"command": EVIL, "settings": {EVIL: EVIL}},
        pending={EVIL: EVIL}, facts=(Fact("table7", EVIL, EVIL, EVIL, EVIL, EVIL),),
    )  # fmt: skip
    text = page(wicked)
    assert "<script" not in text and "<b>" not in text
    assert Reader(text).text.count("alert('x')") > 30
    words = markdown(wicked)
    assert "<script" not in words and "<b>" not in words and "alert('x')" in words


def test_the_page_asks_for_nothing_and_its_links_lead_somewhere(plain):
    text = page(report())
    assert not re.search(r"@import|url\((?!#)|https?://", text)
    addresses = [v for _, a in plain.seen for name, v in a.items() if name in ("src", "href", "srcset")]
    assert all(address.startswith(("#", "data:")) or address in ("report.json", "report.md") for address in addresses)
    ids = [attributes["id"] for _, attributes in plain.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a[1:] for a in addresses if a.startswith("#")} <= set(ids)
    assert {a["aria-labelledby"] for _, a in plain.seen if "aria-labelledby" in a} <= set(ids)


def test_the_page_can_be_read_aloud(plain):
    levels = [int(name[1]) for name, _ in plain.seen if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    named = [a for a in plain.all("table") if "aria-labelledby" in a]
    assert len(named) + len(plain.all("caption")) == len(plain.all("table")) == 9
    assert len(plain.all("figure")) == len(plain.all("figcaption")) == len(figures.FIGURES) == 8
    assert all(re.search("[0-9]", picture["aria-label"]) for picture in plain.all("svg"))
    assert all(cell.get("scope") in ("row", "col", "colgroup") for cell in plain.all("th"))


def test_rows_of_a_table_are_as_wide_as_its_head():
    for text in re.findall(r'<table class="both".*?</table>', page(report())):
        head = re.findall(r"<t[hd]( [^>]*|)>", text.partition("</tr>")[0])
        wide = sum(int(m[1]) if (m := re.search(r'colspan="(\d+)"', cell)) else 1 for cell in head)
        body = text.partition("<tbody>")[2]
        assert {len(re.findall("<t[hd][ >]", line)) for line in body.split("</tr>") if "<t" in line} == {wide}


def test_figures_say_their_numbers_and_follow_the_page(plain):
    made = figures.figure(report(), "figure1")
    assert made is not None
    assert "var(--diffusion)" in made.picture.inline and not re.search("#0[1-8]0[1-8]0[1-8]", made.picture.inline)
    assert "64: 7.04 s; 100: 11 s, extrapolated" in made.alt
    assert "≈ 11 s (0.72×)" in made.picture.inline and "1.76 s (4.5×)" in made.picture.inline
    assert "url(#figure1-" in made.picture.inline  # hatched where extrapolated
    assert "#11696f" in made.picture.svg and made.picture.svg.startswith("<?xml") and "#ffffff" in made.picture.svg
    assert made.picture.png.startswith(b"\x89PNG")


def test_steps_are_labelled_and_levels_named():
    drawn = figures.figure(report(), "quality_per_second")
    assert drawn is not None
    for steps in STEPS:
        assert len(re.findall(f">{steps}</text>", drawn.picture.inline)) == 2 + (steps == 100), steps  # and on the axis
    assert ">real text</text>" in drawn.picture.inline and "AR, top-p 0.95, best batch" in drawn.picture.inline


def test_a_break_even_is_ringed_on_its_curve():
    from unmask.report.paper.curves import _break_even

    series = Series(
        "throughput", "s", "diffusion", (Point(1, 10), Point(4, 40), Point(16, 40)), "break-even at batch 2"
    )
    assert _break_even(series, series.points) == pytest.approx((2, 20))
    assert _break_even(dataclasses.replace(series, note="batch 2"), series.points) is None
    assert _break_even(dataclasses.replace(series, note="break-even at batch 99"), series.points) is None


@pytest.mark.parametrize("name", [*figures.FIGURES, "unheard of"])
def test_points_that_cannot_be_drawn_do_no_harm(name):
    odd = tuple(
        Point(x, y, e, "l") for x in (-1.0, 0.0, math.nan) for y, e in ((0.0, 0.0), (-1.0, math.inf), (math.nan, None))
    )
    for points in (odd, (*odd, Point(2.0, 3.0, 0.1)), (Point(2.0, 3.0),), ()):
        series = tuple(Series(name, family, family, points) for family in ("data", "theory", "diffusion"))
        Reader(page(report(series=series, entries=(), texts=())))


def test_ticks_are_few_and_round():
    from unmask.report.paper.draw import log_ticks

    assert log_ticks(0.08, 30) == [0.1, 1, 10]
    assert log_ticks(34, 330) == [50, 100, 200]
    assert log_ticks(4.4, 5.7) == pytest.approx([4.5, 5.0, 5.5])
    assert log_ticks(99.1, 101) == pytest.approx([99.5, 100, 100.5, 101])


def test_the_same_series_draw_the_same_figure():
    series = tuple(s for s in report().series if s.figure == "throughput")
    first, second = (figures._figure.__wrapped__("throughput", series) for _ in range(2))
    assert first.picture.inline == second.picture.inline and first.picture.svg == second.picture.svg
    assert first.picture.png == second.picture.png


def test_a_missing_matplotlib_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    undrawn = Series("variance", "never drawn before", "theory", (Point(0, 1.25),))
    with pytest.raises(ConfigError, match="matplotlib") as caught:
        page(report(series=(undrawn,)))
    assert "pip install 'unmask[figures]'" in caught.value.hint


def test_markdown_holds_the_same_tables_and_verdicts():
    words = markdown(report())
    table = words.partition("**Table 3.**")[2].partition("## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 9 and len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["real text (paper: OpenWebText)", "25.21 ± 0.44 (k)", "13.269 [E]", "1.127 ± 0.012 (k)"]
    assert [c.strip() for c in lines[-1].strip("|").split("|")][1:3] == ["– [2]", "40.648 [E]"]
    assert f"- [E] {SCALE}" in table and "- [2] not measured yet" in table
    for claim in report().claims:
        assert f"“{claim.quote}”" in words and claim.because in words
    assert "- (k) judge SmolLM2-135M, re-tokenised" in words and "![Quality per second](figures/quality_per_second.png)"
    assert "- `table3/sedd-1024`: not measured yet" in words and "    unmask report --scale tiny" in words
