"""Rules that choose positions on networks: batches, counts of evaluations, gaps, draws, mistakes."""

import dataclasses
import itertools

import pytest
import torch

from exact.world import CLOSED, MATRICES, World
from unmask.diffusion import Absorbing, LogLinear
from unmask.errors import ConfigError, UnmaskError
from unmask.model import DiffusionLM
from unmask.sampling import RULES, Canvas, Remasking, Rule, denoise, sample, with_corrector
from unmask.sampling.named import check_process
from unmask.sampling.orders import ranks, rounded
from unmask.sampling.rules import Run, State
from unmask.sampling.unmasking import FirstHitting, Unmasking, entropy_bounded, in_order, threshold

from .bayes import BayesModel, raw
from .nets import diffusion

MODELS = {"raw": diffusion(), "x0": diffusion("x0")}
for each in MODELS.values():
    each.to(dtype=torch.float64)
MADE: dict[str, Rule] = {
    "confidence": in_order("confidence", 4),
    "entropy": in_order("entropy", 4),
    "entropy-bounded": entropy_bounded(gamma=1.0),
    "first-hitting": FirstHitting(),
    "left-to-right": in_order("left-to-right", 4),
    "margin": in_order("margin", 4),
    "random-order": in_order("random-order", 4),
    "threshold": threshold(tau=0.5),
}
WORLD = World.make(3, 2)
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
each_rule = pytest.mark.parametrize("rule", MADE.values(), ids=MADE.keys())


def uneven() -> Canvas:
    """Rows with 10, 3, 0, 12 and 6 open positions of 12."""
    frozen = torch.zeros(5, 12, dtype=torch.bool)
    frozen[0, :2] = frozen[1, 1:10] = frozen[2] = frozen[4, ::2] = True
    return Canvas(torch.arange(60).view(5, 12) % 7, frozen)


def test_every_rule_of_this_kind_is_here() -> None:
    assert {name for name in RULES if name not in ("ancestral", "analytic", "euler", "tweedie")} == MADE.keys()
    assert all(rule.name == name for name, rule in MADE.items())


@each_rule
@each_model
def test_a_sample_does_not_depend_on_the_batch_it_is_in(model: DiffusionLM, rule: Rule) -> None:
    """Although rows have more or less to write, and are at different times; with a corrector too."""
    canvas = uneven()
    for made in (rule, with_corrector(rule, Remasking(0.2))):
        options = {"rule": made, "seed": 7, "temperature": 1.5}
        whole = sample(model, canvas, **options)
        for i in range(canvas.batch):
            row = Canvas(canvas.tokens[i : i + 1], canvas.frozen[i : i + 1])
            assert torch.equal(sample(model, row, first_sample=i, **options).tokens[0], whole.tokens[i])


@each_rule
@each_model
def test_a_run_on_a_network(model: DiffusionLM, rule: Rule) -> None:
    canvas, last = uneven(), None
    for frame in denoise(model, canvas, rule=rule, temperature=0.8, top_p=0.9, top_k=5, min_p=0.01, seed=1):
        assert torch.equal(frame.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
        assert last is None or (frame.t < last.t and frame.nfe == last.nfe + 1)
        if last is not None:
            assert torch.equal(frame.tokens[last.committed], last.tokens[last.committed])
            busy = ~last.committed.all(1)
            assert (frame.committed.sum(1) > last.committed.sum(1))[busy].all()  # a row moves on, or is done
        last = frame
    assert last.t == 0 and bool((last.tokens < 7).all()) and bool(last.committed.all())


def test_what_a_row_costs() -> None:
    """No more than its open positions, no more than the steps; all of them alone, if first-hitting."""
    for opened in (1, 3, 12):
        canvas = Canvas.blank(12) if opened == 12 else Canvas.prompt([1] * (12 - opened), 12)
        for rule in RULES:
            if isinstance(MADE.get(rule), Unmasking) and rule not in ("threshold", "entropy-bounded"):
                for steps in (1, 2, 5, 64):
                    out = sample(MODELS["x0"], canvas, rule=rule, steps=steps, seed=0)
                    assert out.nfe == out.steps == min(steps, opened)
        assert sample(MODELS["x0"], canvas, rule="first-hitting", seed=0).nfe == opened
        assert sample(MODELS["x0"], canvas, rule="threshold", tau=1.0, seed=0).nfe == opened
        assert sample(MODELS["x0"], canvas, rule="threshold", tau=0.0, seed=0).nfe == 1
        assert sample(MODELS["x0"], canvas, rule="entropy-bounded", gamma=0.0, seed=0).nfe == opened
        assert sample(MODELS["x0"], canvas, rule="entropy-bounded", gamma=1e9, seed=0).nfe == 1
    model = BayesModel(WORLD, Absorbing(3, LogLinear(1e-6)))
    given = Canvas(torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.bool))
    for rule in MADE.values():
        out = sample(model, given, rule=rule)
        assert (out.nfe, out.steps, model.calls) == (0, 0, 0) and torch.equal(out.tokens, given.tokens)


def test_shares_are_even_and_the_larger_come_first() -> None:
    canvas = Canvas.prompt([1], 12)
    frames = list(denoise(MODELS["x0"], canvas, rule="random-order", steps=4, seed=0))
    counts = [int(f.committed.sum()) for f in frames]
    assert [b - a for a, b in itertools.pairwise(counts)] == [3, 3, 3, 2]


def test_the_head_runs_only_where_a_token_turns_if_the_order_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = MODELS["x0"], []
    head = model.net.head
    monkeypatch.setattr(model.net, "head", lambda h: rows.append(len(h)) or head(h))
    for rule in ("first-hitting", "left-to-right", "random-order"):
        rows.clear()
        sample(model, Canvas.blank(12, batch=4), rule=MADE[rule], seed=0)
        assert sum(rows) == 48
    rows.clear()
    sample(model, Canvas.blank(12), rule=MADE["confidence"], seed=0)
    assert rows == [12, 3, 9, 3, 6, 3, 3, 3]


def test_rows_are_read_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in MADE.values():
        whole = sample(MODELS["raw"], uneven(), rule=rule, seed=2).tokens
        with monkeypatch.context() as patch:
            patch.setattr("unmask.sampling.rules.BYTES", 320)
            assert torch.equal(sample(MODELS["raw"], uneven(), rule=rule, seed=2).tokens, whole)


def test_equal_scores_are_in_an_order_of_chance_that_the_batch_does_not_change() -> None:
    """To a rotary network all masks of a blank canvas are alike, but for how a product rounds."""
    model, canvas = MODELS["x0"], Canvas.blank(12, batch=300)
    spread = model.predict(torch.full((1, 12), 7), torch.ones(1).double()).log_p0()[0].amax(-1)
    assert 0 <= float(spread.max() - spread.min()) < 1e-12
    for rule in ("confidence", "entropy", "margin", "threshold"):
        running = denoise(model, canvas, rule=rule, seed=0, **({"tau": 1.0} if rule == "threshold" else {"steps": 12}))
        next(running)
        first = next(running).committed
        assert (first.sum(1) == 1).all()
        assert (first.sum(0) - 25).abs().max() < 25  # 5 sd
    score = torch.tensor([[0.3, 0.1, 0.3, 0.9]])
    u = torch.tensor([[0.8, 0.1, 0.2, 0.9]])
    at = torch.tensor([[True, True, True, False]])
    assert ranks(score, at, u).tolist() == [[1, 2, 0, 3]]
    assert rounded(score).tolist() == rounded(score + 1e-7).tolist() != rounded(score + 1e-3).tolist()


def test_left_to_right_is_left_to_right_and_greedy_is_greedy() -> None:
    seen = []
    for frame in denoise(MODELS["x0"], Canvas.template([1], 3, [2], 3), rule="left-to-right", steps=6, temperature=0):
        seen.append(frame.committed[0].tolist())
    assert [row.index(False) if False in row else 8 for row in seen] == [1, 2, 3, 5, 6, 7, 8]
    given = Canvas.template([1], 3, [2], 3)  # a blank one has equal scores, whose order is the seed's
    runs = [sample(MODELS["x0"], given, rule="confidence", steps=5, temperature=0, seed=s) for s in (0, 1)]
    assert torch.equal(runs[0].tokens, runs[1].tokens)


def test_generators_and_the_published_draw() -> None:
    for rule in MADE.values():
        for options in ({"generator": torch.Generator}, {"seed": int, "draws": "float32-race"}):
            made = [
                sample(
                    MODELS["x0"],
                    uneven(),
                    rule=rule,
                    **{k: v if k == "draws" else _chance(v) for k, v in options.items()},
                )
                for _ in range(2)
            ]
            assert torch.equal(made[0].tokens, made[1].tokens) and bool((made[0].tokens < 7).all())


def _chance(kind: type) -> object:
    return torch.Generator().manual_seed(3) if kind is torch.Generator else 3


@each_rule
def test_noise_that_does_not_commit_is_one_clear_error(rule: Rule) -> None:
    for process in (CLOSED["uniform-loglinear"], MATRICES["matrix-skew"], MATRICES["matrix-absorbing"]):
        for model in (BayesModel(WORLD, process), raw(WORLD, process)):
            for given in (rule, rule.name):
                with pytest.raises(
                    ConfigError, match=rf"rule {rule.name} needs noise that commits .*'s is \w+\nhint: use"
                ):
                    denoise(model, Canvas.blank(2), rule=given)


def test_a_corrector_is_held_to_the_same() -> None:
    uniform = CLOSED["uniform-loglinear"]
    made = with_corrector(RULES["ancestral"](4), Remasking())
    with pytest.raises(ConfigError, match=r"rule ancestral\+remasking needs noise that commits"):
        denoise(BayesModel(WORLD, uniform), Canvas.blank(2), rule=made)
    with pytest.raises(ConfigError, match=r"eta is 1\.5"):
        Remasking(1.5)

    @dataclasses.dataclass(frozen=True)
    class Idle:
        name: str = "idle"

        def __call__(self, run: object, state: object) -> object:
            return state

    idle = with_corrector(RULES["ancestral"](4), Idle())
    check_process(idle, uniform)
    for process in (uniform, CLOSED["absorbing-loglinear"]):
        model = BayesModel(WORLD, process)
        plain = sample(model, Canvas.blank(2, batch=20), rule="ancestral", steps=4, seed=0)
        done = sample(model, Canvas.blank(2, batch=20), rule=idle, seed=0)
        assert torch.equal(plain.tokens, done.tokens) and (done.rule, done.steps) == ("ancestral+idle", 4)


def test_a_network_that_says_nan_is_an_error() -> None:
    model = diffusion("x0")
    with torch.no_grad():
        for p in model.net.parameters():
            p.fill_(float("nan"))
    for rule in MADE.values():
        with pytest.raises(UnmaskError, match="NaN"):
            sample(model, Canvas.blank(12), rule=rule, seed=0)


@dataclasses.dataclass(frozen=True)
class Forgetful:
    """Masks every second token again after the second move, and says nothing of it to the state."""

    name: str = "forgetful"

    def __call__(self, run: Run, state: State) -> State:
        if state.step != 2:
            return state
        tokens = state.tokens.clone()
        tokens[:, ::2] = run.model.process.num_states - 1
        return dataclasses.replace(state, tokens=tokens)


@dataclasses.dataclass(frozen=True)
class FromOthers:
    """A rule made of another one and `Forgetful`."""

    rule: Rule
    name: str = "from-others"
    reads: str = "p0"
    start: float = 1.0

    def __call__(self, run: Run, state: State) -> State:
        return Forgetful()(run, self.rule(run, state))


@pytest.mark.parametrize("make", [lambda rule: with_corrector(rule, Forgetful()), FromOthers])
def test_what_others_mask_again_is_found_and_filled(make) -> None:
    for step, frame in enumerate(denoise(MODELS["x0"], uneven(), rule=make(RULES["ancestral"](6)), seed=3)):
        masks = MODELS["x0"].process.is_mask(frame.tokens)
        if step == 2:
            assert bool(masks[:, ::2].logical_or(uneven().frozen[:, ::2]).all())
    assert step >= 6 and not bool(masks.any())
