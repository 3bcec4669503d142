"""Rules that choose positions, in a world of 3 tokens x 3 positions: against the data's law and against enumeration."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from sampling.bayes import BayesModel, BayesPrediction, a_run, assert_counts, raw, states, tv
from unmask.diffusion import Absorbing, Geometric, LogLinear, Process
from unmask.sampling import RULES, Canvas, Remasking, denoise, sample, with_corrector
from unmask.sampling.loop import find_rule
from unmask.sampling.rules import State
from unmask.sampling.transforms import compose, temperature, top_k

from .unmasking import Chooser, above, at_random, bounded, by_score, run_law
from .world import CLOSED, World

WORLD = World.make(3, 3, seed=71, sharpness=1.6)  # confidence, margin and entropy disagree in it
MASK = 3
ABSORBING = Absorbing(3, LogLinear(1e-6))
ORDERS = ["confidence", "entropy", "left-to-right", "margin", "random-order"]
N = 30_000

# name: (rule, options, steps, the same by enumeration of `n` open positions)
PARALLEL: dict[str, tuple[str, dict, int | None, object]] = {
    "confidence": ("confidence", {}, 2, lambda n: by_score("confidence", 2, n)),
    "entropy": ("entropy", {}, 2, lambda n: by_score("entropy", 2, n)),
    "margin": ("margin", {}, 2, lambda n: by_score("margin", 2, n)),
    "left-to-right": ("left-to-right", {}, 2, lambda n: by_score("left-to-right", 2, n)),
    "random-order": ("random-order", {}, 2, lambda n: at_random(2, n)),
    "all-at-once": ("confidence", {}, 1, lambda n: by_score("confidence", 1, n)),
    "threshold-low": ("threshold", {"tau": 0.55}, None, lambda n: above(0.55)),
    "threshold-high": ("threshold", {"tau": 0.65}, None, lambda n: above(0.65)),
    "bounded-tight": ("entropy-bounded", {"gamma": 0.5}, None, lambda n: bounded(0.5)),
    "bounded-loose": ("entropy-bounded", {"gamma": 0.8}, None, lambda n: bounded(0.8)),
}
CANVASES = {"blank": [MASK, MASK, MASK], "prompt": [1, MASK, MASK], "gap": [MASK, 2, MASK]}


def canvas(x: list[int], batch: int) -> Canvas:
    row = torch.tensor([x]).repeat(batch, 1)
    return Canvas(row.masked_fill(row == MASK, 0), row != MASK)


def conditional(x: list[int]) -> Tensor:
    fits = torch.stack([(WORLD.tokens[:, i] == v) | (v == MASK) for i, v in enumerate(x)]).all(0)
    law = torch.where(fits, WORLD.p, 0.0)
    return law / law.sum()


def counts(tokens: Tensor) -> Tensor:
    return torch.bincount(WORLD.index(tokens), minlength=len(WORLD.p))


@pytest.mark.parametrize("x", CANVASES.values(), ids=CANVASES.keys())
@pytest.mark.parametrize("rule", ["first-hitting", *ORDERS])
def test_one_token_a_move_samples_the_law_of_the_data(rule: str, x: list[int]) -> None:
    """The exact posterior, one position at a time, whatever the order: no error at all, from prompts and gaps too."""
    opened = x.count(MASK)
    chooser = at_random(opened, opened) if rule in ("first-hitting", "random-order") else by_score(rule, opened, opened)
    torch.testing.assert_close(run_law(WORLD, tuple(x), chooser), conditional(x), rtol=0, atol=1e-12)
    out = sample(
        BayesModel(WORLD, ABSORBING),
        canvas(x, N),
        rule=rule,
        seed=3,
        **({} if rule == "first-hitting" else {"steps": opened}),
    )
    assert (out.rule, out.reads, out.nfe, out.steps, out.clipped_mass) == (rule, "p0", opened, opened, 0)
    assert_counts(counts(out.tokens), conditional(x))


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
def test_first_hitting_is_exact_under_every_schedule_and_over_raw_scores(name: str) -> None:
    for model in (BayesModel(WORLD, CLOSED[name]), raw(WORLD, CLOSED[name])):
        out = sample(model, Canvas.blank(3, batch=N), rule="first-hitting", seed=8)
        assert out.nfe == model.calls == 3
        assert_counts(counts(out.tokens), WORLD.p)


@pytest.mark.parametrize("reshape", [None, {"temperature": 0.7, "top_k": 2}], ids=["plain", "cool-top-k"])
@pytest.mark.parametrize("case", PARALLEL)
def test_many_tokens_a_move_follow_their_enumerated_law(case: str, reshape: dict | None) -> None:
    """Not the data's law, but exactly the rule's own: positions by the network's p0, tokens by the reshaped one."""
    rule, options, steps, made = PARALLEL[case]
    transform = None if reshape is None else compose(temperature(0.7), top_k(2))
    for x in (CANVASES["blank"], CANVASES["gap"]):
        law = run_law(WORLD, tuple(x), made(x.count(MASK)), transform)
        taken = {} if steps is None else {"steps": steps}
        out = sample(
            BayesModel(WORLD, ABSORBING), canvas(x, N), rule=rule, seed=6, **taken, **options, **(reshape or {})
        )
        assert_counts(counts(out.tokens), law)
        given = torch.tensor(x) != MASK
        assert (out.tokens[:, given] == torch.tensor(x)[given]).all()
        assert steps is None or out.steps == min(steps, x.count(MASK))


def test_the_enumerated_laws_are_many() -> None:
    """So that the test above tells the rules apart, and from the data."""
    laws = {name: run_law(WORLD, (MASK,) * 3, made(3)) for name, (*_, made) in PARALLEL.items()}
    assert min(tv(law, WORLD.p) for law in laws.values()) > 0.02
    del laws["left-to-right"]  # of three positions an order leaves one for last: there are no four orders
    names = list(laws)
    assert min(tv(laws[a], laws[b]) for i, a in enumerate(names) for b in names[:i]) > 0.02


DETERMINISTIC = {k: v for k, v in PARALLEL.items() if k != "random-order"}


@pytest.mark.parametrize("case", DETERMINISTIC)
def test_from_every_state_the_positions_are_the_enumerated_ones(case: str) -> None:
    """Exactly, without any chance; the shares of the orders are those of a first move."""
    rule, options, steps, made = PARALLEL[case]
    x = states(ABSORBING, 3)
    run = a_run(BayesModel(WORLD, ABSORBING), Canvas(torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)))
    after = find_rule(run.model, rule, steps, **options)(run, State(x, 1.0))
    for before, now in zip(x.tolist(), after.tokens.tolist(), strict=True):
        turned = tuple(i for i in range(3) if before[i] != now[i])
        chooser: Chooser = made(before.count(MASK))
        p0 = _p0(before)
        assert turned == (tuple(sorted(chooser(p0, 0)[0][1])) if p0 else ())
        assert all(now[i] == before[i] for i in range(3) if before[i] != MASK)


def _p0(x: list[int]) -> dict[int, list[float]]:
    rows = WORLD.bayes(ABSORBING)(torch.tensor([x]), torch.tensor([0.5]).double())[0].exp()
    return {i: rows[i].tolist() for i in range(3) if x[i] == MASK}


@pytest.mark.parametrize("rule", ORDERS)
def test_an_order_never_sees_the_draw(rule: str) -> None:
    """Whatever is drawn, and however it is reshaped, the first move unmasks the same positions."""
    model, where, drawn = BayesModel(WORLD, ABSORBING), [], []
    for options in ({}, {"temperature": 0.0}, {"top_k": 1}, {"temperature": 3.0}):
        running = denoise(model, Canvas.blank(3, batch=200), rule=rule, steps=3, seed=1, **options)
        next(running)
        first = next(running).tokens
        where.append(first != MASK)
        drawn.append(first)
    assert all(torch.equal(w, where[0]) for w in where) and int(where[0].sum()) == 200
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[3])
    if rule != "random-order":  # nor does the seed matter
        assert len(where[0].unique(dim=0)) == 1
    else:
        assert len(where[0].unique(dim=0)) == 3


@dataclasses.dataclass
class Listening(BayesModel):
    """Keeps the times that the network is told, and the masks that it is told them with."""

    told: list[tuple[Tensor, Tensor]] = dataclasses.field(default_factory=list)

    def predict(self, xt: Tensor, t: Tensor) -> BayesPrediction:
        self.told.append((t, (xt == MASK).sum(1)))
        return super().predict(xt, t)


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
def test_the_times_of_first_hitting_are_those_of_the_process(name: str) -> None:
    """What 1 - alpha does between hits, to the power of the masks left, is uniform: Kolmogorov's distance."""
    model, n = Listening(WORLD, CLOSED[name]), 20_000
    sample(model, Canvas.blank(3, batch=n), rule="first-hitting", seed=2)
    schedule, lost, seen = model.process.schedule, torch.ones(n).double(), []
    lost = schedule.one_minus_alpha(lost)
    for t, masks in model.told:
        now = schedule.one_minus_alpha(t)
        seen.append((now / lost) ** masks)
        lost = now
    grid = (torch.arange(n).double() + 0.5) / n
    for u in seen:
        assert float((u.sort().values - grid).abs().max()) < 2 / n**0.5
    assert float(torch.corrcoef(torch.stack(seen)).triu(1).abs().max()) < 5 / n**0.5
    assert len(model.told[0][0].unique()) == n  # each row has its own


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
@pytest.mark.parametrize("rule", ["confidence", "random-order", "threshold"])
def test_a_row_is_told_the_time_that_fits_its_masks(rule: str, name: str) -> None:
    model = Listening(WORLD, CLOSED[name])
    rows = Canvas(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[False, False, False], [False, True, False]]))
    sample(model, rows, rule=rule, seed=0, **({"tau": 1.0} if rule == "threshold" else {"steps": 3}))
    opened, schedule = torch.tensor([3, 2]), model.process.schedule
    assert [masks.tolist() for _, masks in model.told] == [[3, 2], [2, 1], [1]]  # a finished row is left out
    for t, masks in model.told:
        want = masks / opened[: len(masks)] * schedule.one_minus_alpha(torch.ones(1).double())
        some = masks > 0
        torch.testing.assert_close(schedule.one_minus_alpha(t)[some], want[some])
    assert model.told[0][0].tolist() == pytest.approx([1, 1])


# ---------------------------------------------------------------------------------------------------- correctors


def marginal(process: Process, t: float) -> Tensor:
    """The data's law at t over `states`: [X]."""
    x = states(process, WORLD.length)
    return WORLD.log_likelihood(process, x, torch.full((len(x),), t).double()).exp() @ WORLD.p


def kernel(process: Process, eta: float, t: float) -> Tensor:
    """What remasking does to every state at t, by its definition (ReMDM's cap, alpha standing still): [X, X]."""
    x = states(process, WORLD.length)
    alpha = float(process.alpha(torch.tensor([t]).double()))
    r = min(eta, (1 - alpha) / alpha)
    p0 = WORLD.bayes(process)(x, torch.full((len(x),), t).double()).exp()
    stay = torch.nn.functional.one_hot(x, MASK + 1).double()
    to_mask = torch.nn.functional.one_hot(torch.tensor(MASK), MASK + 1).double()
    fill = r * alpha / (1 - alpha)
    filled = fill * torch.nn.functional.pad(p0, (0, 1)) + (1 - fill) * to_mask
    each = torch.where((x == MASK)[..., None], filled, (1 - r) * stay + r * to_mask)
    return torch.stack([each[:, i][:, x[:, i]] for i in range(WORLD.length)]).prod(0)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_remasking_leaves_the_noisy_law_as_it_is_to_second_order(t: float) -> None:
    """A state changes with probability of order eta, the law by order eta^2: half the eta, a quarter of the change."""
    p = marginal(ABSORBING, t)
    change = [tv(p @ kernel(ABSORBING, eta, t), p) for eta in (0.04, 0.02)]
    moved = [float(p @ (1 - kernel(ABSORBING, eta, t).diag())) for eta in (0.04, 0.02)]
    assert 3.6 < change[0] / change[1] < 4.4
    assert 1.8 < moved[0] / moved[1] < 2.1
    assert change[1] < 0.05 * moved[1]


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
def test_remasking_is_drawn_from_the_law_it_states(name: str) -> None:
    process, n = CLOSED[name], 500
    x = states(process, 3)
    start = x.repeat_interleave(n, 0)
    run = a_run(BayesModel(WORLD, process), Canvas(torch.zeros_like(start), torch.zeros_like(start, dtype=torch.bool)))
    for step, (t, eta) in enumerate([(0.6, 0.3), (0.05, 0.9)]):  # the second is capped by (1 - alpha) / alpha
        after = Remasking(eta)(run, State(start, t, step=step))
        assert (after.t, after.step, after.done) == (t, step, False) and after.nfe == 1
        index = (after.tokens * torch.tensor([16, 4, 1])).sum(-1).view(len(x), n)
        got = torch.zeros(len(x), len(x), dtype=torch.int64).scatter_add(1, index, torch.ones_like(index))
        assert_counts(got, kernel(process, eta, t))


@pytest.mark.parametrize("rule", ["ancestral", "first-hitting", "confidence"])
def test_a_corrected_run_ends_clean_and_keeps_what_is_given(rule: str) -> None:
    made = with_corrector(
        find_rule(BayesModel(WORLD, ABSORBING), rule, None if rule == "first-hitting" else 3), Remasking(0.5)
    )
    blank, gap = Canvas.blank(3, batch=50), canvas(CANVASES["gap"], 50)
    rows = Canvas(torch.cat([blank.tokens, gap.tokens]), torch.cat([blank.frozen, gap.frozen]))
    frames = list(denoise(BayesModel(WORLD, ABSORBING), rows, rule=made, seed=0))
    assert made.name == f"{rule}+remasking" and frames[-1].t == 0 and bool((frames[-1].tokens < 3).all())
    taken = 0
    for before, after in itertools.pairwise(frames):
        assert (after.tokens[50:, 1] == 2).all()
        assert torch.equal(after.tokens[before.committed], before.tokens[before.committed])
        taken += int(((before.tokens != MASK) & (after.tokens == MASK)).sum())
    assert taken > 0 and (rule == "first-hitting" or len(frames) == 4)


def test_a_corrector_brings_a_coarse_run_nearer_to_the_data() -> None:
    """By enumeration: three ancestral steps, with and without remasking after each."""
    process, law = ABSORBING, {}
    x = states(process, 3)
    rule = RULES["ancestral"](4)
    for eta in (0.0, 0.9):
        at = (x == MASK).all(1).double()
        for t, s in itertools.pairwise(rule.times):
            at = at @ _ancestral(process, t, s)
            for _ in range(2 if s > 0 and eta > 0 else 0):
                at = at @ kernel(process, eta, s)
        clean = (x < 3).all(1)
        law[eta] = torch.zeros_like(WORLD.p).index_add(0, WORLD.index(x[clean]), at[clean])
        assert float(law[eta].sum()) == pytest.approx(1, abs=1e-12)
    assert tv(law[0.9], WORLD.p) < 0.97 * tv(law[0.0], WORLD.p)


def _ancestral(process: Process, t: float, s: float) -> Tensor:
    x = states(process, 3)
    p0 = WORLD.bayes(process)(x, torch.full((len(x),), t).double()).exp()
    lost_t, lost_s = (float(process.schedule.one_minus_alpha(torch.tensor([v]).double())) for v in (t, s))
    turn = 1.0 if s == 0 else (lost_t - lost_s) / lost_t
    mask = torch.nn.functional.one_hot(torch.tensor(MASK), MASK + 1).double()
    stay = torch.nn.functional.one_hot(x, MASK + 1).double()
    masked = turn * torch.nn.functional.pad(p0, (0, 1)) + (1 - turn) * mask
    each = torch.where((x == MASK)[..., None], masked, stay)
    return torch.stack([each[:, i][:, x[:, i]] for i in range(3)]).prod(0)


def test_a_schedule_that_ends_above_zero_noise_is_no_matter() -> None:
    """Geometric noise with alpha(0) = 0.95: no mask is left, and the law is the data's."""
    out = sample(
        BayesModel(WORLD, Absorbing(3, Geometric(0.05, 14.0))), Canvas.blank(3, batch=N), rule="first-hitting", seed=1
    )
    assert_counts(counts(out.tokens), WORLD.p)
