"""Whole runs: from a text to a model folder."""

import dataclasses
import json
import random

import pytest
import torch

import unmask.checkpoint
from unmask.checkpoint import read_json
from unmask.compat.load import load
from unmask.diffusion import Absorbing, Hybrid, Uniform
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.errors import CheckpointError, ConfigError, DataError
from unmask.evaluation.likelihood import nelbo
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.recipes.data import prepare
from unmask.recipes.run import DataSettings, ModelShape, Run, from_json, with_settings
from unmask.recipes.table import recipe
from unmask.recipes.train import build_model, replace_steps, resume, start
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings
from unmask.training.state import checkpoints, read_metrics

WORDS = "the state of the union is strong and its people are free to speak".split()
OPTIM = OptimSettings(lr=1e-2, warmup=2, ema=0.9)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    draw, path = random.Random(1), tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(draw.choice(WORDS) for _ in range(600)))
    return path


def tiny(text, kind="sedd", **train):
    kind, blocks = ("mdlm", 4) if kind == "blocks" else (kind, None)
    shape = ModelShape(kind, width=16, depth=1, heads=2, length=16, cond_dim=8, dropout=0.1, block_size=blocks)
    given = {"steps": 6, "optim": OPTIM, "save_every": 3, "log_every": 2, "eval_every": 3} | train
    return Run("tiny", shape, DataSettings(str(text), "bpe:270", heldout_rows=2), TrainSettings(**given), batch_size=4)


def tensors(model):
    return dict(model.net.state_dict())


def same(a, b):
    return tensors(a).keys() == tensors(b).keys() and all(torch.equal(v, tensors(b)[k]) for k, v in tensors(a).items())


@pytest.mark.parametrize("kind", ["sedd", "mdlm", "blocks", "ar"])
def test_a_run_leaves_a_model_its_config_its_metrics_and_returns_the_model(text, tmp_path, kind):
    run, said = tiny(text, kind), []
    out = tmp_path / "a" / "run"
    model = start(run, out, say=said.append)
    assert from_json(read_json(out / "config.json")) == run
    assert [path.name for path in checkpoints(out)] == ["step-00000003", "step-00000006"]
    lines = read_metrics(out / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 3, 4, 6]
    assert [line["step"] for line in lines if "heldout_nats" in line] == [3, 6]
    saved = load(out)  # a run's folder stands for its model
    assert same(saved, model) and not model.net.training
    assert saved.card["recipe"] == "tiny" and saved.card["step"] == 6 and saved.card["data"]["corpus"] == str(text)
    assert saved.tokenizer.encode("the union") == model.tokenizer.encode("the union")
    assert any("6 steps of 4 rows" in words for words in said)


def test_a_model_trained_in_blocks_writes_beyond_its_context_and_shows_samples_on_the_way(text, tmp_path):
    run = dataclasses.replace(tiny(text, "blocks"), sample_tokens=16)
    start(run, tmp_path / "run")
    model = load(tmp_path / "run")
    assert model.block_size == 4 and len(read_metrics(tmp_path / "run" / "samples.jsonl")) == 2
    made = unmask.sample(model, unmask.Canvas.blank(24), seed=0)
    assert made.tokens.shape == (1, 24) and not bool((made.tokens == model.process.mask_id).any())


def test_hybrid_noise_trains_too(text, tmp_path):
    run = tiny(text)
    run = dataclasses.replace(run, model=dataclasses.replace(run.model, process="hybrid"))
    model = start(run, tmp_path / "run")
    assert isinstance(model.process, Hybrid) and load(tmp_path / "run").process == model.process
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert len(losses) == 4 and 0 < losses[-1] < losses[0] / 2  # a score of 1 for all is far off under this noise


def test_the_held_out_bound_in_the_metrics_is_that_of_the_saved_model(text, tmp_path):
    run = tiny(text)
    start(run, tmp_path / "run")
    rows = prepare(run.data, 16).spread_heldout(2)
    found = nelbo(load(tmp_path / "run"), rows, times_per_row=4, seed=0)
    line = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert line["heldout_nats"] == pytest.approx(found.nats_per_token, rel=1e-6)
    assert line["heldout_stderr"] == pytest.approx(found.stderr, rel=1e-5)


def test_the_model_knows_the_law_of_single_tokens_and_bounds_use_it(text, tmp_path):
    run = tiny(text)
    model = start(run, tmp_path / "run")
    data = prepare(run.data, 16)
    saved = unmask.checkpoint.load(tmp_path / "run" / "model")
    assert torch.equal(saved.unigram, data.unigram()) and torch.equal(model.unigram, data.unigram())
    prior = nelbo(saved, data.heldout).parts["prior"]
    expected = -1e-3 * float(data.unigram().double().log()[torch.from_numpy(data.heldout.astype("int64"))].mean())
    assert prior == pytest.approx(expected, rel=1e-6)
    (tmp_path / "run" / "model" / "unigram.safetensors").unlink()  # models from elsewhere have none
    assert unmask.checkpoint.load(tmp_path / "run" / "model").unigram is None


def test_a_unigram_law_of_another_size_is_refused(text, tmp_path):
    start(tiny(text, steps=1), tmp_path / "run")
    folder = tmp_path / "run" / "model"
    for broken, words in (
        ({"unigram": torch.ones(3)}, r"has shape \[3\], expected \[270\]"),
        ({"x": torch.ones(3)}, "is missing"),
    ):
        unmask.checkpoint.save_file(broken, folder / "unigram.safetensors")
        with pytest.raises(CheckpointError, match=f"unigram {words}"):
            unmask.checkpoint.load(folder)
    model = unmask.checkpoint.build(read_json(folder / "config.json"))
    with pytest.raises(ConfigError, match=r"unigram has shape \[3\], the process has 270 tokens"):
        DiffusionLM(model.net, model.process, model.parametrization, unigram=torch.ones(3))


def test_resume_goes_on_and_may_change_the_steps(text, tmp_path):
    whole = start(tiny(text, steps=9), tmp_path / "whole")
    start(tiny(text, steps=6), tmp_path / "parts")
    parts = resume(tmp_path / "parts", change=lambda run: replace_steps(run, 9))
    assert same(whole, parts)
    assert read_json(tmp_path / "parts" / "config.json") == read_json(tmp_path / "whole" / "config.json")
    assert replace_steps(tiny(text), None) == tiny(text)


def test_resume_refuses_another_shape_and_leaves_the_run_as_it_was(text, tmp_path):
    out = tmp_path / "run"
    start(tiny(text), out)
    before = (out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds another model"):
        resume(out, change=lambda run: with_settings(run, ["width=32", "steps=9"]))
    assert (out / "config.json").read_bytes() == before
    resume(out, change=lambda run: replace_steps(run, 7))
    assert checkpoints(out)[-1].name == "step-00000007"


def test_resume_wants_a_run(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)holds no run to resume: no config.json.*start one without --resume"):
        resume(tmp_path)


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"(?s)the output folder .* is not empty.*--resume"):
        start(tiny(tmp_path / "missing.txt"), tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        start(tiny(tmp_path / "missing.txt"), tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_start_that_was_killed_before_it_wrote_its_config_may_begin_again(text, tmp_path):
    (tmp_path / ".config.json.4711").write_text("{")
    start(tiny(text, steps=1, eval_every=0), tmp_path)
    assert (tmp_path / "config.json").exists()


def test_a_run_that_cannot_begin_writes_nothing(text, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    for wrong, kind in (
        (tiny(tmp_path / "empty.txt"), DataError),
        (with_settings(tiny(text), ["length=100000"]), DataError),
        (with_settings(tiny(text), ["heads=3"]), ConfigError),
    ):
        with pytest.raises(kind):
            start(wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_model_is_built_as_its_shape_says(small_tokenizer):
    def made(**given):
        return build_model(ModelShape(width=16, depth=2, heads=2, length=8, cond_dim=4, **given), small_tokenizer)

    V = small_tokenizer.vocab_size
    sedd, uniform, mdlm, ar = made(), made(process="uniform"), made(kind="mdlm"), made(kind="ar")
    assert isinstance(sedd.process, Absorbing) and sedd.parametrization == RawScore(scale_by_sigma=True)
    assert sedd.conditioning == "sigma" and sedd.net.config.num_outputs == V + 1 and sedd.net.config.cond_dim == 4
    assert isinstance(uniform.process, Uniform) and uniform.parametrization == RawScore(scale_by_sigma=False)
    assert uniform.net.config.num_outputs == V
    assert (
        isinstance(mdlm.parametrization, CleanLogits) and mdlm.conditioning is None and mdlm.net.config.cond_dim is None
    )
    assert isinstance(ar, AutoregressiveLM) and ar.bos_id == small_tokenizer.eos_id and ar.net.config.block_size == 1
    assert made(schedule="cosine").process.schedule != sedd.process.schedule


def test_a_models_weights_are_a_function_of_its_seed_alone(small_tokenizer):
    shape = ModelShape(width=16, depth=2, heads=2, length=8)
    a = build_model(shape, small_tokenizer, seed=1)
    state = torch.random.get_rng_state()
    torch.rand(7)
    b = build_model(shape, small_tokenizer, seed=1)
    torch.random.set_rng_state(state)
    assert same(a, b) and not same(a, build_model(shape, small_tokenizer, seed=2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_smoke_recipe_learns_something_in_seconds(tmp_path):
    start(recipe("smoke"), tmp_path / "run")
    nats = [line["heldout_nats"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "heldout_nats" in line]
    assert nats[-1] < 5.8 < torch.tensor(512.0).log().item()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["name"] == "smoke"
