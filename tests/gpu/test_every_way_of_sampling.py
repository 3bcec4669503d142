"""On an accelerator, in float64: every way of sampling writes the tokens that the CPU writes. `make test-gpu`."""

import copy

import pytest
import torch

import unmask
from sampling.nets import autoregressive, diffusion, in_blocks
from unmask.errors import UnmaskError
from unmask.nn import graphs
from unmask.random import uniform
from unmask.sampling.batching import calibrate, free_memory, many
from unmask.sampling.correctors import Remasking, with_corrector
from unmask.sampling.named import RULES, rules_for
from unmask.sampling.profile import profiled

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # torch's own, as it loads its compiler
GAPS = unmask.Canvas.template([1, 2], 4, [3], 4, [5])
MAKES = {
    "raw scores": diffusion,
    "clean logits": lambda: diffusion("x0"),
    "uniform noise": lambda: diffusion(uniform=True),
}
WAYS = [(kind, rule) for kind, make in MAKES.items() for rule in rules_for(make().process)]


def device() -> torch.device:
    found = torch.accelerator.current_accelerator()
    assert found is not None and found.type == "cuda", "make test-gpu needs a CUDA device"
    return found


def both(model):
    """The model in float64, here and there."""
    here = model.to(dtype=torch.float64)
    return here, copy.deepcopy(here).to(device=device())


def same(model, other, canvas, **options):
    """Whether two models write the same tokens at the same cost; the first's sample."""
    a, b = (unmask.sample(each, canvas, **options) for each in (model, other))
    assert torch.equal(a.tokens.cpu(), b.tokens.cpu())
    assert a.nfe == b.nfe and a.steps == b.steps
    if a.row_nfe is not None:
        assert torch.equal(a.row_nfe.cpu(), b.row_nfe.cpu())
    return a


def test_keyed_numbers_are_the_cpu_s_to_the_last_bit():
    counters = torch.arange(10_000)
    assert torch.equal(uniform(7, counters, 3), uniform(7, counters.to(device()), 3).cpu())


@pytest.mark.parametrize(("kind", "rule"), WAYS)
def test_every_rule_on_every_kind_of_model(kind, rule):
    steps = {} if rule in ("first-hitting", "threshold", "entropy-bounded") else {"steps": 6}
    here, there = both(MAKES[kind]())
    for canvas in (unmask.Canvas.blank(12, batch=5), many(GAPS, 3)):
        same(here, there, canvas, rule=rule, seed=3, **steps)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.7}, {"top_p": 0.6}, {"top_k": 3}, {"min_p": 0.2}, {"temperature": 0.0}]
)
def test_what_reshapes_a_law(options):
    same(*both(diffusion()), many(GAPS, 3), steps=5, seed=1, **options)


def test_a_corrector_and_the_published_arithmetic():
    here, there = both(diffusion("x0"))
    rule = with_corrector(RULES["ancestral"](6), Remasking(0.2))
    same(here, there, many(GAPS, 3), rule=rule, seed=2)
    raced = unmask.sample(there, many(GAPS, 3), steps=5, seed=2, draws="float32-race")
    assert raced.tokens.is_cuda and bool((raced.tokens < 7).all())


@pytest.mark.parametrize("rule", ["ancestral", "confidence", "first-hitting"])
def test_blocks_with_their_cache(rule):
    same(*both(in_blocks()), many(GAPS, 3), rule=rule, seed=2)


@pytest.mark.parametrize("few", [4096, 1], ids=["graphs", "no graphs"])
@pytest.mark.parametrize("kind", MAKES)
def test_a_compiled_network(kind, few, monkeypatch):
    monkeypatch.setattr(graphs, "FEW", few)
    torch._dynamo.reset()
    _, plain = both(MAKES[kind]())
    fast = copy.deepcopy(plain).compile()
    for batch in (5, 4, 1):
        same(plain, fast, unmask.Canvas.blank(12, batch=batch), steps=6, seed=4)
    if plain.process.commits:
        same(plain, fast, many(GAPS, 3), rule="confidence", steps=5, seed=4)
    assert bool(fast.net.__dict__["stack"].run.recorded) == (few > 1)


def test_a_compiled_network_whose_weights_are_moved_or_rounded_is_recorded_anew():
    torch._dynamo.reset()
    _, plain = both(diffusion("x0"))
    fast = copy.deepcopy(plain).compile()
    canvas = unmask.Canvas.blank(12, batch=3)
    same(plain, fast, canvas, steps=5, seed=4)
    for model in (plain, fast):
        model.to(device="cpu").to(device=device())
    same(plain, fast, canvas, steps=5, seed=4)


@pytest.mark.parametrize("compiled", [False, True])
def test_laws_that_are_none_are_said_in_the_end(compiled):
    torch._dynamo.reset()
    for make in (diffusion, lambda: diffusion("x0"), autoregressive):
        _, model = both(make())
        model = model.compile() if compiled else model
        assert unmask.sample(model, unmask.Canvas.blank(12, batch=2), seed=0).tokens.is_cuda
        with torch.no_grad():
            model.net.vocab_embed.embedding.fill_(torch.nan)
        with pytest.raises(UnmaskError, match="laws to draw from hold NaN"):
            unmask.sample(model, unmask.Canvas.blank(12, batch=2), seed=0)
    assert int(torch.ones(3, device=device()).sum()) == 3  # the device goes on


@pytest.mark.parametrize("compiled", [False, True])
def test_int8_says_what_it_says_on_the_cpu(compiled):
    torch._dynamo.reset()
    here = diffusion("x0").to(dtype=torch.float32)
    there = copy.deepcopy(here).to(device=device()).quantize("int8")
    here.quantize("int8")
    there = there.compile() if compiled else there
    x, t = torch.arange(24).view(2, 12) % 8, torch.tensor([0.3, 0.8])
    found = there.log_p0(x.to(device()), t.to(device())).cpu()
    torch.testing.assert_close(found, here.log_p0(x, t), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("options", [{}, {"positions": "learned", "bias": True, "tied": True}])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_left_to_right_plain_and_replayed(options, batch):
    here, there = both(autoregressive(**options))
    for canvas in (unmask.Canvas.blank(12, batch=batch), unmask.Canvas.prompt([1, 2, 3], 12, batch=batch)):
        written = same(here, there, canvas, seed=5)
        replayed = unmask.sample(there, canvas, seed=5, compile=True)
        assert torch.equal(written.tokens, replayed.tokens.cpu())


def test_the_batch_that_is_found_and_the_profile():
    here, there = both(diffusion("x0"))
    blank = unmask.Canvas.blank(12)
    found = calibrate(there, blank, most=64, room=free_memory(device()), steps=4, seed=0)
    assert 1 <= found.batch <= 64
    with profiled(there) as profile:
        same(there, here, many(blank, 4), steps=4, seed=0)
    assert profile.peak_bytes > 0 and 0 < profile.seconds["body"] < profile.total


def test_the_twins_write_and_score_nearly_as_on_the_cpu():
    canvas = unmask.Canvas.blank(64, batch=4)
    for name, ways in (("sedd-twin", ("tweedie", "ancestral", "confidence")), ("ar-twin", (None,))):
        here, there = unmask.load(name), unmask.load(name, device=device())
        for rule in ways:
            options = {"seed": 0} if rule is None else {"seed": 0, "rule": rule, "steps": 16}
            a, b = (unmask.sample(model, canvas, **options).tokens.cpu() for model in (here, there))
            assert (a == b).double().mean() > 0.5  # float32: one early draw tipped changes all that reads it
    judge = unmask.load("ar-twin", device=device())
    torch.testing.assert_close(judge.nll(b.to(device())).cpu(), unmask.load("ar-twin").nll(b), atol=1e-3, rtol=1e-3)
