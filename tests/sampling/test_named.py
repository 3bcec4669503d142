"""Names: the rules', their options', and those of other code bases."""

import inspect
import itertools

import pytest
import torch

from unmask.diffusion import Absorbing, LogLinear, Uniform
from unmask.errors import ConfigError
from unmask.sampling import RULES, Canvas, denoise, sample
from unmask.sampling.named import ALIASES, KEYWORDS, REFUSED, our_keywords, rule_name, rules_for

from .nets import autoregressive, diffusion

MODEL = diffusion("x0")
CANVAS = Canvas.blank(12, batch=2)


def test_every_alias_leads_to_a_rule_and_is_no_rule_itself() -> None:
    assert all(name in RULES and alias not in RULES and note for alias, (name, note) in ALIASES.items())
    assert all(why for why in REFUSED.values())
    known = inspect.signature(denoise).parameters
    for given, (name, note) in KEYWORDS.items():
        assert given not in known and (name in known or (name == "" and note))


@pytest.mark.parametrize(
    ("given", "ours", "said"),
    [
        ("low_confidence", "confidence", "no remasking"),
        ("LowConfidence", "threshold", "SGLang"),
        ("random", "random-order", "LLaDA"),
        ("maskgit_plus", "confidence", "token drawn first"),
        ("topk_margin", "margin", "Dream"),
        ("ddpm_cache", "ancestral", "MDLM"),
        ("entropy_bound", "entropy-bounded", "gamma"),
    ],
)
def test_names_of_other_code_bases_come_with_one_notice(given: str, ours: str, said: str) -> None:
    steps = {} if ours in ("threshold", "entropy-bounded") else {"steps": 3}
    out = sample(MODEL, CANVAS, rule=given, seed=1, **steps)
    assert out.rule == ours and len(out.notices) == 1 and said in out.notices[0] and repr(given) in out.notices[0]
    same = sample(MODEL, CANVAS, rule=ours, seed=1, **steps)
    assert torch.equal(out.tokens, same.tokens) and same.notices == ()


def test_case_and_underscores_are_no_matter() -> None:
    assert rule_name("First_Hitting") == ("first-hitting", ())
    assert rule_name("left_to_right") == ("left-to-right", ())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("remdm_cap", "with_corrector"),
        ("block_diffusion", "no block rules"),
        ("confidense", "did you mean 'confidence'"),
    ],
)
def test_names_without_a_counterpart_are_refused(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        denoise(MODEL, CANVAS, rule=given)


def test_keywords_of_other_code_bases() -> None:
    out = sample(MODEL, CANVAS, num_inference_steps=4, alg="topk_margin", temp=0.7, nucleus_p=0.9, seed=1)
    same = sample(MODEL, CANVAS, steps=4, rule="margin", temperature=0.7, top_p=0.9, seed=1)
    assert torch.equal(out.tokens, same.tokens) and (out.steps, out.rule) == (4, "margin")
    assert [n.split("=")[0] for n in out.notices[:4]] == ["alg", "nucleus_p", "num_inference_steps", "temp"]
    assert "the total over the canvas, not per block" in out.notices[2] and len(out.notices) == 5
    bound = sample(MODEL, CANVAS, rule="threshold", threshold=0.3, seed=1)
    assert torch.equal(bound.tokens, sample(MODEL, CANVAS, rule="threshold", tau=0.3, seed=1).tokens)
    options = {"steps": 3, "seed": 0}
    assert our_keywords(options) == (options, ())
    ar = sample(autoregressive(), Canvas.prompt([1], 6), nucleus_p=0.5, seed=0)
    assert ar.notices == ("nucleus_p= is top_p= here: the token that crosses p is kept",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confidence_threshold": 0.005}, "mean entropy to stop below"),
        ({"block_length": 32}, "without blocks"),
        ({"steps_per_block": 3}, "the total over the canvas"),
        ({"gen_length": 128}, "the canvas says how long"),
        ({"mask_id": 126336}, "belongs to the model"),
        ({"num_steps": 3, "steps": 4}, "steps=, which is given too"),
        ({"num_steps": 3, "num_inference_steps": 4}, "steps=, which is given too"),
        ({"tau": 0.9}, "tau with the rule ancestral, which has none\nhint: it belongs to threshold"),
        ({"rule": "confidence", "gamma": 0.9}, "gamma with the rule confidence.*\nhint: it belongs to entropy-bounded"),
        ({"rule": "margin", "grid": "cosine"}, "grid with .*\nhint: it belongs to analytic, ancestral, euler, tweedie"),
        ({"rule": RULES["ancestral"](4), "tau": 0.5}, "tau with a rule that is made already"),
        ({"rule": "threshold", "tau": 1.1}, "tau is 1.1"),
        ({"rule": "threshold", "tau": float("nan")}, "tau is nan"),
        ({"rule": "entropy-bounded", "gamma": -1.0}, "gamma is -1.0"),
        ({"rule": "ancestral", "grid": "cosin"}, "unknown grid 'cosin'\nhint: did you mean 'cosine'"),
        ({"rule": "confidence", "steps": 0}, "0 sampling steps"),
        ({"rule": "threshold", "steps": 0}, "0 sampling steps"),
    ],
)
def test_false_friends_and_misplaced_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sample(MODEL, CANVAS, **options)


def test_an_autoregressive_model_has_no_rule() -> None:
    for options in ({"tau": 0.5}, {"grid": "cosine"}, {"alg": "entropy"}):
        with pytest.raises(ConfigError, match="with an autoregressive model"):
            sample(autoregressive(), Canvas.prompt([1], 6), **options)


def test_steps_that_a_rule_does_not_take_are_said_to_be_unused() -> None:
    for rule in ("first-hitting", "threshold", "entropy-bounded"):
        out = sample(MODEL, CANVAS, rule=rule, steps=7, seed=0)
        assert out.notices == (f"the rule {rule} makes as many moves as it needs: steps is not used",)


def test_grids() -> None:
    """Cosine steps are small where there are most masks; both end where the rule ends."""
    for name in ("ancestral", "euler", "tweedie"):
        linear, cosine = (RULES[name](8, grid=grid).times for grid in ("linear", "cosine"))
        assert RULES[name](8).times == linear
        assert (cosine[0], len(cosine)) == (linear[0], len(linear)) and cosine[-1] == pytest.approx(linear[-1])
        gaps = [a - b for a, b in itertools.pairwise(cosine)]
        assert gaps == sorted(gaps) and gaps[0] < 0.2 * gaps[-1]
        out = sample(MODEL, CANVAS, rule=name, steps=4, grid="cosine", seed=0)
        assert bool((out.tokens < 7).all()) and out.steps == (4 if name == "ancestral" else 5)
    assert sample(MODEL, CANVAS, steps=4, grid="cosine", seed=0).rule == "ancestral"


def test_rules_for_a_process_are_those_that_it_takes():
    assert rules_for(Absorbing(7, LogLinear())) == sorted(RULES.keys() - {"analytic"})
    assert rules_for(Uniform(7, LogLinear())) == ["ancestral", "euler", "tweedie"]
