"""int8 layers: how far they may be from the plain ones, what a row depends on, and what cannot be done with them."""

import copy

import pytest
import torch

import unmask
from sampling.nets import autoregressive, diffusion
from unmask import checkpoint
from unmask.errors import ConfigError
from unmask.nn.quantized import Int8Linear, is_quantized, plain_state, quantize
from unmask.sampling.batching import many


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer(inputs=48, outputs=40, bias=True, dtype=torch.float32):
    weight = normal(outputs, inputs, seed=1) * torch.linspace(0.01, 3, outputs)[:, None]
    return Int8Linear(weight.to(dtype), normal(outputs, seed=2).to(dtype) if bias else None), weight


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_output_is_off_by_no_more_than_the_rounding_of_both_factors(dtype, bias):
    made, weight = layer(bias=bias)
    x = normal(7, 3, 48, seed=3, dtype=dtype) * 10.0 ** torch.arange(-3, 4, dtype=dtype)[:, None, None]
    x[2, 1] = 0
    wide, weight = x.double(), weight.double()
    exact = wide @ weight.T + (0 if made.bias is None else made.bias.double())
    half_x, half_w = wide.abs().amax(-1, keepdim=True) / 254, weight.abs().amax(1) / 254
    off = half_x * weight.abs().sum(1) + wide.abs().sum(-1, keepdim=True) * half_w + 48 * half_x * half_w
    found = made(x)
    assert found.dtype == dtype and found.shape == (7, 3, 40)
    rounding = 1e-6 + (exact.abs() + off) * torch.finfo(dtype).eps  # of the output's own type, and of float32 scales
    assert bool(((found.double() - exact).abs() <= off * (1 + 1e-3) + rounding).all())
    assert float((found.double() - exact).abs().max()) > 1e-4  # and it is rounded: the bound says something


def test_whole_numbers_come_out_exactly():
    weight = torch.randint(-127, 128, (8, 16), generator=torch.Generator().manual_seed(0)).float()
    x = torch.randint(-127, 128, (5, 16), generator=torch.Generator().manual_seed(1)).float()
    weight[:, 0] = x[:, 0] = 127
    assert torch.equal(Int8Linear(weight)(x), x @ weight.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_the_same_to_the_bit_whatever_rows_are_beside_it(dtype):
    made, _ = layer()
    x = normal(9, 48, seed=4, dtype=dtype)
    x[3] *= 1e4
    assert torch.equal(made(x), torch.cat([made(row[None]) for row in x]))
    assert made(x[:0]).shape == (0, 40)


def test_what_is_no_number_stays_none_and_spoils_its_own_row_alone():
    made, _ = layer()
    x = normal(3, 48)
    x[1, 5] = float("nan")
    assert torch.equal(made(x).isnan().any(1), torch.tensor([False, True, False])) and bool(made(x)[1].isnan().all())


def test_the_scale_stays_float32_where_the_module_is_cast():
    made, _ = layer()
    scale = made.scale.clone()
    cast = torch.nn.Sequential(made).bfloat16()[0]
    assert torch.equal(cast.scale, scale) and cast.scale.dtype == torch.float32
    assert cast.weight.dtype == torch.int8 and cast.bias.dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantized_network_is_nearly_the_plain_one(dtype, tied):
    """8 bits keep 1 part in 250 of a row's largest number; two blocks of that move the hidden states by some 1 %."""
    plain = autoregressive(tied=tied).to(dtype=dtype)
    rounded, x = copy.deepcopy(plain), torch.arange(12)[None] % 7
    with torch.no_grad():
        exact, head = plain.net.hidden(x).double(), plain.net(x).double()
        embedding, count = rounded.net.vocab_embed.embedding.clone(), rounded.net.num_parameters
        assert rounded.quantize("int8") is rounded and is_quantized(rounded.net) and not is_quantized(plain.net)
        found = rounded.net.hidden(x)
        assert found.dtype == dtype and 1e-4 < float((found - exact).norm() / exact.norm()) < 0.03
        assert 1e-4 < float((rounded.net(x) - head).norm() / head.norm()) < 0.04
    assert torch.equal(rounded.net.vocab_embed.embedding, embedding) and rounded.net.num_parameters == count
    kinds = {name for name, m in rounded.net.named_modules() if isinstance(m, Int8Linear)}
    each = ("attn_qkv", "attn_out", "mlp.0", "mlp.2")
    assert kinds == {f"blocks.{i}.{name}" for i in range(2) for name in each} | {"output_layer.linear"}


def test_the_head_may_stay_as_it_is():
    model = diffusion()
    quantize(model.net, "int8", head=False)
    assert isinstance(model.net.output_layer.linear, torch.nn.Linear) and is_quantized(model.net)


@pytest.mark.parametrize("make", [diffusion, lambda: autoregressive(tied=True)])
def test_the_plain_state_is_the_old_one_but_for_half_a_step(make):
    model = make()
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in plain_state(model.net).items())
    model.quantize("int8")
    after = plain_state(model.net)
    assert after.keys() == before.keys()
    for name, value in before.items():
        step = value.abs().amax(-1, keepdim=True) / 127 if value.ndim == 2 else 0
        assert bool(((after[name] - value).abs() <= 0.501 * step).all()), name
    assert not torch.equal(after["blocks.0.attn_qkv.weight"], before["blocks.0.attn_qkv.weight"])


@pytest.mark.parametrize("make", [diffusion, lambda: diffusion("x0"), autoregressive])
def test_samples_of_a_float64_model_do_not_depend_on_the_batch_in_int8_either(make):
    model = make().to(dtype=torch.float64).quantize("int8")
    one, options = unmask.Canvas.blank(12), {"seed": 3} | ({"steps": 6} if model.kind == "diffusion" else {})
    whole = unmask.sample(model, many(one, 5), **options).tokens
    assert torch.equal(
        whole, torch.cat([unmask.sample(model, one, first_sample=i, **options).tokens for i in range(5)])
    )


def test_what_cannot_be_done(tmp_path):
    model = diffusion()
    with pytest.raises(ConfigError, match="unknown way to quantize 'int4'") as unknown:
        model.quantize("int4")
    assert "int8" in str(unknown.value.hint) and not is_quantized(model.net)
    model.quantize("int8")
    with pytest.raises(ConfigError, match="quantized already"):
        model.quantize("int8")
    with pytest.raises(ConfigError, match="a quantized model is not saved"):
        checkpoint.save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="int8 on meta, which has no product"):
        diffusion().to(device="meta").quantize("int8")
