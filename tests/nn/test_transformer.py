import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import unmask
from unmask.errors import ConfigError
from unmask.nn.masks import attention_mask
from unmask.nn.rotary import Rotary, rotate
from unmask.nn.transformer import Transformer, TransformerConfig

SHAPE = {"num_inputs": 13, "num_outputs": 11, "width": 16, "depth": 2, "heads": 2, "length": 12}
SETTINGS = [
    {},
    {"cond_dim": 8},
    {"block_size": 1},
    {"block_size": 4, "cond_dim": 8},
    {"positions": "learned", "bias": True, "block_size": 1},
    {"num_outputs": 13, "tied": True},
]


def condition(net, x):
    return None if net.config.cond_dim is None else torch.linspace(0.1, 2.0, len(x), dtype=torch.float64)


@pytest.mark.parametrize("start, end", [(0, 7), (3, 7), (4, 5), (6, 7)])
@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 9, None])
@pytest.mark.parametrize("window", [None, 1, 2])
def test_attention_mask_is_the_definition(start, end, block_size, window):
    mask = attention_mask(start, end, block_size, torch.device("cpu"), window)
    for query in range(start, end):
        for key in range(end):
            ahead = 0 if block_size is None else query // block_size - key // block_size
            allowed = 0 <= ahead < (window or 99)
            assert (mask is None or bool(mask[query - start, key])) == allowed


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("block_size", [1, 4, 5, None])
def test_a_position_hears_of_those_it_may_and_of_no_other(make_net, block_size, positions):
    net, L = make_net(block_size=block_size, positions=positions), 12
    h = net.vocab_embed(torch.arange(L)[None]).detach().requires_grad_()
    net.vocab_embed.forward = lambda x: h  # so that the gradient tells positions apart
    out = net.hidden(torch.zeros(1, L, dtype=torch.int64))
    for query in range(L):
        (gradient,) = torch.autograd.grad(out[0, query].sum(), h, retain_graph=True)
        heard = (gradient[0].abs().sum(-1) > 0).tolist()
        assert heard == [block_size is None or k // block_size <= query // block_size for k in range(L)]


def test_one_block_by_hand(make_net):
    net = make_net(depth=1, cond_dim=8, num_inputs=5)
    x = torch.tensor([[0, 3, 1, 4]])
    block, out = net.blocks[0], net.output_layer
    waves = 0.7 * torch.exp(-math.log(1e4) * torch.arange(128, dtype=torch.float32) / 128)
    c = F.silu(net.sigma_map.mlp(torch.cat([waves.cos(), waves.sin()]).double()))
    norm = lambda h, m: F.layer_norm(h, (16,), m.weight)  # noqa: E731
    s1, k1, g1, s2, k2, g2 = block.adaLN_modulation(c).chunk(6)
    h = net.vocab_embed.embedding[x[0]]
    q, k, v = (block.attn_qkv(norm(h, block.norm1) * (1 + k1) + s1)).chunk(3, -1)
    heads = []
    for a in range(2):
        part = slice(8 * a, 8 * a + 8)
        angle = torch.arange(4)[:, None] * net.rotary_emb.inv_freq.double()
        turn = torch.polar(torch.ones_like(angle), angle)  # rotary positions as complex numbers
        qa, ka = (torch.complex(z[:, part][:, :4], z[:, part][:, 4:]) * turn for z in (q, k))
        weight = ((qa[:, None] * ka[None].conj()).real.sum(-1) / math.sqrt(8)).softmax(-1)
        heads.append(weight @ v[:, part])
    h = h + g1 * block.attn_out(torch.cat(heads, -1))
    h = h + g2 * block.mlp(norm(h, block.norm2) * (1 + k2) + s2)
    shift, scale = out.adaLN_modulation(c).chunk(2)
    expected = out.linear(norm(h, out.norm_final) * (1 + scale) + shift)
    got = net(x, torch.tensor([0.7]))[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changes", SETTINGS)
def test_the_head_is_row_by_row(make_net, tokens, changes):
    net = make_net(**changes)
    cond = condition(net, tokens)
    whole, hidden = net(tokens, cond), net.hidden(tokens, cond)
    assert whole.shape == (3, 12, net.config.num_outputs) and hidden.shape == (3, 12, 16)
    assert whole.std() > 0.1
    torch.testing.assert_close(net.head(hidden), whole, rtol=0, atol=0)
    at = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)) < 0.4
    torch.testing.assert_close(net.head(hidden[at]), whole[at], rtol=1e-12, atol=1e-12)


def test_rotary_at_an_offset_is_a_slice_of_the_whole():
    rotary = Rotary(8)
    whole, part = rotary(0, 20, torch.float32), rotary(13, 20, torch.float32)
    for a, b in zip(whole, part, strict=True):
        assert torch.equal(a[13:], b)


def test_rotary_keeps_lengths_and_sees_distances_only():
    rotary = Rotary(8).double()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def product(m: int, n: int) -> float:
        a = rotate(q, *rotary(m, m + 1, torch.float64))
        b = rotate(k, *rotary(n, n + 1, torch.float64))
        assert float(a.norm()) == pytest.approx(float(q.norm()))
        return float((a * b).sum())

    assert product(9, 4) == pytest.approx(product(105, 100), rel=1e-12)
    assert product(0, 0) == pytest.approx(float((q * k).sum()))
    assert abs(product(9, 4) - product(9, 5)) > 1e-3


def test_learned_positions_are_rows_of_a_table(make_net):
    net = make_net(positions="learned", depth=0)
    assert net.rotary_emb is None
    x = torch.full((1, 12), 5)
    expected = net.vocab_embed.embedding[5] + net.position_embed.embedding
    torch.testing.assert_close(net.hidden(x)[0], net.output_layer.norm_final(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block_size", [None, 4])
def test_a_condition_for_each_position_that_is_constant_is_one_for_the_row(make_net, tokens, block_size):
    net = make_net(cond_dim=8, block_size=block_size)
    row = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    by_row, by_position = net(tokens, row), net(tokens, row[:, None].expand(3, 12))
    torch.testing.assert_close(by_row, by_position, rtol=1e-10, atol=1e-10)
    assert (net(tokens, row.flip(0)) - by_row).abs()[[0, 2]].max() > 0.1


def test_one_condition_for_all_rows_is_that_of_each(make_net, tokens):
    net = make_net(cond_dim=8)
    one = torch.full((1,), 0.7, dtype=torch.float64)
    torch.testing.assert_close(net(tokens, one), net(tokens, one.repeat(len(tokens))), rtol=1e-12, atol=1e-12)


def test_a_condition_of_one_position_acts_there(make_net, tokens):
    net = make_net(cond_dim=8, block_size=1)
    cond = torch.full((3, 12), 0.5, dtype=torch.float64)
    other = cond.clone()
    other[:, 7] = 3.0
    moved = (net(tokens, cond) - net(tokens, other)).abs().amax((0, 2))
    assert moved[:7].max() == 0 and moved[7:].min() > 1e-6


def test_a_conditioned_body_asks_for_its_condition(make_net, tokens):
    with pytest.raises(ConfigError, match="needs cond"):
        make_net(cond_dim=8).hidden(tokens)


def test_a_context_that_is_too_long_is_refused(make_net):
    net = make_net()
    with pytest.raises(ConfigError, match="13 positions do not fit a context of 12"):
        net.hidden(torch.zeros(1, 13, dtype=torch.int64))
    causal = make_net(block_size=1)
    cache = causal.cache(1)
    causal.hidden(torch.zeros(1, 12, dtype=torch.int64), cache=cache, commit=True)
    with pytest.raises(ConfigError, match="13 positions do not fit a context of 12"):
        causal.hidden(torch.zeros(1, 1, dtype=torch.int64), cache=cache)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"heads": 3}, "does not split into 3 heads"),
        ({"width": 14, "heads": 2}, "does not split into 2 heads"),  # a head of 7 cannot be rotated
        ({"heads": 0}, "width and heads must be at least 1"),
        ({"width": 0}, "width and heads must be at least 1"),
        ({"positions": "sinus"}, "positions must be"),
        ({"tied": True}, "a tied head has 13 outputs, not 11"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"num_inputs": 0}, "must be at least 1"),
        ({"length": 0}, "must be at least 1"),
        ({"depth": -1}, "depth at least 0"),
        ({"block_size": 0}, "block_size 0"),
        ({"cond_dim": -4}, "cond_dim -4"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(**SHAPE | changes)


def test_learned_positions_allow_heads_of_odd_width():
    assert Transformer(TransformerConfig(**SHAPE | {"width": 14, "positions": "learned"})).config.width == 14


@pytest.mark.parametrize("changes", SETTINGS)
def test_bfloat16_is_the_same_function_but_for_rounding(make_net, tokens, changes):
    net = make_net(**changes)
    cond = condition(net, tokens)
    exact = net(tokens, cond)
    rounded = net.to(torch.bfloat16)(tokens, cond)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.double() - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_a_cast_leaves_the_rotary_frequencies_alone():
    rotary = Rotary(64)
    exact = rotary.inv_freq.clone()
    angles = rotary(1000, 1024, torch.float32)
    for cast in (rotary.bfloat16, rotary.half, rotary.double, lambda: rotary.to(torch.bfloat16)):
        assert cast() is rotary
        assert rotary.inv_freq.dtype == torch.float32 and torch.equal(rotary.inv_freq, exact)
    assert all(torch.equal(a, b) for a, b in zip(angles, rotary(1000, 1024, torch.bfloat16), strict=True))
    assert rotary.to("meta").inv_freq.is_meta


def test_fresh_weights_say_nothing_yet():
    torch.manual_seed(0)
    conditioned = Transformer(TransformerConfig(**SHAPE, cond_dim=8))
    x = torch.arange(12)[None]
    assert conditioned(x, torch.tensor([0.3])).abs().max() == 0
    plain = Transformer(TransformerConfig(**SHAPE | {"width": 64, "num_inputs": 4096}))
    assert plain.vocab_embed.embedding.std().item() == pytest.approx(0.02, rel=0.02)
    assert plain.blocks[1].mlp[2].weight.std().item() == pytest.approx(0.01, rel=0.05)  # 0.02 / sqrt(2 * depth)
    assert plain.blocks[1].mlp[2].bias.abs().max() == 0


def test_a_tied_head_is_the_embedding_and_counts_once(make_net, tokens):
    net = make_net(num_outputs=13, tied=True)
    hidden = net.hidden(tokens)
    torch.testing.assert_close(net(tokens), hidden @ net.vocab_embed.embedding.T, rtol=1e-12, atol=1e-12)
    assert not any(name.startswith("output_layer.linear") for name in net.state_dict())
    untied = make_net(num_outputs=13)
    assert untied.num_parameters - net.num_parameters == 13 * 16 + 13


def test_gradients_reach_every_parameter(make_net, tokens):
    for changes in SETTINGS:
        net = make_net(**changes)
        net(tokens, condition(net, tokens)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters()), changes


def test_nothing_in_the_package_imports_flash_attention():
    sources = list(Path(unmask.__file__).parent.rglob("*.py"))
    assert len(sources) > 10
    found = [p for p in sources if re.search(r"(import|from)\s+flash_attn", p.read_text(encoding="utf-8"))]
    assert found == []
