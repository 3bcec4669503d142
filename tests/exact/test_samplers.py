"""Samplers in a world of 3 tokens x 2 positions: their law against the data's, against enumeration, by counting."""

import dataclasses

import pytest
import torch
from torch import Tensor

from sampling.bayes import BayesModel, a_run, assert_counts, chain_law, raw, rows_law, states, tv
from unmask.diffusion import Absorbing, Geometric, LogLinear, Process
from unmask.sampling import RULES, Canvas, denoise, sample
from unmask.sampling.loop import find_rule
from unmask.sampling.rules import Move, State, draw_any, draw_committing, to_clean
from unmask.sampling.transforms import Transform, compose, temperature, top_k, top_p

from .world import CLOSED, MATRICES, World

WORLD = World.make(3, 2)
NAMES = ["ancestral", "euler", "tweedie"]
SOME = {k: CLOSED[k] for k in ("absorbing-loglinear", "uniform-loglinear", "hybrid-loglinear")} | {
    k: MATRICES[k] for k in ("matrix-skew", "matrix-uneven-mask")
}
some = pytest.mark.parametrize("process", SOME.values(), ids=SOME.keys())
SMOOTH = {k: v for k, v in CLOSED.items() if k != "hybrid-gidd"}
smooth = pytest.mark.parametrize("process", SMOOTH.values(), ids=SMOOTH.keys())
each_rule = pytest.mark.parametrize("rule", NAMES)
RESHAPE = compose(temperature(0.7), top_k(2))


def prefix(token: int, batch: int = 1) -> Canvas:
    return Canvas.prompt([token], 2, batch=batch)


def conditional(token: int) -> Tensor:
    """p(text | first token): [W]."""
    law = torch.where(WORLD.tokens[:, 0] == token, WORLD.p, 0.0)
    return law / law.sum()


def masked(process: Process, x: Tensor) -> Tensor:
    return process.is_mask(x) if process.commits else torch.ones_like(x, dtype=torch.bool)


@each_rule
@smooth
def test_rules_converge_to_the_law_of_the_data_at_first_order(process: Process, rule: str) -> None:
    """Without any chance: the law of a whole run by enumeration. Twice the steps, half the distance."""
    run = a_run(BayesModel(WORLD, process), Canvas.blank(2))
    coarse, fine = (tv(chain_law(run, RULES[rule](steps, 1.0)), WORLD.p) for steps in (64, 128))
    assert fine < 0.006
    assert 1.8 < coarse / fine < 2.3


@each_rule
def test_rules_converge_more_slowly_where_noise_grows_as_a_root(rule: str) -> None:
    """GIDD's random tokens come and go as sqrt(t) and sqrt(1 - t): between order a half and order one."""
    run = a_run(BayesModel(WORLD, CLOSED["hybrid-gidd"]), Canvas.blank(2))
    coarse, fine = (tv(chain_law(run, RULES[rule](steps, 1.0)), WORLD.p) for steps in (64, 128))
    assert fine < 0.02
    assert 1.4 < coarse / fine < 2.0


@each_rule
@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
def test_clamping_is_exact_infilling_for_absorbing_noise(name: str, rule: str) -> None:
    """One open position is no approximation at all: no other one moves beside it. Only alpha(1) > 0 is left."""
    process = CLOSED[name]
    for token in range(3):
        law = chain_law(a_run(BayesModel(WORLD, process), prefix(token)), RULES[rule](8, 1.0))
        assert tv(law, conditional(token)) < 2e-5


def test_clamping_is_approximate_for_uniform_noise() -> None:
    """A frozen clean token is no noisy one: the distance stays, however many the steps. The docs say so."""
    run = a_run(BayesModel(WORLD, CLOSED["uniform-loglinear"]), prefix(1))
    coarse, fine = (tv(chain_law(run, RULES["ancestral"](steps, 1.0)), conditional(1)) for steps in (64, 128))
    assert fine > 0.01
    assert coarse / fine < 1.2


def test_clamping_two_of_three_positions_converges_to_the_conditional() -> None:
    world = World.make(2, 4, seed=5)
    frozen = torch.tensor([[False, True, False, False]])
    model = BayesModel(world, Absorbing(2, LogLinear(1e-6)))
    run = a_run(model, Canvas(torch.ones(1, 4, dtype=torch.int64), frozen))
    want = torch.where(world.tokens[:, 1] == 1, world.p, 0.0)
    want = want / want.sum()
    coarse, fine = (tv(chain_law(run, RULES["tweedie"](steps, 1.0)), want) for steps in (32, 64))
    assert fine < 0.02
    assert 1.8 < coarse / fine < 2.2


@each_rule
@some
def test_one_step_is_drawn_from_the_law_it_states(process: Process, rule: str) -> None:
    n, x = 1000, states(process, 2)
    start = x.repeat_interleave(n, 0)
    canvas = Canvas(torch.zeros_like(start), torch.zeros_like(start, dtype=torch.bool))
    run = a_run(raw(WORLD, process, warp=0.3), canvas, seed=11)
    counts, laws = [], []
    for step, (t, s) in enumerate([(1.0, 0.7), (0.6, 0.3), (0.2, 0.0)]):
        move = dataclasses.replace(RULES[rule](1, 1.0), times=(t, s)).move(process, 0)
        draw = draw_committing if process.commits else draw_any
        after = draw(run, State(start, t, step), move, masked(process, start)).tokens
        law = rows_law(run, move, x, t)
        laws.append((law[:, 0, :, None] * law[:, 1, None, :]).flatten(1))
        index = (after * torch.tensor([process.num_states, 1])).sum(-1).view(len(x), n)
        counts.append(torch.zeros_like(laws[-1], dtype=torch.int64).scatter_add(1, index, torch.ones_like(index)))
    assert_counts(torch.cat(counts), torch.cat(laws))


@pytest.mark.parametrize("draws", ["exact", "float32-race"])
@each_rule
@some
def test_a_run_follows_the_chain_of_its_laws(process: Process, rule: str, draws: str) -> None:
    """At so few steps that the chain's law is not the data's, so that only the right chain passes."""
    model, canvas = raw(WORLD, process, warp=0.2), Canvas.blank(2, batch=20_000)
    out = sample(model, canvas, steps=3, rule=rule, seed=5, draws=draws)
    assert (out.rule, out.draws, out.seed, out.reads) == (rule, draws, 5, "p0" if rule == "ancestral" else "score")
    law = chain_law(a_run(model, canvas), find_rule(model, rule, 3))
    assert tv(law, WORLD.p) > 0.02
    assert_counts(torch.bincount(WORLD.index(out.tokens), minlength=9), law)


@pytest.mark.parametrize("reshape", [None, RESHAPE, top_p(0.6)], ids=["plain", "cool-top-k", "top-p"])
@pytest.mark.parametrize("warp", [0.0, 0.5])
@each_rule
def test_the_fast_draw_is_the_general_draw(rule: str, warp: float, reshape: Transform | None) -> None:
    """The same uniforms give the same tokens, from every state, through every move of a short run."""
    process = CLOSED["absorbing-loglinear"]
    start = states(process, 2).repeat_interleave(200, 0)
    canvas = Canvas(torch.zeros_like(start), torch.zeros_like(start, dtype=torch.bool))
    run = a_run(raw(WORLD, process, warp), canvas, reshape, seed=3)
    made = RULES[rule](3, 1.0)
    moves = [(t, made.move(process, i)) for i, t in enumerate(made.times[:-1])] + [(0.1, to_clean(made.reads))]
    turned = 0
    for i, (t, move) in enumerate(moves):
        at = process.is_mask(start)
        fast, general = (f(run, State(start, t, i), move, at) for f in (draw_committing, draw_any))
        assert torch.equal(fast.tokens, general.tokens)
        assert fast.decisions == general.decisions
        assert fast.clipped == pytest.approx(general.clipped, abs=1e-9)
        turned += int((fast.tokens != start).sum())
    assert turned > 1000


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
@each_rule
def test_the_law_of_the_fast_draw_is_the_general_law(rule: str, name: str) -> None:
    """From the mask: odds * s_y (or p0_y) for token y, the rest for the mask; a committed token stays."""
    process = CLOSED[name]
    x = states(process, 2)
    run = a_run(raw(WORLD, process, warp=0.5), Canvas.blank(2, batch=len(x)))
    made = RULES[rule](7, 1.0)
    for i, t in enumerate(made.times[1:-1], 1):
        move: Move = made.move(process, i)
        prediction = run.model.predict(x, torch.full((len(x),), t, dtype=torch.float64))
        at = process.is_mask(x)
        law = move.law(run, prediction, State(x, t), at)
        rows = (prediction.log_score(at) if made.reads == "score" else prediction.log_p0(at))[:, :3].exp()
        if move.s > 0:
            torch.testing.assert_close(law[:, :3], move.odds * rows, rtol=1e-9, atol=1e-14)
            total = 1.0 if made.reads == "p0" else prediction.log_total(at).exp()
            torch.testing.assert_close(law[:, 3], 1 - move.odds * total * torch.ones(len(rows)).double())
        else:
            torch.testing.assert_close(law[:, :3] / law[:, :3].sum(-1, keepdim=True), rows / rows.sum(-1, keepdim=True))
        settled = move.law(run, prediction, State(x, t), ~at)
        torch.testing.assert_close(settled, torch.nn.functional.one_hot(x[~at], 4).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("draws", ["exact", "float32-race"])
@each_rule
@some
def test_no_mask_leaves_and_frozen_tokens_stay(process: Process, rule: str, draws: str) -> None:
    canvas = Canvas(
        torch.tensor([[0, 1], [1, 2], [2, 0]]), torch.tensor([[True, False], [False, True], [False, False]])
    )
    seen = None
    frames = list(denoise(raw(WORLD, process, 0.4), canvas, steps=5, rule=rule, seed=1, draws=draws))
    assert frames[0].t > 0.9 and frames[-1].t == 0 and len(frames) == (6 if rule == "ancestral" else 7)
    for frame in frames:
        assert torch.equal(frame.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
        assert bool(frame.committed[canvas.frozen].all())
        if seen is not None:
            assert torch.equal(frame.tokens[seen.committed], seen.tokens[seen.committed])
            assert bool((frame.committed | ~seen.committed).all())
        seen = frame
    assert bool((frames[-1].tokens < 3).all()) and bool(frames[-1].committed.all())


@each_rule
def test_the_last_step_fills_whatever_is_left(rule: str) -> None:
    """A network that hardly ever unmasks, and a schedule whose alpha(0) is not 1: no mask leaves the loop."""
    process = Absorbing(3, Geometric(0.05, 14.0))
    model = raw(WORLD, process)
    model.warp = torch.full((2, 4), -40.0, dtype=torch.float64)
    out = sample(model, Canvas.blank(2, batch=500), steps=4, rule=rule, seed=2)
    assert bool((out.tokens < 3).all())
    if rule != "ancestral":  # nothing moved before the last step, which draws both positions apart
        first = torch.stack([WORLD.p[WORLD.tokens[:, 0] == v].sum() for v in range(3)])
        assert_counts(torch.bincount(out.tokens[:, 0], minlength=3)[None], first[None])


def test_an_euler_step_that_is_too_long_is_counted() -> None:
    """At t = 1 with alpha = 1e-6, the rate is 1e6 a unit of t: one step of two drops mass, and says how much."""
    process = CLOSED["uniform-loglinear"]
    out = sample(BayesModel(WORLD, process), Canvas.blank(2, batch=50), steps=2, rule="euler", seed=0)
    move, x = RULES["euler"](2, 1.0).move(process, 0), states(process, 2)
    run = a_run(BayesModel(WORLD, process), Canvas.blank(2, batch=len(x)))
    law = move.law(run, run.predict(State(x, 1.0)), State(x, 1.0), torch.ones_like(x, dtype=torch.bool))
    first = float(-law.clamp(max=0).sum(-1).mean())
    assert first > 1e5
    assert out.clipped_mass == pytest.approx(first / 3, rel=0.05)  # 2 steps and the last: 3 laws a position
    assert sample(BayesModel(WORLD, process), Canvas.blank(2), steps=64, rule="ancestral").clipped_mass == 0
