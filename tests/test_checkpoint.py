import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask import checkpoint
from unmask.diffusion.matrix import RateMatrix
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import Absorbing, Uniform
from unmask.diffusion.schedules import Cosine, Geometric, LogLinear, Polynomial
from unmask.errors import CheckpointError
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
    large = train_bpe([" ".join(a + b for a in "abcdefghij" for b in "klmnopqrst")] * 9, 320)
    assert large.vocab_size > V
    large.save(saved)
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
