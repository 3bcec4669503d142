import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unmask import checkpoint, compat
from unmask.errors import AssetError, CheckpointError, ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM


@pytest.fixture
def own(sedd: Path, tmp_path: Path) -> Path:
    """A folder in our own format."""
    return checkpoint.save(compat.load(sedd), tmp_path / "own")


def same(a, b) -> bool:
    own, other = a.net.state_dict(), b.net.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


def test_every_layout_through_one_door(sedd, own, gpt2, tmp_path):
    assert isinstance(compat.load(gpt2[1]), AutoregressiveLM)
    a, b = compat.load(str(sedd)), compat.load(own)
    assert isinstance(a, DiffusionLM) and same(a, b) and a.process == b.process
    again = checkpoint.save(compat.load(gpt2[1]), tmp_path / "gpt2-own")
    assert same(compat.load(again), compat.load(gpt2[1]))


def test_a_run_gives_its_model(own, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000010").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"recipe": "twins", "model": {}, "noise": {}}))
    with pytest.raises(CheckpointError, match=r"the run .*run has not written a model yet"):
        compat.load(run)
    own.rename(run / "model")
    assert same(compat.load(run), compat.load(run / "model"))


def test_a_home_folder(own, monkeypatch):
    monkeypatch.setenv("HOME", str(own.parent))
    assert isinstance(compat.load("~/own"), DiffusionLM)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_dtype_and_device(sedd, dtype):
    model = compat.load(sedd, dtype=dtype, device="cpu")
    assert {p.dtype for p in model.net.parameters()} == {dtype or torch.float32}
    assert model.net.rotary_emb.inv_freq.dtype == torch.float32
    assert compat.load(sedd, device="meta").device.type == "meta"


def test_bfloat16_weights_give_nearly_the_same_scores(sedd):
    x, t = torch.arange(24)[None], torch.tensor([0.5])
    exact, rounded = (compat.load(sedd, dtype=d).log_score(x, t).detach() for d in (None, torch.bfloat16))
    assert 0 < (rounded.float() - exact).abs().mean() < 0.02


@pytest.mark.parametrize("name", ["sedd-twin", "ar-twin"])
def test_embedded_names(own, monkeypatch, tmp_path, name):
    module = sys.modules["unmask.compat.load"]
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(AssetError, match=f"does not carry '{name}'"):
        compat.load(name)
    (tmp_path / "weights").mkdir()
    own.rename(tmp_path / "weights" / compat.EMBEDDED[name])
    assert isinstance(compat.load(name), DiffusionLM)


@pytest.mark.parametrize("name, kind", [("sedd-twin", DiffusionLM), ("ar-twin", AutoregressiveLM)])
def test_the_embedded_models_are_in_the_package(name, kind):
    model = compat.load(name)
    assert type(model) is kind and model.tokenizer is not None
    assert sorted(compat.EMBEDDED) == ["ar-twin", "sedd-twin"]


@pytest.mark.parametrize("name", ["sed-twin", "", "a/b/c", "a/b@", "./nowhere", "/no/where/at/all", "two words"])
def test_names_that_mean_nothing(name):
    with pytest.raises(ConfigError, match="unknown model") as caught:
        compat.load(name)
    hint = caught.value.hint or ""
    assert "ar-twin, sedd-twin" in hint and "owner/name" in hint
    assert ("did you mean 'sedd-twin'?" in hint) == (name == "sed-twin")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no folder .*nowhere"):
        compat.load(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path, refused):
    refused(tmp_path, "no config.json in")


@pytest.mark.parametrize("text, message", [("{", "is not JSON"), ("[]", "holds a list"), ("3", "holds a int")])
def test_configs_that_are_none(tmp_path, refused, text, message):
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path, message)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"model_type": "llama", "vocab_size": 3}, "it has model_type 'llama'"),
        ({"tokens": 3, "model": {}}, r"it has the keys \['model', 'tokens'\]"),
        ({}, r"it has the keys \[\]"),
        ({"format": 7}, "config.json has format 7, this version reads 1"),
        ({"library": "unmask"}, "lacks the key 'format'"),
    ],
)
def test_layouts_that_are_not_known(tmp_path, refused, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path, message)


def test_a_file_in_place_of_its_folder(sedd, refused):
    error = refused(sedd / "model.safetensors", "is not a model folder")
    assert str(sedd) in (error.hint or "")


# the hub


@pytest.fixture
def hub_home(own: Path, tmp_path: Path) -> Path:
    """HF_HOME with `ann/small` in the hub's cache, as a download leaves it."""
    repo = tmp_path / "home" / "hub" / "models--ann--small"
    sha = "0123456789abcdef0123456789abcdef01234567"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(sha)
    (repo / "snapshots").mkdir()
    own.rename(repo / "snapshots" / sha)
    return tmp_path / "home"


SCRIPT = """
import sys
import unmask.compat
heavy = {"huggingface_hub", "transformers", "accelerate", "datasets", "yaml", "typer", "rich", "matplotlib"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
from unmask.errors import AssetError
model = unmask.compat.load("ann/small")
print(type(model).__name__, model.net.num_parameters)
try:
    unmask.compat.load("ann/large")
except AssetError as error:
    print(error)
"""


def test_hub_ids_come_from_the_cache_without_a_network(hub_home, tmp_path):
    env = os.environ | {"HF_HOME": str(hub_home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    cached = compat.load(next((hub_home / "hub" / "models--ann--small" / "snapshots").iterdir()))
    assert first == f"DiffusionLM {cached.net.num_parameters}"
    error = "\n".join(rest)
    assert "no folder ann/large here" in error and "could not be fetched from the hub" in error
    assert "https://huggingface.co/ann/large/tree/main" in error


def test_a_revision_is_asked_for(own, monkeypatch):
    asked = []

    def download(repo_id: str, *, allow_patterns: list[str], revision: str) -> str:
        asked.append((repo_id, revision))
        return str(own)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    compat.load("jdeschena/sdtt@baselines_kld_step_70000")
    assert asked == [("jdeschena/sdtt", "baselines_kld_step_70000")]
    with pytest.raises(AssetError, match=r"no folder jdeschena/sdtt@nowhere here") as caught:
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: 1 / 0)
        compat.load("jdeschena/sdtt@nowhere")
    assert "tree/nowhere" in (caught.value.hint or "") and "the revision" in (caught.value.hint or "")


def test_a_folder_comes_before_a_hub_id(own, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(own.parent.parent)
    assert isinstance(compat.load(f"{own.parent.name}/own"), DiffusionLM)


def test_a_pickle_is_fetched_only_where_there_is_nothing_better(sedd, monkeypatch):
    from safetensors.torch import load_file

    asked = []

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert repo_id == "ann/small"
        asked.append(allow_patterns)
        if "pytorch_model.bin" in allow_patterns:
            torch.save(weights, sedd / "pytorch_model.bin")
        return str(sedd)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    expected = compat.load("ann/small")
    assert len(asked) == 1 and not any("bin" in p for p in asked[0])
    weights = load_file(sedd / "model.safetensors")
    (sedd / "model.safetensors").unlink()
    assert same(compat.load("ann/small"), expected)
    assert len(asked) == 3


def test_everything_we_save_is_fetched(own, monkeypatch):
    from fnmatch import fnmatch

    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda _, allow_patterns: (asked.extend(allow_patterns), str(own))[1]
    )
    compat.load("ann/small")
    for name in set(checkpoint.FILES) - {"README.md"}:
        assert any(fnmatch(name, pattern) for pattern in asked), name


def test_a_network_that_fails(monkeypatch):
    def download(*args: object, **kwargs: object) -> str:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(AssetError, match=r"could not be fetched from the hub: ConnectionError: no route to host") as e:
        compat.load("louaaron/sedd-small")
    assert "much more" not in e.value.message and "by hand" in (e.value.hint or "")
