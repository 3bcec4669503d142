"""Writing models: whole or not at all, and to the hub."""

import dataclasses
import inspect
import os
from pathlib import Path

import pytest
import torch

from test_checkpoint import V, absorbing, bits, models
from unmask import checkpoint
from unmask.diffusion.processes import Absorbing, Uniform
from unmask.errors import AssetError, CheckpointError, ConfigError
from unmask.text.tokenizers import train_bpe


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(absorbing(), tmp_path / "here" / "model")


def test_saving_replaces_the_model_that_is_there(saved):
    model = models()["uniform"]
    assert checkpoint.save(model, saved) == saved
    assert isinstance(checkpoint.load(saved).process, Uniform)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def _no_space(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def _last_step_fails(original=os.replace):
    """os.replace, but for the first attempt to put the new folder in its place."""
    failed = []

    def replace(source, target):
        if Path(target).name == "model" and not failed:
            failed.append(target)
            raise OSError(5, "Input/output error")
        return original(source, target)

    return replace


@pytest.mark.parametrize(
    "where, failure",
    [
        ("unmask.checkpoint.save_file", _no_space),
        ("unmask.checkpoint.write_json", _no_space),
        ("unmask.checkpoint._fsync", _no_space),
        ("os.replace", None),
    ],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch, where, failure, fresh):
    folder = tmp_path / "model"
    if not fresh:
        checkpoint.save(absorbing(), folder)
        before = bits(folder)
    with monkeypatch.context() as patch:
        patch.setattr(where, failure or _last_step_fails())
        with pytest.raises(OSError, match=r"No space left on device|Input/output error"):
            checkpoint.save(models()["uniform"], folder)
    assert [p.name for p in tmp_path.iterdir()] == ([] if fresh else ["model"])
    if not fresh:
        assert bits(folder) == before
        assert isinstance(checkpoint.load(folder).process, Absorbing)


def test_an_interrupt_leaves_what_was_there(saved, monkeypatch):
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    before = bits(saved)
    monkeypatch.setattr("unmask.checkpoint.write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(models()["uniform"], saved)
    assert bits(saved) == before and [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_save_never_deletes_what_is_not_a_model(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds notes\.txt, which saving a model there would delete"):
        checkpoint.save(absorbing(), tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoint.save(absorbing(), tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_whoever_may_read_the_folder_may_read_the_model(saved):
    assert {p.stat().st_mode & 0o777 for p in saved.iterdir()} == {0o644}
    assert saved.stat().st_mode & 0o777 == 0o755


def test_a_linked_folder_is_written_through_its_link(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    checkpoint.save(absorbing(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (real / "config.json").is_file()


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    checkpoint.write_json(path, {"x": [1, "é"]})
    assert checkpoint.read_json(path) == {"x": [1, "é"]}
    monkeypatch.setattr("unmask.checkpoint._fsync", _no_space)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_json(path, {"x": 2})
    assert checkpoint.read_json(path) == {"x": [1, "é"]} and list(tmp_path.iterdir()) == [path]


@dataclasses.dataclass
class FakeHub:
    """Stands in for huggingface_hub.HfApi and keeps what it was told."""

    has_readme: bool = False
    branch: str | None = None
    error: Exception | None = None
    created: tuple[str, bool, bool] | None = None
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    model: object = None

    def __call__(self) -> "FakeHub":
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if self.error is not None:
            raise self.error
        self.created = (repo_id, private, exist_ok)
        return f"https://huggingface.co/{repo_id}"

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        assert repo_id == "ann/small" and exist_ok and self.created is not None
        self.branch = branch

    def file_exists(self, repo_id: str, filename: str, *, revision: str | None = None) -> bool:
        assert (repo_id, filename, revision) == ("ann/small", "README.md", self.branch)
        return self.has_readme

    def upload_folder(
        self, *, repo_id, folder_path, ignore_patterns, commit_message, delete_patterns, revision=None
    ) -> None:
        assert repo_id == "ann/small" and "unmask" in commit_message and revision == self.branch
        assert set(delete_patterns) == set(checkpoint.FILES) - {"README.md"}
        self.files = {k: v for k, v in bits(Path(folder_path)).items() if k not in (ignore_patterns or [])}
        self.model = checkpoint.load(Path(folder_path))


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("has_readme", [False, True])
def test_pushing_to_the_hub(monkeypatch, private, has_readme):
    hub = FakeHub(has_readme)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    model = absorbing(tokenizer=train_bpe(["words"], V))
    assert checkpoint.push_to_hub(model, "ann/small", private=private) == "https://huggingface.co/ann/small"
    assert hub.created == ("ann/small", private, True)
    names = {"config.json", "model.safetensors", "tokenizer.json"} | (set() if has_readme else {"README.md"})
    assert set(hub.files) == names
    assert torch.equal(hub.model.net.vocab_embed.embedding, model.net.vocab_embed.embedding)
    if not has_readme:
        card = hub.files["README.md"].decode()
        assert card.startswith("---\nlibrary_name: unmask\n") and 'unmask.load("ann/small")' in card


def test_pushing_to_a_branch_in_another_dtype(monkeypatch):
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    checkpoint.push_to_hub(absorbing(), "ann/small", revision="half", dtype=torch.bfloat16)
    assert hub.branch == "half"
    exact = absorbing().net.vocab_embed.embedding
    assert torch.equal(hub.model.net.vocab_embed.embedding, exact.to(torch.bfloat16).float())


def test_what_is_pushed_is_what_the_real_client_takes():
    """The fake's words are those of huggingface_hub: each keyword is one of the real method's."""
    from huggingface_hub import HfApi

    for name, given in {
        "create_repo": {"private", "exist_ok"},
        "create_branch": {"branch", "exist_ok"},
        "file_exists": {"revision"},
        "upload_folder": {
            "repo_id", "folder_path", "ignore_patterns", "commit_message", "delete_patterns", "revision",
        },
    }.items():  # fmt: skip
        assert given <= inspect.signature(getattr(HfApi, name)).parameters.keys(), name


def test_a_hub_that_refuses(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub(error=PermissionError("401 Unauthorized")))
    with pytest.raises(AssetError, match=r"ann/small could not be uploaded: PermissionError: 401") as caught:
        checkpoint.push_to_hub(absorbing(), "ann/small")
    assert "hf auth login" in (caught.value.hint or "")


@pytest.mark.parametrize("repo_id", ["small", "ann/small/more", "/small", "ann/", "ann/sm all", "../x"])
def test_ids_that_are_not_ids(monkeypatch, repo_id):
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    with pytest.raises(ConfigError, match="is not a hub id"):
        checkpoint.push_to_hub(absorbing(), repo_id)
    assert hub.created is None
