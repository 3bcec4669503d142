"""Compiling: what goes through it, how often, what is said, and what happens where it cannot be done.

The fast tests trace with torch's own front and run what it found as it is, without a C++ compiler; the slow ones build.
"""

import copy
import functools

import pytest
import torch

import unmask
from sampling.nets import autoregressive, diffusion
from unmask.errors import ConfigError
from unmask.nn.compiled import is_compiled
from unmask.sampling.batching import many

BLANK = unmask.Canvas.blank(12)


def both(model):
    """The model, and a compiled copy with what it said."""
    said = []
    return model, copy.deepcopy(model).compile(said.append), said


@pytest.mark.parametrize("make", [diffusion, lambda: diffusion("x0"), lambda: diffusion(uniform=True)])
def test_compiled_samples_in_float64_are_the_plain_ones_and_steps_compile_nothing(traced, make):
    plain, fast, said = both(make().to(dtype=torch.float64))
    assert is_compiled(fast.net) and not is_compiled(plain.net) and traced.graphs == 0 and said == []
    options = {"steps": 9, "seed": 2, "rule": "ancestral" if plain.process.commits else None}
    for batch in (5, 4, 1):  # and fewer rows as they are done
        a, b = (unmask.sample(model, many(BLANK, batch), **options) for model in (plain, fast))
        assert torch.equal(a.tokens, b.tokens) and a.nfe == b.nfe > 3
    assert traced.graphs == 2  # one row, and more than one
    begun = [words for words in said if words.startswith("compiling the network for ")]
    assert sorted(begun) == [
        f"compiling the network for {rows} of 12 tokens, once" for rows in ("1 row", "any number of rows")
    ]
    assert sum(words.startswith("compiled in ") for words in said) == 2


def test_rows_at_their_own_times_are_one_more_shape(traced):
    plain, fast, _ = both(diffusion("x0").to(dtype=torch.float64))
    a, b = (unmask.sample(model, many(BLANK, 4), rule="confidence", steps=5, seed=2) for model in (plain, fast))
    assert torch.equal(a.tokens, b.tokens) and traced.graphs <= 3
    t = torch.rand(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.arange(36).view(3, 12) % 8
    torch.testing.assert_close(fast.predict(x, t).log_p0(), plain.predict(x, t).log_p0(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "int8"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_compiled_network_says_what_the_plain_one_says(traced, dtype, int8):
    model = diffusion().to(dtype=dtype)
    plain, fast, _ = both(model.quantize("int8") if int8 else model)
    x, t = torch.arange(24).view(2, 12) % 8, torch.tensor([0.3, 0.8])
    torch.testing.assert_close(fast.log_score(x, t), plain.log_score(x, t))
    assert traced.graphs == 1


def test_training_gradients_and_caches_go_the_plain_way(traced):
    plain, fast, said = both(autoregressive().to(dtype=torch.float64))
    x = torch.arange(10).view(2, 5) % 7
    fast.net(x).sum().backward()
    assert fast.net.blocks[0].attn_qkv.weight.grad is not None
    a, b = (unmask.sample(model, many(BLANK, 2), seed=1).tokens for model in (plain, fast))
    assert torch.equal(a, b) and traced.graphs == 0 and said == []
    torch.testing.assert_close(fast.nll(x), plain.nll(x), rtol=1e-12, atol=1e-12)
    assert traced.graphs == 1


def test_shapes_beyond_what_torch_keeps_run_as_they_are(traced):
    plain, fast, said = both(diffusion().to(dtype=torch.float64))
    t = torch.tensor([0.5])
    for length in (3, 4, 5, 6, 3):
        x = torch.arange(length)[None] % 8
        with torch._dynamo.config.patch(recompile_limit=2):
            found = fast.log_score(x, t)
        torch.testing.assert_close(found, plain.log_score(x, t), rtol=1e-12, atol=1e-12)
    assert traced.graphs == 2 and said[-1] == "torch.compile keeps no more shapes: this one runs as it is"
    assert [words.split()[1] for words in said if words.startswith("compil")] == ["the", "in", "the", "in", "the"]


def test_where_nothing_can_be_compiled_one_error_says_what_is_missing(monkeypatch):
    torch._dynamo.reset()

    def broken(graph, inputs):
        raise RuntimeError("No working C++ compiler found in (None, 'g++')\nand more")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    model = diffusion().compile()
    with pytest.raises(ConfigError, match="could not be compiled: No working C") as error:
        unmask.sample(model, BLANK, steps=2, seed=0)
    assert "apt-get install g++" in str(error.value.hint) and "\n" not in error.value.message
    with pytest.raises(ConfigError, match="compiling on meta"):
        diffusion().to(device="meta").compile()


def test_a_profile_times_a_compiled_body_too(traced):
    from unmask.sampling.profile import profiled

    _, fast, _ = both(diffusion())
    with profiled(fast) as found:
        unmask.sample(fast, BLANK, steps=3, seed=0)
    assert found.evaluations > 0 and found.seconds["body"] > 0 and traced.graphs == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads its compiler
@pytest.mark.parametrize("int8", [False, True])
def test_built_by_inductor_float64_samples_are_the_plain_ones(int8, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    model = diffusion().to(dtype=torch.float64)
    plain, fast, said = both(model.quantize("int8") if int8 else model)
    a, b = (unmask.sample(each, many(BLANK, 3), steps=8, seed=4).tokens for each in (plain, fast))
    assert torch.equal(a, b) and any(words.startswith("compiled in") for words in said)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads its compiler
def test_without_a_compiler_inductor_s_error_is_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nowhere/g++"))
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match=r"could not be compiled: .*C\+\+ compiler"):
        unmask.sample(diffusion().compile(), BLANK, steps=2, seed=0)
