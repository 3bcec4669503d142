"""`unmask train` on one's own text: what is chosen and said, what wins, and each mistake as one clear error."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from unmask.checkpoint import read_json
from unmask.training.state import read_metrics

from .call import call

SENTENCE = "Text number {i} tells of the quick fox, the lazy dog and of {i} other things that are free and strong. "
SMALL = ["--minutes", "0.02", "--set", "width=32", "--set", "depth=1", "--set", "cond_dim=16", "--set", "length=32"]
FEW = [*SMALL, "--steps", "4", "--set", "batch_size=4"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my_texts"
    path.mkdir()
    for i in range(40):
        (path / f"{i}.txt").write_text(SENTENCE.format(i=i) * 8, encoding="utf-8")
    return path


def test_a_folder_becomes_a_model_and_the_choices_are_said_with_reasons(tmp_path: Path):
    out = tmp_path / "run"
    done = call("train", "--data", folder(tmp_path), "--out", out, *SMALL)
    assert done.code == 0 and done.out.strip() == str(out / "model"), done.err
    for words in (
        "40 documents",
        "0.02 minutes",
        "tokenizer=bpe:512",
        "width and depth by hand",
        "s a step",
        "held out",
        "sample:",
    ):
        assert words in done.err, done.err
    run = read_json(out / "config.json")
    assert run["model"]["width"] == 32 and run["train"]["patience"] == 3 and run["model"]["start"] == "neighbors"
    steps = run["train"]["steps"]
    lines = read_metrics(out / "metrics.jsonl")
    assert lines[-1]["step"] == steps and lines[-1]["heldout_stderr"] > 0
    assert read_metrics(out / "samples.jsonl")[-1]["step"] == steps
    assert call("sample", "--model", out, "--steps", 2).code == 0


def test_other_files_and_fields(tmp_path: Path):
    rows = [SENTENCE.format(i=i) * 8 for i in range(40)]
    parquet.write_table(pyarrow.table({"body": rows}), tmp_path / "mine.parquet")
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"body": row}) + "\n" for row in rows))
    for name in ("mine.parquet", "mine.jsonl"):
        out = tmp_path / f"run-{name}"
        done = call("train", "--data", tmp_path / name, "--field", "body", "--out", out, *FEW)
        assert done.code == 0, done.err
        scored = call("eval", "ppl", "--model", out, "--rows", 2, "--times", 2, "--json").lines()[0]
        assert scored["nats_per_token"] > 0 and scored["protocol"]["documents"] < 10
        assert scored["data"] == str(tmp_path / name)  # its own held-out part


def test_a_model_is_trained_further(tmp_path: Path, small_models: Path):
    texts, given = folder(tmp_path), ["--steps", "3", "--set", "batch_size=4"]
    for extra in ([], ["--lora", "2"]):
        out = tmp_path / f"tuned{len(extra)}"
        done = call("train", "--data", texts, "--init", small_models / "sedd", "--out", out, *given, *extra)
        assert done.code == 0 and "with its tokenizer" in done.err, done.err
        found = [call("info", model, "--json").lines()[0] for model in (out, small_models / "sedd")]
        assert found[0]["network"] == found[1]["network"] and found[0]["parameters"] == found[1]["parameters"]
    done = call("train", "--resume", tmp_path / "tuned0", "--steps", 5)
    assert done.code == 0 and read_metrics(tmp_path / "tuned0" / "metrics.jsonl")[-1]["step"] == 5


def test_blocks_are_trained_and_written_with_any_length(tmp_path: Path):
    out = tmp_path / "run"
    done = call("train", "--data", folder(tmp_path), "--out", out, "--block-size", 8, *FEW)
    assert done.code == 0, done.err
    assert (
        read_json(out / "config.json")["model"] | {"kind": "mdlm", "block_size": 8}
        == read_json(out / "config.json")["model"]
    )
    (line,) = call("sample", "--model", out, "--length", 48, "--seed", 1, "--json").lines()
    assert len(line["tokens"]) == 48
    assert call("eval", "ppl", "--model", out, "--rows", 2, "--times", 2, "--json").lines()[0]["nats_per_token"] > 0


def mistakes(root: Path, models: Path) -> dict[str, tuple[list[object], str]]:
    """What is wrong: the arguments, and words that the error must have."""
    for name in ("empty", "latin", "short"):
        (root / name).mkdir()
    (root / "latin" / "a.txt").write_bytes("caf\xe9 ".encode("latin-1") * 500)
    (root / "short" / "a.txt").write_text("only a few words")
    (root / "fields.jsonl").write_text('{"text": "fine"}\n{"body": "not"}\n')
    (root / "good.txt").write_text(SENTENCE.format(i=1) * 300)
    data = ["--data", root / "good.txt"]
    return {
        "empty folder": (["--data", root / "empty"], "holds no .txt, .jsonl or .parquet file"),
        "unreadable encoding": (["--data", root / "latin"], "a.txt is not UTF-8: byte 0xe9 at offset 3"),
        "a line without the field": (["--data", root / "fields.jsonl"], "line 2 has no text"),
        "fewer tokens than a row": (["--data", root / "short"], "does not fill one row of 16"),
        "another kind": (
            [*data, "--init", models / "ar", "--set", "kind=sedd"], "autoregressive model and cannot begin a diffusion",
        ),
        "a recipe of another kind": (["--recipe", "smoke", "--init", models / "ar"], "cannot begin a diffusion run"),
        "another tokenizer": ([*data, "--init", models / "sedd", "--set", "tokenizer=bpe:400"], "tokenizer of its own"),
        "another shape": ([*data, "--init", models / "sedd", "--set", "width=64"], "has width=32, not 64"),
        "adapters of nothing": ([*data, "--lora", "4"], "give --init MODEL"),
        "no time": ([*data, "--minutes", "0"], "--minutes must be above 0"),
        "time for a recipe": (["--recipe", "smoke", "--minutes", "3"], "--minutes goes with --data"),
        "blocks for a recipe": (["--recipe", "smoke", "--block-size", "4"], "--block-size goes with --data"),
        "a block as long as the context": (
            [*data, "--block-size", "32", "--set", "length=32"], "block_size 32 does not fit a context of 32",
        ),
        "blocks of scores": ([*data, "--init", models / "sedd", "--block-size", "8"], "has kind=sedd, not mdlm"),
        "a model that is not there": ([*data, "--init", "sedd-twinn"], "sedd-twin"),
        "a data set that cannot be had": (["--data", "nobody/nothing"], "cannot be had"),
    }  # fmt: skip


def test_each_mistake_is_one_clear_error_and_nothing_is_written(tmp_path: Path, small_models: Path):
    for what, (arguments, words) in mistakes(tmp_path, small_models).items():
        done = call("train", *arguments, "--out", tmp_path / "run")
        assert done.code == 2 and done.out == "", (what, done.err)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and words in done.err and "Traceback" not in done.err, (what, done.err)
        assert not (tmp_path / "run").exists(), what


def test_what_a_run_began_with_cannot_be_changed_on_the_way(tmp_path: Path):
    out = tmp_path / "run"
    assert call("train", "--data", folder(tmp_path), "--out", out, *FEW).code == 0
    for given in (
        ["--init", "sedd-twin"],
        ["--minutes", "3"],
        ["--lora", "2"],
        ["--field", "x"],
        ["--block-size", "4"],
    ):
        done = call("train", "--resume", out, *given)
        assert done.code == 2 and f"{given[0]} of a run is decided at its start" in done.err, done.err
