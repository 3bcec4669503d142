"""The canvas: what is given stays, what is open is where the caller said, and mistakes are told."""

import pytest
import torch

from unmask.errors import ConfigError
from unmask.sampling import Canvas
from unmask.text.tokenizers import gpt2

JOKE = "Hi, my name is [MASK:12] and that's why I'm late."


def shown(canvas: Canvas, row: int = 0) -> list[int | None]:
    return [int(t) if f else None for t, f in zip(canvas.tokens[row], canvas.frozen[row], strict=True)]


def test_the_makers() -> None:
    assert shown(Canvas.blank(3)) == [None] * 3
    assert Canvas.blank(3, batch=4).tokens.shape == (4, 3)
    assert shown(Canvas.prompt([5, 6], 5)) == [5, 6, None, None, None]
    assert shown(Canvas.prompt([5, 6], 5, batch=2, suffix=[7]), 1) == [5, 6, None, None, 7]
    assert shown(Canvas.prompt([], 2, suffix=torch.tensor([9]))) == [None, 9]
    assert shown(Canvas.template([1, 2], 2, [3], 1, batch=2), 1) == [1, 2, None, None, 3, None]
    canvas = Canvas.template([1, 2], 2, [3], 1, batch=2)
    assert (canvas.batch, canvas.length) == (2, 6)


def test_a_prompt_a_row_each_written_several_times() -> None:
    canvas = Canvas.prompt(torch.tensor([[1, 2], [3, 4]]), 4, batch=2, suffix=[9])
    assert [shown(canvas, i) for i in range(4)] == [[1, 2, None, 9]] * 2 + [[3, 4, None, 9]] * 2


def test_clamp_puts_the_frozen_tokens_back() -> None:
    canvas = Canvas.template([1], 2, [3], batch=2)
    assert canvas.clamp(torch.full((2, 4), 8)).tolist() == [[1, 8, 8, 3]] * 2


def test_parse_reads_text_with_gaps() -> None:
    tokenizer = gpt2()
    canvas = Canvas.parse(JOKE, tokenizer, batch=3)
    left, right = tokenizer.encode("Hi, my name is"), tokenizer.encode(" and that's why I'm late.")
    assert shown(canvas, 2) == [*left, *[None] * 12, *right]
    assert shown(Canvas.parse("[MASK]", tokenizer)) == [None]
    assert shown(Canvas.parse("a [MASK] [MASK:2]b", tokenizer)) == [64, None, None, None, 65]
    assert shown(Canvas.parse("a  [MASK]", tokenizer)) == [*tokenizer.encode("a "), None]
    assert Canvas.parse(JOKE, tokenizer, length=canvas.length).length == canvas.length


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no gap at all", "the text has no gap"),
        ("a [MASK:x] b", r"cannot be read, at '\[MASK:x\] b'"),
        ("a [MASK:-3] b", r"cannot be read, at '\[MASK:-3\] b'"),
        ("a [MASK:1.5]", r"cannot be read, at '\[MASK:1.5\]'"),
        ("a [MASK:]", r"cannot be read, at '\[MASK:\]'"),
        ("a [MASK:3", r"cannot be read, at '\[MASK:3'"),
        ("[MASK] [MASK", r"cannot be read, at '\[MASK'"),
        ("a [MASK:0] b", r"a gap of no tokens, \[MASK:0\]"),
    ],
)
def test_texts_that_are_no_canvas(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        Canvas.parse(text, gpt2())
    assert raised.value.hint


def test_a_text_longer_than_the_context_says_both_numbers() -> None:
    """Without making room for it: a gap's length may be anything."""
    total = len(gpt2().encode("Hi, my name is")) + 10**14
    with pytest.raises(ConfigError, match=f"{total} tokens .given 5, gaps {10**14}., the model's context is 1024"):
        Canvas.parse(f"Hi, my name is [MASK:{10**14}]", gpt2(), length=1024)


def test_other_mistakes() -> None:
    zeros, open_ = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool)
    cases = [
        (lambda: Canvas(zeros, open_[0]), r"tokens \(1, 2\) and frozen \(2,\)"),
        (lambda: Canvas(zeros[:0], open_[:0]), r"tokens \(0, 2\)"),
        (lambda: Canvas(zeros.float(), open_), "torch.float32"),
        (lambda: Canvas(zeros - 1, ~open_), "token -1"),
        (lambda: Canvas.prompt([1, 2, 3], 3), "3 given tokens leave nothing to write on a canvas of 3"),
        (lambda: Canvas.prompt([1, 2], 3, suffix=[4]), "3 given tokens leave nothing"),
        (
            lambda: Canvas.prompt(torch.tensor([[1], [2]]), 4, suffix=torch.tensor([[1], [2], [3]])),
            "2 prompts and 3 suff",
        ),
        (lambda: Canvas.prompt([0.5], 3), "give ids"),
        (lambda: Canvas.prompt([1], 3, batch=0), "batch of 0"),
        (lambda: Canvas.template([1, 2]), "without a gap"),
        (lambda: Canvas.template([1], 0), "a gap of 0"),
        (lambda: Canvas.blank(-1), "a gap of -1"),
        (lambda: Canvas.blank(3, batch=0), "batch of 0"),
    ]
    for make, message in cases:
        with pytest.raises(ConfigError, match=message):
            make()
    assert Canvas(zeros - 1, open_).length == 2  # open positions hold anything
