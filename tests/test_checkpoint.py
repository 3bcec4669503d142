import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask import checkpoint
from unmask.diffusion.matrix import RateMatrix
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import Absorbing, Uniform
from unmask.diffusion.schedules import Cosine, Geometric, LogLinear, Polynomial
from unmask.errors import AssetError, CheckpointError, ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.tokenizers import train_bpe

V = 300
X = torch.randint(V, (2, 6), generator=torch.Generator().manual_seed(0))


def network(states: int, **changes: object) -> Transformer:
    shape = {"num_inputs": states, "num_outputs": states, "width": 8, "depth": 1, "heads": 2, "length": 6}
    net = Transformer(TransformerConfig(**shape | changes))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator))
    return net.eval()


def absorbing(**changes: object) -> DiffusionLM:
    law = Absorbing(V, LogLinear(1e-4))
    return DiffusionLM(network(V + 1, cond_dim=4), law, RawScore(True), **changes)


def models() -> dict[str, checkpoint.LanguageModel]:
    return {
        "absorbing": absorbing(),
        "absorbing, x0, on t": DiffusionLM(
            network(V + 1, cond_dim=4), Absorbing(V, Polynomial(3.0)), CleanLogits(), conditioning="t"
        ),
        "absorbing, unconditioned": DiffusionLM(
            network(V + 1, block_size=3), Absorbing(V, Cosine()), CleanLogits(), conditioning=None
        ),
        "uniform": DiffusionLM(network(V, cond_dim=4), Uniform(V, Geometric(1e-3, 9.0)), RawScore(False)),
        "autoregressive": AutoregressiveLM(network(V, block_size=1), bos_id=7, card={"note": "é"}),
        "autoregressive, GPT-2's": AutoregressiveLM(
            network(V, block_size=1, positions="learned", bias=True, tied=True), bos_id=299
        ),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(absorbing(), tmp_path / "here" / "model")


def edit(folder: Path, **changes: object) -> None:
    """Change keys of config.json; a value of None takes the key away."""
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        where, _, last = config, *key.rpartition("__")[1:]
        for part in key.split("__")[:-1]:
            where = where[part]
        if value is None:
            del where[last]
        else:
            where[last] = value
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder: Path, message: str) -> CheckpointError:
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(folder)
    assert str(folder) in str(caught.value)
    return caught.value


def bits(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("name", models())
def test_what_was_saved_comes_back(tmp_path, name):
    model = models()[name]
    model.net.train()
    back = checkpoint.load(checkpoint.save(model, tmp_path / "m"))
    assert type(back) is type(model) and back.net.config == model.net.config and back.card == model.card
    assert not back.net.training
    own, read = model.net.state_dict(), back.net.state_dict()
    assert list(own) == list(read) and all(torch.equal(own[k], read[k]) for k in own)
    assert all(p.requires_grad and p.is_leaf and p.is_contiguous() for p in back.net.parameters())
    model.net.eval()
    if isinstance(model, DiffusionLM):
        assert (back.process, back.parametrization) == (model.process, model.parametrization)
        assert back.conditioning == model.conditioning
        t = torch.tensor([0.2, 0.7])
        assert torch.equal(back.log_score(X, t), model.log_score(X, t))
    else:
        assert back.bos_id == model.bos_id
        assert torch.equal(back.nll(X), model.nll(X))


def test_the_weights_are_copies_and_can_be_trained(saved):
    before = bits(saved)
    model = checkpoint.load(saved)
    with torch.no_grad():
        for p in model.net.parameters():
            p.zero_()
    assert bits(saved) == before and checkpoint.load(saved).net.vocab_embed.embedding.abs().sum() > 0


def test_the_tokenizer_goes_with_the_model(tmp_path):
    tokenizer = train_bpe(["so many words, so many"] * 3, V)
    checkpoint.save(absorbing(tokenizer=tokenizer), tmp_path / "m")
    back = checkpoint.load(tmp_path / "m").tokenizer
    assert back is not None and back.vocab_size == tokenizer.vocab_size <= V
    assert back.encode("so many words") == tokenizer.encode("so many words")
    checkpoint.save(absorbing(), tmp_path / "m")  # one without does not inherit it
    assert checkpoint.load(tmp_path / "m").tokenizer is None


def test_the_law_of_single_tokens_goes_with_the_model(tmp_path):
    law = torch.rand(V, generator=torch.Generator().manual_seed(5)).softmax(0)
    folder = checkpoint.save(absorbing(unigram=law), tmp_path / "m")
    back = checkpoint.load(folder)
    assert torch.equal(back.unigram, law)
    checkpoint.save(back, folder)  # a folder with such a file may be replaced
    save_file({"unigram": law[1:].clone()}, folder / "unigram.safetensors")
    refused(folder, r"unigram has shape \[299\], expected \[300\]")
    save_file({"law": law}, folder / "unigram.safetensors")
    refused(folder, r"unigram is missing, expected \[300\]")
    checkpoint.save(absorbing(), folder)
    assert checkpoint.load(folder).unigram is None


def test_saving_in_another_dtype(tmp_path):
    model = absorbing()
    folder = checkpoint.save(model, tmp_path / "m", dtype=torch.bfloat16)
    tensors = load_file(folder / "model.safetensors")
    assert tensors.pop("rotary_emb.inv_freq").dtype == torch.float32
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    back = checkpoint.load(folder).net.state_dict()
    for name, value in tensors.items():
        assert torch.equal(back[name], model.net.state_dict()[name].bfloat16().float()), name
        assert back[name].dtype == torch.float32 and value.shape == back[name].shape
    assert model.net.vocab_embed.embedding.dtype == torch.float32


def test_no_config(tmp_path):
    (tmp_path / "m").mkdir()
    refused(tmp_path / "m", "no config.json in")


def test_a_config_that_is_not_json(saved):
    text = (saved / "config.json").read_text()
    for bad in (text[: len(text) // 2], "", "\x00"):
        (saved / "config.json").write_text(bad)
        refused(saved, "config.json is not JSON")
    (saved / "config.json").write_bytes(b"\xff\xfe{")
    refused(saved, "config.json is not JSON")


def test_a_config_that_is_a_folder(saved):
    (saved / "config.json").unlink()
    (saved / "config.json").mkdir()
    refused(saved, "config.json cannot be read")


@pytest.mark.parametrize("config", [[], "absorbing", 3, None])
def test_a_config_that_is_no_object(saved, config):
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, "does not describe a model")


@pytest.mark.parametrize("key", ["format", "kind", "network", "process", "schedule", "parametrization", "conditioning"])
def test_a_config_that_lacks_a_key(saved, key):
    edit(saved, **{key: None})
    refused(saved, f"lacks the key '{key}'")


@pytest.mark.parametrize("key", ["process", "schedule", "parametrization"])
def test_a_part_without_a_name(saved, key):
    edit(saved, **{f"{key}__name": None})
    refused(saved, "lacks the key 'name'")


def test_an_autoregressive_config_without_bos_id(tmp_path):
    folder = checkpoint.save(models()["autoregressive"], tmp_path / "m")
    edit(folder, bos_id=None)
    refused(folder, "lacks the key 'bos_id'")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("format", 2, "config.json has format 2, this version reads 1"),
        ("kind", "masked", "unknown kind of model 'masked'"),
        ("process__name", "absorb", "unknown process 'absorb'"),
        ("schedule__name", "linear", "unknown schedule 'linear'"),
        ("parametrization__name", "eps", "unknown parametrization 'eps'"),
        ("schedule__eps", 2, "eps is 2"),
        ("schedule__speed", 2, "does not describe a model: .*speed"),
        ("process__vocab_size", 1, "vocab_size is 1"),
        ("process__vocab_size", "many", "does not describe a model"),
        ("process__vocab_size", 301, "embeds 301 states, the process has 302"),
        ("network__width", 9, "does not split into 2 heads"),
        ("network__width", "8", "does not describe a model"),
        ("network__depth", -1, "depth at least 0"),
        ("network__speed", 1, "does not describe a model: .*speed"),
        ("network", [], "does not describe a model"),
        ("process", "absorbing", "does not describe a model"),
        ("conditioning", [], r"unknown conditioning '\[\]'"),
        ("conditioning", "sigmoid", "unknown conditioning 'sigmoid'"),
    ],
)
def test_a_config_with_a_wrong_value(saved, key, value, message):
    edit(saved, **{key: value})
    refused(saved, message)


def test_an_unknown_name_offers_the_nearest(saved):
    edit(saved, process__name="absorb")
    assert "did you mean 'absorbing'?" in (refused(saved, "unknown process").hint or "")


def test_no_weights(saved):
    (saved / "model.safetensors").unlink()
    refused(saved, "no model.safetensors in")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_weights_that_are_cut_off(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(saved, r"model.safetensors is not a whole safetensors file \(\d+ bytes\)")


def test_weights_that_are_something_else(saved):
    (saved / "model.safetensors").write_bytes(b"<html>not found</html>" * 9)
    refused(saved, "is not a whole safetensors file")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("blocks.0.norm1.weight"), "missing blocks.0.norm1.weight"),
        (lambda t: t.pop("rotary_emb.inv_freq"), "missing rotary_emb.inv_freq"),
        (lambda t: [t.pop(k) for k in list(t) if "block" in k], "missing blocks.*, .*, .* and 7 more"),
        (lambda t: t.update(more=torch.ones(2)), "unexpected more"),
        (
            lambda t: t.update({"blocks.0.norm1.weight": torch.ones(9)}),
            r"blocks.0.norm1.weight has shape \[9\], expected \[8\]",
        ),
        (
            lambda t: t.update({"vocab_embed.embedding": t["vocab_embed.embedding"][:-1].clone()}),
            r"vocab_embed.embedding has shape \[300, 8\], expected \[301, 8\]",
        ),
    ],
)
def test_weights_that_do_not_fit(saved, change, message):
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file({k: v.clone() for k, v in tensors.items()}, saved / "model.safetensors")
    refused(saved, f"do not fit its config.json: .*{message}")


def test_all_that_does_not_fit_is_said_at_once(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["more"] = tensors.pop("blocks.0.norm1.weight")
    tensors["blocks.0.norm2.weight"] = torch.ones(9)
    save_file({k: v.clone() for k, v in tensors.items()}, saved / "model.safetensors")
    error = refused(saved, "do not fit")
    assert all(s in error.message for s in ("missing", "unexpected more", "norm2.weight has shape [9]"))


def test_tokenizers_that_do_not_fit(saved):
    (saved / "tokenizer.json").write_text("{")
    refused(saved, "is not a tokenizer")
    text = " ".join(f"{a}{b}" for a in ("wor", "mor", "qui") for b in ("d", "e", "te", "ds", "st"))
    assert train_bpe([text] * 9, 310).vocab_size > V
    train_bpe([text] * 9, 310).save(saved)
    refused(saved, r"tokenizer.json has 3\d\d tokens, the model 300")
    text = (saved / "tokenizer.json").read_text().replace("<|endoftext|>", "<|over|>")
    (saved / "tokenizer.json").write_text(text)
    refused(saved, r"has no '<\|endoftext\|>' token")


def test_a_process_without_a_name_cannot_be_saved(tmp_path):
    q = torch.full((4, 4), 0.25) - torch.eye(4)
    law = RateMatrix(4, LogLinear(), q)
    with pytest.raises(CheckpointError, match="RateMatrix has no name in the checkpoint format"):
        checkpoint.save(DiffusionLM(network(4, cond_dim=4), law, RawScore(False)), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


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

    def file_exists(self, repo_id: str, filename: str) -> bool:
        assert (repo_id, filename) == ("ann/small", "README.md")
        return self.has_readme

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns, commit_message) -> None:
        assert repo_id == "ann/small" and "unmask" in commit_message
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
