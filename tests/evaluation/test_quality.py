import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch

from cli.call import call
from unmask.errors import ConfigError, DataError
from unmask.evaluation.judge import find_judge, token_nll
from unmask.evaluation.quality import judge_samples, route_of
from unmask.evaluation.sample_set import SampleSet, SampleSettings
from unmask.text.token_bytes import token_bytes
from unmask.text.tokenizers import EOS, gpt2, train_bpe


class Bigrams:
    """A judge that knows log p(next | token) [V, V] and nothing else."""

    name, bos_id, device = "bigrams", None, torch.device("cpu")

    def __init__(self, tokenizer, length=50):
        self.tokenizer, self.length = tokenizer, length
        generator = torch.Generator().manual_seed(2)
        self.log_p = torch.randn(tokenizer.vocab_size, tokenizer.vocab_size, generator=generator).log_softmax(-1)

    def hidden(self, ids):
        return torch.nn.functional.one_hot(ids, len(self.log_p)).float()

    def head(self, hidden):
        return hidden @ self.log_p

    def logits(self, ids):
        return self.head(self.hidden(ids))


@pytest.fixture(scope="module")
def judge(small_tokenizer):
    return Bigrams(small_tokenizer)


def a_set(tmp_path, texts, tokenizer=None, rows=None):
    if rows is None:
        rows = [tokenizer.encode(text) for text in texts] if tokenizer is not None else []
    settings = SampleSettings("tiny", "tiny", "", n=len(texts), length=0, seed=6, steps=8)
    ids = [np.array(row) for row in rows]
    return SampleSet(settings, ids, texts, (), tokenizer and tokenizer.fingerprint, tmp_path / "s.jsonl")


def by_hand(judge, row):
    return sum(-float(judge.log_p[a, b]) for a, b in itertools.pairwise(row))


TEXTS = ["The State of the Union.", "a year, a day and 1,234 déjà vu", "Congress of the United States"]


def test_by_hand_on_ids(tmp_path, judge, small_tokenizer):
    samples = a_set(tmp_path, TEXTS, small_tokenizer)
    found = judge_samples(judge, samples)
    rows = [small_tokenizer.encode(t) for t in TEXTS]
    nats = [by_hand(judge, row) for row in rows]
    tokens = [len(row) - 1 for row in rows]
    assert len(set(tokens)) == 3 and found.route == "ids" and found.n == 3 and found.truncated == 0
    assert found.nats == pytest.approx(nats, rel=1e-5) and found.tokens == tuple(tokens)
    each = np.array(nats) / tokens
    assert found.nats_per_token == pytest.approx(each.mean(), rel=1e-5)
    assert found.stderr == pytest.approx(each.std(ddof=1) / math.sqrt(3), rel=1e-4)
    assert found.perplexity == pytest.approx(math.exp(each.mean()), rel=1e-5)
    assert found.perplexity_stderr == pytest.approx(found.perplexity * found.stderr, rel=1e-6)
    assert found.perplexity_mean_exp == pytest.approx(np.exp(each).mean(), rel=1e-5)
    assert found.perplexity_mean_exp_stderr == pytest.approx(np.exp(each).std(ddof=1) / math.sqrt(3), rel=1e-4)
    assert found.perplexity_mean_exp > found.perplexity  # Jensen


def test_bytes_are_those_of_the_tokens_scored(tmp_path, judge, small_tokenizer):
    found = judge_samples(judge, a_set(tmp_path, TEXTS, small_tokenizer))
    first = [token_bytes(small_tokenizer)[small_tokenizer.encode(t)[0]] for t in TEXTS]
    size = np.array([len(t.encode()) for t in TEXTS]) - first
    assert found.bytes == tuple(size)
    ratio = sum(found.nats) / size.sum()
    assert found.nats_per_byte == pytest.approx(ratio)
    residual = np.array(found.nats) - ratio * size
    expected = residual.std(ddof=1) / math.sqrt(3) / size.mean()
    assert found.nats_per_byte_stderr == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_and_padding_change_nothing(tmp_path, small_models, batch_size):
    ar = find_judge(str(small_models / "ar"))
    texts = [t[:30] for t in TEXTS]
    found = judge_samples(ar, a_set(tmp_path, texts, ar.tokenizer), batch_size=batch_size)
    alone = [float(token_nll(ar, torch.tensor([ar.tokenizer.encode(t)])).sum()) for t in texts]
    assert found.nats == pytest.approx(alone, rel=1e-5)


def test_another_tokenizer_reads_the_text(tmp_path, judge, small_tokenizer):
    theirs = gpt2()
    samples = a_set(tmp_path, TEXTS, theirs)
    assert route_of(judge, samples) == "re-tokenised"
    found = judge_samples(judge, samples)
    same = judge_samples(judge, a_set(tmp_path, TEXTS, small_tokenizer))
    assert found.route == "re-tokenised" and found.nats == same.nats and found.bytes == same.bytes
    assert found.entropies != same.entropies  # of the generator's own tokens
    assert "text re-tokenised" in found.protocol and "generator's ids" in same.protocol
    with pytest.raises(ConfigError, match="do not share a tokenizer"):
        judge_samples(judge, samples, route="ids")


def test_the_same_vocabulary_trained_twice_is_the_same(tmp_path):
    first, again, other = (train_bpe(["a few words, a few words"] * 3, size) for size in (262, 262, 263))
    assert route_of(Bigrams(first), a_set(tmp_path, ["a few"], again)) == "ids"
    assert route_of(Bigrams(first), a_set(tmp_path, ["a few"], other)) == "re-tokenised"
    assert route_of(Bigrams(first), a_set(tmp_path, ["a few"])) == "re-tokenised"


def test_a_forced_route_differs_where_ids_are_not_what_the_text_encodes_to(tmp_path, judge, small_tokenizer):
    text = " the the"
    samples = a_set(tmp_path, [text], small_tokenizer, [[small_tokenizer.encode(c)[0] for c in text]])
    assert judge_samples(judge, samples).tokens == (len(text) - 1,)
    assert judge_samples(judge, samples, route="re-tokenised").tokens == (len(small_tokenizer.encode(text)) - 1,)
    assert len(small_tokenizer.encode(text)) < len(text)


def test_ends_of_documents_become_the_judges_own(tmp_path, judge, small_tokenizer):
    text = f"the end{EOS}the start"
    found = judge_samples(judge, a_set(tmp_path, [text], gpt2(), [gpt2().encode("the end the start")]))
    row = [*small_tokenizer.encode("the end"), small_tokenizer.eos_id, *small_tokenizer.encode("the start")]
    assert found.nats[0] == pytest.approx(by_hand(judge, row), rel=1e-5) and found.tokens == (len(row) - 1,)
    first = token_bytes(small_tokenizer)[row[0]]
    assert found.bytes == (len("the endthe start") - first,)  # an end has nats and no bytes


def test_long_samples_are_cut_to_what_the_judge_reads(tmp_path, small_tokenizer):
    short = Bigrams(small_tokenizer, length=4)
    found = judge_samples(short, a_set(tmp_path, TEXTS, small_tokenizer))
    assert found.truncated == 3 and found.tokens == (3, 3, 3) and "3 cut to the judge's context" in found.protocol
    rows = [small_tokenizer.encode(t)[:4] for t in TEXTS]
    assert found.nats == pytest.approx([by_hand(short, row) for row in rows], rel=1e-5)


def test_entropy_is_that_of_each_sample(tmp_path, judge, small_tokenizer):
    found = judge_samples(judge, a_set(tmp_path, ["", ""], small_tokenizer, [[5, 5, 6, 7], [8, 8, 8, 8]]))
    assert found.entropies == pytest.approx((1.5 * math.log(2), 0)) and found.entropy == pytest.approx(
        0.75 * math.log(2)
    )
    assert found.entropy_stderr == pytest.approx(0.75 * math.log(2))


def test_rows_and_what_they_say(tmp_path, judge, small_tokenizer):
    found = judge_samples(judge, a_set(tmp_path, TEXTS, small_tokenizer))
    by_name = {row.name: row for row in found.rows()}
    assert by_name["judge_perplexity"].value == found.perplexity and by_name["judge_perplexity"].n == 3
    assert by_name["judge_perplexity"].protocol.endswith("exp of the mean")
    assert by_name["judge_nats_per_byte"].unit == "nats/byte" and by_name["judge_nats_per_byte"].seed == 6
    assert by_name["sample_entropy"].stderr == found.entropy_stderr
    assert all("judge bigrams" in row.protocol and "8 steps" in row.protocol for row in found.rows())
    values = found.as_json()
    assert values["tokens"] == sum(found.tokens) and "nats" not in values and json.dumps(values)


def test_one_sample_has_no_error(tmp_path, judge, small_tokenizer):
    found = judge_samples(judge, a_set(tmp_path, TEXTS[:1], small_tokenizer))
    assert math.isnan(found.stderr) and math.isnan(found.nats_per_byte_stderr) and found.perplexity > 1


def test_progress(tmp_path, judge, small_tokenizer):
    told = []
    judge_samples(judge, a_set(tmp_path, TEXTS, small_tokenizer), batch_size=2, progress=lambda *x: told.append(x))
    assert told == [(2, 3), (3, 3)]


def test_what_cannot_be_judged(tmp_path, judge, small_tokenizer):
    with pytest.raises(DataError, match=r"sample 1 of .* has 1 tokens"):
        judge_samples(judge, a_set(tmp_path, ["the end", "e"], gpt2()))
    with pytest.raises(ConfigError, match="batch_size"):
        judge_samples(judge, a_set(tmp_path, TEXTS, small_tokenizer), batch_size=0)


def test_the_command_samples_keeps_and_judges(tmp_path, small_models):
    out = tmp_path / "s.jsonl"
    options = ("--model", small_models / "sedd", "--steps", 2, "-n", 3, "--length", 16, "--out", out)
    first = call("eval", "judge", "--judge", small_models / "ar", "--json", *options)
    assert str(out) in first.err
    values = first.lines()[0]
    assert values["n"] == 3 and values["route"] == "ids" and values["tokens"] == 45 and "2 steps" in values["protocol"]
    assert call("eval", "judge", out, "--judge", small_models / "ar", "--json").lines() == [values]
    shown = call("eval", "judge", out, "--judge", small_models / "ar")
    assert "perplexity" in shown.out and "nats per byte" in shown.out and "entropy" in shown.out
    assert call("eval", "diversity", "--window", 8, *options, "--json").lines()[0]["n"] == 3
    without = call("eval", "judge", "--model", small_models / "ar", "-n", 1, "--judge", small_models / "ar", "--json")
    assert without.lines()[0]["stderr"] is None


def test_what_the_command_refuses(tmp_path, small_models):
    ar, sedd = small_models / "ar", small_models / "sedd"
    assert "either a file" in call("eval", "judge").err
    assert "either a file" in call("eval", "judge", "x.jsonl", "--model", ar).err
    assert "--out is" in call("eval", "judge", "x.jsonl", "--out", "y").err
    assert "is autoregressive" in call("eval", "judge", "--model", ar, "--steps", 3).err
    (tmp_path / "s.txt").write_text("some words\n")
    assert "diffusion model" in call("eval", "judge", tmp_path / "s.txt", "--judge", sedd).err
    mute = shutil.copytree(ar, tmp_path / "mute")
    (mute / "tokenizer.json").unlink()
    done = call("eval", "judge", tmp_path / "s.txt", "--judge", mute)
    assert done.code == 2 and "no tokenizer" in done.err and "hint:" in done.err
