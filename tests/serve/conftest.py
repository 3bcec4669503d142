"""A server of small untrained models, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from unmask.compat import load
from unmask.serve.app import build
from unmask.serve.settings import Settings


@pytest.fixture(scope="session")
def served(small_models: Path) -> dict:
    """sedd, mdlm and ar: context 32, 320 tokens."""
    return {name: load(small_models / name) for name in ("sedd", "mdlm", "ar")}


@pytest.fixture(scope="module")
def client(served) -> Iterator[TestClient]:
    with TestClient(build(served, Settings())) as client:
        yield client
