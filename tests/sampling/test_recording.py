"""Recordings: the frames of the loop as text, and the probabilities that the network itself gives."""

import itertools
import json

import pytest
import torch

import unmask
from unmask import checkpoint
from unmask.errors import ConfigError
from unmask.sampling import Canvas, denoise, sample
from unmask.sampling.recording import Recorder, record

from .nets import diffusion, in_blocks


@pytest.fixture(scope="module", params=["sedd", "mdlm"])
def model(request, small_models):
    return checkpoint.load(small_models / request.param)


def canvas(model, length: int = 20) -> Canvas:
    return Canvas.template(model.tokenizer.encode("Fellow "), 9, model.tokenizer.encode("🙂 x"), 6)


@pytest.mark.parametrize("rule", ["tweedie", "ancestral", "confidence", "first-hitting"])
def test_a_recording_is_the_run_that_sample_makes(model, rule):
    if rule == "tweedie" and model.parametrization.__class__.__name__ != "RawScore":
        rule = "entropy"
    options = {"rule": rule, "seed": 5} | ({} if rule == "first-hitting" else {"steps": 4})
    given = canvas(model)
    made = record(model, given, model.tokenizer, **options)
    assert made.text == model.tokenizer.decode(sample(model, given, **options).tokens[0], keep_special=True)
    assert [token.given for token in made.tokens] == given.frozen[0].tolist()
    for k, frame in enumerate(denoise(model, given, **options)):
        assert (made.frames[k].t, made.frames[k].nfe) == (frame.t, frame.nfe)
        final = [token.given or token.committed_at <= made.frames[k].step for token in made.tokens]
        assert final == frame.committed[0].tolist()
        masked = model.process.is_mask(frame.tokens)[0].tolist()
        assert [text is None for text in made.texts(k)] == masked
    assert k == len(made.frames) - 1
    assert [None if k is None else made.frames[k].step for k in made.settled()] == [
        token.committed_at for token in made.tokens
    ]
    assert made.frames[0].seconds <= made.frames[-1].seconds


def test_probabilities_are_the_networks_own_when_the_token_settled(model):
    """One token a move, left to right: the state before each is known, whatever temperature draws from it."""
    given, table = canvas(model), model.tokenizer
    options = {"rule": "left-to-right", "steps": 15, "seed": 2, "temperature": 3.0, "top_k": 5}
    made = record(model, given, table, top=4, **options)
    frames = list(denoise(model, given, **options))
    for before, after in itertools.pairwise(frames):
        new = (after.committed & ~before.committed).nonzero()
        if not len(new):
            continue
        [[_, i]] = new.tolist()
        open_, masked = (~given.frozen).sum(), model.process.is_mask(before.tokens).sum()
        one_minus_alpha = masked / open_ * model.process.schedule.one_minus_alpha(torch.ones((), dtype=torch.float64))
        t = model.process.schedule.inverse(1 - one_minus_alpha)[None]
        p0 = model.log_p0(before.tokens, t)[0, i].double().exp()
        token = made.tokens[i]
        assert token.p == pytest.approx(float(p0[after.tokens[0, i]]), abs=2e-6)
        p0[after.tokens[0, i]] = 0
        best = p0.sort(descending=True).values[:4].tolist()
        assert [p for _, p in token.alternatives] == pytest.approx(best, abs=2e-6)
    assert all((token.p is None) == token.given for token in made.tokens)


def test_greedy_tokens_are_at_least_as_probable_as_their_alternatives(model):
    made = record(model, canvas(model), model.tokenizer, rule="confidence", steps=5, seed=0, temperature=0.0)
    written = [token for token in made.tokens if not token.given]
    assert all(token.p >= max(p for _, p in token.alternatives) and len(token.alternatives) == 3 for token in written)
    assert all(t.p is None for t in record(model, canvas(model), model.tokenizer, top=None, steps=2, seed=0).tokens)


def test_noise_that_does_not_commit_settles_in_the_last_frame(small_tokenizer):
    model = diffusion(uniform=True)
    made = record(model, Canvas.prompt([1, 2], 8), small_tokenizer, steps=6, seed=1)
    assert not made.commits
    assert {token.committed_at for token in made.tokens} == {None, made.frames[-1].step}
    assert all(text is not None for k in range(len(made.frames)) for text in made.texts(k))
    last = [max(k for k, frame in enumerate(made.frames) if i in dict(frame.changes)) for i in range(2, 8)]
    assert made.settled() == [None, None, *last] and len(set(last)) > 1
    assert all(0 < token.p <= 1 for token in made.tokens[2:])


def test_a_block_model_is_recorded_block_by_block(small_tokenizer):
    made = record(in_blocks(), Canvas.prompt([1, 2], 12), small_tokenizer, rule="first-hitting", seed=1)
    settled = made.settled()
    assert settled[:2] == [None, None] and sorted(settled[2:]) == list(range(1, 11))
    assert max(settled[2:4]) < min(settled[4:8]) and max(settled[4:8]) < min(settled[8:])  # blocks of 4
    assert all(
        token.p is not None and token.committed_at == k for token, k in zip(made.tokens[2:], settled[2:], strict=True)
    )
    assert [frame.t for frame in made.frames] == sorted((frame.t for frame in made.frames), reverse=True)


def test_a_recording_is_plain_data(model):
    made = record(model, canvas(model), model.tokenizer, steps=3, seed=4, facts={"model": "small"})
    plain = json.loads(json.dumps(made.as_json()))
    assert plain["format"] == 1 and plain["facts"] == {"model": "small"} and len(plain["tokens"]) == len(made.tokens)
    changed = [position for frame in plain["frames"] for position, _ in frame["changes"]]
    assert sorted(set(changed)) == list(range(len(made.tokens)))  # a mask is what stands there before anything does
    assert plain["frames"][0]["changes"][0] == [0, made.texts(0)[0]]


def test_mistakes(model):
    with pytest.raises(ConfigError, match="2 rows"):
        Recorder(model.tokenizer, unmask.denoise(model, Canvas.blank(4, batch=2)))
    with pytest.raises(ConfigError, match="top is -1"):
        record(model, Canvas.blank(4), model.tokenizer, top=-1)
