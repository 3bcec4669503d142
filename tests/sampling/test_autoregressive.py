"""Sampling from left to right: the cache changes nothing, and the law is the network's own."""

import itertools

import pytest
import torch

from unmask.errors import ConfigError
from unmask.nn.cache import StaticCache
from unmask.nn.static import StaticStep
from unmask.sampling import Canvas, generate, sample
from unmask.sampling import autoregressive as engine
from unmask.sampling.autoregressive import cache_for

from .bayes import assert_counts
from .nets import autoregressive, diffusion

MODEL = autoregressive()
GPT2 = {"positions": "learned", "bias": True, "tied": True}
RAGGED = Canvas(
    torch.tensor([[1, 0, 0, 0, 0], [4, 3, 2, 0, 0]]), torch.tensor([[True] + 4 * [False], 3 * [True] + 2 * [False]])
)


@pytest.mark.parametrize("options", [{}, GPT2], ids=["rotary", "gpt2"])
@pytest.mark.parametrize(
    "canvas", [Canvas.blank(12, batch=5), Canvas.prompt([1, 2, 3], 9, batch=5)], ids=["blank", "prompt"]
)
def test_cached_and_uncached_give_the_same_tokens(options: dict[str, object], canvas: Canvas) -> None:
    model = autoregressive(**options)
    cached, plain = (generate(model, canvas, seed=3, use_cache=c, temperature=0.8, top_p=0.95) for c in (True, False))
    assert torch.equal(cached.tokens, plain.tokens)
    assert cached.nfe == plain.nfe == int((~canvas.frozen[0]).sum())
    assert torch.equal(canvas.clamp(cached.tokens), cached.tokens)
    assert len(cached.tokens.unique(dim=0)) > 1


def test_the_law_is_the_networks_own() -> None:
    """Counts of texts of 2 tokens against the probabilities that `nll` gives them."""
    texts = torch.tensor(list(itertools.product(range(7), repeat=2)))
    law = (-MODEL.nll(texts).sum(1)).double().exp()
    assert float(law.sum()) == pytest.approx(1, abs=1e-5)
    for draws in ("exact", "float32-race"):
        out = generate(MODEL, Canvas.blank(2, batch=20_000), seed=0, draws=draws)
        index = out.tokens[:, 0] * 7 + out.tokens[:, 1]
        assert_counts(torch.bincount(index, minlength=49)[None], law[None] / law.sum())


def test_greedy_is_the_argmax_given_bos_and_the_prompt() -> None:
    out = generate(MODEL, [1, 2], length=6, temperature=0).tokens[0]
    for i in range(2, 6):
        trials = torch.cat([out[:i].expand(7, -1), torch.arange(7)[:, None]], 1)
        assert int(MODEL.nll(trials)[:, -1].argmin()) == int(out[i])


def test_the_whole_context_can_be_written() -> None:
    """bos takes a place of the input but not of the output: as many tokens as the context is long."""
    assert generate(MODEL, Canvas.blank(MODEL.length), seed=0).tokens.shape == (1, 12)
    with pytest.raises(ConfigError, match="canvas of 13 positions, the model's context is 12"):
        generate(MODEL, Canvas.blank(13))


def test_a_sample_does_not_depend_on_the_batch_it_is_in() -> None:
    whole = generate(MODEL, torch.tensor([[1], [2], [3]]), length=12, seed=5)
    for i in range(3):
        one = generate(MODEL, [i + 1], length=12, seed=5, first_sample=i)
        assert torch.equal(one.tokens[0], whole.tokens[i])


def test_more_rows_than_are_drawn_at_a_time() -> None:
    many = generate(MODEL, Canvas.blank(6, batch=2 * engine.ROWS_A_DRAW + 3), seed=5, top_k=5)
    for i in (0, engine.ROWS_A_DRAW, 2 * engine.ROWS_A_DRAW + 2):
        one = generate(MODEL, Canvas.blank(6), seed=5, first_sample=i, top_k=5)
        assert torch.equal(one.tokens[0], many.tokens[i])


@pytest.mark.parametrize("options", [{}, GPT2], ids=["rotary", "gpt2"])
@pytest.mark.parametrize(
    "canvas",
    [Canvas.blank(12, batch=5), Canvas.prompt([1, 2, 3], 9, batch=2), RAGGED],
    ids=["blank", "prompt", "ragged"],
)
def test_compiled_and_plain_give_the_same_tokens(options: dict[str, object], canvas: Canvas) -> None:
    """In float32 logits differ in their last bits, which tips none of these draws."""
    model = autoregressive(**options)
    for law in ({}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0}):
        fast, plain = (generate(model, canvas, seed=3, compile=c, **law) for c in (True, False))
        assert torch.equal(fast.tokens, plain.tokens) and fast.nfe == plain.nfe


def test_compiled_rows_in_bfloat16_do_not_depend_on_their_batch() -> None:
    model = autoregressive(**GPT2).to(dtype=torch.bfloat16)
    many = generate(model, Canvas.blank(12, batch=19), seed=8, compile=True)
    for i in (0, 7, 18):
        one = generate(model, Canvas.blank(12), seed=8, first_sample=i, compile=True)
        assert torch.equal(one.tokens[0], many.tokens[i])


def test_compiled_texts_end_at_eos_too() -> None:
    model = autoregressive()
    model.tokenizer = type("Seven", (), {"eos_id": 6})()
    fast, plain = (
        generate(model, Canvas.prompt([6, 1], 12, batch=6), seed=2, stop_at_eos=True, compile=c) for c in (True, False)
    )
    assert torch.equal(fast.tokens, plain.tokens) and (fast.tokens[:, 2:] == 6).any()


@pytest.mark.parametrize("options", [{}, GPT2], ids=["rotary", "gpt2"])
@pytest.mark.parametrize("canvas", [Canvas.blank(12, batch=5), RAGGED], ids=["blank", "ragged"])
def test_steps_of_unchanging_shapes_give_the_same_tokens(
    options: dict[str, object], canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph records, run as it is, in float64."""
    model = autoregressive(**options).to(dtype=torch.float64)

    def static(*given: object) -> StaticCache:
        cache = StaticCache.like(model.net.cache(canvas.batch, canvas.length))
        cache.engine = StaticStep(model.net, cache)
        return cache

    monkeypatch.setattr(engine, "compiled_cache", static)
    still, plain = (generate(model, canvas, seed=4, compile=c) for c in (True, False))
    assert torch.equal(still.tokens, plain.tokens)


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(ConfigError, match="compile=True without the cache"):
        generate(MODEL, Canvas.blank(5), compile=True, use_cache=False)
    with pytest.raises(ConfigError, match="cannot be compiled for decoding: its weights are not plain ones"):
        generate(autoregressive().to(dtype=torch.float64), Canvas.blank(5), compile=True)


def test_rows_may_have_prompts_of_different_lengths() -> None:
    frozen = torch.tensor([[True, False, False, False], [True, True, True, False]])
    canvas = Canvas(torch.tensor([[1, 0, 0, 0], [4, 3, 2, 0]]), frozen)
    out = generate(MODEL, canvas, seed=1)
    assert torch.equal(out.tokens[frozen], canvas.tokens[frozen]) and out.nfe == 3
    alone = generate(MODEL, Canvas.prompt([4, 3, 2], 4), seed=1, first_sample=1)
    assert torch.equal(alone.tokens[0], out.tokens[1])


def test_sample_dispatches_and_names_what_it_did() -> None:
    out = sample(MODEL, Canvas.blank(5, batch=2), seed=4, temperature=0.9)
    assert torch.equal(out.tokens, generate(MODEL, Canvas.blank(5, batch=2), seed=4, temperature=0.9).tokens)
    assert (out.rule, out.reads, out.steps, out.seed) == ("autoregressive", "next", 5, 4)
    assert sample(diffusion(), Canvas.blank(5), steps=2, seed=4).reads == "score"
    with pytest.raises(ConfigError, match="steps= with an autoregressive model"):
        sample(MODEL, Canvas.blank(5), steps=4)


def test_stop_at_eos_fills_with_eos_and_stops() -> None:
    tokenizer = type("Seven", (), {"eos_id": 6})()
    model = autoregressive()
    model.tokenizer = tokenizer
    canvas = Canvas.prompt([6, 1], 12, batch=6)
    free, stopped = (generate(model, canvas, seed=2, stop_at_eos=stop) for stop in (False, True))
    ends = 0
    for a, b in zip(free.tokens.tolist(), stopped.tokens.tolist(), strict=True):
        end = a.index(6, 2) if 6 in a[2:] else 11
        ends += end < 11
        assert b == a[: end + 1] + [6] * (11 - end)
    assert ends > 1
    frozen = torch.tensor(
        [[True, False, False, False], [True, True, True, False]]
    )  # neither an eos that is given, nor one
    ragged = Canvas(torch.tensor([[1, 0, 0, 0], [1, 6, 2, 0]]), frozen)
    for seed in range(30):  # that was drawn where a token is given, ends anything
        a, b = (int(generate(model, ragged, seed=seed, stop_at_eos=stop).tokens[1, 3]) for stop in (False, True))
        assert a == b
    one = generate(model, Canvas.prompt([1], 12), seed=2, stop_at_eos=True, temperature=0)
    assert one.nfe == 11 or one.tokens[0, one.nfe :].tolist() == [6] * (12 - one.nfe)
    with pytest.raises(ConfigError, match="stop_at_eos needs a tokenizer"):
        generate(MODEL, canvas, stop_at_eos=True)


def test_gaps_before_given_tokens_are_refused() -> None:
    for canvas in (Canvas.template([1], 2, [3]), Canvas.template(2, [3], 1)):
        with pytest.raises(ConfigError, match="only writes to the right"):
            generate(MODEL, canvas)
    with pytest.raises(ConfigError, match="only writes to the right"):
        sample(MODEL, Canvas.template(1, [3]))
    with pytest.raises(ConfigError, match="a prompt without a length"):
        generate(MODEL, [1, 2])
    with pytest.raises(ConfigError, match="length 4 with a canvas of 5"):
        generate(MODEL, Canvas.blank(5), length=4)


def test_a_compiled_model_takes_the_fast_cache_where_its_network_has_one() -> None:
    model = autoregressive()
    assert cache_for(model, 1, 8).engine is None and cache_for(model, 1, 8, compile=True).engine is not None
    plain = sample(model, Canvas.prompt([1, 2], 12), seed=3, temperature=0).tokens
    assert cache_for(model.compile(), 1, 8).engine is not None
    assert torch.equal(sample(model, Canvas.prompt([1, 2], 12), seed=3, temperature=0).tokens, plain)
    assert cache_for(autoregressive().quantize("int8").compile(), 1, 8).engine is None  # its weights are rounded
