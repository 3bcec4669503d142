"""What many tests share: a small tokenizer, and folders with small untrained models."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from unmask import checkpoint
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.text.corpora import corpus
from unmask.text.tokenizers import Tokenizer, train_bpe


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Random weights are the same in every run of a test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    """320 tokens learned from the vendored excerpt."""
    return train_bpe(list(corpus("excerpt").train())[:3], 320)


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> Path:
    """A folder with untrained models: sedd/ (absorbing, raw score), mdlm/ and ar/, context 32."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("sedd", "mdlm", "ar"):
        shape = ModelShape(kind, width=32, depth=1, heads=2, length=32, cond_dim=16)
        checkpoint.save(build_model(shape, small_tokenizer), root / kind)
    return root


class Traced:
    """Stands for inductor: counts the graphs that it is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """torch.compile without a C++ compiler: what torch's front finds runs as it is. Nothing is kept."""
    torch._dynamo.reset()
    backend = Traced()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    yield backend
    torch._dynamo.reset()
