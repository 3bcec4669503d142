"""The learning rate over a run, and which optimizer has which parameter."""

import itertools
import math

import pytest
import torch

from unmask.errors import ConfigError
from unmask.training.optim import OptimSettings, optimizers, rate_factor, set_rate

from .tiny import MUON, OPTIM, model


def factors(steps: int = 100, **given) -> list[float]:
    return [rate_factor(OptimSettings(**given), step, steps) for step in range(steps)]


def test_warm_up_is_linear_to_the_peak_and_then_constant():
    found = factors(warmup=20)
    assert found[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert found[20:] == [1.0] * 80
    assert factors(warmup=0) == [1.0] * 100


def test_cosine_goes_to_zero():
    found = factors(warmup=10, schedule="cosine")
    assert found[50] == pytest.approx(0.5) and found[25] == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))
    assert 0 < found[99] < 1e-3 and all(a > b for a, b in itertools.pairwise(found[10:]))


def test_cooldown_is_constant_and_then_linear():
    found = factors(warmup=10, schedule="cooldown", cooldown=0.2)
    assert found[10:81] == [1.0] * 71
    assert found[80:] == pytest.approx([(100 - i) / 20 for i in range(80, 100)])


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest():
    net = model("sedd").net
    adamw, muon = optimizers(net, MUON)
    names = {id(p): name for name, p in net.named_parameters()}
    taken = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    layers = ("attn_qkv.weight", "attn_out.weight", "mlp.0.weight", "mlp.2.weight")
    assert taken == {f"blocks.{i}.{name}" for i in range(2) for name in layers}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert taken | rest == set(names.values()) and not taken & rest
    assert len(optimizers(net, OPTIM)) == 1


def test_weight_decay_is_for_matrices_alone():
    decayed, plain = optimizers(model("sedd").net, OptimSettings(weight_decay=0.1))[0].param_groups
    assert decayed["weight_decay"] == 0.1 and all(p.ndim >= 2 for p in decayed["params"])
    assert plain["weight_decay"] == 0.0 and all(p.ndim < 2 for p in plain["params"])


def test_frozen_parameters_are_left_out():
    net = model("ar").net
    net.vocab_embed.requires_grad_(False)
    held = [p for o in optimizers(net, OPTIM) for group in o.param_groups for p in group["params"]]
    assert all(p is not net.vocab_embed.embedding for p in held) and len(held) == len(list(net.parameters())) - 1


def test_set_rate_scales_each_groups_own_peak():
    made = optimizers(model("sedd").net, MUON)
    for factor in (0.5, 0.1, 1.0):
        set_rate(made, factor)
        assert [o.param_groups[0]["lr"] for o in made] == pytest.approx([1e-2 * factor, 0.02 * factor])


def test_a_step_of_adamw_is_the_textbooks():
    net = model("ar").net
    (adamw,) = optimizers(net, OptimSettings(lr=0.01, betas=(0.8, 0.9), weight_decay=0.5, eps=1e-8))
    p = net.vocab_embed.embedding
    before, grad = p.detach().clone(), torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    p.grad = grad.clone()
    adamw.step()
    torch.testing.assert_close(p, before * (1 - 0.01 * 0.5) - 0.01 * grad / (grad.abs() + 1e-8))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
        ({"lr": math.nan}, "lr must be a positive number, got nan"),
        ({"muon_lr": math.inf}, "muon_lr must be a positive number"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"clip": -1.0}, "clip must be at least 0"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0"),
        ({"cooldown": 0.0}, "cooldown is a share of the run"),
        ({"ema": 1.0}, "betas and the EMA decay must be in"),
        ({"betas": (0.9, 1.0)}, "betas and the EMA decay must be in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        OptimSettings(**given)
    assert words in str(caught.value)
