"""`--quantize` and `--compile`: they reach the network, are said, and are part of what a file of samples is."""

import pytest
import torch

from unmask import compat
from unmask.nn.compiled import is_compiled
from unmask.nn.quantized import is_quantized

from .call import call


@pytest.fixture
def seen(monkeypatch):
    """The models that are loaded."""
    found, load = [], compat.load
    monkeypatch.setattr(compat, "load", lambda *a, **k: found.append(load(*a, **k)) or found[-1])
    return found


def given(models, kind="sedd"):
    steps = ["--steps", 4] if kind == "sedd" else []
    return ("sample", "--model", models / kind, "--seed", 3, "--length", 12, *steps)


@pytest.mark.parametrize("kind", ["sedd", "ar"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_int8_reaches_the_network_and_the_line(small_models, seen, kind, dtype):
    options = [*given(small_models, kind), "--dtype", dtype, "--json"]
    (line,), (plain,) = call(*options, "--quantize", "int8").lines(), call(*options).lines()
    assert is_quantized(seen[0].net) and not is_quantized(seen[1].net)
    assert seen[0].net.vocab_embed.embedding.dtype == getattr(torch, dtype)
    assert line["quantize"] == "int8" and line["dtype"] == plain["dtype"] == dtype
    assert "quantize" not in plain and "compile" not in plain and len(line["tokens"]) == 12


@pytest.mark.parametrize("words", [["sample"], ["fill", "a [MASK:3] b"]])
def test_compiling_is_said_on_stderr_and_text_stays_alone_on_stdout(small_models, seen, traced, words):
    options = ["--model", small_models / "sedd", "--steps", 4, "--seed", 1, "--dtype", "float64"]
    fast, plain = call(*words, *options, "--compile"), call(*words, *options)
    assert fast.code == 0 and fast.out == plain.out and is_compiled(seen[0].net)
    lines = [line for line in fast.err.splitlines() if line not in plain.err.splitlines()]
    assert lines[0].startswith("compiling the network for 1 row of ") and lines[1].startswith("compiled in ")
    assert len(lines) == 2 and traced.graphs == 1


def test_a_file_of_samples_is_not_gone_on_with_in_other_numbers(tmp_path, small_models, traced):
    options = (*given(small_models), "-n", 3, "--out")
    assert call(*options, tmp_path / "plain.jsonl").code == 0
    for more, words in ((["--quantize", "int8"], "'quantize': 'int8'"), (["--compile"], "'compile': True")):
        done = call(*options, tmp_path / "plain.jsonl", *more)
        assert done.code == 2 and "made with other settings" in done.err and words in done.err
        own = tmp_path / f"{more[0]}.jsonl"
        assert [call(*options, own, *more).code for _ in range(2)] == [0, 0]
        assert call(*options, own).code == 2


def test_a_run_s_folder_is_sampled_so_too(tmp_path, small_models, traced):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(small_models / "sedd")
    done = call(*given(small_models)[:2], tmp_path / "run", "--steps", 2, "--quantize", "int8", "--compile", "--json")
    (line,) = done.lines()
    assert line["quantize"] == "int8" and line["compile"] is True


@pytest.mark.parametrize("verb", [["sample"], ["fill", "a [MASK] b"], ["eval", "speed", "--size", "tiny"]])
def test_an_unknown_way_to_quantize(verb):
    done = call(*verb, "--quantize", "int4")
    assert done.code == 2 and "unknown way to quantize 'int4'" in done.err and "known: int8" in done.err


def test_speed_says_in_what_numbers(traced):
    options = ("eval", "speed", "--size", "tiny", "--steps", 2, "--tokens", 8, "--repeats", 1, "--json")
    (found,) = call(*options, "--quantize", "int8", "--compile", "--hf").lines()
    assert {row["name"]: row["dtype"] for row in found["latency"]} == {
        "SEDD, 2 steps": "float32, int8, compiled", "AR, key-value cache": "float32, int8, compiled",
        "Hugging Face generate": "float32",
    }  # fmt: skip
    (plain,) = call(*options, "--no-hf").lines()
    assert found["provenance"]["settings"]["arithmetic"] == "float32, int8, compiled"
    sizes = [{row["name"]: row["parameters"] for row in each["latency"]} for each in (found, plain)]
    assert sizes[1].items() <= sizes[0].items()


def test_hugging_face_reads_the_weights_of_a_quantized_network():
    from unmask.evaluation.sizes import build_pair, hugging_face

    plain, rounded = build_pair("tiny").ar, build_pair("tiny").ar.quantize("int8")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        exact, near = (hugging_face(each)(ids).logits for each in (plain, rounded))
    assert 1e-4 < float((near - exact).norm() / exact.norm()) < 0.02  # weights rounded, activations not
