"""Table 1: zero-shot perplexity, and how sharp the estimators of the bound are."""

import functools
import math
from typing import Any

from unmask.evaluation.estimators import estimator_variance
from unmask.evaluation.likelihood import Bound, log_likelihood
from unmask.evaluation.results import Entry, Row
from unmask.model import DiffusionLM, LanguageModel
from unmask.recipes.heldout import scoring_rows
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Contender, Scale
from unmask.recipes.paper.task import Outcome, Task, nothing
from unmask.recipes.zeroshot import zero_shot_rows
from unmask.report.paper.content import Point, Series
from unmask.text.zeroshot import ZERO_SHOT

TABLE = "table1"
SEED = 0
EVALUATIONS, REPEATS = 16, 8  # of each row, where estimators are compared


def tasks(scale: Scale) -> list[Task]:
    """A task for each set and model, then the comparison of estimators."""
    printed = [name for name in numbers.tables()["table_1_zero_shot_perplexity"]["columns"] if name != "params"]
    columns = [name for name in (*printed, *scale.sets) if name in scale.sets or name in scale.absent]
    made = [
        _measured(scale, column, scale.sets[column], who) if column in scale.sets else _absent(scale, column, who)
        for column in dict.fromkeys(columns)
        for who in scale.contenders
    ]
    return [*made, _variance(scale)]


def _absent(scale: Scale, column: str, contender: Contender) -> Task:
    key = f"{TABLE}/{numbers.slug(column)}-{numbers.slug(contender.label)}"
    return Task(key, "", nothing, {}, cells=_cells(scale, column, contender)[:1], impossible=scale.absent[column])


def _is_diffusion(scale: Scale, contender: Contender) -> bool:
    return contender in scale.diffusion


def _cells(scale: Scale, column: str, contender: Contender) -> tuple[Entry, ...]:
    """The paper's quantity beside the paper's number, then what it leaves out, then the other order."""
    unlike = "" if scale.name == "paper" else f"{contender.label} stands in for {contender.paper}; another set of text"
    paper = numbers.zero_shot(contender.paper, column)
    first = numbers.cell(TABLE, contender.label, column, paper_row=contender.paper, paper=paper, unlike=unlike)
    others = (["full bound"] if _is_diffusion(scale, contender) else []) + ["mean of the exp"]
    return (first, *(numbers.cell(TABLE, f"{contender.label}, {what}", column) for what in others))


def _measured(scale: Scale, column: str, name: str, contender: Contender) -> Task:
    tokens = scale.set_tokens or 300_000
    diffusion = _is_diffusion(scale, contender)
    passes = (scale.times + 1) if diffusion else 1
    return Task(
        key=f"{TABLE}/{numbers.slug(column)}-{numbers.slug(contender.label)}",
        words=f"how probable {contender.label} finds {column}",
        run=functools.partial(_run, scale, column, name, contender),
        settings={
            "set": name, "packing": scale.packing, "max_tokens": scale.set_tokens, "seed": SEED,
            **({"evaluations_per_row": scale.times, "estimator": "mask-count, narrow first"} if diffusion else {}),
        },
        cells=_cells(scale, column, contender),
        models=(contender.model,),
        flops=2.0 * contender.parameters * tokens * passes,
    )  # fmt: skip


def _run(scale: Scale, column: str, name: str, contender: Contender, bench: Bench) -> Outcome:
    model = bench.model(contender.model)
    rows, scored, info = _packed(scale, name, model, scale.set_tokens)
    counted = isinstance(model, DiffusionLM) and model.process.commits
    bound = log_likelihood(
        model,
        rows,
        scored=scored,
        times_per_row=scale.times,
        seed=SEED,
        progress=bench.progress,
        estimator="mask-count" if counted else "stratified",
    )
    how = f"{name}, packing {scale.packing}, rows of {rows.shape[1]} tokens"
    values = {
        "nats": list(bound.rows), "bits_per_byte": bound.bits_per_byte, "nats_per_token": bound.nats_per_token,
        "stderr": bound.stderr, "tokens": bound.tokens, "info": info, "exact": bound.exact,
    }  # fmt: skip
    return Outcome(_rows(bound, contender.label, how), values=values)


def _packed(
    scale: Scale, name: str, model: LanguageModel, tokens: int | None
) -> tuple[Any, Any | None, dict[str, Any]]:
    """Rows of a zero-shot set, or of the held-out part of a corpus."""
    if name in ZERO_SHOT:
        return zero_shot_rows(model, name, packing=scale.packing, max_tokens=tokens)
    return scoring_rows(model, name, None if tokens is None else tokens // model.length, packing=scale.packing)


def _rows(bound: Bound, label: str, how: str) -> tuple[Row, ...]:
    """The rows of the cells, in their order."""

    def row(name: str, value: float, stderr: float | None, protocol: str) -> Row:
        error = stderr if stderr is not None and math.isfinite(stderr) else None
        return Row(name, label, value, "perplexity", protocol, stderr=error, n=bound.n, seed=bound.seed)

    if bound.exact:
        return (
            row("perplexity", bound.perplexity, bound.perplexity_stderr, f"{how}; exact, exp of the mean over rows"),
            row(
                "perplexity_mean_exp", bound.perplexity_mean_exp, bound.perplexity_mean_exp_stderr,
                f"{how}; exact, mean of the exp over rows",
            ),
        )  # fmt: skip
    drawn = f"{bound.times_per_row} evaluations a row"
    paper = f"{how}; the paper's quantity (t uniform on [0.001, 1], no reconstruction, no prior), {drawn}"
    return (
        row("paper_perplexity", bound.paper_perplexity, bound.paper_perplexity_stderr, f"{paper}; exp of the mean"),
        row(
            "perplexity", bound.perplexity, bound.perplexity_stderr,
            f"upper bound: diffusion, reconstruction and prior, {drawn}; {how}; exp of the mean",
        ),
        row(
            "paper_perplexity_mean_exp", bound.paper_perplexity_mean_exp, bound.paper_perplexity_mean_exp_stderr,
            f"{paper}; mean of the exp",
        ),
    )  # fmt: skip


def _variance(scale: Scale) -> Task:
    first = scale.diffusion[0]
    return Task(
        key=f"{TABLE}/variance",
        words="how sharp the estimators of the bound are",
        run=functools.partial(_run_variance, scale),
        settings={"rows": scale.variance_rows, "evaluations": EVALUATIONS, "repeats": REPEATS, "seed": SEED},
        models=(first.model,),
        flops=2.0 * first.parameters * scale.variance_rows * 256 * EVALUATIONS * 4 * REPEATS,
    )


def _run_variance(scale: Scale, bench: Bench) -> Outcome:
    model = bench.diffusion(scale.diffusion[0].model)
    name = next(iter(scale.sets.values()))
    rows, _, _ = _packed(scale, name, model, scale.variance_rows * model.length)
    found = estimator_variance(
        model, rows, evaluations=EVALUATIONS, repeats=REPEATS, seed=SEED, progress=bench.progress
    )
    points = [
        Point(float(i), value.variance, error=value.stderr, label=name) for i, (name, value) in enumerate(found.items())
    ]
    series = Series("variance", scale.diffusion[0].label, "diffusion", tuple(points), note=f"{EVALUATIONS} a row")
    values = {name: {"variance": value.variance, "stderr": value.stderr} for name, value in found.items()}
    return Outcome(series=(series,), values=values)
