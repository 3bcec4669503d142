"""A few documents of each benchmark in the schemas of the hub, and models small enough to ask."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.evaluation.harness import tasks
from unmask.model import LanguageModel
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.text.tokenizers import Tokenizer

LENGTH = 96
WORDS = ["the union", "a free state", "our duty", "this house", "the public debt", "good will"]


def _arc(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "question": f"Who keeps {WORDS[i % 6]}?",
            "choices": {"text": [WORDS[(i + j) % 6] for j in range(4)], "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(count)
    ]


def documents() -> dict[str, list[dict[str, Any]]]:
    """Documents of each file of `benchmark_files`."""
    return {
        "lambada_openai": [{"text": f"They spoke of {WORDS[i % 6]} and of peace"} for i in range(7)],
        "hellaswag": [
            {
                "ind": i, "activity_label": "Law", "ctx_a": "A man reads.", "ctx_b": "he", "ctx": "A man reads. he",
                "endings": [f"keeps {WORDS[(i + j) % 6]}." for j in range(4)], "source_id": "", "split": "val",
                "split_type": "", "label": str(i % 4),
            }
            for i in range(3)
        ],
        "piqa": [
            {"goal": f"To keep {WORDS[i % 6]}", "sol1": "Pay it.", "sol2": "Let it be for now.", "label": i % 2}
            for i in range(9)
        ],
        "winogrande": [
            {
                "sentence": f"The law fed the state so _ had {WORDS[i % 6]}.", "option1": "the law",
                "option2": "the state", "answer": "12"[i % 2],
            }
            for i in range(5)
        ],
        "arc_easy_test": _arc(5), "arc_easy_validation": _arc(2),
        "arc_challenge_test": _arc(4), "arc_challenge_validation": _arc(2),
    }  # fmt: skip


def write(folder: Path, sets: dict[str, list[dict[str, Any]]]) -> dict[str, Path]:
    """The files, as `benchmark_files` gives them."""
    files = {}
    for name, rows in sets.items():
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def small(kind: str, tokenizer: Tokenizer, length: int = LENGTH) -> LanguageModel:
    """An untrained model with opinions: away from the start, where SEDD finds all tokens alike."""
    torch.manual_seed(5)
    made = build_model(ModelShape(kind, width=32, depth=1, heads=2, length=length, cond_dim=16), tokenizer)
    with torch.no_grad():
        for p in made.net.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    made.card = {"name": f"small {kind}"}
    return made


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Small sets in place of the asset's; datasets keeps what it makes of them here too."""
    (tmp_path / "sets").mkdir()
    files = write(tmp_path / "sets", documents())
    monkeypatch.setattr(tasks, "benchmark_files", lambda: files)
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    return files


def instance(*arguments, doc=None, kind="loglikelihood", task="t", idx=0):
    from lm_eval.api.instance import Instance

    return Instance(kind, doc or {}, arguments, idx, metadata=(task, 0, 1))


ASKED = [
    ("The state of the union", " is strong"),
    ("The state of the union ", "is strong"),
    ("The state", " of the union is what we speak of"),
    ("", "The state of the union"),
    ("Peace \n", "and law"),
    ("a", "b"),
]
