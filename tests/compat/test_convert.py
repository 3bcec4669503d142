"""Any layout into our own: the same model, a card that says what it is, and the source untouched."""

from pathlib import Path

import pytest
import torch

import unmask
from cli.call import call
from unmask.compat import convert
from unmask.errors import ConfigError
from unmask.model import DiffusionLM
from unmask.model_card import model_card

FAMILIES = ["mdlm", "bd3lm", "duo", "sdtt-from-hub", "gidd", "gidd-hybrid", "sedd", "sedd-uniform"]
SAID = {
    "mdlm": ["MDLM", "absorbing", "log-linear, eps 0.001", "the clean token, p(x0 | xt)", "0, whatever the time"],
    "bd3lm": [
        "BD3-LM",
        "A block diffusion language model (blocks of 4 tokens)",
        "Arriola",
        "Apache-2.0",
        "Note: its training",
    ],
    "duo": ["Duo", "uniform: tokens turn into random tokens", "given the other positions", "the total noise", "| 62 |"],
    "sdtt-from-hub": ["SDTT", "Deschenaux", "absorbing"],
    "gidd": ["GIDD", "absorbing", "GIDD's, p_uniform 0, eps 0.0001", "the time"],
    "gidd-hybrid": ["hybrid: tokens turn into a mask or into random tokens (0.2 of them", "von Ruette"],
    "sedd": ["SEDD", "raw scores", "Lou et al. 2024", "MIT"],
    "sedd-uniform": ["Geometric, sigma_min 0.0001, sigma_max 20"],
}


def bits(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_converted_is_the_same_model(hub_folder, tmp_path, family):
    source = hub_folder(family)
    before = bits(source)
    convert(source, tmp_path / "own")
    assert bits(source) == before
    assert {p.name for p in (tmp_path / "own").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    theirs, ours = unmask.load(source), unmask.load(tmp_path / "own")
    assert isinstance(ours, DiffusionLM) and isinstance(theirs, DiffusionLM)
    x, t = torch.arange(24)[None], torch.tensor([0.6])
    assert torch.equal(ours.log_score(x, t), theirs.log_score(x, t))
    assert (ours.process, ours.parametrization, ours.block_size) == (
        theirs.process, theirs.parametrization, theirs.block_size,
    )  # fmt: skip
    card = (tmp_path / "own" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: unmask\n") and f"- Source: {source.name}" in card
    assert f"of {ours.net.num_parameters:,} parameters" in card and str(tmp_path) not in card
    assert "Licence of the weights: not known to this tool" in card
    for words in SAID[family]:
        assert words in card, words


def test_gpt2_and_our_own_are_converted_too(gpt2, tmp_path):
    convert(gpt2[1], tmp_path / "own")
    card = (tmp_path / "own" / "README.md").read_text()
    assert "An autoregressive language model" in card and "layout of GPT-2" in card and "- autoregressive" in card
    convert("ar-twin", tmp_path / "twin", dtype=torch.float16)
    card = (tmp_path / "twin" / "README.md").read_text()
    assert "converted from" not in card and "- Source: ar-twin" in card and "print(model.tokenizer" in card
    assert unmask.load(tmp_path / "twin").tokenizer is not None


def test_the_code_on_the_card_runs(hub_folder, tmp_path, monkeypatch):
    convert(hub_folder("mdlm"), tmp_path / "own")
    code = (tmp_path / "own" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    code = code.replace('"own"', repr(str(tmp_path / "own")))
    scope: dict = {}
    exec(code, scope)
    assert scope["made"].tokens.shape == (1, 24)


def test_a_card_names_the_licence_that_is_known():
    model = unmask.load("sedd-twin")
    model.card = {"licence": "CC0"}
    assert "- Licence of the weights: CC0" in model_card(model, "x")


def test_the_source_is_never_written_over(hub_folder, tmp_path):
    source = hub_folder("mdlm")
    before = bits(source)
    for dest in (source, source / ".." / source.name):
        with pytest.raises(ConfigError, match="is the source"):
            convert(source, dest, overwrite=True)
    (source / "inner").mkdir()
    with pytest.raises(ConfigError, match="is the source, or inside of it"):
        convert(source, source / "inner", overwrite=True)
    (source / "inner").rmdir()
    assert bits(source) == before


def test_a_folder_that_holds_something(hub_folder, tmp_path):
    source, dest = hub_folder("mdlm"), tmp_path / "own"
    convert(source, dest)
    with pytest.raises(ConfigError, match="is not empty"):
        convert(source, dest)
    convert(source, dest, overwrite=True, dtype=torch.bfloat16)
    assert "| weights | bfloat16 |" in (dest / "README.md").read_text()


def test_the_command_converts(hub_folder, tmp_path):
    source, dest = hub_folder("bd3lm"), tmp_path / "own"
    done = call("convert", source, dest)
    assert done.code == 0 and done.out == f"{dest}\n" and "BD3-LM, " in done.err and "as float32" in done.err
    again = call("convert", source, dest)
    assert again.code == 2 and "is not empty" in again.err and "Traceback" not in again.err
    (facts,) = call("convert", source, dest, "--force", "--dtype", "bfloat16", "--json").lines()
    assert facts["layout"] == "BD3-LM" and facts["dtype"] == "bfloat16" and facts["parameters"] > 100_000
    assert call("convert", source, tmp_path / "b", "--dtype", "int8").code == 2
    assert call("convert", source, tmp_path / "b", "--push", "nobody").code == 2 and not (tmp_path / "b").exists()
    assert call("convert", tmp_path / "nowhere", tmp_path / "b").code == 2


def test_the_command_pushes(hub_folder, tmp_path, monkeypatch):
    told = {}

    def push(model, repo_id, **options):
        told.update({"id": repo_id, **options})
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr("unmask.checkpoint.push_to_hub", push)
    done = call("convert", hub_folder("mdlm"), tmp_path / "own", "--push", "ann/small", "--private")
    assert done.out.splitlines() == [str(tmp_path / "own"), "https://huggingface.co/ann/small"]
    assert told == {"id": "ann/small", "private": True, "dtype": torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_info_shows_foreign_models(hub_folder, family):
    folder = hub_folder(family)
    done = call("info", folder)
    assert done.code == 0 and "layout" in done.out and "parametrization" in done.out and "paper" in done.out
    (facts,) = call("info", folder, "--json").lines()
    assert facts["card"]["layout"] in done.out and facts["parameters"] > 100_000
