import math

import numpy as np
import pytest

from cli.call import call
from unmask.errors import ConfigError, DataError
from unmask.evaluation.diversity import (
    UNLIKE_REPETITION,
    diversity,
    repetition_rate,
    unigram_entropy,
    unique_fraction,
)
from unmask.evaluation.samples import read_samples
from unmask.text.tokenizers import gpt2


def test_by_hand():
    x = np.array([7, 7, 2, 3, 2, 9, 9, 7])  # 7 x 3, 2 x 2, 9 x 2, 3 x 1
    assert unique_fraction(x) == 4 / 8
    expected = -(3 / 8 * math.log(3 / 8) + 2 * (2 / 8 * math.log(2 / 8)) + 1 / 8 * math.log(1 / 8))
    assert unigram_entropy(x) == pytest.approx(expected, abs=1e-12)
    assert repetition_rate(x, 1) == 2 / 8  # 7 behind 7, 9 behind 9
    assert repetition_rate(x, 2) == 3 / 8  # and 2 behind 2, 3
    assert repetition_rate(x, 5) == 3 / 8  # the last 7 is 6 behind the one before
    assert repetition_rate(x, 6) == 4 / 8


def test_the_ends_of_the_scale():
    same, different = np.full(50, 3), np.arange(50)
    assert (unique_fraction(same), unigram_entropy(same), repetition_rate(same)) == (1 / 50, 0, 49 / 50)
    assert unique_fraction(different) == 1 and repetition_rate(different) == 0
    assert unigram_entropy(different) == pytest.approx(math.log(50), abs=1e-12)


def test_the_rate_is_its_definition_on_long_rows():
    x = np.random.default_rng(0).zipf(1.3, 700) % 300
    for window in (1, 13, 100, 699):
        plain = sum(x[i] in x[max(0, i - window) : i] for i in range(len(x))) / len(x)
        assert repetition_rate(x, window) == pytest.approx(plain, abs=1e-12)


def test_mean_spread_and_error_over_sequences():
    rows = [np.array([1, 1, 2, 3]), np.array([1, 2, 3, 4]), np.array([5, 5, 5, 5])]
    found = diversity(rows, window=2, name="three")
    unique = [3 / 4, 1.0, 1 / 4]
    assert found.values["unique"] == tuple(unique)
    assert found.unique.mean == pytest.approx(2 / 3)
    std = math.sqrt(sum((u - 2 / 3) ** 2 for u in unique) / 2)
    assert found.unique.std == pytest.approx(std) and found.unique.stderr == pytest.approx(std / math.sqrt(3))
    assert found.repetition.mean == pytest.approx((1 / 4 + 0 + 3 / 4) / 3)
    assert found.values["entropy"] == pytest.approx((1.5 * math.log(2), math.log(4), 0))
    first, second, third = found.rows()
    assert (first.name, first.unit, first.n, first.model) == ("unique_unigrams", "fraction", 3, "three")
    assert first.value == found.unique.mean and first.stderr == found.unique.stderr
    assert (second.unit, third.unit) == ("nats", "fraction")
    assert "4 tokens" in first.protocol and "window 2" in first.protocol and first.spread == pytest.approx(std)
    assert UNLIKE_REPETITION in third.note and UNLIKE_REPETITION not in first.note


def test_a_single_sequence_has_no_spread():
    found = diversity([np.array([1, 2, 1])], window=1)
    assert math.isnan(found.unique.std) and math.isnan(found.unique.stderr)


@pytest.mark.parametrize("rows", [[np.arange(101), np.arange(100)], [np.array([1])], []])
def test_too_short_for_the_window(rows):
    with pytest.raises(DataError, match=r"too short for a window of 100 tokens(.|\n)*smaller window"):
        diversity(rows)


def test_a_window_of_nothing():
    with pytest.raises(ConfigError, match="window of 0"):
        diversity([np.arange(9)], window=0)


def test_english_text_repeats_far_more_than_the_paper_prints(tmp_path):
    from unmask.text.corpora import corpus

    ids = gpt2().encode(next(iter(corpus("excerpt").train())))[:1024]
    assert len(ids) == 1024 and 0.3 < repetition_rate(np.array(ids)) < 0.6


def test_texts_are_counted_in_gpt2_tokens(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("one two one two\none two three four\n", encoding="utf-8")
    found = diversity(read_samples(path), window=2)
    assert found.values["unique"] == (3 / 4, 1.0)  # "one" and " one" differ
    assert "GPT-2" in found.protocol and found.model == "two"


def test_the_command(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"text": "a", "ids": [1, 1, 2]}\n{"text": "b", "ids": [3, 4, 5]}\n', encoding="utf-8")
    values = call("eval", "diversity", path, "--window", 2, "--json").lines()[0]
    assert values["unique"]["mean"] == pytest.approx(5 / 6) and values["n"] == 2 and values["lengths"] == "3"
    shown = call("eval", "diversity", path, "--window", 2)
    assert shown.code == 0 and "unique unigrams  0.8333" in shown.out and "repetition window 2" in shown.out
    failed = call("eval", "diversity", path)
    assert failed.code == 2 and "too short" in failed.err
    path.write_text('{"text": "a", "ids": [1, 1, 2]}\n', encoding="utf-8")
    assert call("eval", "diversity", path, "--window", 2, "--json").lines()[0]["unique"]["stderr"] is None
