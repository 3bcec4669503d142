"""The page by real clicks and keys, in Debian's Chromium, against the server and the embedded twins."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from unmask.report.ramp import LIGHT, ramp

from .browser import GAPS, PROMPT, write

pytestmark = pytest.mark.slow


def texts(page: Page) -> list[str]:
    return page.locator("#write-view .token").all_text_contents()


def count(page: Page, kind: str) -> int:
    return page.locator(f"#write-view .token.{kind}").count()


def says_how_sure(card, written, given):
    """Over a written token the card has its moment, three others and itself, the likeliest first; over a given one it
    says that."""
    written.locator(".body").hover()
    expect(card).to_be_visible()
    expect(card).to_contain_text(re.compile(r"final after step \d+, t = 0\.\d\d"))
    rows = [percent(text) for text in card.locator("li .p").all_text_contents()]
    assert len(rows) == 4 and rows == sorted(rows, reverse=True) and 0 < sum(rows) <= 100.5
    assert card.locator("li.own").count() == 1
    given.hover()
    expect(card).to_contain_text("given")


def test_a_text_with_gaps_is_written_and_can_be_scrubbed(visit):
    opened = visit()
    page = write(opened)
    [sent] = opened.posted("v1/infill")
    assert sent["template"] == GAPS and sent["steps"] == 8 and sent["seed"] == 7 and sent["diffusing"]
    assert count(page, "final") == 12 and count(page, "mask") == 0
    whole = "".join(texts(page))
    assert whole.startswith("Fellow citizens, the state of the") and " and we shall" in whole
    slider, where = page.get_by_role("slider", name="Frame"), page.locator("#write-view .where")
    assert where.text_content() == "step 9 of 9, 12 of 12 tokens"
    slider.focus()
    page.keyboard.press("Home")
    assert count(page, "mask") == 12 and count(page, "given") > 8
    assert where.text_content() == "step 0 of 9, 0 of 12 tokens"
    seen = [12]
    for _ in range(9):
        page.keyboard.press("ArrowRight")
        seen.append(count(page, "mask"))
    assert seen == sorted(seen, reverse=True) and seen[-1] == 0 and len(set(seen)) > 3
    assert "".join(texts(page)) == whole  # a masked token keeps the room of its text, so nothing moves
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 0 < count(page, "mask") < 12


def test_colours_follow_the_order_of_settling(visit):
    page = write(visit(), steps=12)
    page.get_by_role("slider", name="Frame").focus()
    page.keyboard.press("Home")
    stops: dict[str, int] = {}
    for k in range(14):
        fresh = {
            token.get_attribute("data-i"): int(token.get_attribute("data-stop"))
            for token in page.locator("#write-view .token.final").all()
        }
        assert all(stops.get(i, stop) == stop for i, stop in fresh.items())  # a colour stays
        new = [stop for i, stop in fresh.items() if i not in stops]
        assert not new or not stops or min(new) >= max(stops.values()), k
        stops |= fresh
        page.keyboard.press("ArrowRight")
    tint = page.locator("#write-view .token[data-stop] .body").first
    stop = int(page.locator("#write-view .token[data-stop]").first.get_attribute("data-stop"))
    expect(tint).to_have_css("background-color", rgb(ramp(LIGHT)[stop]))
    expect(page.locator("#write-view .legend")).to_contain_text("settled first")


def rgb(color: str) -> str:
    return "rgb({}, {}, {})".format(*(int(color[i : i + 2], 16) for i in (1, 3, 5)))


def test_it_plays_and_pauses(visit):
    page = write(visit(), steps=32)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator("#write-view .token.mask")).not_to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    held = page.locator("#write-view .where").text_content()
    page.wait_for_timeout(400)
    assert page.locator("#write-view .where").text_content() == held
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator("#write-view .token.mask")).to_have_count(0, timeout=15000)
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_a_token_tells_its_probability_and_alternatives(visit):
    page = write(visit())
    card, token = page.locator("#write-view .card"), page.locator("#write-view .token.final")
    expect(card).to_be_hidden()
    says_how_sure(card, token.nth(3), page.locator("#write-view .token.given").first)
    page.mouse.move(5, 5)
    expect(card).to_be_hidden()
    token.nth(3).focus()  # by keyboard too, and named for those who do not see it
    expect(card).to_be_visible()
    assert "final after step" in token.nth(3).get_attribute("aria-label")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def percent(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text))


def test_chosen_words_are_redrawn_and_the_rest_stays(visit):
    opened = visit()
    page = write(opened)
    before = texts(page)
    word = page.locator("#write-view .token.final")
    word.nth(1).locator(".body").click()
    word.nth(8).locator(".body").click()
    expect(page.locator("#choice")).to_contain_text("2 words chosen")
    chosen = [int(each.get_attribute("data-i")) for each in page.locator(".token.chosen").all()]
    page.get_by_role("button", name="Redraw", exact=True).click()
    expect(page.get_by_role("button", name="Undo redraw")).to_be_visible()
    sent = opened.posted("v1/infill")[-1]
    assert sum(int(n) for n in re.findall(r"\[MASK:(\d+)\]", sent["template"])) == len(chosen)
    assert count(page, "final") == len(chosen) and sent["seed"] == 8
    kept = "".join(text for i, text in enumerate(before) if i not in chosen)
    assert "".join(page.locator("#write-view .token.given").all_text_contents()) == kept
    page.get_by_role("button", name="Undo redraw").click()
    assert texts(page) == before and count(page, "final") == 12


def test_words_are_chosen_with_the_mouse_and_let_go(visit):
    page = write(visit())
    tokens = page.locator("#write-view .token.final .body")
    start, end = tokens.nth(0).bounding_box(), tokens.nth(4).bounding_box()
    page.mouse.move(start["x"] + 1, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] - 1, end["y"] + end["height"] / 2, steps=8)
    page.mouse.up()
    expect(page.locator("#choice")).to_be_visible()
    assert page.locator(".token.chosen").count() >= 5
    assert page.locator("[aria-selected=true]").count() == page.locator(".token.chosen").count()
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".token.chosen").count() == 0
    expect(page.locator("#choice")).to_be_hidden()


def test_everything_works_by_keyboard(visit):
    page = visit().ready().page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the text")).to_be_focused()

    def tab_to(target: str) -> None:
        for _ in range(20):
            if page.evaluate("(it) => document.activeElement.matches(it)", target):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{target} cannot be reached")

    tab_to("#text")
    page.keyboard.press("Control+A")
    page.keyboard.type(GAPS)
    tab_to("[name=steps]")
    page.keyboard.press("Control+A")
    page.keyboard.type("6")
    tab_to("[name=seed]")
    page.keyboard.type("3")  # how long words are, and so how far a choice reaches, is the same each time
    page.keyboard.press("Enter")
    page.wait_for_selector("#take", state="visible")
    tab_to(".token")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.i") == "9"
    page.keyboard.press(" ")
    one = page.locator(".token.chosen").count()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert 0 < one < page.locator(".token.chosen").count()
    page.keyboard.press("ArrowDown")
    assert int(page.evaluate("document.activeElement.dataset.i")) >= 12
    page.keyboard.press("End")
    last = page.locator("#write-view .token").count() - 1
    assert page.evaluate("document.activeElement.dataset.i") == str(last)
    tab_to("input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    expect(page.locator("#write-view .play")).to_have_attribute("aria-label", "Play", timeout=15000)
    tab_to("#redraw")
    page.keyboard.press("Enter")
    expect(page.locator("#undo")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Done: Fellow citizens")


def test_a_text_without_a_gap_is_written_on(visit):
    opened = visit()
    page = write(opened, PROMPT, tokens=9)
    assert opened.posted("v1/infill")[0]["template"] == f"{PROMPT}[MASK:9]" and count(page, "final") == 9
    page.get_by_role("button", name="Insert a gap").click()
    page.keyboard.type("3")
    assert page.locator("#text").input_value() == f"{PROMPT} [MASK:3]"
    page.locator("[name=model]").select_option("ar-twin")
    expect(page.locator("[name=steps]")).to_be_disabled()
    page.locator("#go").click()
    expect(page.get_by_role("alert")).to_contain_text("ar-twin writes only to the right")


def test_gaps_of_several_lengths_are_tried_and_the_chosen_ones_are_written(visit):
    opened = visit()
    pieces = "Fellow citizens, the state of the {} and we shall {}."
    page = write(opened, pieces.format("[MASK:1-3][MASK:1]", "[MASK:3]"))
    tries, written = opened.posted("v1/infill")
    assert not {"stream", "diffusing", "alternatives"} & tries.keys() and tries["steps"] == written["steps"] == 8
    summary, rows = page.locator("#lengths summary"), page.locator("#lengths tbody tr")
    expect(summary).to_have_text(re.compile(r"^3 lengths tried, [234] and 3 tokens chosen$"))
    first = int(summary.text_content().split()[3])
    assert written["template"] == pieces.format(f"[MASK:{first}]", "[MASK:3]") and written["seed"] == tries["seed"] == 7
    assert count(page, "final") == first + 3
    expect(rows.first).to_be_hidden()
    summary.click()
    expect(rows.first).to_be_visible()
    assert rows.count() == 3 and rows.nth(0).get_attribute("class") == "own"
    assert rows.nth(0).locator("td").nth(0).text_content() == f"{first}, 3"
    assert rows.nth(0).locator("td").last.text_content() == "".join(texts(page))  # what was measured is what is shown
    behind = [float(cell.split(" ± ")[0]) for cell in page.locator("#lengths td:nth-child(3)").all_text_contents()[1:]]
    assert 0 < behind[0] <= behind[1]
    write(opened)
    expect(page.locator("#lengths")).to_be_hidden()


def test_two_models_side_by_side_on_one_clock(visit):
    opened = visit()
    opened.page.get_by_label("Compare").check(force=True)
    page = write(opened, PROMPT, tokens=12)
    note = page.locator("#compare-note")
    expect(note).to_contain_text(re.compile(r"sedd-twin: 12 tokens in [\d.]+ s; ar-twin: 12 tokens in [\d.]+ s\."))
    names, rates = page.locator("#compare-view .name"), page.locator("#compare-view .rate")
    assert names.all_text_contents() == ["sedd-twin", "ar-twin"]
    page.get_by_role("slider", name="Frame").press("End")
    assert all(re.fullmatch(r"[\d.]+ tokens/s", rate) for rate in rates.all_text_contents())
    panels = [page.locator("#compare-view .panel").nth(i) for i in range(2)]
    assert [panel.locator(".token.final").count() for panel in panels] == [12, 12]
    page.get_by_role("slider", name="Frame").press("Home")
    assert [panel.locator(".token.mask").count() for panel in panels] == [12, 12]
    diffusing, rightwards = opened.posted("v1/infill")
    assert diffusing["template"] == rightwards["template"] == f"{PROMPT}[MASK:12]"
    assert diffusing["steps"] == 8 and not {"steps", "rule"} & rightwards.keys()
    page = write(opened, GAPS)
    expect(note).to_contain_text("ar-twin reads only what stands before the first gap.")
    assert opened.posted("v1/infill")[3]["template"] == "Fellow citizens, the state of the [MASK:12]"


def test_both_sides_of_a_comparison_tell_probabilities_and_alternatives(visit):
    opened = visit()
    opened.page.get_by_label("Compare").check(force=True)
    page = write(opened, PROMPT, tokens=12)
    page.get_by_role("slider", name="Frame").press("End")
    for i in range(2):
        panel = page.locator("#compare-view .panel").nth(i)
        card = panel.locator(".card")
        says_how_sure(card, panel.locator(".token.final").nth(4), panel.locator(".token.given").first)


def test_a_blind_test_hides_the_names_until_there_is_a_vote(visit, votes):
    opened = visit()
    page = opened.ready().page
    page.get_by_label("Blind test").check(force=True)
    for winner in ("Left is better", "Neither", "Right is better"):
        page.get_by_label("Text", exact=True).fill(PROMPT)
        page.locator("[name=tokens]").fill("8")
        page.locator("#go").click()
        page.get_by_role("group", name="Which text is better?").wait_for()
        shown = page.locator("#blind-view").text_content()
        assert "twin" not in shown and shown.count(PROMPT) == 2
        page.get_by_role("button", name=winner).click()
        page.get_by_text("Left: ").wait_for()
        heads = page.locator("#blind-view h3").all_text_contents()
        assert sorted(heads[0][6:].split() + heads[1][7:].split()) == ["ar-twin", "sedd-twin"]
    kept = [json.loads(line) for line in votes.read_text(encoding="utf-8").splitlines()]
    assert [vote["winner"] for vote in kept] == ["left", "tie", "right"]
    assert all(vote["prompt"] == PROMPT and vote["left"]["text"].startswith(PROMPT) for vote in kept)
    expect(page.locator(".result")).to_contain_text("Of 3 votes")
    expect(page.locator(".result")).to_contain_text(re.compile(r"95 % interval [\d.<]+ *[\d.]* % to [\d.]+ %"))
