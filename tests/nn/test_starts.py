"""Starting from the neighbors: heads look where they are meant to, and only then."""

import pytest
import torch

from unmask.errors import ConfigError
from unmask.nn.rotary import rotate
from unmask.nn.starts import look_around
from unmask.nn.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(50, 50, width=256, depth=3, heads=4, length=64, cond_dim=16)


def attention(net: Transformer, index: int) -> torch.Tensor:
    """Mean attention of block `index` by head and offset from -8 to 8 of the middle positions, [H, 17]."""
    x = torch.randint(50, (8, 64), generator=torch.Generator().manual_seed(0))
    block = net.blocks[index]
    condition = torch.nn.functional.silu(net.sigma_map(torch.ones(8)))[:, None]
    shift, scale = block.adaLN_modulation(condition).chunk(6, -1)[:2]
    qkv = block.attn_qkv(block.norm1.modulated(net.vocab_embed(x), shift, scale, torch.float32))
    turned = rotate(qkv.view(8, 64, 12, 64)[:, :, :8], *net.rotary_emb(0, 64, torch.float32))
    q, k = turned.transpose(1, 2).chunk(2, 1)
    weights = torch.softmax(q @ k.mT / 8, -1).mean(0)
    return torch.stack([weights.diagonal(o, 1, 2)[:, 10:40].mean(-1) for o in range(-8, 9)], -1)


@torch.no_grad()
def test_each_head_starts_by_looking_at_its_offset():
    torch.manual_seed(0)
    net = Transformer(CONFIG)
    look_around(net)
    for index in range(3):
        far = 2 + index % 3
        seen = attention(net, index)
        assert seen.argmax(-1).sub(8).tolist() == [1, -1, far, -far]
        assert (seen.amax(-1) > 5 / 64).all()  # five times an even look


@torch.no_grad()
def test_without_it_a_head_looks_everywhere():
    torch.manual_seed(0)
    assert attention(Transformer(CONFIG), 0).amax() < 2 / 64


def test_the_gates_are_open_and_every_parameter_learns():
    torch.manual_seed(0)
    net = Transformer(CONFIG)
    look_around(net)
    torch.nn.init.normal_(net.output_layer.linear.weight, std=0.02)
    net(torch.randint(50, (2, 64)), torch.ones(2)).square().sum().backward()
    assert all(bool(p.grad.any()) for name, p in net.named_parameters() if "sigma_map" not in name)


@pytest.mark.parametrize("change", [{"cond_dim": None}, {"positions": "learned"}])
def test_it_needs_a_condition_and_rotary_positions(change):
    body = {"width": 32, "depth": 1, "heads": 2, "length": 8, "cond_dim": 16} | change
    with pytest.raises(ConfigError, match="start=zero"):
        look_around(Transformer(TransformerConfig(9, 9, **body)))
