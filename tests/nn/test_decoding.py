"""Native decoding is the network's own function: whatever its shape, the rows, the threads and what the cache holds."""

from pathlib import Path

import pytest
import torch
from torch import nn

from unmask.errors import ConfigError, UnmaskError
from unmask.nn.decoding import MOST_ROWS, Decoder, compiled_cache
from unmask.nn.native import build as building
from unmask.nn.transformer import Transformer, TransformerConfig

L = 40
GPT2 = {"positions": "learned", "bias": True, "tied": True}
HALF = torch.bfloat16
# width, heads: a head of 8 is shorter than any vector, one of 64 is whole vectors, one of 72 is vectors and a rest
SHAPES = [(16, 2), (128, 2), (72, 1)]


def network(dtype: torch.dtype = torch.float32, width: int = 128, heads: int = 2, **options: object) -> Transformer:
    """Random in every part, with logits of a few units."""
    shape = TransformerConfig(61, 61, width=width, depth=3, heads=heads, length=L, block_size=1, **options)
    net, rng = Transformer(shape).eval(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            scale = 1.5 / p.shape[-1] ** 0.5 if p.ndim == 2 else 0.3
            p.copy_(scale * torch.randn(p.shape, generator=rng) + float(p.ndim == 1))
    return net.to(dtype)


def rows(batch: int) -> torch.Tensor:
    return torch.randint(61, (batch, L), generator=torch.Generator().manual_seed(batch))


@torch.inference_mode()
def logits(net: Transformer, x: torch.Tensor, native: bool, prompt: int = 0) -> torch.Tensor:
    """[B, L - prompt, V]: the prompt at once, the others one by one."""
    cache = compiled_cache(net, len(x)) if native else net.cache(len(x))
    if prompt:
        net.hidden(x[:, :prompt], cache=cache, commit=True)
    out = []
    for i in range(prompt, x.shape[1]):
        one = x[:, i : i + 1]
        out.append(cache.engine(one, cache) if native else net.head(net.hidden(one, cache=cache, commit=True)[:, -1]))
    assert cache.length == x.shape[1]
    return torch.stack(out, 1)


@pytest.mark.parametrize("width, heads", SHAPES)
@pytest.mark.parametrize("options", [{}, GPT2, {"bias": True}], ids=["rotary", "gpt2", "rotary-bias"])
@pytest.mark.parametrize("prompt", [0, 7])
def test_float32_is_what_pytorch_computes(width, heads, options, prompt):
    net, x = network(width=width, heads=heads, **options), rows(3)
    whole = net.double()(x).detach()[:, prompt:]
    made = logits(net.float(), x, native=True, prompt=prompt)
    assert made.dtype == torch.float32 and float(whole.std()) > 0.5
    torch.testing.assert_close(made.double(), whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("width, heads", SHAPES)
@pytest.mark.parametrize("options", [{}, GPT2], ids=["rotary", "gpt2"])
def test_bfloat16_is_nearer_to_the_exact_network_than_the_plain_path(width, heads, options):
    net, x = network(HALF, width=width, heads=heads, **options), rows(5)
    plain, native = (logits(net, x, native=n, prompt=4) for n in (False, True))
    exact = net.double()(x)[:, 4:]
    assert native.dtype == plain.dtype == HALF
    wrong, ours = ((z.double() - exact).square().mean().sqrt() for z in (plain, native))
    assert ours < 0.7 * wrong and ours < 0.02 * exact.std()


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_row_is_the_same_bits_whatever_is_beside_it_and_however_many_threads(dtype):
    net, x = network(dtype, **GPT2), rows(11)
    many = logits(net, x, native=True)
    alone = torch.cat([logits(net, x[i : i + 1], native=True) for i in (0, 4, 10)])
    assert torch.equal(many[[0, 4, 10]], alone)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(many, logits(net, x, native=True))
    finally:
        torch.set_num_threads(before)


def test_sharp_attention_and_far_arguments_of_gelu():
    """Scores in the hundreds: all weight on one place, others e^-200; activations far on both sides."""
    net, x = network(), rows(2)
    with torch.no_grad():
        for block in net.blocks:
            block.attn_qkv.weight.mul_(12)
            block.mlp[0].weight.mul_(40)
    plain, native = (logits(net, x, native=n).double() for n in (False, True))
    exact = net.double()(x).detach()
    wrong, ours = ((z - exact).abs() for z in (plain, native))  # where two scores nearly tie, float32 errs by more
    assert ours.median() < 3 * wrong.median() < 1e-5 and ours.max() < 2e-2


def test_what_is_not_a_number_stays_so():
    net, x = network(HALF, **GPT2), rows(2)
    with torch.no_grad():
        net.blocks[1].attn_qkv.weight[3, 5] = torch.nan
    assert logits(net, x, native=True)[:, -1].isnan().all()


def test_cropping_and_a_full_cache():
    net, x = network(), rows(2)
    cache = compiled_cache(net, 2, 10)
    for i in range(10):
        last = cache.engine(x[:, i : i + 1], cache)
    with pytest.raises(ConfigError, match="the cache holds 10 positions, asked for 11"):
        cache.engine(x[:, :1], cache)
    cache.crop(4)
    net.hidden(x[:, 4:8], cache=cache, commit=True)  # a plain pass goes on where native ones were cropped
    cache.engine(x[:, 8:9], cache)
    torch.testing.assert_close(cache.engine(x[:, 9:10], cache), last, atol=1e-5, rtol=1e-5)


def test_the_weights_are_read_where_they_lie():
    """No copy is made of a weight: what changes in place changes what comes next."""
    net, x = network(**GPT2), rows(1)
    cache = compiled_cache(net, 1)
    first = cache.engine(x[:, :1], cache)
    with torch.no_grad():
        net.vocab_embed.embedding.mul_(2)
        net.output_layer.norm_final.bias.zero_()
        net.blocks[0].mlp[2].weight.zero_()
    cache.crop(0)
    second = cache.engine(x[:, :1], cache)
    assert (first - second).abs().max() > 0.1
    torch.testing.assert_close(second, net(x[:, :1])[:, -1], atol=1e-5, rtol=1e-5)


def test_many_rows_go_the_plain_way():
    assert compiled_cache(network(), MOST_ROWS + 1, 2).engine is None
    assert isinstance(compiled_cache(network(), MOST_ROWS, 2).engine, Decoder)


def test_a_network_without_a_native_way_says_why(make_net):
    with pytest.raises(ConfigError, match="not plain ones, all float32 or all bfloat16"):
        compiled_cache(network(torch.float64), 1)
    with pytest.raises(ConfigError, match="it reads a condition"):
        compiled_cache(make_net(block_size=1, cond_dim=8).float(), 1)
    mixed = network()
    mixed.blocks[0].attn_out = nn.Linear(128, 128, bias=False, dtype=HALF)
    with pytest.raises(ConfigError, match="not plain ones"):
        compiled_cache(mixed, 1)
    turned = network(width=16)
    turned.blocks[0].attn_out.weight = nn.Parameter(turned.blocks[0].attn_out.weight.detach().t())
    with pytest.raises(ConfigError, match="not plain ones"):
        compiled_cache(turned, 1)


def test_building_needs_a_compiler_that_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    source = tmp_path / "seven.cpp"
    source.write_text('extern "C" int seven() { return 7; }\n')
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="there is none by the name of no-such-compiler"):
        building.build(source)
    monkeypatch.delenv("CXX")
    assert building.build(source).seven() == 7
    wrong = tmp_path / "wrong.cpp"
    wrong.write_text("this is not C++\n")
    with pytest.raises(UnmaskError, match="could not build our kernel"):
        building.build(wrong)
    assert {path.name for path in tmp_path.iterdir()} == {"seven.cpp", "wrong.cpp"}
