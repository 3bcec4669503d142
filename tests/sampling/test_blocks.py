"""Block by block: the cache is exact, the loop is the one there is, and a block sees what it was trained to see."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

import unmask
from unmask.errors import ConfigError
from unmask.evaluation.terms import before, loss_per_token
from unmask.model import Clean, DiffusionLM
from unmask.random import uniform
from unmask.sampling import RULES, Canvas, Denoising, Remasking, denoise, sample, with_corrector
from unmask.sampling.blocks import LATER, BlockDraws, Blocks, Context, open_blocks, shares
from unmask.sampling.draws import keyed

from .nets import autoregressive, diffusion, in_blocks

MASK = 7
RULE_OPTIONS = [("ancestral", 12), ("first-hitting", None), ("confidence", 9), ("threshold", None)]
CANVASES = {
    "blank": Canvas.blank(12, batch=2),
    "prompt": Canvas.prompt([1, 2, 3, 4, 5], 12, batch=2),
    "gaps": Canvas.template([1, 2], 3, [3, 4, 5], 2, [6], batch=2),
    "longer than the context": Canvas.prompt([0, 1], 31, batch=2),
    "a prompt longer than the context": Canvas.prompt([k % 7 for k in range(22)], 31, batch=2),
}


def tokens(length: int, batch: int = 2) -> Tensor:
    return torch.randint(7, (batch, length), generator=torch.Generator().manual_seed(4))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES.keys())
@pytest.mark.parametrize(("rule", "steps"), RULE_OPTIONS)
@pytest.mark.parametrize("block_size", [None, 2, 1])
def test_the_cache_changes_nothing(canvas: Canvas, rule: str, steps: int | None, block_size: int | None) -> None:
    """Token for token, frame for frame, against the training form that reads everything again at every move."""
    model = in_blocks()
    many = None if steps is None else steps * len(open_blocks(canvas, block_size or 4))
    cached = denoise(model, canvas, rule=rule, steps=many, block_size=block_size, seed=3)
    assert isinstance(cached, Blocks)
    plain = Blocks(cached.run, cached.rules, block_size or 4, Denoising, cached=False)
    pairs = list(itertools.zip_longest(cached, plain))
    assert all(
        torch.equal(a.tokens, b.tokens) and a.t == b.t and torch.equal(a.committed, b.committed) for a, b in pairs
    )
    last = pairs[-1][0]
    assert last.t == 0 and bool((last.tokens < MASK).all()) and len(pairs) > 3
    assert torch.equal(last.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
    assert cached.state is not None and plain.state is not None and cached.state.nfe > plain.state.nfe


@pytest.mark.parametrize("told", ["zero", "sigma"])
@pytest.mark.parametrize("length", [12, 10, 30])
def test_three_ways_to_read_a_block(told: str, length: int) -> None:
    """From the cache, beside the clean text, and behind it as it stands: the same, beyond the context of 12 too."""
    model = in_blocks(told=told)
    clean, t = tokens(length), torch.tensor([0.3, 0.8], dtype=torch.float64)
    noisy = torch.where(uniform(1, torch.arange(2)[:, None], torch.arange(length)) < 0.6, MASK, clean)
    beside = model.predict(noisy, t, Clean(clean)).logits()
    context = Context(model, Canvas.blank(length, batch=2), 4)
    for start in range(0, length, 4):
        part = noisy[:, start : start + 4]
        context.read(clean[:, :start])
        close(model.predict(part, t, context.cache).logits(), beside[:, start : start + 4])
        if told == "zero":  # the clean blocks would be told the time of the noisy one
            behind = model.predict(torch.cat([clean[:, :start], part], 1), t).logits()
            close(behind[:, start:], beside[:, start : start + 4])
    assert float((model.predict(noisy, t).logits() - beside).abs().max()) > 1e-3  # noise before a block is not clean


def test_a_block_sees_nothing_to_its_right_and_no_noise_to_its_left() -> None:
    model, clean, t = in_blocks(), tokens(12), torch.full((2,), 0.5)
    noisy = clean.clone()
    noisy[:, 4:8] = MASK
    seen = model.predict(noisy, t, Clean(clean)).logits()[:, 4:8]
    other, others = noisy.clone(), clean.clone()
    other[:, :4], other[:, 8:], others[:, 4:] = MASK, 3, 2
    close(model.predict(other, t, Clean(others)).logits()[:, 4:8], seen)
    others[:, 0] = (others[:, 0] + 1) % 7
    assert float((model.predict(other, t, Clean(others)).logits()[:, 4:8] - seen).abs().max()) > 1e-4


def test_one_block_of_the_whole_length_is_the_model_without_blocks() -> None:
    whole, plain = in_blocks(12), in_blocks(None)
    for rule, steps in RULE_OPTIONS:
        a, b = (sample(m, Canvas.blank(12, batch=3), rule=rule, steps=steps, seed=2) for m in (whole, plain))
        assert torch.equal(a.tokens, b.tokens)
        assert (a.nfe, a.steps, a.clipped_mass, a.rule, a.reads) == (b.nfe, b.steps, b.clipped_mass, b.rule, b.reads)


def test_a_row_does_not_depend_on_its_batch() -> None:
    model = in_blocks()
    together = sample(model, Canvas.prompt([1, 2, 3], 20, batch=3), steps=20, seed=5).tokens
    for row in range(3):
        alone = sample(model, Canvas.prompt([1, 2, 3], 20), steps=20, seed=5, first_sample=row).tokens
        assert torch.equal(alone[0], together[row])
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_a_block_draws_what_its_positions_have_in_the_whole_text() -> None:
    whole = keyed(2, torch.device("cpu"), seed=3, generator=None, mode="exact")
    block = BlockDraws.of(whole, 4)
    assert torch.equal(block.uniforms("token", 1, 4), whole.uniforms("token", 1, 12)[:, 4:8])
    assert not torch.equal(block.uniforms("hit", 0, 1), whole.uniforms("hit", 0, 1))
    assert (block.seed, block.stream) == (3, whole.stream)


def test_frames_go_forward_over_the_whole_canvas() -> None:
    canvas = CANVASES["gaps"]
    frames = list(denoise(in_blocks(), canvas, steps=9, seed=1))
    assert frames[0].t == 1 and frames[-1].t == 0 and frames[0].nfe == 0
    assert torch.equal(frames[0].committed, canvas.frozen) and bool(frames[-1].committed.all())
    for a, b in itertools.pairwise(frames):
        assert b.t < a.t and b.nfe >= a.nfe
        assert torch.equal(a.tokens[a.committed], b.tokens[a.committed]) and bool((b.committed | ~a.committed).all())
        assert torch.equal(b.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
    assert len(frames) == 1 + 9


def test_frames_say_what_else_the_network_thought_of() -> None:
    frames = list(denoise(in_blocks(), Canvas.blank(10), rule="first-hitting", seed=1, top=2))
    plain = list(denoise(in_blocks(), Canvas.blank(10), rule="first-hitting", seed=1))
    assert [f.tokens.tolist() for f in frames] == [f.tokens.tolist() for f in plain] and plain[1].top is None
    seen = torch.zeros(1, 10, dtype=torch.bool)
    for frame in frames:
        assert frame.top is not None and frame.top.at.shape == (1, 10) and not bool((seen & frame.top.at).any())
        seen |= frame.top.at
        assert len(frame.top.p) == int(frame.top.at.sum()) and bool((frame.top.p <= 1).all())
    assert bool(seen.all())


def test_a_run_goes_on_with_some_of_its_rows() -> None:
    for cached in (True, False):
        model, canvas = in_blocks(), Canvas.prompt([1, 2], 20, batch=4)
        running = denoise(model, canvas, rule="first-hitting", seed=6)
        assert isinstance(running, Blocks)
        some = Blocks(running.run, running.rules, 4, Denoising, cached=cached)
        for _ in range(7):
            next(some)
        some.keep(torch.tensor([0, 3]))
        *_, last = some
        whole = sample(model, canvas, rule="first-hitting", seed=6)
        assert torch.equal(last.tokens, whole.tokens[[0, 3]]) and some.state is not None
        if cached:
            assert some.state.row_nfe is not None and whole.row_nfe is not None
            assert some.state.row_nfe.tolist() == whole.row_nfe[[0, 3]].tolist() == [whole.nfe] * 2


def test_steps_are_shared_and_a_cache_costs_one_pass_a_block() -> None:
    model = in_blocks()
    out = sample(model, Canvas.blank(12), rule="confidence", steps=7, seed=0)
    assert out.steps == 7 and out.nfe == 7 + 2  # two finished blocks are read, the last one is not
    told: list[tuple[int, int]] = []
    sample(model, Canvas.prompt(list(range(7)), 12), steps=6, seed=0, progress=lambda *each: told.append(each))
    assert told[-1] == (6, 6) and [done for done, _ in told] == sorted(done for done, _ in told)
    assert shares(7, 3) == [3, 2, 2] and shares(None, 2) == [None, None]
    assert sample(model, Canvas.blank(12), rule="first-hitting", seed=0).steps == 12


def test_a_prompt_is_read_at_once() -> None:
    out = sample(in_blocks(length=64), Canvas.prompt([1] * 40, 44), rule="first-hitting", seed=0)
    assert out.nfe == 1 + 4


def test_given_tokens_to_the_right_are_said_not_to_be_seen() -> None:
    model = in_blocks()
    assert sample(model, CANVASES["gaps"], steps=9, seed=0).notices == (LATER,)
    for canvas in (CANVASES["prompt"], Canvas.template([1], 2, [2])):  # the right side is in the block itself
        assert sample(model, canvas, steps=4, seed=0).notices == ()


def test_all_given_and_corrected_and_raced() -> None:
    model = in_blocks()
    given = Canvas(tokens(12), torch.ones(2, 12, dtype=torch.bool))
    assert torch.equal(sample(model, given, steps=2, seed=0).tokens, given.tokens)
    rule = with_corrector(RULES["ancestral"](6), Remasking(0.3))
    frames = list(denoise(model, Canvas.blank(12), rule=rule, seed=0))
    assert not frames[2].committed.any() and bool((frames[-1].tokens < MASK).all())
    race = sample(model, Canvas.blank(12, batch=64), steps=12, seed=1, draws="float32-race").tokens
    assert len({tuple(block) for block in race[0].view(3, 4).tolist()}) > 1 and bool((race < MASK).all())
    loose = sample(model, Canvas.blank(12), steps=6, generator=torch.Generator().manual_seed(0))
    assert loose.seed is None and bool((loose.tokens < MASK).all())


def test_the_bound_is_the_sum_over_blocks_given_clean_ones() -> None:
    """All blocks in one pass, or each behind its clean prefix: the same loss."""
    model = in_blocks()
    x0, t = tokens(12), torch.tensor([0.4, 0.9], dtype=torch.float64)
    xt = model.process.corrupt(x0, t, generator=torch.Generator().manual_seed(0))
    loss = loss_per_token(model, x0, xt, t)
    for start in range(0, 12, 4):
        prefix = torch.cat([x0[:, :start], xt[:, start : start + 4]], 1)
        log_p0 = model.log_p0(prefix, t)[:, start:]
        part, masked = x0[:, start : start + 4], xt[:, start : start + 4] == MASK
        nll = -log_p0.gather(-1, part[..., None])[..., 0] / t[:, None]
        close(loss[:, start : start + 4], torch.where(masked, nll, 0.0))
    assert before(model, x0)["context"].x0 is x0 and before(in_blocks(None), x0) == {}


def test_blocks_of_one_token_have_an_exact_likelihood() -> None:
    """Then the bound's diffusion term is the chain rule's sum, whatever the time: mask everything, read once."""
    model, x0 = in_blocks(1), tokens(8)
    t = torch.ones(2, dtype=torch.float64)
    masked = torch.full_like(x0, MASK)
    nll = -model.log_p0(masked, t, context=Clean(x0)).gather(-1, x0[..., None])[..., 0]
    bound = unmask.evaluate.nelbo(model, x0, times_per_row=4096, estimator="mask-count", batch_size=2)
    assert bound.parts["diffusion"] == pytest.approx(0.999 * float(nll.mean()), rel=0.02)
    chain = [
        -model.log_p0(torch.cat([x0[:, :i], masked[:, :1]], 1), t)[:, i].gather(-1, x0[:, i, None]) for i in range(8)
    ]
    close(torch.cat(chain, 1), nll)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: denoise(diffusion("x0"), Canvas.blank(8), block_size=4), "block_size=4 with a model without blocks"),
        (lambda: sample(autoregressive(), Canvas.blank(8), block_size=4), "block_size= with an autoregressive model"),
        (lambda: denoise(in_blocks(), Canvas.blank(8), block_size=3), "block_size is 3, the model has blocks of 4"),
        (lambda: denoise(in_blocks(), Canvas.blank(8), block_size=8), "block_size is 8, the model has blocks of 4"),
        (lambda: denoise(in_blocks(), Canvas.blank(8), block_size=0), "block_size is 0, the model has blocks of 4"),
        (lambda: denoise(in_blocks(), Canvas.blank(12), steps=2), "2 steps for 3 blocks to write"),
        (lambda: denoise(in_blocks(), Canvas.blank(12), steps=0), "0 steps for 3 blocks to write"),
        (
            lambda: denoise(in_blocks(positions="learned"), Canvas.blank(16)),
            "a canvas of 16 positions, the model's context is 12",
        ),
        (
            lambda: diffusion("x0").predict(tokens(8), torch.ones(2), Clean(tokens(8))),
            "a context for a model without blocks",
        ),
        (lambda: in_blocks().predict(tokens(8), torch.ones(2), Clean(tokens(4))), "are not of one shape"),
        (
            lambda: in_blocks(positions="learned").predict(tokens(16), torch.ones(2), Clean(tokens(16))),
            "16 positions do not fit a context of 12",
        ),
    ],
)
def test_what_blocks_cannot_do_is_one_clear_error(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_learned_positions_within_the_context() -> None:
    model = in_blocks(positions="learned")
    out = sample(model, Canvas.blank(12, batch=2), steps=6, seed=1)
    running = denoise(model, Canvas.blank(12, batch=2), steps=6, seed=1)
    assert isinstance(running, Blocks)
    plain = Blocks(running.run, running.rules, 4, Denoising, cached=False)
    *_, last = plain
    assert torch.equal(last.tokens, out.tokens)


def test_block_length_is_an_alias(recwarn: pytest.WarningsRecorder) -> None:
    a, b = (
        sample(in_blocks(), Canvas.blank(8), steps=8, seed=0, **o) for o in ({"block_length": 2}, {"block_size": 2})
    )
    assert torch.equal(a.tokens, b.tokens) and a.notices == (
        "block_length= is block_size= here: of a model with blocks",
    )


def test_a_subclass_of_the_model_keeps_its_blocks() -> None:
    model = in_blocks()
    assert isinstance(model, DiffusionLM) and model.block_size == 4 and in_blocks(None).block_size is None
    assert dataclasses.replace(model.net.config, block_size=None).block_size is None
