"""What frames say of the tokens that became final, runs that go on with some of their rows, and seeds a row."""

import pytest
import torch
from tests.sampling.nets import diffusion

from unmask.errors import ConfigError
from unmask.random import fold, uniform
from unmask.sampling import Canvas, denoise

RULES = ["tweedie", "ancestral", "first-hitting", "confidence", "threshold"]


def double(kind="score", **options):
    return diffusion(kind, **options).to(dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES)
def test_top_is_the_networks_law_where_tokens_became_final(rule):
    model, canvas = double(), Canvas.template([3, 4], 10, batch=2)
    steps = None if rule in ("first-hitting", "threshold") else 5
    running = denoise(model, canvas, rule=rule, steps=steps, seed=1, temperature=0.5, top=2)
    plain = list(denoise(model, canvas, rule=rule, steps=steps, seed=1, temperature=0.5))
    final, seen = canvas.frozen, 0
    before = None
    for frame, other in zip(running, plain, strict=True):
        assert torch.equal(frame.tokens, other.tokens) and other.top is None
        assert torch.equal(frame.top.at, frame.committed & ~final)
        rows = frame.top.at.nonzero()
        for i, (row, position) in enumerate(rows.tolist()):
            t = before.times if before.times is not None else torch.full((2,), before.t, dtype=torch.float64)
            if rule in RULES[:2]:  # the others tell the network a time of their own
                law = model.log_p0(before.tokens, t)[row, position].exp()
                token = int(frame.tokens[row, position])
                torch.testing.assert_close(frame.top.p[i], law[token])
                law[token] = -1
                assert frame.top.other[i].tolist() == law.topk(2).indices.tolist()
                torch.testing.assert_close(frame.top.other_p[i], law.topk(2).values)
            assert 0 <= frame.top.p[i] <= 1 and frame.top.other_p[i].sum() + frame.top.p[i] <= 1 + 1e-12
        seen += len(rows)
        before, final = running.state, frame.committed
    assert seen == 20


def test_noise_that_does_not_commit_has_its_tops_in_the_last_frame():
    frames = list(denoise(double(uniform=True), Canvas.blank(8), rule="ancestral", steps=4, seed=0, top=0))
    assert [len(frame.top.p) for frame in frames] == [0, 0, 0, 0, 8]
    assert frames[-1].top.other.shape == (8, 0)


def test_without_top_nothing_stands_before_the_model():
    model = double()
    assert denoise(model, Canvas.blank(4), seed=0).run.model is model
    with pytest.raises(ConfigError, match="top is -1"):
        denoise(model, Canvas.blank(4), seed=0, top=-1)


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_kept_do_not_notice_that_others_left(rule):
    model, steps = double(), None if rule in ("first-hitting", "threshold") else 6
    whole = list(denoise(model, Canvas.blank(12, 4), rule=rule, steps=steps, seed=3))
    running = denoise(model, Canvas.blank(12, 4), rule=rule, steps=steps, seed=3)
    next(running), next(running)
    running.keep(torch.tensor([3, 1]))
    frames = list(running)
    assert torch.equal(frames[-1].tokens, whole[-1].tokens[[3, 1]])
    assert frames[-1].committed.all() and len(frames) <= len(whole) - 2


def test_a_tensor_of_seeds_gives_each_row_its_own():
    position = torch.arange(5)
    together = uniform(torch.tensor([[fold(1, "x")], [fold(2**62, "y")]]), torch.tensor([[0], [7]]), position, 3)
    assert torch.equal(together[0], uniform(fold(1, "x"), 0, position, 3))
    assert torch.equal(together[1], uniform(fold(2**62, "y"), 7, position, 3))
