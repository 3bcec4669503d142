"""The paper's scale of `unmask report` on stand-ins of its checkpoints, in the hub's layouts."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import save_file
from tests.slow.test_paper_report import TABLES

from unmask.compat import sedd as layout
from unmask.nn.transformer import Transformer
from unmask.recipes.paper.report import paper_report
from unmask.recipes.paper.scales import PAPER, Conditional, Sampling, Speed
from unmask.text.corpora import corpus

pytestmark = pytest.mark.slow


def sedd(folder: Path, *, width: int) -> Path:
    """A random SEDD in the layout of louaaron/sedd-small, of 64 tokens."""
    config = {
        "tokens": 50257,
        "graph": {"type": "absorb", "file": "data", "report_all": False},
        "noise": {"type": "loglinear", "sigma_min": 1e-4, "sigma_max": 20},
        "model": {
            "name": "small", "type": "ddit", "hidden_size": width, "cond_dim": 8, "length": 64, "n_blocks": 1,
            "n_heads": 2, "scale_by_sigma": True, "dropout": 0.1,
        },
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    net = Transformer(layout.network(config, folder))
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02)
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder


def gpt2(folder: Path, *, width: int) -> Path:
    """A random GPT-2 as transformers saves it."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_positions=64, n_embd=width, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data sets as the hub's files lie in the cache: a little text under each name."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("UNMASK_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    paragraphs = [p for document in corpus("excerpt").documents() for p in document.split("\n") if len(p) > 300]

    def table(name: str, split: str, field: str, rows: list[str]) -> None:
        folder = cache / name
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({field: rows}), folder / f"{split}-00000-of-00001.parquet")

    for name, split, field in (
        ("lambada", "test", "text"), ("wikitext2", "validation", "text"), ("wikitext103", "validation", "text"),
        ("ptb", "validation", "sentence"), ("1bw", "test", "text"),
    ):  # fmt: skip
        table(f"zeroshot-{name}", split, field, paragraphs[:40])
    table("openwebtext", "train", "text", [f"{p} {n}" for n in range(20) for p in paragraphs])
    pages = [{"id": 255000 + n, "text": paragraphs[n % len(paragraphs)]} for n in range(5000)]
    pages[0]["text"] = "Is this restaurant family-friendly ? " + str(pages[0]["text"])
    (cache / "webtext-test").mkdir()
    lines = "".join(json.dumps(page) + "\n" for page in pages)
    (cache / "webtext-test" / "webtext.test.jsonl").write_text(lines)
    return cache


def test_the_papers_scale_on_stand_ins_of_its_checkpoints(tmp_path: Path, sets: Path) -> None:
    models = {
        "louaaron/sedd-small": sedd(tmp_path / "sedd-small", width=16),
        "louaaron/sedd-medium": sedd(tmp_path / "sedd-medium", width=32),
        "openai-community/gpt2": gpt2(tmp_path / "gpt2", width=16),
        "openai-community/gpt2-medium": gpt2(tmp_path / "gpt2-medium", width=32),
        "openai-community/gpt2-large": gpt2(tmp_path / "gpt2-large", width=48),
    }
    small = dataclasses.replace(
        PAPER, set_tokens=512, times=2, mc=1, harness_limit=0, conditionals=8, variance_rows=2,
        sampling=Sampling(steps=(2, 3), raced={3: 2}, many=3, few=3, many_until=9, batch=2, dtype="float32"),
        conditional=Conditional("webtext-test", 20, 12, 12, steps=2, features=24, seeds=2, batch=10),
        speed=Speed(("tiny",), (2,), (), (1, 2), (2,), repeats=1, tokens=16),
    )  # fmt: skip
    out = tmp_path / "report"
    page, report = paper_report(
        out, scale=small, models={name: str(folder) for name, folder in models.items()}, device="cpu"
    )
    assert page.exists()
    measured = {(e.table, e.row) for e in report.entries if e.measured is not None}
    for who in ("SEDD small", "SEDD medium", "GPT-2 small", "GPT-2 medium", "GPT-2 large"):
        assert ("table1", who) in measured
    assert {table for table, _ in measured} >= TABLES - {"table2"}
    assert {"table5", "table6"} <= {table for table, _ in measured}
    beside = [e for e in report.entries if e.table == "table1" and e.paper is not None]
    assert len(beside) == 25 and all(e.measured is not None and not e.unlike for e in beside)
    left = {key for key in report.pending if not key.startswith("table2/")}
    assert left == set()
