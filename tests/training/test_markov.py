"""A SEDD model learns a language of known entropy by score entropy; tests/slow/test_training.py goes on to 3 %."""

import math

import numpy as np
import pytest

from .markov import Chain, learn

CHAIN = Chain.make()


def test_the_chains_entropy_is_exact_and_at_most_half_of_a_uniform_tokens():
    assert CHAIN.rate <= 0.5 * math.log(CHAIN.size)
    np.testing.assert_allclose(CHAIN.matrix.sum(0), 1)
    np.testing.assert_allclose(CHAIN.matrix.sum(1), 1)
    tiny = Chain(CHAIN.matrix, 3)
    p = CHAIN.matrix[:, :, None] * CHAIN.matrix[None] / CHAIN.size  # of every text of three tokens
    assert -(p[p > 0] * np.log(p[p > 0])).sum() / 3 == pytest.approx(tiny.entropy)
    x = CHAIN.draw(4000, seed=3)
    log_p = np.log(CHAIN.matrix[x[:, :-1], x[:, 1:]])
    assert -log_p.mean() == pytest.approx(CHAIN.rate, abs=4 * log_p.mean(1).std() / 4000**0.5)


def test_a_short_training_comes_from_more_than_twice_the_entropy_to_a_seventh_above_it(tmp_path):
    before, after = learn(CHAIN, tmp_path, steps=120)
    assert before.nats_per_token > 2 * CHAIN.entropy
    assert CHAIN.entropy - 4 * after.stderr < after.nats_per_token < CHAIN.entropy * 8 / 7
