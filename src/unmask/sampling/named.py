"""The rules by name, with what each takes, and the names that other code bases have for them.

RULES: name -> what makes the rule: of (steps, start) if it walks down a grid, of (steps) if it unmasks in so many
moves, of neither if the number of moves follows from the rule; and of its own options as keywords (tau, gamma, grid).
A name is read without regard to case, and with underscores as with hyphens.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from unmask.diffusion.processes import Process
from unmask.errors import ConfigError, unknown
from unmask.sampling.grids import ancestral, euler, tweedie
from unmask.sampling.orders import BLIND, ORDERS
from unmask.sampling.rules import Rule
from unmask.sampling.unmasking import FirstHitting, entropy_bounded, in_order, threshold

STEPS = 64  # of a rule that takes them
_ORDERED: dict[str, Callable[..., Rule]] = {name: functools.partial(in_order, name) for name in (*ORDERS, *BLIND)}
RULES: dict[str, Callable[..., Rule]] = _ORDERED | {
    "analytic": tweedie,
    "ancestral": ancestral,
    "entropy-bounded": entropy_bounded,
    "euler": euler,
    "first-hitting": FirstHitting,
    "threshold": threshold,
    "tweedie": tweedie,
}


_DRAWN = "it orders by the largest probability, not by that of a token drawn first (the same at temperature 0)"
ALIASES: dict[str, tuple[str, str]] = {  # name elsewhere: ours, and what to know
    "ddpm": ("ancestral", "MDLM's name"),
    "ddpm-cache": ("ancestral", "MDLM's name; a step that unmasks nothing never runs the network"),
    "entropy-bound": ("entropy-bounded", "its bound is gamma"),
    "low-confidence": ("confidence", f"an unmasking order that keeps the most confident, no remasking; {_DRAWN}"),
    "lowconfidence": ("threshold", "SGLang's LowConfidence unmasks what is above its threshold, here tau"),
    "maskgit": ("confidence", _DRAWN),
    "maskgit-plus": ("confidence", f"Dream's name; {_DRAWN}"),
    "origin": ("ancestral", "Dream's name"),
    "random": ("random-order", "LLaDA's remasking=random: fixed counts in a random order, no remasking"),
    "topk-margin": ("margin", "Dream's name"),
}
REFUSED: dict[str, str] = {
    "block": "there are no block rules: a model with blocks writes block by block, by any rule (block_size=)",
    "jointthreshold": "tokens are not edited after they are committed; threshold is the rule without editing",
    "remdm": "remasking is a corrector: with_corrector(RULES['ancestral'](steps), Remasking(eta)) in Python",
}
_CANVAS = ("", "the canvas says how long: Canvas.prompt(ids, length=...), which counts the prompt too")
KEYWORDS: dict[str, tuple[str, str]] = {  # keyword argument elsewhere: ours ("" for none), and what to know
    "alg": ("rule", ""),
    "diffusion_steps": ("steps", "the total over the canvas"),
    "entropy_bound": ("gamma", "in nats, for rule='entropy-bounded'"),
    "max_denoising_steps": ("steps", "the total over the canvas, not per block"),
    "noise_removal": ("", "the last step draws from p0: temperature=0 is greedy, in every step"),
    "nucleus_p": ("top_p", "the token that crosses p is kept"),
    "num_inference_steps": ("steps", "the total over the canvas, not per block"),
    "num_steps": ("steps", "the total over the canvas"),
    "predictor": ("rule", ""),
    "remasking": ("rule", "an unmasking order, no remasking"),
    "sampler": ("rule", ""),
    "temp": ("temperature", ""),
    "threshold": ("tau", "a probability to commit above, for rule='threshold'"),
    "alg_temp": ("", "orders are not drawn at a temperature; random-order is the random one"),
    "block_length": ("block_size", "of a model with blocks"),
    "canvas_length": _CANVAS,
    "confidence_threshold": (
        "",
        "in DiffusionGemma a mean entropy to stop below; tau is a probability to commit above",
    ),
    "gen_len": _CANVAS,
    "gen_length": _CANVAS,
    "mask_id": ("", "the mask belongs to the model: leave it out"),
    "max_new_tokens": _CANVAS,
    "steps_per_block": ("", "steps is the total over the canvas, shared among a model's blocks"),
}


def rule_name(given: str) -> tuple[str, tuple[str, ...]]:
    """The name in RULES, and a notice where another code base's name was given. ConfigError for an unknown one."""
    plain = given.lower().replace("_", "-")
    if plain in RULES:
        return plain, ()
    if plain in ALIASES:
        name, note = ALIASES[plain]
        return name, (f"rule {given!r} is {name!r} here: {note}",)
    for start, why in REFUSED.items():
        if plain.startswith(start):
            raise ConfigError(f"rule {given!r} is not there", why)
    raise unknown("rule", given, RULES)


def our_keywords(options: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options under our names, and a notice for each that had another one.

    ConfigError for one that has no counterpart, and for one that is given twice.
    """
    ours, notices = {k: v for k, v in options.items() if k not in KEYWORDS}, []
    for given in sorted(options.keys() - ours.keys()):
        name, note = KEYWORDS[given]
        if not name:
            raise ConfigError(f"{given}= is not an option here", note)
        if name in ours:
            raise ConfigError(f"{given}= is {name}=, which is given too", "give one of the two")
        ours[name] = options[given]
        notices.append(f"{given}= is {name}= here" + (f": {note}" if note else ""))
    return ours, tuple(notices)


def make(name: str, steps: int | None, options: dict[str, Any], start: float = 1.0) -> tuple[Rule, tuple[str, ...]]:
    """The rule `name` of RULES, and a notice where it has no use for steps.

    options: the rules' own, None where not given. ConfigError for one that the rule does not take.
    """
    takes = inspect.signature(RULES[name]).parameters
    given = {k: v for k, v in options.items() if v is not None}
    for option in given.keys() - takes.keys():
        having = sorted(rule for rule, found in RULES.items() if option in inspect.signature(found).parameters)
        raise ConfigError(f"{option} with the rule {name}, which has none", f"it belongs to {', '.join(having)}")
    if steps is not None and steps < 1:
        raise ConfigError(f"{steps} sampling steps", "a run takes at least 1 step")
    if "start" in takes:
        given["start"] = start
    if "steps" in takes:
        return RULES[name](STEPS if steps is None else steps, **given), ()
    notice = f"the rule {name} makes as many moves as it needs: steps is not used"
    return RULES[name](**given), () if steps is None else (notice,)


def rules_for(process: Process) -> list[str]:
    """The names of the rules that can sample a process, one a rule."""
    made = {name: make(name, None, {})[0] for name in sorted(RULES)}
    own = (name for name, rule in made.items() if rule.name == name)
    return [name for name in own if process.commits or not getattr(made[name], "only_committing", False)]


def check_process(rule: Rule, process: Process) -> None:
    """ConfigError where the rule needs tokens to be final once unmasked, and the process does not keep them."""
    if getattr(rule, "only_committing", False) and not process.commits:
        raise ConfigError(
            f"the rule {rule.name} needs noise that commits (absorbing), and this model's is {type(process).__name__}",
            "use tweedie, euler or ancestral",
        )
