"""On an accelerator: the same numbers as on the CPU, within its arithmetic. `make test-gpu` runs these."""

from pathlib import Path

import numpy as np
import pytest
import torch

import unmask
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.text.loader import Loader
from unmask.training.loop import train
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

pytestmark = pytest.mark.gpu


def device() -> torch.device:
    found = torch.accelerator.current_accelerator()
    assert found is not None, "make test-gpu needs an accelerator"
    return found


@pytest.mark.parametrize("kind", ["sedd", "mdlm"])
def test_scores_are_those_of_the_cpu(small_models: Path, kind: str):
    here, there = (unmask.load(small_models / kind, device=d) for d in ("cpu", device()))
    x = torch.full((2, 32), here.process.num_states - 1)
    x[:, ::3] = 7
    t = torch.tensor([0.3, 0.9])
    torch.testing.assert_close(
        there.log_score(x.to(device()), t.to(device())).cpu(), here.log_score(x, t), atol=1e-3, rtol=1e-3
    )


def test_a_seed_gives_nearly_the_same_tokens_as_on_the_cpu(small_models: Path):
    canvas = unmask.Canvas.blank(32, batch=8)
    a, b = (
        unmask.sample(unmask.load(small_models / "sedd", device=d), canvas, steps=16, seed=0).tokens.cpu()
        for d in ("cpu", device())
    )
    assert (a == b).double().mean() > 0.9  # the uniforms are the same; a logit's last bit may tip a draw


def test_given_tokens_come_out_as_they_went_in(small_models: Path):
    canvas = unmask.Canvas.template([1, 2, 3], 20, [4, 5])
    for kind in ("sedd", "mdlm"):
        out = unmask.sample(unmask.load(small_models / kind, device=device()), canvas, steps=8, seed=0).tokens.cpu()
        assert out[0, :3].tolist() == [1, 2, 3] and out[0, -2:].tolist() == [4, 5]


def test_graphs_of_one_token_give_the_tokens_of_the_plain_path(small_models: Path):
    model = unmask.load(small_models / "ar", device=device(), dtype=torch.float64)
    assert model.device.type == "cuda", "graphs are CUDA's"
    for canvas in (unmask.Canvas.blank(32, batch=5), unmask.Canvas.prompt([1, 2, 3], 32, batch=2)):
        plain, replayed = (unmask.sample(model, canvas, seed=0, compile=c).tokens for c in (False, True))
        assert torch.equal(plain, replayed)


def test_training_in_bfloat16_lowers_the_loss(tmp_path: Path, small_tokenizer):
    model = build_model(ModelShape("sedd", width=64, depth=2, heads=2, length=32, cond_dim=16), small_tokenizer)
    rows = np.tile(np.arange(32, dtype=np.uint16), (64, 1))
    optim = OptimSettings(lr=3e-3, warmup=5, ema=0.9)
    train(model, Loader(rows, global_batch=16, seed=0), TrainSettings(60, optim, log_every=20, save_every=60), tmp_path)
    bound = unmask.evaluate.nelbo(model, rows[:4])
    assert bound.nats_per_token < 4
