"""Continuations: each way writes what it says, the matched noise is the row's, and the scores are those by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sampling.nets import autoregressive, diffusion
from unmask.compat import load
from unmask.diffusion import Absorbing, CleanLogits, LogLinear, RawScore
from unmask.errors import ConfigError, DataError
from unmask.evaluation.conditional import (
    WAYS,
    MatchedNoise,
    conditional_quality,
    conditional_rows,
    continuation_nll,
    continuations,
    continue_prompts,
    rank_correlation,
    read_continuations,
)
from unmask.evaluation.judge import OurJudge
from unmask.evaluation.likelihood import T_MIN
from unmask.evaluation.mauve import features
from unmask.model import DiffusionLM
from unmask.sampling import Canvas, sample
from unmask.text.prompts import Prompts, prompts
from unmask.text.tokenizers import train_bpe

MASK = 7


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def given(rows: int = 5, P: int = 3, R: int = 4) -> Prompts:
    """Prompts over 7 tokens."""
    ids = torch.randint(0, 6, (rows, P + R), generator=torch.Generator().manual_seed(1))
    return Prompts(ids[:, :P], ids[:, P:], ("",) * rows, (0,) * rows, "made up", "")


class Flat:
    """A judge that finds every token as likely as any other: log V nats each."""

    name, length, bos_id, device = "flat", 512, None, torch.device("cpu")

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def hidden(self, ids):
        return torch.zeros(*ids.shape, 2)

    def head(self, hidden):
        return torch.zeros(*hidden.shape[:-1], self.tokenizer.vocab_size)


# ways


@pytest.mark.parametrize("way", WAYS)
def test_every_way_keeps_the_prompt_and_writes_clean_tokens(way):
    model = autoregressive() if WAYS[way].kind == "autoregressive" else diffusion()
    made = continue_prompts(model, given(), way, steps=4, seed=3)
    assert made.shape == (5, 7) and made.dtype == torch.int64
    assert torch.equal(made[:, :3], given().ids)
    assert int(made.max()) < 7
    assert not torch.equal(made[:, 3:], given().references)


@pytest.mark.parametrize("way", ["scratchpad", "matched", "top-p"])
def test_the_batch_and_where_one_starts_change_nothing(way):
    model = autoregressive() if way == "top-p" else diffusion()
    told = []
    whole = continue_prompts(model, given(), way, steps=4, batch=5, progress=lambda *done: told.append(done))
    assert torch.equal(whole, continue_prompts(model, given(), way, steps=4, batch=2))
    late = torch.cat(list(continuations(model, given(), way, steps=4, batch=2, first=3)))
    assert torch.equal(whole[3:], late)
    assert told == [(5, 5)]
    assert not torch.equal(whole, continue_prompts(model, given(), way, steps=4, seed=1))


def test_the_scratchpad_is_the_whole_context_cut():
    model, many = diffusion(length=12), given(40)
    whole = sample(model, Canvas.prompt(many.ids, 12), steps=4, seed=0).tokens
    assert torch.equal(continue_prompts(model, many, "scratchpad", steps=4, batch=40), whole[:, :7])
    nine = sample(model, Canvas.prompt(many.ids, 9), steps=4, seed=0).tokens
    assert torch.equal(continue_prompts(model, many, "scratchpad", steps=4, length=9, batch=40), nine[:, :7])
    short = sample(model, Canvas.prompt(many.ids, 7), steps=4, seed=0).tokens
    assert torch.equal(continue_prompts(model, many, "short", steps=4, batch=40), short)
    assert not torch.equal(short, whole[:, :7])


def test_autoregressive_ways_are_their_truncations():
    model, canvas = autoregressive(), Canvas.prompt(given().ids, 7)
    for way, options in (("plain", {}), ("top-p", {"top_p": 0.95}), ("top-k", {"top_k": 50})):
        assert torch.equal(continue_prompts(model, given(), way), sample(model, canvas, seed=0, **options).tokens)
    greedy = continue_prompts(model, given(), "top-k", top_k=1)
    assert torch.equal(greedy, sample(model, canvas, seed=0, temperature=0.0).tokens)


def test_ways_that_do_not_fit():
    with pytest.raises(ConfigError, match="unknown way 'scratch'\nhint: did you mean 'scratchpad'"):
        continue_prompts(diffusion(), given(), "scratch")
    with pytest.raises(
        ConfigError, match="plain is for autoregressive models, this one is diffusion\nhint: use scratch"
    ):
        continue_prompts(diffusion(), given(), "plain")
    with pytest.raises(ConfigError, match="of 7 tokens on a canvas of 6, the model's context is 6"):
        continue_prompts(diffusion(length=6), given(), "scratchpad")
    with pytest.raises(ConfigError, match="of 7 tokens on a canvas of 5"):
        continue_prompts(diffusion(), given(), "scratchpad", length=5)
    with pytest.raises(ConfigError, match="a batch of 0"):
        continue_prompts(diffusion(), given(), "short", batch=0)


# matched noise


@pytest.mark.parametrize("kind", ["score", "x0"])
def test_where_the_mask_says_what_the_clock_says_nothing_changes(kind):
    model = diffusion(kind)
    matched = MatchedNoise(model)
    xt = torch.tensor([[MASK] * 12, [MASK, 1, 2, MASK] * 3])
    t = model.process.schedule.inverse(1 - torch.tensor([1.0, 0.5], dtype=torch.float64))
    plain, ours = model.predict(xt, t), matched.predict(xt, t)
    for name in ("log_p0", "log_score", "log_total"):
        torch.testing.assert_close(getattr(ours, name)(), getattr(plain, name)(), rtol=1e-5, atol=1e-6)
    early = matched.predict(xt, t * 0.9)
    assert not torch.allclose(early.log_p0(), model.predict(xt, t * 0.9).log_p0(), atol=1e-4)
    torch.testing.assert_close(early.log_p0(), plain.log_p0(), rtol=1e-5, atol=1e-6)  # holds no t but t'


def test_the_score_keeps_the_scale_of_the_clock():
    model = diffusion("score")
    xt, t = torch.tensor([[MASK, MASK, 1, 2, 3, 4]]), torch.tensor([0.7], dtype=torch.float64)
    found, sigma = MatchedNoise(model).predict(xt, t), model.process.schedule.sigma(t)
    hidden = model.net.hidden(xt, model.process.schedule.sigma(torch.tensor([(2 / 6) / 0.999], dtype=torch.float64)))
    logits = model.net.head(hidden)[0, 0, :7]
    by_hand = logits - math.log(math.expm1(float(sigma))) - math.log(7)
    torch.testing.assert_close(found.log_score()[0, 0, :7], by_hand.float(), rtol=1e-5, atol=1e-5)


def test_the_network_is_told_the_masked_fraction_of_each_row(monkeypatch):
    model = diffusion(length=8)
    matched, heard = MatchedNoise(model), []
    run = model.net.hidden
    monkeypatch.setattr(model.net, "hidden", lambda x, cond: heard.append((x.clone(), cond)) or run(x, cond))
    made = sample(matched, Canvas.prompt(given(4).ids, 8), steps=5, seed=0)
    assert torch.equal(made.tokens[:, :3], given(4).ids)
    assert len(heard) == made.nfe
    seen = set()
    for x, sigma in heard:
        fraction = (x == MASK).double().mean(1)
        seen.update(fraction.tolist())
        expected = -torch.log1p(-fraction).clamp(max=-math.log(1e-3))  # 1 - alpha is the fraction
        floor = float(model.process.schedule.sigma(torch.tensor(T_MIN, dtype=torch.float64)))
        torch.testing.assert_close(sigma.double(), expected.clamp(min=floor), rtol=1e-9, atol=1e-12)
    assert max(seen) == 5 / 8  # never all, though the schedule begins at t = 1
    assert matched.told(torch.zeros(1, 8, dtype=torch.int64)).item() == T_MIN


def test_noise_that_cannot_be_matched():
    with pytest.raises(ConfigError, match="needs a process that masks"):
        MatchedNoise(diffusion(uniform=True))
    unscaled = diffusion()
    unscaled.parametrization = RawScore(False)
    with pytest.raises(ConfigError, match="without scale_by_sigma"):
        MatchedNoise(unscaled)
    deaf = DiffusionLM(autoregressive().net, Absorbing(6, LogLinear()), CleanLogits(), conditioning=None)
    with pytest.raises(ConfigError, match="the network is not told the noise"):
        MatchedNoise(deaf)


# continuation perplexity


def bytes_only():
    return train_bpe(["abc"], 257)


def merging():
    """Knows `ab`, `abc` and `abcd` beside the bytes."""
    return train_bpe(["abcd abcd abcd"], 260)


def ids(tokenizer, *texts):
    return torch.tensor([tokenizer.encode(text) for text in texts])


def test_a_flat_judge_of_the_same_ids_gives_its_vocabulary():
    tokenizer = bytes_only()
    found = continuation_nll(Flat(tokenizer), tokenizer, ids(tokenizer, "abcdefgh", "ijklmnop"), 3, tokens=4)
    assert found.perplexity == pytest.approx(257) and found.stderr == pytest.approx(0, abs=1e-9)
    assert found.nats_per_byte == pytest.approx(math.log(257))
    assert (found.n, found.tokens, found.route) == (2, 4, "ids")


def test_only_the_first_tokens_behind_the_prompt_count(small_models, small_tokenizer):
    judge = OurJudge("ar", load(small_models / "ar"))
    rows = torch.randint(0, 300, (3, 20), generator=torch.Generator().manual_seed(0))
    found = continuation_nll(judge, small_tokenizer, rows, 5, tokens=6, batch=2)
    log_p = torch.log_softmax(judge.logits(rows), -1)
    by_hand = -log_p[:, :-1].gather(-1, rows[:, 1:, None])[..., 0][:, 4:10].double().mean(1)
    assert found.nats == pytest.approx(by_hand.tolist(), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(by_hand.mean()), rel=1e-5)
    assert found.stderr == pytest.approx(found.perplexity * float(by_hand.std()) / 3**0.5, rel=1e-4)


def test_another_tokenizer_reads_the_text_from_the_prompt_s_last_byte():
    ours, judges = merging(), bytes_only()
    rows = ids(ours, "abcdxabcdyz")  # abcd x abcd y z: two tokens are the prompt, the next two have 5 bytes
    assert rows.shape[1] == 5
    found = continuation_nll(Flat(judges), ours, rows, 2, tokens=2)
    assert found.nats_per_byte == pytest.approx(math.log(257))
    assert found.nats == pytest.approx((5 * math.log(257) / 2,))
    assert found.route == "re-tokenised"


def test_a_token_across_the_border_counts_on_neither_side():
    ours, judges = bytes_only(), merging()
    rows = ids(ours, "xabcdy abcd")  # read as x abcd y _ abcd; the prompt ends in the first abcd
    found = continuation_nll(Flat(judges), ours, rows, 3, tokens=8)
    per_byte = 3 * math.log(260) / 6  # y, _ and abcd have 6 bytes
    assert found.nats_per_byte == pytest.approx(per_byte)
    assert found.nats == pytest.approx((per_byte * 8 / 8,))
    clean = continuation_nll(Flat(judges), ours, rows, 5, tokens=6)
    assert clean.nats_per_byte == pytest.approx(per_byte)


def test_a_prompt_that_ends_inside_a_character():
    ours, judges = bytes_only(), merging()
    rows = ids(ours, "aéb")  # four bytes; the prompt is `a` and half of é
    found = continuation_nll(Flat(judges), ours, rows, 2, tokens=2)
    assert found.nats_per_byte == pytest.approx(math.log(260))  # é is two tokens of a byte, b a third
    assert found.nats == pytest.approx((3 * math.log(260) / 2,))


def test_an_end_of_document_is_the_judge_s_own():
    ours, judges = bytes_only(), merging()
    row = torch.tensor([[*ours.encode("ab"), ours.eos_id, *ours.encode("abcd")]])
    found = continuation_nll(Flat(judges), ours, row, 2, tokens=5)
    assert found.nats_per_byte == pytest.approx(2 * math.log(260) / 4)  # the end, which has no bytes, and abcd


def test_continuations_that_cannot_be_scored():
    tokenizer = bytes_only()
    with pytest.raises(DataError, match="have no 6 tokens to follow\nhint: score at most 5"):
        continuation_nll(Flat(tokenizer), tokenizer, ids(tokenizer, "abcdefgh"), 3, tokens=6)
    ends = torch.tensor([[*tokenizer.encode("a"), *[tokenizer.eos_id] * 3]])
    with pytest.raises(DataError, match="none of the continuations has text that can be scored"):
        continuation_nll(Flat(merging()), tokenizer, ends, 1, tokens=3)


def test_one_reading_gives_the_features_too(small_models, small_tokenizer):
    judge, other = OurJudge("ar", load(small_models / "ar")), bytes_only()
    rows = ids(other, "the state of the ", "Union is strong.!", "Fellow-Citizens o")
    for tokenizer, what in ((other, rows), (small_tokenizer, rows % 300)):
        for cut in (3, 100):
            scored, found = read_continuations(judge, tokenizer, what, 6, tokens=11, max_tokens=cut, batch=2)
            expected = features(judge, what, tokenizer=tokenizer, max_tokens=cut)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert scored.nats == continuation_nll(judge, tokenizer, what, 6, tokens=11, batch=2).nats


# ranks


def test_rank_correlation_by_hand_and_by_enumeration():
    x, y = [0.1, 0.4, 0.3, 0.9, 0.5], [3.0, 5.0, 4.0, 6.0, 10.0]
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(1 - 6 * 2 / (5 * 24)) == 0.9  # one pair of neighbours swapped
    ranks = range(5)
    far = [sum((a - b) ** 2 for a, b in zip(ranks, order, strict=True)) for order in itertools.permutations(ranks)]
    both = sum(abs(1 - 6 * d / 120) >= 0.9 - 1e-12 for d in far) / 120
    assert found.p == pytest.approx(both) and found.exact and found.n == 5
    assert rank_correlation(x, [-v for v in y]).rho == pytest.approx(-0.9)


def test_ties_and_many_pairs_as_scipy_has_them():
    x = [1.0, 1.0, 2.0, 5.0, 5.0, 5.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    y = [2.0, 1.0, 1.0, 3.0, 9.0, 4.0, 5.0, 5.0, 6.0, 3.0, 9.0, 8.0]
    found = rank_correlation(x, y)
    theirs = spearmanr(x, y)
    assert found.rho == pytest.approx(theirs.statistic) and not found.exact
    assert found.p == pytest.approx(theirs.pvalue, abs=0.01)


def test_ranks_that_say_nothing():
    with pytest.raises(DataError, match="at least 3 pairs"):
        rank_correlation([1, 2], [1, 2])
    with pytest.raises(DataError, match="at least 3 pairs"):
        rank_correlation([1, 2, math.nan], [1, 2, 3])
    with pytest.raises(DataError, match="all the same"):
        rank_correlation([1, 1, 1], [1, 2, 3])


# the whole


def test_rows_of_the_tables(small_models, small_tokenizer):
    judge = OurJudge("ar", load(small_models / "ar"))
    chosen = prompts("excerpt", small_tokenizer, count=24, prompt_tokens=8, reference_tokens=8)
    sedd, ar = load(small_models / "sedd"), load(small_models / "ar")
    found = {}
    for way, model in (("short", sedd), ("matched", sedd), ("plain", ar), ("top-k", ar)):
        made = continue_prompts(model, chosen, way, steps=2, batch=24)
        found[way] = conditional_quality(judge, small_tokenizer, chosen, made, seeds=(1, 2), max_tokens=16)
    rows = conditional_rows(found, seed=0, top_k=["top-k"])
    assert [row.name for row in rows[:3]] == ["mauve", "continuation_perplexity", "continuation_nats_per_byte"]
    assert [row.model for row in rows[::3]] == [*found, "all sets"]
    assert [(row.name, row.model, row.n) for row in rows[12:]] == [
        ("rank_correlation", "all sets", 4),
        ("rank_correlation", "without top-k", 3),
    ]
    assert all(0 <= row.value <= 1 for row in rows if row.name == "mauve")
    protocol = rows[0].protocol
    assert "24 prompts of 8 tokens from excerpt, 8 to follow; judge ar, by token ids" in protocol
    assert "first 8 tokens" in protocol and rows[0].seed == 0
    fewer = conditional_quality(judge, small_tokenizer, chosen, made, seeds=(1, 2), max_tokens=16, tokens=3)
    assert fewer.mauve == found["top-k"].mauve and fewer.continuation.tokens == 3
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        conditional_quality(judge, small_tokenizer, chosen, made, max_tokens=0)
    with pytest.raises(DataError, match="do not belong to these prompts"):
        conditional_quality(judge, small_tokenizer, chosen, made.flip(0))
