"""A server of small untrained models, in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from unmask.compat import load
from unmask.serve.app import build
from unmask.serve.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from .browser import Visit


@pytest.fixture(scope="session")
def served(small_models: Path) -> dict:
    """sedd, mdlm and ar: context 32, 320 tokens."""
    return {name: load(small_models / name) for name in ("sedd", "mdlm", "ar")}


@pytest.fixture(scope="module")
def client(served) -> Iterator[TestClient]:
    with TestClient(build(served, Settings())) as client:
        yield client


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """The embedded twins by name."""
    from .browser import twins

    return twins()


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the votes that the server at `url` keeps."""
    return tmp_path_factory.mktemp("votes") / "votes.jsonl"


@pytest.fixture(scope="module")
def url(models: dict[str, Any], votes: Path) -> Iterator[str]:
    """Where the twins are served."""
    from .browser import served

    with served(models, votes=votes) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium."""
    from .browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: "Browser", url: str) -> Iterator[Callable[..., "Visit"]]:
    """Opens the page. In the end: nothing was asked for elsewhere, and nothing went wrong in it."""
    from .browser import Visit

    made: list[Visit] = []

    def opened(address: str = url, **options: Any) -> Visit:
        made.append(Visit(browser, address, **options))
        return made[-1]

    yield opened
    for each in made:
        assert each.outside() == [] and each.wrong == []
        each.close()
