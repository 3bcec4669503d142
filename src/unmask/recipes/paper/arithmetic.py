"""Is the paper's gain from more steps arithmetic? The closed form of the published draw on a judge's conditionals."""

import dataclasses
import functools
from collections.abc import Iterable

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.evaluation.race import RaceEffect, conditionals, perplexity_ratio, race_effect, tempered, zipf_effect
from unmask.evaluation.results import Row
from unmask.recipes.heldout import heldout_rows
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Scale
from unmask.recipes.paper.task import Outcome, Task
from unmask.report.paper.content import Point, Series

KEY = "arithmetic/closed-form"
SEED = 0
PAPER_STEPS = (100, 1024)
CONTEXT = 128  # of the judge's tokens before the position
ZIPF = (4096, 50257)
TABLE = "arithmetic"


def tasks(scale: Scale) -> list[Task]:
    """One task: the effect by steps on the judge's conditionals, and on Zipf's law."""
    label = f"Conditionals of {scale.judge}"
    steps = sorted({*scale.sampling.steps, *PAPER_STEPS})
    cells = [numbers.cell(TABLE, label, f"{n:,} steps") for n in steps]
    cells += [numbers.cell(TABLE, f"Zipf's law of {vocab:,} tokens", f"{PAPER_STEPS[1]:,} steps") for vocab in ZIPF]
    return [
        Task(
            key=KEY,
            words="what float32 draws do to text, in closed form",
            run=functools.partial(_run, scale, tuple(steps), label),
            settings={
                "judge": scale.judge, "judge_dtype": scale.judge_dtype,
            "n": scale.conditionals, "context": CONTEXT, "steps": steps, "seed": SEED,
                "zipf": ZIPF,
            },
            cells=tuple(cells),
            models=(scale.diffusion[0].model,),
            flops=2.0 * 134.5e6 * CONTEXT * scale.conditionals,
        )
    ]  # fmt: skip


def _run(scale: Scale, steps: tuple[int, ...], label: str, bench: Bench) -> Outcome:
    judge, model = bench.judge(scale.judge, scale.judge_dtype), bench.diffusion(scale.diffusion[0].model)
    assert model.tokenizer is not None
    rows, _ = heldout_rows(model, scale.text, scale.conditionals, say=bench.say)
    texts = judge.tokenizer.encode_batch([model.tokenizer.decode(row) for row in rows])
    shortest = min(len(ids) for ids in texts)
    ids = torch.tensor([ids[:shortest] for ids in texts])
    log_p = conditionals(judge, ids, scale.conditionals, SEED, context=CONTEXT)
    effects = {n: race_effect(log_p, n) for n in steps}
    made: list[Row | None] = [
        next(row for row in effect.rows(label, seed=SEED) if row.name == "race_perplexity")
        for effect in effects.values()
    ]
    lost = [zipf_effect(vocab, PAPER_STEPS[1]) for vocab in ZIPF]
    made += [
        next(row for row in effect.rows(f"Zipf's law of {vocab:,} tokens") if row.name == "race_entropy_lost")
        for vocab, effect in zip(ZIPF, lost, strict=True)
    ]
    ratio = perplexity_ratio(*(effects[n] for n in PAPER_STEPS))
    few, many = (numbers.generative(f"SEDD {n} steps") or float("nan") for n in PAPER_STEPS)
    share, share_error = ratio.share(few, many)
    warmer = _warm(log_p, steps, few, many)
    series = [_curve("the judge's conditionals", [effects[n] for n in steps], steps)]
    if warmer is not None:
        label = f"warmed to temperature {warmer.temperature:.2f}"
        series.append(_curve(label, [warmer.effects[n] for n in steps], steps))
    values = {
        "vocab": log_p.shape[1], "n": scale.conditionals, "ratio": ratio.value, "ratio_stderr": ratio.stderr,
        "paper_ratio": many / few, "share": share, "share_stderr": share_error, "paper_steps": list(PAPER_STEPS),
        "lost": {str(n): effects[n].entropy_lost for n in steps},
        "lost_stderr": {str(n): effects[n].entropy_stderr for n in steps},
        "warmer": None if warmer is None else warmer.facts,
        "zipf_lost": {str(vocab): effect.entropy_lost for vocab, effect in zip(ZIPF, lost, strict=True)},
    }  # fmt: skip
    return Outcome(tuple(made), tuple(series), values=values)


@dataclasses.dataclass(frozen=True)
class _Warmer:
    """The judge made as weak as the paper's sampler, by a temperature. facts: its ratio and share, for words."""

    temperature: float
    effects: dict[int, RaceEffect]
    facts: dict[str, float]


def _warm(log_p: Tensor, steps: tuple[int, ...], few: float, many: float) -> _Warmer | None:
    """None where no temperature makes the judge that weak."""
    try:
        temperature, log_q = tempered(log_p, few, PAPER_STEPS[0])
    except ConfigError:
        return None
    effects = {n: race_effect(log_p, n, sampler=log_q) for n in steps}
    ratio = perplexity_ratio(*(effects[n] for n in PAPER_STEPS))
    share, error = ratio.share(few, many)
    facts = {
        "temperature": temperature, "ratio": ratio.value, "ratio_stderr": ratio.stderr, "share": share,
        "share_stderr": error,
    }  # fmt: skip
    return _Warmer(temperature, effects, facts)


def _ratio(effect: RaceEffect) -> tuple[float, float]:
    """The perplexity of raced draws over that of exact ones, with its standard error, paired by position."""
    value = effect.perplexity_raced / effect.perplexity_exact
    return value, value * effect.cross_stderr


def _curve(name: str, effects: Iterable[RaceEffect], steps: tuple[int, ...]) -> Series:
    points = tuple(Point(float(n), *_ratio(effect), str(n)) for n, effect in zip(steps, effects, strict=True))
    return Series(TABLE, f"closed form, {name}", "theory", points, y="perplexity of float32 draws over exact ones")
