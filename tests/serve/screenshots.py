"""The pictures of docs/images: the page in its modes and in both lights, on a phone, and the terminal.

make screenshots
"""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page
from rich.console import Console

from unmask.cli.watch import picture
from unmask.sampling import Canvas, denoise
from unmask.sampling.recording import Recorder

from .browser import Visit, launched, served, twins, write

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST = 200_000  # bytes of a picture
TEXT = (
    "Fellow citizens of the Senate and of the House of Representatives, the state of the [MASK:24] "
    "and it is the duty of Congress to [MASK:24]."
)
PROMPT = "To the Senate and House of Representatives: The relations of the United States with"
TERMINAL = """<!doctype html><meta charset="utf-8"><style>body{{margin:0;background:{background};color:{foreground}}}
pre{{margin:0;padding:28px 32px;font:17px/1.55 "DejaVu Sans Mono",monospace}}</style><pre>{code}</pre>"""


def keep(page: Page, name: str, *, full: bool = False) -> None:
    """A picture of 256 colours, the commonest as they are, from the top of the page. An error where it is too large."""
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(600)
    taken = Image.open(io.BytesIO(page.screenshot(full_page=full))).convert("RGB")
    path = IMAGES / f"{name}.png"
    colors, places, counts = np.unique(
        np.asarray(taken).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    palette = colors[np.argsort(-counts)[:256]]
    nearest = np.square(colors[:, None].astype(int) - palette[None]).sum(-1).argmin(-1)
    reduced = Image.fromarray(nearest[places.ravel()].reshape(taken.height, taken.width).astype(np.uint8), "P")
    reduced.putpalette(palette.ravel().tolist())
    reduced.save(path, optimize=True)
    assert path.stat().st_size < MOST, f"{path} has {path.stat().st_size} bytes"
    print(f"{path.name}: {taken.width} x {taken.height}, {path.stat().st_size} bytes")


def one_text(browser: Browser, url: str) -> None:
    """Half way, in light; whole, in dark, with what was known of a token; on a phone."""
    page = write(Visit(browser, url, height=810, device_scale_factor=1.5), TEXT, steps=32, seed=12)
    page.get_by_role("slider", name="Frame").fill("18")
    page.mouse.move(2, 2)
    keep(page, "page-light")
    dark = Visit(browser, url, height=870, device_scale_factor=1.5, color_scheme="dark")
    page = write(dark, TEXT, steps=32, seed=12)
    page.locator("#write-view .token.final .body").nth(8).click()
    page.locator("#write-view .token.final .body").nth(13).click()
    page.mouse.move(2, 2)
    page.locator("#write-view .token.final .body").nth(5).hover()
    keep(page, "page-dark")
    phone = Visit(browser, url, width=360, height=740, device_scale_factor=1.5, has_touch=True, is_mobile=True)
    page = write(phone, TEXT, steps=32, seed=12)
    page.get_by_role("slider", name="Frame").fill("22")
    page.mouse.move(1, 1)
    keep(page, "page-phone", full=True)


def two_texts(browser: Browser, url: str) -> None:
    """Side by side, half way, with what was known of a token of the right one; and the blind test, after a vote."""
    compare = Visit(browser, url, height=1110, device_scale_factor=1.5)
    compare.page.get_by_label("Compare").check(force=True)
    page = write(compare, PROMPT, steps=16, seed=5, tokens=96)
    slider = page.get_by_role("slider", name="Frame")
    slider.fill(str(int(int(slider.get_attribute("max")) * 0.55)))
    page.locator("#compare-view .panel").nth(1).locator(".token.final .body").nth(7).hover()
    keep(page, "page-compare")
    blind = Visit(browser, url, height=1080, device_scale_factor=1.5).ready()
    page = blind.page
    page.get_by_label("Blind test").check(force=True)
    for winner in ("Left is better", "Right is better", "Neither", "Right is better"):
        page.get_by_label("Text", exact=True).fill(PROMPT)
        page.locator("[name=tokens]").fill("64")
        page.locator("#go").click()
        page.get_by_role("button", name=winner).click()
        page.get_by_text("Left: ").wait_for()
    keep(page, "page-blind")


def terminal(browser: Browser, models: dict[str, Any]) -> None:
    """--watch, half way, as a dark terminal shows it."""
    model = models["sedd-twin"]
    recorder = Recorder(
        model.tokenizer, denoise(model, Canvas.parse(TEXT, model.tokenizer), steps=32, seed=12, top_p=0.9)
    )
    half = next(picture(recorder, moment) for moment in recorder if moment.step == 18)
    console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(half)
    from rich.terminal_theme import MONOKAI

    page = browser.new_page(viewport={"width": 1100, "height": 200}, device_scale_factor=1.5)
    page.set_content(console.export_html(code_format=TERMINAL, inline_styles=True, theme=MONOKAI))
    keep(page, "terminal")
    page.close()


def main() -> None:
    """All of them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    models = twins()
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        with served(models, votes=Path(folder) / "votes.jsonl") as url:
            one_text(browser, url)
            two_texts(browser, url)
        terminal(browser, models)


if __name__ == "__main__":
    main()
