"""Every layout through one door: what it loads samples, fills and scores; what does not fit is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import unmask
from unmask import compat
from unmask.errors import CheckpointError, ConfigError
from unmask.text.tokenizers import gpt2, train_bpe

FAMILIES = ["mdlm", "bd3lm", "duo", "sdtt", "sdtt-from-hub", "gidd", "gidd-hybrid", "sedd", "sedd-uniform"]
NOISY = ["duo", "gidd-hybrid", "sedd-uniform"]
BODIES = [family for family in FAMILIES if not family.startswith("sedd")]  # behind a prefix, or with tables
each = pytest.mark.parametrize("family", FAMILIES)


@each
def test_it_samples_fills_and_scores(hub_folder, family):
    model = unmask.load(hub_folder(family))
    canvas = unmask.Canvas.template([3, 4], 5, [6, 7], 3, batch=2)
    made = unmask.sample(model, canvas, steps=12, seed=1)
    assert torch.equal(made.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
    assert int(made.tokens.max()) < model.process.vocab_size and made.nfe > 0
    again = unmask.sample(model, canvas, steps=12, seed=1)
    assert torch.equal(made.tokens, again.tokens)
    bound = unmask.evaluate.log_likelihood(model, made.tokens, times_per_row=2)
    assert 0 < bound.nats_per_token < 50 and not bound.exact
    assert bound.nats_per_token == pytest.approx(sum(bound.parts.values()))


@pytest.mark.parametrize("rule", ["first-hitting", "confidence", "threshold"])
@pytest.mark.parametrize("family", NOISY)
def test_noise_that_does_not_commit_has_no_orders(hub_folder, family, rule):
    model = unmask.load(hub_folder(family))
    with pytest.raises(
        ConfigError, match=rf"the rule {rule} needs noise that commits .*{type(model.process).__name__}"
    ):
        unmask.sample(model, unmask.Canvas.blank(8), rule=rule)


@each
def test_what_was_loaded_is_saved_and_comes_back(hub_folder, family, tmp_path):
    model = unmask.load(hub_folder(family))
    own = unmask.load(unmask.save(model, tmp_path / "own"))
    assert (own.process, own.parametrization, own.conditioning) == (
        model.process, model.parametrization, model.conditioning,
    )  # fmt: skip
    assert own.net.config == model.net.config and own.card == model.card
    x, t = torch.arange(24)[None], torch.tensor([0.4])
    assert torch.equal(own.log_score(x, t), model.log_score(x, t))


@each
def test_the_card_says_what_layout_it_was(hub_folder, family):
    card = unmask.load(hub_folder(family)).card
    named = {"sedd": "SEDD", "mdlm": "MDLM", "bd3lm": "BD3-LM", "duo": "Duo", "sdtt": "SDTT", "gidd": "GIDD"}
    assert card["layout"] == named[family.partition("-")[0]] and "20" in card["paper"]


@pytest.mark.parametrize("family", BODIES)
def test_missing_and_unexpected_keys_are_named(hub_folder, family, refused):
    folder = hub_folder(family)
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("blocks.1.mlp.0.bias"))
    weights["ema.shadow"] = weights.pop(gone)
    save_file(weights, folder / "model.safetensors")
    error = refused(folder, r"missing blocks\.1\.mlp\.0\.bias; unexpected ema\.shadow")
    assert "do not fit its config.json" in error.message


@pytest.mark.parametrize(
    "family, key",
    [
        ("mdlm", "hidden_dim"), ("bd3lm", "hidden_dim"), ("duo", "hidden_dim"), ("sdtt", "model__hidden_size"),
        ("gidd", "hidden_size"), ("mdlm", "vocab_size"), ("gidd", "vocab_size"),
    ],
)  # fmt: skip
def test_a_config_that_contradicts_the_tensors(hub_folder, edit, refused, family, key):
    folder = hub_folder(family)
    edit(folder, **{key: 32})
    if family == "gidd" and key == "hidden_size":  # the tables of rotary waves are looked at first
        refused(folder, r"cos_cached has shape \[1, 24, 3, 1, 16\], which does not fit its config.json")
    else:
        refused(folder, r"has shape \[\d+.*\], expected \[\d+")


@pytest.mark.parametrize("family", BODIES)
def test_a_config_that_lacks_a_key(hub_folder, edit, refused, family):
    folder = hub_folder(family)
    key = {"gidd": "num_hidden_layers", "sdtt": "model.n_blocks"}.get(family.partition("-")[0], "n_blocks")
    edit(folder, **{key.replace(".", "__"): ...})
    refused(folder, f"lacks the key '{key}'")


@pytest.mark.parametrize(
    "family, changes, message",
    [
        ("bd3lm", {"cross_attn": False}, "cross_attn = False is not implemented"),
        ("bd3lm", {"causal": True}, "causal = True is not implemented"),
        ("bd3lm", {"adaln": False}, "adaln = False is not implemented"),
        ("bd3lm", {"block_size": 0}, "block_size 0"),
        ("duo", {"causal": True}, "causal = True is not implemented"),
        ("mdlm", {"n_heads": 5}, "does not split into 5 heads"),
        ("mdlm", {"time_conditioning": "no"}, "not of type bool"),
        ("gidd", {"p_uniform": 1.0}, "p_uniform is 1.0"),
        ("gidd", {"t_eps": 0.7}, "eps is 0.7"),
        ("sdtt", {"noise": {"type": "cosine"}}, "noise.type is 'cosine'"),
    ],
)
def test_settings_that_are_not_there(hub_folder, edit, refused, family, changes, message):
    folder = hub_folder(family)
    edit(folder, **changes)
    refused(folder, message)


def test_a_setting_that_is_a_tensor(hub_folder, refused):
    folder = hub_folder("bd3lm")
    save_file(
        load_file(folder / "model.safetensors") | {"sampling_eps_min": torch.zeros(4)}, folder / "model.safetensors"
    )
    refused(folder, r"sampling_eps_min has shape \[4\], expected one number")


def test_other_rotary_waves(hub_folder, refused):
    folder = hub_folder("gidd")
    weights = load_file(folder / "model.safetensors")
    weights["rotary_emb.sin_cached"] = weights["rotary_emb.sin_cached"] * 0.9
    save_file(weights, folder / "model.safetensors")
    refused(folder, "sin_cached is not that of 10000")


def test_sdtt_without_an_embedding(hub_folder, refused):
    folder = hub_folder("sdtt")
    save_file({"teacher.x": torch.zeros(2)}, folder / "model.safetensors")
    refused(folder, r"no vocab_embed.embedding among its tensors, which begin with \['teacher.x'\]")


def test_sdtt_whose_body_does_not_listen_to_time(hub_folder):
    """A student built without adaLN: the same names without those layers."""
    folder = hub_folder("sdtt")
    weights = load_file(folder / "model.safetensors")
    deaf = {k: v for k, v in weights.items() if "adaLN" not in k and "sigma_map" not in k}
    save_file(deaf, folder / "model.safetensors")
    model = compat.load(folder)
    assert model.conditioning is None and model.net.config.cond_dim is None
    assert torch.isfinite(model.log_p0(torch.full((1, 24), 61), torch.ones(1))).all()


def test_the_tokenizer_is_known_by_its_size(tmp_path):
    from unmask.compat import dit

    assert dit.tokenizer(tmp_path, 50257, mask=True) is gpt2()
    padded = dit.tokenizer(tmp_path, 50258, mask=False)
    assert padded is not None and padded.vocab_size == 50258 and padded.eos_id == gpt2().eos_id
    assert padded.decode([464, 50257]) == "The" and padded.encode("a [PAD]") == gpt2().encode("a [PAD]")
    assert dit.tokenizer(tmp_path, 61, mask=True) is None


def test_a_tokenizer_of_a_wrong_size(hub_folder, refused, small_tokenizer):
    folder = hub_folder("mdlm")
    small_tokenizer.save(folder)
    refused(folder, r"tokenizer.json has 320 tokens, the model 61")


def test_a_tokenizer_that_goes_with_the_folder(hub_folder, tmp_path):
    from unmask.compat import dit

    own = train_bpe(["a small text, a small tokenizer"], 270)
    own.save(tmp_path)
    found = dit.tokenizer(tmp_path, own.vocab_size, mask=True)
    assert found is not None and found.fingerprint == own.fingerprint


@pytest.mark.parametrize("mask, fits", [(61, True), (60, False)])
def test_gidds_mask_is_the_last_state(hub_folder, mask, fits):
    folder = hub_folder("gidd")
    tokens = [{"id": mask - 1, "content": "[PAD]"}, {"id": mask, "content": "[MASK]"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    with pytest.raises(
        CheckpointError, match="is not a tokenizer" if fits else "the mask at 60, the model has 62 states"
    ):
        compat.load(folder)


def test_an_unknown_layout_lists_the_known_ones(tmp_path, refused):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dit", "hidden_size": 3}))
    error = refused(tmp_path, "it has model_type 'dit'")
    for name in ("unmask's own", "GPT-2", "MDLM", "BD3-LM", "Duo", "GIDD", "SDTT", "SEDD"):
        assert f"{name} (" in (error.hint or "")
