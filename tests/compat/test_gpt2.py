import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask import compat
from unmask.compat import gpt2 as layout
from unmask.nn.transformer import Transformer

X = torch.randint(61, (2, 24), generator=torch.Generator().manual_seed(0))
CLOSE = {"rtol": 0, "atol": 1e-4}


def theirs(model, x=X):
    with torch.no_grad():
        return model(x).logits


@torch.no_grad()
def ours(model, x=X):
    return model.net(x)


def test_logits_are_those_of_transformers(gpt2):
    model, folder = gpt2
    expected, loaded = theirs(model), compat.load(folder)
    assert expected.std() > 0.5
    torch.testing.assert_close(ours(loaded), expected, **CLOSE)
    assert loaded.bos_id == 60 and loaded.length == 24 and loaded.tokenizer is None
    assert not loaded.net.training and loaded.net.config.tied


@pytest.mark.parametrize("cuts", [[1] * 24, [10, 1, 7, 6], [24]])
def test_so_they_are_with_a_cache(gpt2, cuts):
    model, folder = gpt2
    expected, loaded = theirs(model), compat.load(folder)
    cache, start = loaded.net.cache(2), 0
    for count in cuts:
        logits = loaded.next_logits(X[:, start : start + count], cache)
        start += count
        torch.testing.assert_close(logits, expected[:, start - 1], **CLOSE)


def test_the_nll_is_the_loss_of_transformers_behind_the_document_start(gpt2):
    model, folder = gpt2
    read = torch.cat([torch.full((2, 1), 60), X[:, :-1]], 1)  # a whole context of scored tokens
    expected = -theirs(model, read).log_softmax(-1).gather(-1, X[..., None])[..., 0]
    torch.testing.assert_close(compat.load(folder).nll(X), expected, **CLOSE)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("buffers", [False, True])
def test_the_variants_of_the_hub(gpt2, prefix, head, buffers):
    model, folder = gpt2
    expected = theirs(model)
    tensors = {prefix + k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    if head:
        tensors["lm_head.weight"] = tensors[f"{prefix}wte.weight"].clone()
    for i in range(3 if buffers else 0):
        tensors[f"{prefix}h.{i}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
        tensors[f"{prefix}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder / "model.safetensors")
    torch.testing.assert_close(ours(compat.load(folder)), expected, **CLOSE)


def test_weights_as_a_pickle(gpt2):
    model, folder = gpt2
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # with lm_head.weight, which shares its memory
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(ours(compat.load(folder)), theirs(model), **CLOSE)


def test_an_untied_head(gpt2, edit, refused):
    _, folder = gpt2
    tensors = load_file(folder / "model.safetensors")
    head = torch.randn(61, 32, generator=torch.Generator().manual_seed(9))
    save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors")
    refused(folder, "lm_head.weight differs from wte.weight")
    edit(folder, tie_word_embeddings=False)
    loaded = compat.load(folder)
    with torch.no_grad():
        torch.testing.assert_close(ours(loaded), loaded.net.hidden(X) @ head.T, **CLOSE)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "missing output_layer.linear.weight")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx = True is not implemented"),
        ("activation_function", "relu", "activation_function = 'relu' is not implemented"),
        ("scale_attn_weights", False, "scale_attn_weights = False is not implemented"),
        ("layer_norm_epsilon", 1e-6, "layer_norm_epsilon = 1e-06 is not implemented"),
        ("add_cross_attention", True, "add_cross_attention = True is not implemented"),
        ("n_inner", 64, "n_inner = 64 is not implemented"),
        ("n_embd", ..., "lacks the key 'n_embd'"),
        ("n_layer", ..., "lacks the key 'n_layer'"),
        ("n_head", ..., "lacks the key 'n_head'"),
        ("n_positions", ..., "lacks the key 'n_positions'"),
        ("vocab_size", ..., "lacks the key 'vocab_size'"),
        ("n_head", 5, "does not split into 5 heads"),
        ("n_layer", 4, "missing blocks.3"),
        ("n_layer", 2, "unexpected blocks.2"),
        ("eos_token_id", 61, "bos_id 61 is not a token"),
        ("eos_token_id", None, "eos_token_id = None, which is not of type int"),
        ("eos_token_id", [], "eos_token_id = .., which is not of type int"),
        ("n_positions", 23, r"position_embed.embedding has shape \[24, 32\], expected \[23, 32\]"),
    ],
)
def test_configs_that_are_refused(gpt2, edit, refused, key, value, message):
    edit(gpt2[1], **{key: value})
    refused(gpt2[1], message)


@pytest.mark.parametrize("key, value", [("eos_token_id", [7, 60]), ("n_inner", 128)])
def test_configs_that_are_read(gpt2, edit, key, value):
    model, folder = gpt2
    edit(folder, **{key: value})
    loaded = compat.load(folder)
    assert loaded.bos_id == (7 if key == "eos_token_id" else 60)
    torch.testing.assert_close(ours(loaded), theirs(model), **CLOSE)


def test_defaults_that_a_config_leaves_out(gpt2, edit):
    model, folder = gpt2
    names = ("activation_function", "layer_norm_epsilon", "tie_word_embeddings", "resid_pdrop", "n_inner")
    edit(folder, **dict.fromkeys((*names, "scale_attn_weights", "reorder_and_upcast_attn"), ...))
    loaded = compat.load(folder)
    torch.testing.assert_close(ours(loaded), theirs(model), **CLOSE)
    assert loaded.net.config.dropout == 0.1


def test_weights_that_are_not_gpt2s(gpt2, refused):
    folder = gpt2[1]
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.attn.c_scale.weight"] = torch.ones(3)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "unexpected transformer.h.0.attn.c_scale.weight")


@pytest.mark.parametrize(
    "shape, count",
    [
        ({"n_embd": 768, "n_layer": 12, "n_head": 12}, 124_439_808),  # GPT-2 small, as published
        ({"n_embd": 1024, "n_layer": 24, "n_head": 16}, 354_823_168),
        ({"n_embd": 1600, "n_layer": 48, "n_head": 25}, 1_557_611_200),
    ],
)
def test_published_sizes(shape, count):
    with torch.device("meta"):
        net = Transformer(layout.network({"vocab_size": 50257, "n_positions": 1024} | shape, Path("gpt2")))
    assert net.num_parameters == count


def test_gpt2_has_its_tokenizer(tmp_path):
    config = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 4, "n_embd": 4, "n_layer": 0, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = {"wte.weight": (50257, 4), "wpe.weight": (4, 4), "ln_f.weight": (4,), "ln_f.bias": (4,)}
    save_file({k: torch.ones(shape) for k, shape in weights.items()}, tmp_path / "model.safetensors")
    model = compat.load(tmp_path)
    assert model.tokenizer is not None and model.tokenizer.encode("Hello world") == [15496, 995]
    assert model.bos_id == model.tokenizer.eos_id == 50256
