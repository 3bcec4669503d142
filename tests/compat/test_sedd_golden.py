"""SEDD's own implementation and ours on the same weights (tests/golden/sedd_*; float32, CPU)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unmask import compat
from unmask.diffusion.losses import denoising_score_entropy, score_entropy
from unmask.diffusion.parametrizations import RawScore
from unmask.diffusion.processes import Absorbing, Uniform
from unmask.diffusion.schedules import Geometric, LogLinear

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {
    "sedd_absorb_tiny": (Absorbing(61, LogLinear(1e-3)), RawScore(scale_by_sigma=True)),
    "sedd_uniform_tiny": (Uniform(61, Geometric(1e-4, 20.0)), RawScore(scale_by_sigma=False)),
}


@pytest.fixture(params=CASES)
def case(request):
    folder = GOLDEN / request.param
    return compat.load(folder), load_file(folder / "expected.safetensors"), *CASES[request.param]


def test_the_config_is_understood(case):
    model, _, process, parametrization = case
    assert (model.process, model.parametrization) == (process, parametrization)
    assert model.conditioning == "sigma" and model.length == 24 and model.tokenizer is None
    assert not model.net.training and model.net.config.dropout == 0.1


def test_the_schedule_is_theirs(case):
    model, expected, _, _ = case
    t = expected["t"]
    torch.testing.assert_close(model.process.schedule.sigma(t), expected["sigma"], rtol=1e-6, atol=0)
    torch.testing.assert_close(model.process.schedule.dsigma(t), expected["dsigma"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("read", ["x", "xt"])
def test_log_score_is_theirs(case, read):
    model, expected, process, _ = case
    wanted = expected["log_score" if read == "x" else "log_score_xt"]
    got = model.log_score(expected[read], expected["t"])
    assert got.shape == (3, 24, process.num_states) and wanted.std() > 0.1
    torch.testing.assert_close(got.detach(), wanted, rtol=0, atol=1e-4)


def test_the_loss_is_theirs(case):
    model, expected, process, _ = case
    x0, xt, t = expected["x0"], expected["xt"], expected["t"]
    log_score = model.log_score(xt, t).detach()
    entropy = denoising_score_entropy(process, log_score, x0, xt, expected["sigma"])
    torch.testing.assert_close(entropy, expected["score_entropy"], rtol=1e-4, atol=1e-5)
    loss = score_entropy(process, log_score, x0, xt, t).sum(-1)
    torch.testing.assert_close(loss, expected["loss"], rtol=1e-4, atol=0)


def test_the_weights_are_as_they_were(case):
    model, _, process, _ = case
    name = "sedd_absorb_tiny" if isinstance(process, Absorbing) else "sedd_uniform_tiny"
    stored, own = load_file(GOLDEN / name / "model.safetensors"), model.net.state_dict()
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[k], own[k]) for k in stored)
