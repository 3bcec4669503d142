"""Other people's implementations and ours on the same weights (tests/golden/*_tiny; float32, CPU)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unmask import compat
from unmask.diffusion import Absorbing, CleanLogits, Gidd, Hybrid, LeaveOneOut, LogLinear, Uniform
from unmask.model import Clean

GOLDEN = Path(__file__).parents[1] / "golden"
CLOSE = {"rtol": 0, "atol": 1e-4}
SHAPE = (3, 24, 62)


def expected(family: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{family}_tiny" / "expected.safetensors")


def test_mdlm_logits_and_log_p0_are_theirs():
    model, want = compat.load(GOLDEN / "mdlm_tiny"), expected("mdlm")
    assert (model.process, model.parametrization) == (Absorbing(61, LogLinear(1e-3)), CleanLogits())
    assert model.conditioning == "zero" and model.length == 24 and not model.net.training
    for t in (0.1, 0.9):  # whatever the time, the network is told 0
        seen = model.predict(want["x"], torch.full((3,), t))
        assert want["logits"].shape == SHAPE and want["logits"].std() > 0.1
        torch.testing.assert_close(seen.logits(), want["logits"], **CLOSE)
    masked = want["x"] == 61
    torch.testing.assert_close(seen.log_p0(masked), want["log_p_x0"][masked][:, :61], **CLOSE)
    assert torch.equal(seen.log_p0(~masked).argmax(-1), want["x"][~masked])
    assert masked.any() and not masked.all()


def test_gidd_logits_are_theirs():
    """The network is told its own time r = eps + (1 - 2 eps) t."""
    model, want = compat.load(GOLDEN / "gidd_tiny"), expected("gidd")
    assert (model.process, model.parametrization) == (Absorbing(61, Gidd(0.0, 1e-4)), CleanLogits())
    assert model.conditioning == "t" and model.length == 24
    t = (want["t"].double() - 1e-4) / (1 - 2e-4)
    seen = model.predict(want["x"], t).logits()
    assert seen.shape == SHAPE and want["logits"].std() > 0.1
    torch.testing.assert_close(seen, want["logits"], **CLOSE)
    assert float((model.predict(want["x"], t / 2).logits() - seen).abs().max()) > 1e-3  # it listens


def test_gidd_with_random_tokens(hub_folder):
    model, plain = compat.load(hub_folder("gidd-hybrid")), compat.load(hub_folder("gidd"))
    assert (model.process, model.parametrization) == (Hybrid(61, Gidd(0.2, 1e-4), 0.2), LeaveOneOut())
    x, t = expected("gidd")["x"], torch.full((3,), 0.3)
    assert torch.equal(model.predict(x, t).logits(), plain.predict(x, t).logits())


def test_duo_reads_as_the_body_it_shares(hub_folder):
    """Duo's body is MDLM's, told sigma; at t = 0 sigma is 0, which is what MDLM's golden logits are of."""
    model, want = compat.load(hub_folder("duo")), expected("mdlm")
    assert (model.process, model.parametrization) == (Uniform(62, LogLinear(1e-3)), LeaveOneOut())
    assert model.conditioning == "sigma"
    torch.testing.assert_close(model.predict(want["x"], torch.zeros(3)).logits(), want["logits"], **CLOSE)
    assert float((model.predict(want["x"], torch.ones(3)).logits() - want["logits"]).abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["sdtt", "sdtt-from-hub"])
def test_sdtt_reads_as_mdlm_behind_its_prefix(hub_folder, family):
    model, want = compat.load(hub_folder(family)), expected("mdlm")
    assert (model.process, model.parametrization) == (Absorbing(61, LogLinear(1e-3)), CleanLogits())
    assert model.conditioning == "zero"
    torch.testing.assert_close(model.predict(want["x"], torch.ones(3)).logits(), want["logits"], **CLOSE)


def test_bd3lm_logits_of_the_training_form_are_theirs():
    """The network reads [xt ; x0]; blocks of 4."""
    model, want = compat.load(GOLDEN / "bd3lm_tiny"), expected("bd3lm")
    assert (model.process, model.parametrization) == (Absorbing(61, LogLinear(1e-6)), CleanLogits())
    assert model.block_size == 4 and model.conditioning == "zero" and model.length == 24
    seen = model.predict(want["xt"], torch.full((3,), 0.5), Clean(want["x0"])).logits()
    assert seen.shape == SHAPE and want["logits"].std() > 0.1
    torch.testing.assert_close(seen, want["logits"], **CLOSE)


def test_bd3lm_logits_from_the_cache_are_theirs_too():
    model, want = compat.load(GOLDEN / "bd3lm_tiny"), expected("bd3lm")
    cache = model.net.cache(3)
    for start in range(0, 24, 4):
        block = slice(start, start + 4)
        seen = model.predict(want["xt"][:, block], torch.full((3,), 0.5), cache).logits()
        torch.testing.assert_close(seen, want["logits"][:, block], **CLOSE)
        model.commit(want["x0"][:, block], cache)
