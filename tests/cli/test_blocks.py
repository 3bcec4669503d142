"""The commands on a model with blocks: sample, fill, many samples, scores."""

import json
import shutil
from pathlib import Path

import pytest

from .call import call


@pytest.fixture
def blocks(small_models: Path, tmp_path: Path) -> Path:
    """The untrained mdlm model as one with blocks of 4, context 32."""
    folder = Path(shutil.copytree(small_models / "mdlm", tmp_path / "blocks"))
    config = json.loads((folder / "config.json").read_text())
    config["network"]["block_size"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_sample_beyond_the_context(blocks: Path) -> None:
    (line,) = call("sample", "--model", blocks, "--length", 50, "--seed", 1, "--json").lines()
    assert len(line["tokens"]) == 50 and line["rule"] == "ancestral"
    (again,) = call("sample", "--model", blocks, "--length", 50, "--seed", 1, "--json", "--block-size", 4).lines()
    assert again["tokens"] == line["tokens"]
    (other,) = call("sample", "--model", blocks, "--length", 50, "--seed", 1, "--json", "--block-size", 2).lines()
    assert other["nfe"] != line["nfe"]


def test_steps_are_of_the_whole_canvas(blocks: Path) -> None:
    (line,) = call("sample", "--model", blocks, "--steps", 16, "--rule", "confidence", "--seed", 1, "--json").lines()
    assert line["steps"] == 16 and line["nfe"] == 16 + 7
    done = call("sample", "--model", blocks, "--steps", 7)
    assert done.code == 2 and "7 steps for 8 blocks to write" in done.err


def test_fill_says_what_is_not_seen(blocks: Path) -> None:
    done = call("fill", "Fellow [MASK:4] citizens of the Senate, again", "--model", blocks, "--seed", 1)
    assert done.code == 0 and done.out.startswith("Fellow") and done.out.endswith("again\n")
    assert "note: given tokens behind a gap are seen in their own block only" in done.err


def test_many_samples_and_scores(blocks: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    done = call("sample", "--model", blocks, "-n", 5, "--batch-size", 2, "--out", out, "--seed", 1, "--length", 12)
    assert done.code == 0, done.err
    assert len(out.read_text().splitlines()) >= 5
    text = tmp_path / "text.txt"
    text.write_text("A small text that is scored by blocks, each given the clean ones before it. " * 20)
    (facts,) = call("eval", "ppl", "--model", blocks, "--data", text, "--rows", 2, "--times", 2, "--json").lines()
    assert 0 < facts["nats_per_token"] < 20


def test_block_sizes_that_are_none(blocks: Path, small_models: Path) -> None:
    done = call("sample", "--model", blocks, "--block-size", 3)
    assert done.code == 2 and "block_size is 3, the model has blocks of 4" in done.err
    done = call("sample", "--model", small_models / "mdlm", "--block-size", 4)
    assert done.code == 2 and "with a model without blocks" in done.err
    done = call("sample", "--model", small_models / "ar", "--block-size", 4)
    assert done.code == 2 and "--block-size is for diffusion models" in done.err
