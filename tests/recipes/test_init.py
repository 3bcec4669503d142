"""Runs that begin with a model: what they keep of it, what they refuse, and adapters."""

import json
import random
import sys

import pytest
import torch

from unmask import checkpoint
from unmask.checkpoint import read_json
from unmask.compat.load import load
from unmask.diffusion.parametrizations import LeaveOneOut
from unmask.errors import CheckpointError, ConfigError
from unmask.model import DiffusionLM
from unmask.recipes.init import first_model, shape_of
from unmask.recipes.run import DataSettings, ModelShape, Run, with_settings
from unmask.recipes.train import build_model, replace_steps, resume, start
from unmask.text.tokenizers import train_bpe
from unmask.training.adapters import add, merged
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings
from unmask.training.state import checkpoints, read_metrics

WORDS = "the state of the union is strong and its people are free to speak".split()
OPTIM = OptimSettings(lr=1e-2, warmup=0, ema=0.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    draw, path = random.Random(1), tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(draw.choice(WORDS) for _ in range(2000)))
    return path


@pytest.fixture
def models(small_models, small_tokenizer, tmp_path):
    """The small models away from their start, where SEDD's gates are closed and nothing but the head learns."""
    for kind in ("sedd", "mdlm", "ar"):
        model = load(small_models / kind)
        torch.manual_seed(1)
        with torch.no_grad():
            for p in model.net.parameters():
                p.add_(0.05 * torch.randn(p.shape))
        checkpoint.save(model, tmp_path / "models" / kind)
    return tmp_path / "models"


def tuned(folder, text, **train):
    shape = shape_of(load(folder))
    given = {"steps": 4, "optim": OPTIM, "save_every": 2, "log_every": 1} | train
    return Run("tuned", shape, DataSettings(str(text), "model"), TrainSettings(**given), 4, init=str(folder))


def tensors(model):
    return {k: v.detach().clone() for k, v in model.net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("kind", ["sedd", "mdlm", "ar"])
def test_a_run_begins_with_the_models_weights_and_keeps_its_tokenizer(models, text, tmp_path, kind):
    first = load(models / kind)
    assert same(tensors(first_model(tuned(models / kind, text))), tensors(first))
    made = start(tuned(models / kind, text, optim=OptimSettings(lr=1e-12, warmup=0, ema=0.0)), tmp_path / "run")
    for name, value in tensors(made).items():
        torch.testing.assert_close(value, first.net.state_dict()[name], rtol=0, atol=1e-9)
    saved = load(tmp_path / "run")
    assert saved.tokenizer.fingerprint == first.tokenizer.fingerprint and type(saved) is type(first)
    assert saved.card["init"] == str(models / kind) and saved.card["data"]["tokenizer"] == "model"
    assert checkpoint.describe(saved) | {"card": {}} == checkpoint.describe(first) | {"card": {}}


def test_a_run_that_begins_with_a_model_goes_on_to_the_bit(models, text, tmp_path):
    constant = OptimSettings(lr=1e-2, warmup=0, ema=0.9)
    whole = start(tuned(models / "sedd", text, steps=6, optim=constant), tmp_path / "whole")
    start(tuned(models / "sedd", text, optim=constant), tmp_path / "parts")
    parts = resume(tmp_path / "parts", change=lambda run: replace_steps(run, 6))
    assert same(tensors(whole), tensors(parts)) and not same(tensors(whole), tensors(load(models / "sedd")))


def test_dropout_is_the_runs_own_choice(models, text):
    run = with_settings(tuned(models / "sedd", text), ["dropout=0.2"])
    model = first_model(run)
    assert model.net.config.dropout == 0.2 and model.net.blocks[0].p_drop == 0.2
    assert same(tensors(model), tensors(load(models / "sedd")))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("ar", "kind=sedd", "ar is an autoregressive model and cannot begin a diffusion run"),
        ("mdlm", "kind=ar", "mdlm is a diffusion model and cannot begin an autoregressive run"),
        ("sedd", "kind=mdlm", "has kind=sedd, not mdlm"),
        ("sedd", "width=64", "has width=32, not 64"),
        ("sedd", "length=16", "has length=32, not 16"),
        ("sedd", "process=uniform", "has process=absorbing, not uniform"),
        ("sedd", "tokenizer=bpe:300", "has a tokenizer of its own, and the run asks for 'bpe:300'"),
        ("sedd", "tokenizer=gpt2", "the tokenizer 'gpt2' is not that of"),
    ],
)
def test_what_contradicts_the_model_is_one_clear_error(models, text, tmp_path, kind, change, words):
    run = with_settings(tuned(models / kind, text), [change])
    with pytest.raises(ConfigError) as caught:
        start(run, tmp_path / "run")
    assert words in str(caught.value) and not (tmp_path / "run").exists()


def test_the_models_own_tokenizer_by_name_is_no_other_tokenizer(models, text, small_tokenizer, tmp_path):
    small_tokenizer.save(tmp_path / "same")
    run = with_settings(tuned(models / "sedd", text), [f"tokenizer={tmp_path / 'same'}"])
    assert first_model(run).net.num_parameters > 0
    train_bpe(WORDS, 270).save(tmp_path / "other")
    with pytest.raises(ConfigError, match="is not that of"):
        first_model(with_settings(run, [f"tokenizer={tmp_path / 'other'}"]))


def test_a_model_without_tokenizer_and_one_that_is_not_there(models, text):
    run = tuned(models / "sedd", text)
    (models / "sedd" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"(?s)has no tokenizer.*tokenizer.json in its folder"):
        first_model(run)
    with pytest.raises(ConfigError, match=r"unknown model 'seddd-twin'"):
        first_model(with_settings(run, ["init=seddd-twin"]))
    with pytest.raises(ConfigError, match="there is none"):
        Run("x", data=DataSettings(tokenizer="model"))


def test_a_kind_that_no_objective_here_trains_is_refused(small_models):
    model = load(small_models / "mdlm")
    other = DiffusionLM(model.net, model.process, LeaveOneOut(), conditioning=None)
    with pytest.raises(
        ConfigError, match=r"(?s)this kind \(LeaveOneOut\) is not trained here.*SEDD, MDLM, BD3-LM or GPT"
    ):
        shape_of(other)


def test_a_model_of_whole_texts_goes_on_with_blocks_and_back(models, text, tmp_path):
    run = with_settings(tuned(models / "mdlm", text), ["block_size=8"])
    assert same(tensors(first_model(run)), tensors(load(models / "mdlm")))
    start(run, tmp_path / "blocks")
    found = load(tmp_path / "blocks")
    assert (
        found.block_size == 8 and shape_of(found) == run.model and not same(tensors(found), tensors(first_model(run)))
    )
    kept = tuned(tmp_path / "blocks", text)
    assert first_model(kept).block_size == 8
    assert first_model(with_settings(kept, ["block_size=none"])).block_size is None


def test_a_resumed_run_whose_model_changed_its_shape_is_refused(models, text, small_tokenizer, tmp_path):
    start(tuned(models / "sedd", text), tmp_path / "run")
    wider = build_model(ModelShape("sedd", width=64, depth=1, heads=2, length=32, cond_dim=16), small_tokenizer)
    checkpoint.save(wider, models / "sedd")
    with pytest.raises(ConfigError, match="has width=64, not 32"):
        resume(tmp_path / "run", change=lambda run: replace_steps(run, 6))


@pytest.mark.parametrize("kind", ["sedd", "mdlm", "ar"])
def test_adapters_train_alone_and_are_merged_into_what_is_saved(models, text, tmp_path, kind):
    first = load(models / kind)
    made = start(tuned(models / kind, text, lora=2), tmp_path / "run")
    saved = load(tmp_path / "run")
    assert same(tensors(saved), tensors(made)) and tensors(saved).keys() == tensors(first).keys()
    moved = {k for k, v in tensors(saved).items() if not torch.equal(v, tensors(first)[k])}
    assert moved == {f"blocks.0.{name}.weight" for name in ("attn_qkv", "attn_out", "mlp.0", "mlp.2")}
    for name in moved:
        change = saved.net.state_dict()[name] - first.net.state_dict()[name]
        assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) == 2


def test_a_run_with_adapters_goes_on_to_the_bit(models, text, tmp_path):
    whole = start(tuned(models / "sedd", text, lora=2, steps=6), tmp_path / "whole")
    start(tuned(models / "sedd", text, lora=2), tmp_path / "parts")
    parts = resume(tmp_path / "parts", change=lambda run: replace_steps(run, 6))
    assert same(tensors(whole), tensors(parts))
    with pytest.raises(CheckpointError, match="holds another model"):
        resume(tmp_path / "parts", change=lambda run: with_settings(run, ["lora=3", "steps=8"]))


def test_the_merged_model_computes_what_the_adapted_one_does(models):
    model = load(models / "sedd").to(dtype=torch.float64)
    assert add(model, 2, seed=1) == 2 * (32 + 96 + 32 + 32 + 32 + 128 + 128 + 32)
    with torch.no_grad():
        for name, p in model.net.named_parameters():
            if "lora_B" in name:
                p.normal_()
    xt, t = torch.randint(0, 321, (2, 32)), torch.tensor([0.3, 0.8], dtype=torch.float64)
    plain = merged(model)
    assert merged(plain) is plain and any("lora_A" in name for name in model.net.state_dict())
    torch.testing.assert_close(plain.log_score(xt, t), model.log_score(xt, t), rtol=1e-9, atol=1e-9)


def test_without_peft_it_says_what_to_install(models, text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[lora\]'"):
        start(tuned(models / "sedd", text, lora=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_samples_are_written_on_the_way(models, text, tmp_path):
    for kind in ("sedd", "ar"):
        run = with_settings(tuned(models / kind, text, eval_every=2), ["sample_tokens=8"])
        start(run, tmp_path / kind)
        lines = read_metrics(tmp_path / kind / "samples.jsonl")
        assert [line["step"] for line in lines] == [2, 4] and all(isinstance(line["text"], str) for line in lines)
    assert read_json(tmp_path / "ar" / "config.json")["sample_tokens"] == 8
    assert json.loads((checkpoints(tmp_path / "ar")[-1] / "state.json").read_text())["step"] == 4
