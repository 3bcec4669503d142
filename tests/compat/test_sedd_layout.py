import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from unmask import compat
from unmask.compat import sedd as layout
from unmask.diffusion.schedules import Geometric
from unmask.nn.transformer import Transformer

WHERE = Path("somewhere")


def published(hidden: int, blocks: int, heads: int, tokens: int = 50257) -> dict:
    """config.json of louaaron/sedd-small and its like."""
    model = {"name": "small", "type": "ddit", "hidden_size": hidden, "cond_dim": 128, "length": 1024}
    return {
        "tokens": tokens,
        "graph": {"type": "absorb", "file": "data", "report_all": False},
        "noise": {"type": "loglinear", "sigma_min": 1e-4, "sigma_max": 20},
        "model": model | {"n_blocks": blocks, "n_heads": heads, "scale_by_sigma": True, "dropout": 0.1},
    }


@pytest.mark.parametrize(
    "hidden, blocks, heads, count",
    [(768, 12, 12, 169_627_218), (1024, 24, 16, 424_477_010), (2048, 24, 16, 1_452_834_130)],
)
def test_published_sizes(hidden, blocks, heads, count):
    with torch.device("meta"):
        net = Transformer(layout.network(published(hidden, blocks, heads), WHERE))
    assert net.vocab_embed.embedding.shape == (50258, hidden) and net.config.length == 1024
    assert net.num_parameters == count


def test_a_model_of_gpt2_tokens_has_their_tokenizer(tmp_path):
    config = published(8, 1, 2)
    config["model"]["length"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    net = Transformer(layout.network(config, WHERE))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    model = compat.load(tmp_path)
    assert model.tokenizer is not None and model.tokenizer.vocab_size == 50257
    assert model.process.mask_id == 50257 and model.tokenizer.eos_id == 50256


# what the training code leaves


@pytest.fixture
def training(sedd: Path, tmp_path: Path) -> Path:
    """A folder of SEDD's training code: Hydra's config, and a checkpoint whose averages are the golden weights."""
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints-meta").mkdir()
    weights = load_file(sedd / "model.safetensors")
    net = Transformer(layout.network(json.loads((sedd / "config.json").read_text()), WHERE))
    net.load_state_dict(weights)
    averages = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()  # so that the weights of the last step are others
    content = {
        "optimizer": optimizer.state_dict(),
        "model": net.state_dict(),
        "ema": {"decay": 0.9999, "num_updates": 400000, "shadow_params": averages},
        "step": 400000,
    }
    torch.save(content, run / "checkpoints-meta" / "checkpoint.pth")
    config = json.loads((sedd / "config.json").read_text())
    text = yaml.safe_dump(config).replace("sigma_min: 0.0001", "sigma_min: 1e-4")  # which YAML reads as a string
    (run / ".hydra" / "config.yaml").write_text(text)
    return run


def rewrite(run: Path, change) -> None:
    path = run / "checkpoints-meta" / "checkpoint.pth"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def same(a, b) -> bool:
    own, other = a.net.state_dict(), b.net.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


def test_a_training_folder_gives_its_averages(sedd, training):
    expected = compat.load(sedd)
    model = compat.load(training)
    assert same(model, expected)
    assert (model.process, model.parametrization) == (expected.process, expected.parametrization)
    assert same(compat.load(training / "checkpoints-meta" / "checkpoint.pth"), expected)


def test_a_lone_file_with_its_config_beside_it(sedd, training, tmp_path):
    folder = tmp_path / "loose"
    folder.mkdir()
    shutil.copy(training / "checkpoints-meta" / "checkpoint.pth", folder / "step.pth")
    shutil.copy(sedd / "config.json", folder)
    expected = compat.load(sedd)
    assert same(compat.load(folder), expected)
    assert same(compat.load(folder / "step.pth"), expected)


def test_numbers_that_yaml_reads_as_text(training):
    path = training / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("type: loglinear", "type: geometric"))
    assert compat.load(training).process.schedule == Geometric(1e-4, 20.0)


def test_an_old_pickle_is_read_too(sedd, training):
    path = training / "checkpoints-meta" / "checkpoint.pth"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    assert same(compat.load(training), compat.load(sedd))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("model"), "lacks 'model'"),
        (lambda c: c.pop("ema"), "lacks 'ema'"),
        (lambda c: c["ema"].pop("shadow_params"), r"has no averages .* for 30 parameters"),
        (lambda c: c["ema"]["shadow_params"].pop(), r"has 29 averages .* for 30 parameters"),
        (lambda c: c["ema"]["shadow_params"].reverse(), "the average for vocab_embed.embedding has shape"),
        (lambda c: c["ema"]["shadow_params"].__setitem__(3, 1.0), "does not hold named tensors"),
        (lambda c: c["model"].update(step=3), "does not hold named tensors"),
        (lambda c: c["model"].pop("blocks.1.norm1.weight"), "has 30 averages .* for 29 parameters"),
    ],
)
def test_training_checkpoints_that_are_not_whole(training, refused, change, message):
    rewrite(training, change)
    refused(training, message)


@pytest.mark.parametrize("keep", [0, 20, -100])
def test_a_training_checkpoint_that_is_cut_off(training, refused, keep):
    path = training / "checkpoints-meta" / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:keep])
    refused(training, r"checkpoint.pth cannot be read as weights \(\d+ bytes\)")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(training, refused, tmp_path):
    path = training / "checkpoints-meta" / "checkpoint.pth"
    torch.save({"model": Evil(tmp_path / "owned")}, path)
    refused(training, "is refused: besides tensors it holds (posix|nt).mkdir")
    assert not (tmp_path / "owned").exists()


def test_a_pickle_of_something_else(training, refused):
    torch.save([torch.ones(2)], training / "checkpoints-meta" / "checkpoint.pth")
    refused(training, "holds a list, not named tensors")


def test_a_file_without_a_config(training, refused, tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    shutil.copy(training / "checkpoints-meta" / "checkpoint.pth", folder / "x.pth")
    refused(folder / "x.pth", "no config for")


def test_several_files_leave_open_which(sedd, refused):
    (sedd / "model.safetensors").unlink()
    refused(sedd, "no weights in")
    for name in ("a.pth", "b.pth"):
        (sedd / name).write_bytes(b"")
    refused(sedd, "2 .pth files in")


def test_yaml_that_is_not_yaml(training, refused):
    (training / ".hydra" / "config.yaml").write_text("a: [1")
    refused(training, "config.yaml is not YAML")
    (training / ".hydra" / "config.yaml").write_text("- 1")
    refused(training, "holds a list, not an object")


def test_without_pyyaml_the_way_out_is_said(training, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "config.json" in (refused(training, "needs PyYAML").hint or "")


# the published layout, in its variants and damaged


def test_weights_as_a_pickle(sedd):
    expected = compat.load(sedd)
    torch.save(load_file(sedd / "model.safetensors"), sedd / "pytorch_model.bin")
    (sedd / "model.safetensors").unlink()
    assert same(compat.load(sedd), expected)


def test_weights_in_shards(sedd, refused):
    expected, tensors = compat.load(sedd), load_file(sedd / "model.safetensors")
    (sedd / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: files[i % 2] for i, name in enumerate(tensors)}
    for file in files:
        save_file({k: v for k, v in tensors.items() if where[k] == file}, sedd / file)
    index = sedd / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert same(compat.load(sedd), expected)
    (sedd / files[1]).unlink()
    refused(sedd, f"no {files[1]} in")
    index.write_text(json.dumps({"weight_map": {"x": "../sedd/" + files[0]}}))
    refused(sedd, "names files outside")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_keep_exact_positions(sedd, dtype):
    expected, tensors = compat.load(sedd), load_file(sedd / "model.safetensors")
    save_file({k: v.to(dtype) for k, v in tensors.items()}, sedd / "model.safetensors")
    net = compat.load(sedd).net
    assert torch.equal(net.rotary_emb.inv_freq, expected.net.rotary_emb.inv_freq)
    assert torch.equal(net.vocab_embed.embedding, expected.net.vocab_embed.embedding.to(dtype).float())


def test_positions_may_be_absent_but_not_other(sedd, refused):
    expected, tensors = compat.load(sedd), load_file(sedd / "model.safetensors")
    own = tensors.pop("rotary_emb.inv_freq")
    save_file(tensors, sedd / "model.safetensors")
    assert same(compat.load(sedd), expected)
    for other, message in ((own * 1.001, r"is not 10000"), (own[:-1].clone(), r"shape \[7\], expected \[8\]")):
        save_file(tensors | {"rotary_emb.inv_freq": other}, sedd / "model.safetensors")
        refused(sedd, message)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("tokens", ..., "lacks the key 'tokens'"),
        ("noise", ..., "lacks the key 'noise.type'"),
        ("graph", ..., "lacks the key 'graph.type'"),
        ("model", ..., "lacks the key 'model.scale_by_sigma'"),
        ("model__hidden_size", ..., "lacks the key 'model.hidden_size'"),
        ("model__n_blocks", ..., "lacks the key 'model.n_blocks'"),
        ("model__length", ..., "lacks the key 'model.length'"),
        ("model__cond_dim", ..., "lacks the key 'model.cond_dim'"),
        ("model__dropout", "much", "model.dropout = 'much', which is not of type float"),
        ("tokens", "61", "tokens = '61', which is not of type int"),
        ("tokens", True, "tokens = True, which is not of type int"),
        ("tokens", 1, "vocab_size is 1"),
        ("tokens", 60, r"output_layer.linear.bias has shape \[62\], expected \[61\]"),
        ("graph__type", "hybrid", "graph.type is 'hybrid'"),
        ("noise__type", "cosine", "noise.type is 'cosine'"),
        ("model__type", "unet", "model.type is 'unet'"),
        ("model__n_heads", 5, "does not split into 5 heads"),
        ("model__n_blocks", 3, "missing blocks.2"),
        ("model__n_blocks", 1, "unexpected blocks.1"),
        ("graph__type", "uniform", "scale_by_sigma goes with graph.type absorb only"),
        ("model__scale_by_sigma", 1, "model.scale_by_sigma = 1, which is not of type bool"),
    ],
)
def test_configs_that_are_not_sedds(sedd, edit, refused, key, value, message):
    edit(sedd, **{key: value})
    refused(sedd, message)


def test_weights_that_do_not_fit(sedd, refused):
    tensors = load_file(sedd / "model.safetensors")
    save_file(tensors | {"more": torch.ones(1)}, sedd / "model.safetensors")
    refused(sedd, "unexpected more")
    tensors.pop("sigma_map.mlp.0.bias")
    save_file(tensors, sedd / "model.safetensors")
    refused(sedd, "missing sigma_map.mlp.0.bias")
    (sedd / "model.safetensors").write_bytes((sedd / "model.safetensors").read_bytes()[:-7])
    refused(sedd, "is not a whole safetensors file")
