"""The server in a thread, over the embedded twins, and Debian's Chromium in front of it."""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

import unmask
from unmask.serve.app import build
from unmask.serve.settings import Settings

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
GAPS = "Fellow citizens, the state of the [MASK:6] and we shall [MASK:6]."
PROMPT = "Fellow citizens of the Senate,"
TWINS = ("sedd-twin", "ar-twin")


def chromium() -> str:
    """The browser's path: CHROMIUM, or what is installed. An error that says what to do where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise FileNotFoundError(
            "no chromium for the page's tests: apt-get install chromium, or set CHROMIUM to its path"
        )
    return found


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def served(models: dict[str, Any], **settings: Any) -> Iterator[str]:
    """The address of a server of these models."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build(models, Settings(**settings)), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def twins() -> dict[str, Any]:
    """The embedded models by name."""
    return {name: unmask.load(name) for name in TWINS}


class Visit:
    """A page that was opened, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1200, height: int = 900, **options: Any) -> None:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page: Page = context.new_page()
        self.asked: list[tuple[str, str, Any]] = []
        self.wrong: list[str] = []
        self.page.on("request", self._request)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._console)
        self.url = url
        self.page.goto(url)

    def _request(self, request: Any) -> None:
        self.asked.append((request.method, request.url, request.post_data_json if request.post_data else None))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def ready(self) -> "Visit":
        """Wait until the server's models are there."""
        self.page.wait_for_selector("fieldset[name=controls]:enabled")
        return self

    def outside(self) -> list[str]:
        """What was asked for elsewhere."""
        own = (self.url, "data:", f"blob:{self.url}")
        return [url for _, url, _ in self.asked if not url.startswith(own)]

    def posted(self, path: str) -> list[Any]:
        """The bodies sent to a path."""
        return [body for method, url, body in self.asked if method == "POST" and url == self.url + path]

    def done(self) -> None:
        """Wait for the end of a run."""
        self.page.wait_for_selector("#take", state="visible")

    def close(self) -> None:
        self.page.context.close()


def write(visit: Visit, text: str = GAPS, **fields: object) -> Page:
    """Fill the form in and press the button; at the end of the run."""
    page = visit.ready().page
    page.get_by_label("Text", exact=True).fill(text)
    for name, value in ({"steps": 8, "seed": 7} | fields).items():
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("#go").click()
    visit.done()
    return page
