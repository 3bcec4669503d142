import pytest
import torch
from torch import nn

from unmask.nn.ema import EMA


def moved(module: nn.Module, step: int) -> None:
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i)).to(p.dtype))


@pytest.mark.parametrize("decay", [0.3, 0.9999])
def test_the_decay_ramps_up(decay):
    module = nn.Linear(3, 2)
    ema = EMA(module, decay)
    expected = {k: v.detach().double().clone() for k, v in module.named_parameters()}
    for n in range(1, 30):
        moved(module, n)
        ema.update(module)
        d = min(decay, (1 + n) / (10 + n))
        for name, p in module.named_parameters():
            expected[name] = d * expected[name] + (1 - d) * p.detach().double()
            torch.testing.assert_close(ema.shadow[name].double(), expected[name], rtol=1e-5, atol=1e-5)
    assert ema.updates == 29


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_block_has_the_averages_and_after_it_the_weights_are_back_to_the_bit(dtype):
    module = nn.Linear(3, 2).to(dtype)
    ema = EMA(module)
    moved(module, 1)
    ema.update(module)
    own = {k: v.detach().clone() for k, v in module.named_parameters()}
    shadow = {k: v.clone() for k, v in ema.shadow.items()}
    identities = [id(p) for p in module.parameters()]
    with ema.applied(module) as inside:
        assert inside is module
        for name, p in module.named_parameters():
            assert torch.equal(p, ema.shadow[name].to(dtype)) and not torch.equal(p, own[name])
    for name, p in module.named_parameters():
        assert torch.equal(p, own[name])
        assert torch.equal(ema.shadow[name], shadow[name]) and ema.shadow[name].dtype == torch.float32
    assert identities == [id(p) for p in module.parameters()]


def test_an_error_in_the_block_brings_the_weights_back_too():
    module = nn.Linear(3, 2)
    ema = EMA(module)
    moved(module, 1)
    own = module.weight.detach().clone()
    with pytest.raises(KeyError), ema.applied(module):
        raise KeyError("x")
    assert torch.equal(module.weight, own)


def test_the_averages_for_good():
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    ema = EMA(module)
    moved(module, 1)
    ema.update(module)
    ema.copy_to(other)
    assert all(torch.equal(p, ema.shadow[name]) for name, p in other.named_parameters())
    assert not torch.equal(other.weight, module.weight)


def test_only_what_is_trained_is_averaged():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert list(EMA(module).shadow) == ["weight"]
