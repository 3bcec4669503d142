"""MAUVE: features are the right states, near is near, far is far, and the spread is told."""

import sys

import numpy as np
import pytest
import torch

from unmask.compat import load
from unmask.errors import ConfigError, DataError
from unmask.evaluation.judge import OurJudge
from unmask.evaluation.mauve import area, features, judge_ids, mauve, same_ids
from unmask.text.tokenizers import gpt2, train_bpe


@pytest.fixture(scope="module")
def judge(small_models):
    return OurJudge("ar", load(small_models / "ar"))


@pytest.fixture(scope="module")
def cloud():
    """Three samples of one law, [80, 8]."""
    return np.random.default_rng(0).normal(size=(3, 80, 8)).astype(np.float32)


def test_the_feature_is_the_state_of_the_last_token(judge):
    ids = torch.arange(40).reshape(2, 20)
    found = features(judge, ids, max_tokens=12)
    assert found.shape == (2, 32) and found.dtype == np.float32
    np.testing.assert_allclose(found, judge.hidden(ids[:, :12])[:, -1].numpy(), rtol=1e-5, atol=1e-6)
    mean = features(judge, ids, max_tokens=12, pool="mean")
    np.testing.assert_allclose(mean, judge.hidden(ids[:, :12]).mean(1).numpy(), rtol=1e-5, atol=1e-6)


def test_texts_of_unlike_length_do_not_touch_each_other(judge):
    texts = ["Fellow citizens", "I", "The state of the Union is strong", "and"]
    for pool in ("last", "mean"):
        together = features(judge, texts, pool=pool, batch=3)
        alone = np.concatenate([features(judge, [text], pool=pool) for text in texts])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_ids_of_another_tokenizer_are_read_as_text_and_ends_stay_ends(judge):
    other = train_bpe(["abc"], 257)
    row = [*other.encode("the Union"), other.eos_id, *other.encode("and")]
    here = judge.tokenizer
    assert judge_ids(judge, torch.tensor([row]), other) == [
        [*here.encode("the Union"), here.eos_id, *here.encode("and")]
    ]
    assert judge_ids(judge, torch.tensor([row]), here) == [row]


def test_tokenizers_are_told_apart(small_tokenizer, tmp_path):
    small_tokenizer.save(tmp_path)
    assert same_ids(small_tokenizer, type(small_tokenizer).load(tmp_path))
    assert not same_ids(small_tokenizer, gpt2())
    assert not same_ids(train_bpe(["ab ab ab"], 258), train_bpe(["cd cd cd"], 258))


def test_features_that_cannot_be_had(judge):
    with pytest.raises(DataError, match="text 1 is empty"):
        features(judge, ["a", ""])
    with pytest.raises(DataError, match="give texts"):
        features(judge, [])
    with pytest.raises(ConfigError, match="unknown pool 'first'"):
        features(judge, ["a"], pool="first")
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        features(judge, ["a"], max_tokens=0)


def test_one_law_is_near_and_another_is_far(cloud):
    near, far = mauve(cloud[0], cloud[1]), mauve(cloud[0], cloud[2] + 3)
    assert near.mean > 0.9 and far.mean < 0.05
    assert near.n == (80, 80) and near.buckets == 8 and len(near.per_seed) == 5
    assert near.mean == pytest.approx(np.mean(near.per_seed)) and near.std == pytest.approx(
        np.std(near.per_seed, ddof=1)
    )
    assert 0 < near.stderr < 0.1
    row = near.row("m", "p")
    assert (row.value, row.n, row.stderr) == (near.mean, 80, near.stderr) and "5 k-means seeds" in row.note


def test_it_is_the_same_twice_and_every_seed_is_its_own(cloud, capfd):
    one, two = (mauve(cloud[0], cloud[1] + 0.3, seeds=(3, 4), buckets=12) for _ in range(2))
    assert one == two and one.per_seed[0] != one.per_seed[1]
    assert mauve(cloud[0], cloud[1] + 0.3, seeds=(4,), buckets=12).per_seed == one.per_seed[1:]
    assert mauve(cloud[0], cloud[1] + 0.3, seeds=(4,), buckets=12).std == 0
    assert capfd.readouterr() == ("", "")  # the clustering's warnings are not for us


def test_the_area_of_two_histograms_by_hand():
    assert area(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == pytest.approx(1)
    # no cluster in common: KL(q | r) = -log(1 - w), KL(p | r) = -log w, so y = w^c at x = (1 - w)^c
    w = np.concatenate([[0], np.linspace(1e-6, 1 - 1e-6, 25), [1]])
    x, y = (1 - w) ** 5, w**5
    by_hand = sum((x[i] + x[i + 1]) / 2 * (y[i + 1] - y[i]) for i in range(len(w) - 1))
    assert area(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(by_hand, rel=1e-4)
    assert area(np.ones((4, 3, 5)) / 5, np.ones((4, 3, 5)) / 5).shape == (4, 3)


def test_the_area_is_the_library_s(cloud, monkeypatch):
    from unmask.evaluation import mauve as module

    compute = module._library()
    found = compute(p_features=cloud[0], q_features=cloud[1] + 0.5, num_buckets=8, seed=1)
    assert area(found.p_hist, found.q_hist) == pytest.approx(found.mauve, rel=1e-9)


def test_fewer_samples_than_clusters(cloud):
    with pytest.raises(DataError, match=r"at least 20 references and as many generations, got references \[80, 8\]"):
        mauve(cloud[0], cloud[1][:19])
    with pytest.raises(DataError, match=r"with 30 clusters needs at least 30 .*\nhint: give 5 more"):
        mauve(cloud[0][:25], cloud[1], buckets=30)


def test_features_that_do_not_fit(cloud):
    with pytest.raises(DataError, match="do not fit"):
        mauve(cloud[0], cloud[1][:, :5])
    with pytest.raises(DataError, match="not finite"):
        mauve(cloud[0], cloud[1] * np.inf)
    with pytest.raises(ConfigError, match="buckets is 1"):
        mauve(cloud[0], cloud[1], buckets=1)
    with pytest.raises(ConfigError, match="without a seed"):
        mauve(cloud[0], cloud[1], seeds=())


def test_the_extra_that_is_missing_is_named(cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "mauve", None)
    monkeypatch.setitem(sys.modules, "mauve.compute_mauve", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[mauve\]'"):
        mauve(cloud[0], cloud[1])
