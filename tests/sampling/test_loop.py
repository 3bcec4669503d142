"""The loop: what it promises whatever the network says."""

import dataclasses
import math

import pytest
import torch

from exact.world import World
from unmask.diffusion import Absorbing, Geometric, LogLinear, Uniform
from unmask.errors import ConfigError, UnmaskError
from unmask.model import DiffusionLM
from unmask.sampling import RULES, Canvas, denoise, sample
from unmask.sampling.rules import State

from .bayes import BayesModel, raw
from .nets import diffusion

MODELS = {
    "raw-absorbing": diffusion(),
    "raw-uniform": diffusion(uniform=True),
    "x0-absorbing": diffusion("x0"),
    "x0-uniform": diffusion("x0", uniform=True),
}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
each_rule = pytest.mark.parametrize("rule", ["ancestral", "euler", "tweedie"])
WORLD = World.make(3, 2)


@each_rule
@each_model
def test_a_sample_does_not_depend_on_the_batch_it_is_in(model: DiffusionLM, rule: str) -> None:
    canvas = Canvas.prompt(torch.tensor([[1, 2], [3, 4], [1, 2], [5, 5]]), 12)
    whole = sample(model, canvas, steps=6, rule=rule, seed=7)
    assert len(whole.tokens.unique(dim=0)) == 4
    for i in range(4):
        row = Canvas(canvas.tokens[i : i + 1], canvas.frozen[i : i + 1])
        one = sample(model, row, steps=6, rule=rule, seed=7, first_sample=i)
        assert torch.equal(one.tokens[0], whole.tokens[i])


@each_rule
@each_model
def test_a_run_on_a_network(model: DiffusionLM, rule: str) -> None:
    canvas = Canvas.template([1, 2], 4, [3], 5, batch=3)
    last, frames = None, list(denoise(model, canvas, steps=5, rule=rule, temperature=0.8, top_p=0.9, top_k=5, seed=1))
    for frame in frames:
        assert torch.equal(frame.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
        assert frame.committed.shape == (3, 12) and frame.nfe <= len(frames)
        assert last is None or (frame.t < last.t and frame.nfe >= last.nfe)
        assert last is None or torch.equal(frame.tokens[last.committed], last.tokens[last.committed])
        last = frame
    assert last.t == 0 and bool((last.tokens < 7).all()) and bool(last.committed.all())


def test_the_default_rule_follows_the_parametrization() -> None:
    made = {name: sample(model, Canvas.blank(4), steps=2, seed=0) for name, model in MODELS.items()}
    assert {k: (v.rule, v.reads) for k, v in made.items()} == {
        "raw-absorbing": ("tweedie", "score"),
        "raw-uniform": ("tweedie", "score"),
        "x0-absorbing": ("ancestral", "p0"),
        "x0-uniform": ("ancestral", "p0"),
    }


def test_a_rule_can_be_an_object_and_analytic_is_tweedie() -> None:
    model, canvas = MODELS["raw-absorbing"], Canvas.blank(12, batch=2)
    by_name = sample(model, canvas, steps=5, rule="analytic", seed=3)
    as_object = sample(model, canvas, rule=RULES["tweedie"](5, 1.0), seed=3)
    assert torch.equal(by_name.tokens, as_object.tokens)
    assert by_name.steps == as_object.steps == 6 and by_name.rule == "tweedie"


def test_the_network_does_not_run_where_nothing_unmasks() -> None:
    """300 steps over 2 positions: at most 2 evaluations a sample, and what is counted is what ran."""
    for seed in range(5):
        model = BayesModel(WORLD, Absorbing(3, LogLinear(1e-6)))
        out = sample(model, Canvas.blank(2), steps=300, rule="ancestral", seed=seed)
        assert out.nfe == model.calls and 1 <= out.nfe <= 2 and out.steps == 300
        scored = raw(WORLD, model.process)
        out = sample(scored, Canvas.blank(2), steps=300, rule="tweedie", seed=seed)
        assert out.nfe == scored.calls and 2 < out.nfe < 301 and out.steps == 301
    frozen = Canvas(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    assert sample(raw(WORLD, Uniform(3, LogLinear())), frozen, steps=5, seed=0).nfe == 0


def test_the_head_runs_only_where_a_token_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = MODELS["x0-absorbing"], []
    head = model.net.head
    monkeypatch.setattr(model.net, "head", lambda h: rows.append(len(h)) or head(h))
    out = sample(model, Canvas.blank(12, batch=4), steps=20, rule="ancestral", seed=0)
    assert sum(rows) == 48 and len(rows) == out.nfe


def test_rows_of_a_law_are_drawn_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = Canvas.blank(12, batch=3)
    for model in MODELS.values():
        whole = sample(model, canvas, steps=4, seed=2).tokens
        with monkeypatch.context() as patch:
            patch.setattr("unmask.sampling.rules.BYTES", 320)
            assert torch.equal(sample(model, canvas, steps=4, seed=2).tokens, whole)


def test_evaluations_of_a_row_are_the_moves_that_unmask_some_of_it() -> None:
    """T steps on an even grid: each position unmasks in any of them alike, so T (1 - (1 - 1/T)^L) are not empty."""
    model, length, rows = MODELS["x0-absorbing"], 12, 3000
    for steps in (3, 20, 200):
        nfe = sample(model, Canvas.blank(length, batch=rows), steps=steps, rule="ancestral", seed=4).row_nfe
        assert nfe is not None and nfe.shape == (rows,) and int(nfe.max()) <= min(length, steps)
        mean, error = float(nfe.double().mean()), float(nfe.double().std()) / rows**0.5
        assert abs(mean - steps * (1 - (1 - 1 / steps) ** length)) < 4 * error + 1e-9


@pytest.mark.parametrize("rule", ["ancestral", "tweedie", "euler", "first-hitting", "confidence", "threshold"])
def test_the_network_sees_only_rows_that_need_it_and_says_the_same(rule: str) -> None:
    """Rows with one to twelve open positions, each by itself and all together."""
    frozen = torch.arange(12) >= torch.tensor([[1], [12], [4], [7]])
    canvas = Canvas(torch.full((4, 12), 3), frozen)
    options = {} if rule in ("first-hitting", "threshold") else {"steps": 30}
    for name in ("raw-absorbing", "x0-absorbing"):
        model = Counting(MODELS[name].to(dtype=torch.float64))
        made = sample(model, canvas, rule=rule, seed=3, **options)
        assert made.row_nfe is not None and model.rows == int(made.row_nfe.sum()) <= 4 * made.nfe
        if rule not in ("tweedie", "euler"):  # raw scores are asked in every step as long as a mask is left
            assert bool((made.row_nfe <= canvas.length - frozen.sum(1)).all())
        for i in range(4):
            alone = sample(model, Canvas(canvas.tokens[i : i + 1], frozen[i : i + 1]), rule=rule, seed=3,
                           first_sample=i, **options)  # fmt: skip
            assert torch.equal(alone.tokens[0], made.tokens[i]) and alone.nfe == int(made.row_nfe[i])
        MODELS[name].to(dtype=torch.float32)


def test_rows_whose_draws_depend_on_the_batch_are_all_run() -> None:
    canvas = Canvas(torch.full((2, 12), 3), torch.arange(12) >= torch.tensor([[1], [12]]))
    for options in ({"generator": torch.Generator().manual_seed(0)}, {"seed": 0, "draws": "float32-race"}):
        model = Counting(MODELS["x0-absorbing"])
        made = sample(model, canvas, rule="ancestral", steps=12, **options)
        assert model.rows == 2 * made.nfe and made.row_nfe is not None and made.row_nfe.tolist() == [made.nfe] * 2


class Counting:
    """A model that counts the rows it is asked about."""

    def __init__(self, model: DiffusionLM) -> None:
        self.model, self.rows = model, 0
        self.process, self.parametrization, self.length = model.process, model.parametrization, model.length

    def predict(self, xt: torch.Tensor, t: torch.Tensor) -> object:
        self.rows += len(xt)
        return self.model.predict(xt, t)


def test_seeds_and_generators() -> None:
    model, canvas = MODELS["raw-absorbing"], Canvas.blank(12, batch=2)
    a, b, c = (sample(model, canvas, steps=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.tokens, b.tokens) and not torch.equal(a.tokens, c.tokens)
    fresh = sample(model, canvas, steps=3)
    assert torch.equal(sample(model, canvas, steps=3, seed=fresh.seed).tokens, fresh.tokens)
    x, y, z = (sample(model, canvas, steps=3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(x.tokens, y.tokens) and not torch.equal(x.tokens, z.tokens) and x.seed is None
    race = sample(model, canvas, steps=3, seed=1, draws="float32-race")
    assert torch.equal(race.tokens, sample(model, canvas, steps=3, seed=1, draws="float32-race").tokens)
    assert race.draws == "float32-race" and race.seconds > 0


def test_greedy_takes_the_most_probable_token() -> None:
    """One position: whatever the step, the token is the data's mode given the other."""
    for model in (BayesModel(WORLD, Absorbing(3, LogLinear(1e-6))), raw(WORLD, Absorbing(3, LogLinear(1e-6)))):
        for token in range(3):
            out = sample(model, Canvas.prompt([token], 2, batch=20), steps=4, temperature=0, seed=token)
            mode = WORLD.p.masked_fill(WORLD.tokens[:, 0] != token, 0.0).argmax()
            assert out.tokens[:, 1].unique().tolist() == [int(WORLD.tokens[mode, 1])]


def test_frames_are_the_callers_own() -> None:
    """They can be written to, outside of inference mode too, and the run does not notice."""
    canvas, want = Canvas.blank(12), sample(MODELS["raw-absorbing"], Canvas.blank(12), steps=4, seed=0).tokens
    for frame in denoise(MODELS["raw-absorbing"], canvas, steps=4, seed=0):
        assert not torch.is_inference_mode_enabled()
        assert frame.t > 0 or torch.equal(frame.tokens, want)
        frame.tokens.fill_(0)
        frame.committed.fill_(False)
    assert int(canvas.tokens.sum()) == 0 and canvas.tokens.shape == (1, 12)


def test_a_rule_that_reads_p0_of_uniform_scores_starts_where_there_is_one() -> None:
    """Beyond e^sigma = 1e3 a raw uniform score has no p(x0): the prior is taken there, and no later."""
    world = World.make(3, 2)
    process = Uniform(3, Geometric(1e-4, 20.0))
    frames = list(denoise(raw(world, process), Canvas.blank(2), steps=4, rule="ancestral", seed=0))
    assert float(process.schedule.sigma(torch.tensor(frames[0].t).double())) == pytest.approx(math.log(1e3), rel=1e-6)
    real = dataclasses.replace(process, vocab_size=7)
    model = DiffusionLM(MODELS["raw-uniform"].net, real, MODELS["raw-uniform"].parametrization)
    assert bool((sample(model, Canvas.blank(12, batch=2), steps=6, rule="ancestral", seed=0).tokens < 7).all())
    for other in (raw(world, Absorbing(3, process.schedule)), BayesModel(world, process)):
        assert next(iter(denoise(other, Canvas.blank(2), rule="ancestral"))).t == 1


def test_a_rule_may_stop_before_clean_data_and_the_loop_finishes() -> None:
    """A rule that writes where it must not, and never moves on: the loop clamps, and makes the last step alone."""

    @dataclasses.dataclass(frozen=True)
    class Idle:
        name: str = "idle"
        reads: str = "p0"
        start: float = 0.4

        def __call__(self, run: object, state: State) -> State:
            assert torch.is_inference_mode_enabled()
            return dataclasses.replace(state, tokens=torch.full_like(state.tokens, 3), step=1, done=True)

    model = BayesModel(WORLD, Absorbing(3, LogLinear(1e-6)))
    frames = list(denoise(model, Canvas.prompt([2], 2, batch=5), rule=Idle(), seed=0))
    assert [f.t for f in frames] == [0.4, 0.4, 0.0]
    assert [f.tokens[:, 0].unique().tolist() for f in frames] == [[2]] * 3
    assert frames[1].tokens[:, 1].unique().tolist() == [3] and not frames[1].committed[:, 1].any()
    assert bool((frames[2].tokens < 3).all()) and frames[2].nfe == 1


def test_mistakes_are_told_before_the_first_frame() -> None:
    model, canvas = MODELS["raw-absorbing"], Canvas.blank(12)
    cases = [
        ({"steps": 0}, "0 sampling steps"),
        ({"rule": "analitic"}, r"unknown rule 'analitic'\nhint: did you mean 'analytic'"),
        ({"draws": "fast"}, "unknown draws 'fast'"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            denoise(model, canvas, **options)
    with pytest.raises(ConfigError, match="canvas of 13 positions, the model's context is 12"):
        denoise(model, Canvas.blank(13))
    with pytest.raises(ConfigError, match="frozen token 7, the model has 7 clean tokens"):
        denoise(model, Canvas.prompt([7], 12))


def test_a_network_that_says_nan_is_an_error() -> None:
    model = raw(WORLD, Uniform(3, LogLinear()))
    model.warp = torch.full((2, 3), float("nan"), dtype=torch.float64)
    with pytest.raises(UnmaskError, match="NaN"):
        sample(model, Canvas.blank(2), steps=3, seed=0)
