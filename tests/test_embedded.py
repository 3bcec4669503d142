"""The embedded twins: what the package promises about them."""

import pytest
import torch

import unmask
from unmask.compat.load import EMBEDDED, WEIGHTS
from unmask.recipes.heldout import heldout_rows
from unmask.recipes.run import from_json
from unmask.recipes.table import recipe


@pytest.fixture(scope="module")
def twins():
    return unmask.load("sedd-twin"), unmask.load("ar-twin")


def test_they_are_small_and_of_one_size(twins):
    sedd, ar = twins
    assert ar.net.num_parameters <= sedd.net.num_parameters <= 9_900_000
    for name in ("width", "depth", "heads", "length"):
        assert getattr(sedd.net.config, name) == getattr(ar.net.config, name)
    for folder in EMBEDDED.values():
        assert (WEIGHTS / folder / "model.safetensors").stat().st_size < 20_000_000


def test_they_read_the_same_tokens_in_the_same_order(twins):
    sedd, ar = twins
    text = "The state of the Union, 1790: déjà vu.\n\nA new paragraph."
    assert sedd.tokenizer.encode(text) == ar.tokenizer.encode(text)
    assert sedd.card["data"] == ar.card["data"]
    a, b = (from_json(model.card["run"]) for model in twins)
    assert (a.data, a.batch_size, a.train.seed, a.train.steps) == (b.data, b.batch_size, b.train.seed, b.train.steps)


def test_their_recipes_repeat_them(twins):
    for model in twins:
        assert from_json(model.card["run"]) == recipe(model.card["name"])


def test_held_out_text_is_far_likelier_than_by_chance(twins):
    """4096 tokens by chance: 8.3 nats each. By their single frequencies: about 6.5."""
    sedd, ar = twins
    rows, _ = heldout_rows(sedd, "excerpt", 12)
    assert unmask.evaluate.log_likelihood(ar, rows).nats_per_token < 4.5
    assert unmask.evaluate.log_likelihood(sedd, rows, times_per_row=4).nats_per_token < 5.8


def test_the_card_agrees_with_what_the_weights_do(twins):
    """The card's bound was measured on other documents of the same kind: within half a nat."""
    rows, _ = heldout_rows(twins[1], "excerpt", 12)
    measured = twins[1].card["measured"]["heldout"]["nats_per_token"]
    assert unmask.evaluate.log_likelihood(twins[1], rows).nats_per_token == pytest.approx(measured, abs=0.5)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_sample_reads_like_words(twins, name):
    """Most of its words are words of the excerpt."""
    model = twins[list(EMBEDDED).index(name)]
    options = {"steps": 32} if name == "sedd-twin" else {}
    made = unmask.sample(model, unmask.Canvas.blank(model.length, batch=2), seed=1, top_p=0.9, **options)
    known = {word for text in unmask_corpus() for word in words(text)}
    said = [word for row in made.tokens for word in words(model.tokenizer.decode(row))]
    assert len(said) > 120 and sum(word in known for word in said) > 0.6 * len(said)


def unmask_corpus():
    from unmask.text.corpora import corpus

    return corpus("excerpt").documents()


def words(text: str) -> list[str]:
    return [word for word in "".join(c.lower() if c.isalpha() else " " for c in text).split() if len(word) > 1]


def test_given_words_stay(twins):
    tok = twins[0].tokenizer
    canvas = unmask.Canvas.parse("The state of the [MASK:4] is strong.", tok, batch=4)
    out = unmask.sample(twins[0], canvas, steps=8, seed=0).tokens
    assert torch.equal(out[canvas.frozen], canvas.tokens[canvas.frozen])
