"""The page in other light, on a phone, with mistakes and with keys; and the files that it saves."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from sampling.nets import diffusion
from unmask.report import replay
from unmask.report.ramp import DARK, LIGHT, ramp
from unmask.sampling import Canvas
from unmask.sampling.recording import record
from unmask.sampling.template import Template
from unmask.text.tokenizers import EOS

from .browser import PROMPT, Visit, served, write

pytestmark = pytest.mark.slow

REFUSED = "Failed to load resource: the server responded with a status of "  # Chromium's own line for the console


def refused(opened: Visit, *statuses: int) -> None:
    """The console named these answers, which were expected, and nothing else."""
    assert [int(line.removeprefix(REFUSED)[:3]) for line in opened.wrong] == list(statuses), opened.wrong
    opened.wrong.clear()


def test_without_a_file_for_votes_the_blind_test_says_so(visit, models):
    with served(models) as address:
        opened = visit(address)
        page = opened.ready().page
        page.get_by_label("Blind test").check(force=True)
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_contain_text("unmask serve --votes FILE")
        refused(opened, 404)


def test_a_blind_test_is_for_texts_that_both_models_can_write(visit):
    page = visit().ready().page
    page.get_by_label("Blind test").check(force=True)
    page.locator("#go").click()  # the text that the page begins with has gaps
    expect(page.get_by_role("alert")).to_contain_text("Give a text without gaps")
    page.get_by_label("Text", exact=True).fill(PROMPT)
    page.locator("[name=against]").select_option("sedd-twin")
    page.locator("#go").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose two different models")


def test_errors_are_the_servers_own_words(visit):
    opened = visit()
    page = opened.ready().page
    for text, words in (("The [MASK:4000].", "the model's context is 256"), ("[MASK:x]", "a gap that cannot be read")):
        page.get_by_label("Text", exact=True).fill(text)
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        refused(opened, 400)
    page.locator("[name=temperature]").fill("9")  # what cannot be is not sent
    page.locator("#go").click()
    assert page.evaluate("document.activeElement.name") == "temperature" and len(opened.posted("v1/infill")) == 2


def test_a_server_that_is_gone_is_named(visit, models):
    with served(models) as address:
        opened = visit(address).ready()
    opened.page.locator("#go").click()
    expect(opened.page.get_by_role("alert")).to_contain_text("The server does not answer")
    assert all("ERR_CONNECTION_REFUSED" in line for line in opened.wrong)
    opened.wrong.clear()


def test_a_run_can_be_stopped(visit):
    opened = visit()
    page = opened.ready().page
    page.get_by_label("Text", exact=True).fill(PROMPT)
    for name, value in (("steps", 500), ("tokens", 200)):
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("#go").click()
    page.locator("#write-view .token.final").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_visible()
    left = page.locator("#write-view .token.mask").count()
    assert left > 0
    expect(page.get_by_role("alert")).to_be_hidden()
    page.locator("#write-view .token.given .body").first.click()  # a redraw writes what is missing, too
    chosen = page.locator(".token.chosen").count()
    page.locator("[name=steps]").fill("4")
    page.get_by_role("button", name="Redraw", exact=True).click()
    opened.done()
    gaps = re.findall(r"MASK:(\d+)", opened.posted("v1/infill")[-1]["template"])
    assert sum(map(int, gaps)) == left + chosen and page.locator("#write-view .token.mask").count() == 0
    write(opened, steps=4)  # and another one begun


def test_a_server_with_a_key_asks_for_it(visit, models):
    with served(models, api_key="open sesame") as address:
        opened = visit(address)
        page = opened.page
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("API key")
        page.get_by_label("API key").fill("open sesame")
        page.get_by_role("button", name="Open").click()
        write(opened, steps=4)
        assert page.locator("#write-view .token.final").count() == 12
        expect(page.get_by_label("API key")).to_be_hidden()
        refused(opened, 401, 401)


def test_markup_in_a_text_is_text(visit):
    hostile = "<img src=x onerror=alert(1)> & <b>bold</b> 🙂 </script> [MASK:3]"
    page = write(visit(), hostile, steps=3)
    assert page.locator("#write-view img, #write-view b").count() == 0
    assert hostile.removesuffix(" [MASK:3]") in page.locator("#write-view .stage").text_content()


def test_a_gap_that_is_text_stays_text(visit):
    """A backslash makes it so, before the run and in a redraw."""
    opened = visit()
    page = write(opened, r"The sign \[MASK:3] and a \\[MASK:4], it said.", steps=4)
    assert page.locator("#write-view .stage").text_content().startswith("The sign [MASK:3] and a")
    assert page.locator("#write-view .token.final").count() == 4
    page.locator("#write-view .token.given .body").first.click()
    page.locator("#write-view .token.final .body").first.click()
    page.get_by_role("button", name="Redraw", exact=True).click()
    opened.done()
    sent = Template.parse(opened.posted("v1/infill")[-1]["template"])
    assert len(sent.gaps) == 2 and sent.given[1].startswith(" sign [MASK:3] and a")
    assert " sign [MASK:3] and a" in page.locator("#write-view .stage").text_content()
    page.get_by_label("Compare").check(force=True)
    write(opened, r"Not \[MASK] but \\[MASK:6].", steps=4)
    sent = opened.posted("v1/infill")[-1]["template"]  # the autoregressive model's
    assert sent == r"Not \[MASK] but \\[MASK:6]" and Template.parse(sent).given[0] == "Not [MASK] but \\"


def test_on_a_phone_nothing_is_wider_than_the_screen(visit):
    opened = visit(width=360, height=740, has_touch=True, is_mobile=True)
    page = write(opened)
    for mode in ("Write", "Compare", "Blind test"):
        page.get_by_label(mode, exact=True).check(force=True)
        if mode != "Write":
            page.get_by_label("Text", exact=True).fill(PROMPT)
            page.locator("#go").tap()
            page.locator("#compare-note, .choices").locator("visible=true").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 360, mode
        small = [each for each in page.get_by_role("button").all() if each.bounding_box()["height"] < 44]
        assert small == []
    page.get_by_label("Write", exact=True).check(force=True)
    page.locator("#write-view .token.final .body").nth(2).tap()
    card = page.locator("#write-view .card").bounding_box()
    assert card["x"] >= 0 and card["x"] + card["width"] <= 360
    expect(page.locator("#choice")).to_contain_text("1 word chosen")


def test_dark_is_dark(visit):
    page = write(visit(color_scheme="dark"))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb{channels(DARK.page)}"
    token = page.locator("#write-view .token.final:not(.fresh)").first
    tint = ramp(DARK)[int(token.get_attribute("data-stop"))]
    expect(token.locator(".body")).to_have_css("background-color", f"rgb{channels(tint)}")


def channels(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_the_picture_shows_the_frame_in_its_colours(visit, tmp_path: Path):
    page = write(visit())
    for name, masked in (("Home", True), ("End", False)):
        page.get_by_role("slider", name="Frame").press(name)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save picture").click()
        assert download.value.suggested_filename == "unmask-7.png"
        picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")
        colors = {color: number for number, color in picture.getcolors(1 << 24)}
        assert picture.width == 2 * (720 + 96) and max(colors, key=colors.get) == channels(LIGHT.page)
        assert all(channels(color) in colors for color in ramp(LIGHT))  # the legend
        assert (colors.get(channels("#e4e0d7"), 0) > 1000) == masked


def test_a_saved_replay_plays_by_itself_and_asks_for_nothing(visit, tmp_path: Path):
    page = write(visit())
    whole = "".join(page.locator("#write-view .token").all_text_contents())
    with page.expect_download() as download:
        page.get_by_role("button", name="Save replay").click()
    assert download.value.suggested_filename == "unmask-7.html"
    saved = tmp_path / "saved.html"
    download.value.save_as(saved)
    alone = visit(saved.as_uri())
    assert [url for _, url, _ in alone.asked] == [saved.as_uri()]
    alone.page.get_by_role("slider", name="Frame").press("End")
    assert "".join(alone.page.locator(".token").all_text_contents()) == whole
    expect(alone.page.locator(".made")).to_have_text("sedd-twin, tweedie, 9 steps, top-p 0.9, seed 7")
    expect(alone.page).to_have_title("sedd-twin")
    [data] = re.findall(r'id="recordings">(.*?)</script>', saved.read_text(encoding="utf-8"))
    assert len(json.loads(data)[0]["frames"]) == 10


def test_a_replay_of_the_command_line_is_the_same_film(visit, models, tmp_path: Path):
    model = models["sedd-twin"]
    canvas = Canvas.parse("A face 🙂 [MASK:9] <|endoftext|>", model.tokenizer)
    made = record(model, canvas, model.tokenizer, steps=6, seed=1, facts={"model": "sedd-twin"})
    file = replay.write(tmp_path / "run.html", made, "a run")
    page = visit(file.as_uri()).page
    slider = page.get_by_role("slider", name="Frame")
    page.get_by_role("button", name=re.compile("Play|Pause")).wait_for()
    for k in (0, 3, 7):
        slider.fill(str(k))
        row = made.texts(k)
        for i, token in enumerate(page.locator(".token").all()):
            name = token.get_attribute("class")
            assert ("mask" in name) == (row[i] is None) and ("given" in name) == made.tokens[i].given
            if row[i] is not None:
                assert token.text_content() == ("" if row[i] == EOS else row[i])
                assert ("end" in name.split()) == (row[i] == EOS)


def test_noise_that_does_not_commit_is_a_draft_until_the_end(visit, small_tokenizer, tmp_path: Path):
    made = record(diffusion(uniform=True), Canvas.prompt([1, 2], 12), small_tokenizer, steps=6, seed=1)
    page = visit(replay.write(tmp_path / "run.html", made, "uniform").as_uri()).page
    slider = page.get_by_role("slider", name="Frame")
    slider.fill("0")
    assert page.locator(".token.mask").count() == 0 and page.locator(".token.draft").count() > 0
    slider.fill(str(len(made.frames) - 1))
    assert page.locator(".token.draft").count() == 0 and page.locator(".token.final").count() == 10
    assert len({token.get_attribute("data-stop") for token in page.locator(".token.final").all()}) > 1
