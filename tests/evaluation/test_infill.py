"""Lengths are chosen by the bound of the whole text, and what was given comes out byte for byte."""

import dataclasses
import math

import pytest
import torch

import unmask
from sampling.nets import autoregressive, diffusion, in_blocks, net
from unmask.diffusion import Gidd, Hybrid, LeaveOneOut
from unmask.errors import ConfigError, DataError
from unmask.evaluation import infill as module
from unmask.evaluation.infill import APPROXIMATE, Search, decide, infill, infills, length_prior, plan
from unmask.model import DiffusionLM
from unmask.sampling import Canvas, Sample
from unmask.sampling.blocks import LATER
from unmask.sampling.template import Template

from .counting import Counting, Digits

QUICK = Search(repeats=4, times_per_row=4)


@pytest.fixture(scope="module")
def model(small_models):
    return unmask.load(str(small_models / "sedd"), dtype=torch.float64)


def written(monkeypatch, ids):
    """Every gap is filled with ids, again and again, by a stand-in for `sample`."""

    def stand_in(model, canvas: Canvas, **options):
        tokens, place = canvas.tokens.clone(), 0
        for row in range(canvas.batch):
            for at in (~canvas.frozen[row]).nonzero()[:, 0].tolist():
                tokens[row, at], place = ids[place % len(ids)], place + 1
        return Sample(tokens, 1, 1, 0.0, 0.0, "ancestral", "p0", "exact", options["seed"])

    monkeypatch.setattr(module, "sample", stand_in)


@pytest.mark.parametrize(
    ("text", "lengths", "filled"),
    [
        ("0123[MASK:1-6]89", (4,), "0123456789"),
        ("67[MASK:1-9]23456", (4,), "67890123456"),
        ("[MASK:2]34[MASK:1-4]901[MASK:1-2]4", (2, 4, 2), "12345678901234"),
    ],
)
def test_the_length_that_makes_the_text_likely_is_chosen(text, lengths, filled):
    found = infill(Counting(), text, seed=0, search=QUICK)
    assert found.lengths == lengths and found.text == filled
    best = min(found.candidates, key=lambda each: each.score)
    assert best.behind == 0 and found.candidates[found.chosen].tied


def test_with_the_exact_posterior_the_bounds_are_the_likelihoods_of_the_texts():
    world = Counting()
    found = infill(world, "0123[MASK:1-6]89", seed=3, search=Search(repeats=30, times_per_row=8))
    for each in found.candidates:
        exact = world.nll(Digits(11).encode(each.text)) / each.tokens
        assert abs(each.bound - exact) < 4.5 * each.stderr + 1e-4, each
        assert each.stderr < 0.1 and each.tokens == 6 + each.lengths[0] == len(each.text)
    assert max(each.bound for each in found.candidates) - found.candidates[found.chosen].bound > 0.3


def test_ties_within_the_error_go_to_the_shorter_text():
    same = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).double()
    noise = torch.tensor([[0.3, -0.1, 0.2, -0.3]]).double()  # mean 0.025, standard error 0.138
    values = torch.cat([same + 1, same + noise + 0.1, same])
    chosen, behind, error = decide(values, [4, 5, 6])
    assert chosen == 1 and behind.tolist() == pytest.approx([1, 0.125, 0])
    assert (
        error[1] == pytest.approx(float(noise.std()) / 2) and error[0] == error[2] == 0
    )  # pairs: no spread of their own
    assert decide(values[[0, 1, 2]], [4, 7, 6])[0] == 2  # the longer one is not taken
    assert decide(torch.cat([same + noise + 0.3, same]), [4, 6])[0] == 1  # beyond the error: the best
    assert decide(torch.cat([same, same]), [5, 5])[0] == 0


def test_the_prior_of_the_lengths_is_paid_in_nats_per_token():
    flat = infill(Counting(), "01[MASK:1-4]", seed=0, search=QUICK)
    short = infill(Counting(), "01[MASK:1-4]", seed=0, search=dataclasses.replace(QUICK, prior="geometric:1.001"))
    assert [each.prior for each in flat.candidates] == [0] * 4 and short.lengths == (1,)
    for n, (a, b) in enumerate(zip(flat.candidates, short.candidates, strict=True)):
        assert (a.text, a.bound, a.score) == (b.text, b.bound, a.bound)
        assert b.prior == pytest.approx(-n * math.log(1 - 1 / 1.001)) and b.score == pytest.approx(
            b.bound + b.prior / b.tokens
        )
    mean = sum(n * math.exp(length_prior("geometric:5")(n)) for n in range(1, 500))
    assert mean / sum(math.exp(length_prior("geometric:5")(n)) for n in range(1, 500)) == pytest.approx(5)


@pytest.mark.parametrize(
    "prior", ["flat:2", "geometric", "geometric:1", "geometric:x", "geometric:inf", "poisson:3", ""]
)
def test_priors_that_are_none(prior):
    with pytest.raises(ConfigError, match="length prior"):
        Search(prior=prior)


NASTY = {
    "👩‍👩‍👧[MASK:2]👧": ("👩‍👩‍👧", "👧"),
    "é[MASK]é\u0301[MASK]": ("é", "é\u0301", ""),
    "a [MASK:2] b ": ("a ", " b "),
    " [MASK] ": (" ", " "),
    "a  [MASK]\n\n  b": ("a  ", "\n\n  b"),
    "x\r\n[MASK:2]\r\ny\r": ("x\r\n", "\r\ny\r"),
    "<|endoftext|>[MASK]": ("<|endoftext|>", ""),
    "\\[MASK:3] [MASK] \\[MASK]": ("[MASK:3] ", " [MASK]"),
    "\x00[MASK]\x00": ("\x00", "\x00"),
    "\ufeff[MASK]\u2028[MASK]\x85\ufffd": ("\ufeff", "\u2028", "\x85\ufffd"),
    "[MASK:3]": ("", ""),
}


@pytest.mark.parametrize(("text", "given"), NASTY.items())
def test_given_text_comes_out_byte_for_byte(model, text, given):
    template, tokenizer = Template.parse(text), model.tokenizer
    for made in infills(model, text, 3, seed=5, steps=4):
        assert made.given == given
        pieces = [x for pair in zip(made.given, [*(gap.text for gap in made.gaps), ""], strict=True) for x in pair]
        assert made.text.encode() == b"".join(piece.encode() for piece in pieces)
        assert made.text.startswith(given[0]) and made.text.endswith(given[-1])
        at = 0
        for piece, gap in zip(template.ids(tokenizer), [*made.gaps, None], strict=True):
            assert list(made.tokens[at : at + len(piece)]) == piece and tokenizer.eos_id not in piece
            at += len(piece)
            if gap is not None:
                assert made.tokens[at : at + len(gap.tokens)] == gap.tokens
                at += len(gap.tokens)
        assert at == len(made.tokens) and made.candidates[0].bound is None and not made.approximate


def test_the_space_before_a_gap_stands_once(model, monkeypatch):
    ids = model.tokenizer.encode
    for word, expected in ((" the", "a the b"), ("the", "a the b"), ("  the", "a  the b")):
        written(monkeypatch, ids(word))
        assert infill(model, f"a [MASK:{len(ids(word))}] b", seed=0).text == expected
    written(monkeypatch, ids(" the"))
    assert infill(model, f"a[MASK:{len(ids(' the'))}] b", seed=0).text == "a the b"


def test_half_a_character_is_replaced_and_said(model, monkeypatch):
    whole = model.tokenizer.encode("👧")
    assert len(whole) > 1
    written(monkeypatch, whole[:1])
    made = infill(model, "👩[MASK]👧", seed=0)
    assert made.text == "👩\ufffd👧" and made.gaps[0].replaced == 1
    assert made.notices == ("gap 1 holds 1 x U+FFFD: bytes that are no whole character",)
    written(monkeypatch, whole)
    made = infill(model, f"é[MASK:{len(whole)}]é", seed=0)
    assert made.text == "é👧é" and made.gaps[0].replaced == 0 and made.notices == ()


def test_an_end_of_text_in_a_gap_is_said(model, monkeypatch):
    written(monkeypatch, [model.tokenizer.eos_id])
    made = infill(model, "a[MASK:2]b", seed=0)
    assert made.text == "ab" and made.gaps[0].ends == 2
    assert made.notices == ("gap 1 holds 2 end-of-text tokens, which have no text",)


def test_a_sample_is_the_same_in_every_batch(model):
    options = {"seed": 4, "search": QUICK, "steps": 3}
    together = infills(model, "the [MASK:1-3] of [MASK]", 3, **options)
    alone = infill(model, "the [MASK:1-3] of [MASK]", first_sample=2, **options)
    assert dataclasses.replace(together[2], seconds=0) == dataclasses.replace(alone, seconds=0)
    assert alone.sample == 2 and together[0].tokens != together[1].tokens
    fresh = [infill(model, "the [MASK:6]", steps=3) for _ in "ab"]
    assert fresh[0].seed != fresh[1].seed and fresh[0].tokens != fresh[1].tokens


def hybrid():
    process = Hybrid(7, Gidd(0.2, 1e-4), 0.2)
    return DiffusionLM(net(process.num_states, 12), process, LeaveOneOut())


@pytest.mark.parametrize(
    ("make", "approximate"), [(lambda: diffusion(uniform=True), True), (hybrid, True), (diffusion, False)]
)
def test_noise_that_does_not_commit_is_approximate_and_says_so(make, approximate):
    model = make()
    model.tokenizer = Digits(7)
    made = infill(model, "012[MASK:1-2]5", seed=0, search=QUICK, steps=4)
    assert made.approximate is approximate and (APPROXIMATE in made.notices) is approximate
    assert made.as_json()["approximate"] is approximate
    assert made.text.startswith("012") and made.text.endswith("5")
    assert all(math.isfinite(each.bound) and each.stderr > 0 for each in made.candidates)


def test_a_block_model_says_that_it_reads_no_block_to_the_right():
    model = in_blocks(4)
    model.tokenizer = Digits(7)
    made = infill(model, "0[MASK:2-3]501234", seed=0, search=QUICK, steps=6)
    assert LATER in made.notices and made.text[0] == "0" and made.text.endswith("501234")
    assert all(math.isfinite(each.bound) for each in made.candidates)


def test_progress_and_a_text_of_one_token(model):
    told = []
    made = infill(model, "[MASK:1-3]", seed=0, search=QUICK, steps=3, progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)] and len(made.candidates) == 3
    assert all(math.isfinite(each.bound) for each in made.candidates)


def test_bad_input_is_one_clear_error(model):
    cases = [
        (lambda: infill(autoregressive(), "0[MASK]"), ConfigError, "left to right"),
        (lambda: infill(diffusion(), "0[MASK]"), ConfigError, "no tokenizer"),
        (lambda: infill(model, "no gap"), ConfigError, "no gap"),
        (lambda: infill(model, "a [MASK:16-4]"), ConfigError, "16 to 4"),
        (lambda: infill(model, "a\udcff [MASK]"), DataError, "UTF-8"),
        (lambda: infill(model, "a [MASK:40]"), ConfigError, r"given 1, gaps 40\), the model's context is 32"),
        (lambda: infill(model, "a[MASK:1-2]" * 7), ConfigError, "7 flexible gaps"),
        (lambda: infills(model, "a [MASK]", 0), ConfigError, "0 samples"),
        (lambda: infill(model, "a [MASK]", generator=torch.Generator()), ConfigError, "generator"),
        (lambda: infill(model, "a [MASK]", rule="tweedy"), ConfigError, "tweedie"),
        (lambda: Search(candidates=0), ConfigError, "0 combinations"),
        (lambda: Search(candidates=5000), ConfigError, "4096"),
        (lambda: Search(repeats=1), ConfigError, "2 repeats"),
        (lambda: Canvas.parse("a [MASK:1-2]", model.tokenizer), ConfigError, r"several lengths, \[MASK:1-2\]"),
    ]
    for make, kind, words in cases:
        with pytest.raises(kind, match=words):
            make()


def test_a_plan_says_what_will_be_tried(model):
    found = plan(model, "a [MASK:1-40] b", Search(candidates=3))
    room = 32 - sum(map(len, found.given))
    assert found.lengths == [(1,), (1 + round((room - 1) / 2),), (room,)]
    assert len(found.notices) == 2 and "context" in found.notices[0] and "grid" in found.notices[1]
    assert infill(model, found, seed=0, search=QUICK, steps=3).notices[:2] == found.notices
