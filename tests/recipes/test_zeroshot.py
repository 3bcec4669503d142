"""From a zero-shot set to rows: how many, spread how, which positions count."""

import dataclasses

import numpy as np
import pytest

from unmask.compat import load
from unmask.errors import ConfigError, DataError
from unmask.evaluation.likelihood import log_likelihood
from unmask.recipes.heldout import heldout_rows, scoring_rows
from unmask.recipes.zeroshot import zero_shot_rows
from unmask.text import zeroshot

TEXTS = [f"Sentence number {i} says café and little more." for i in range(60)]


@pytest.fixture
def lm(small_models, monkeypatch):
    row = dataclasses.replace(zeroshot.zero_shot("boolq"), name="tiny", documents=lambda: iter(TEXTS), unlike="made up")
    monkeypatch.setitem(zeroshot.ZERO_SHOT, "tiny", row)
    return load(small_models / "sedd")


@pytest.mark.parametrize("packing", ["sedd", "mdlm", "bd3", "stride", "stream"])
def test_a_set_becomes_rows_by_every_packing(lm, packing):
    rows, scored, info = zero_shot_rows(lm, "tiny", packing)
    assert rows.shape == (info["rows_in_all"], 32) == (info["rows"], 32)
    assert (scored is None) == (packing in ("sedd", "mdlm", "stream"))
    assert info["packing"] == packing and info["unlike"] == "made up" and info["documents"] == 60
    ends = 0 if packing in ("bd3", "stream") else 60
    assert info["tokens_in_all"] == sum(len(lm.tokenizer.encode(text)) for text in TEXTS) + ends
    if packing == "stride":
        assert info["scored_tokens"] == info["tokens_in_all"] and info["stride"] == 16
    assert np.array_equal(rows, zero_shot_rows(lm, "tiny", packing)[0])


def test_a_part_is_spread_over_the_set(lm):
    whole, _, _ = zero_shot_rows(lm, "tiny")
    rows, _, info = zero_shot_rows(lm, "tiny", max_tokens=5 * 32 + 31)
    assert info["rows"] == 5 and info["scored_tokens"] == 160 and info["rows_in_all"] == len(whole)
    assert np.array_equal(rows[[0, -1]], whole[[0, -1]])
    assert zero_shot_rows(lm, "tiny", max_tokens=1)[2]["rows"] == 1


def test_the_bytes_of_a_sliding_window_are_those_of_the_text(lm):
    rows, scored, info = zero_shot_rows(lm, "tiny", "stride")
    found = log_likelihood(lm, rows, scored=scored, times_per_row=1)
    assert found.text_bytes == sum(len(text.encode()) for text in TEXTS)  # cut characters and all
    assert found.tokens == info["scored_tokens"]


def test_held_out_rows_are_what_they_were(lm):
    rows, info = heldout_rows(lm, "excerpt", 4)
    same, scored, _ = scoring_rows(lm, "excerpt", 4)
    assert np.array_equal(rows, same) and scored is None and info["packing"] == "sedd" and len(rows) == 4
    assert scoring_rows(lm, "excerpt", None, packing="stride")[1].any(1).all()


def test_what_cannot_be_scored(lm):
    with pytest.raises(ConfigError, match="unknown zero-shot set 'tini'"):
        zero_shot_rows(lm, "tini")
    with pytest.raises(ConfigError, match="unknown packing 'mdml'\nhint: did you mean 'mdlm'"):
        zero_shot_rows(lm, "tiny", "mdml")
    lm.tokenizer = None
    with pytest.raises(DataError, match="no tokenizer"):
        zero_shot_rows(lm, "tiny")
