"""Tables 3 and 4: what a judge thinks of the samples, and how diverse they are."""

import dataclasses
import functools

from unmask.evaluation.diversity import UNLIKE_REPETITION, WINDOW, diversity
from unmask.evaluation.quality import judge_samples
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.samples import Plan, plans
from unmask.recipes.paper.scales import Scale
from unmask.recipes.paper.task import Outcome, Task

QUALITY, DIVERSITY = "table3", "table4"
JUDGED = {
    "judge_perplexity": "Perplexity", "judge_perplexity_mean_exp": "Perplexity, mean of the exp",
    "judge_nats_per_byte": "Nats per byte", "sample_entropy": "Unigram entropy, nats",
}  # fmt: skip
COLUMNS = {  # ours, by the column of the paper
    "fraction unique unigrams": "Unique unigrams, fraction", "unigram entropy": "Unigram entropy, nats",
    "repetition rate (100)": "Repetition rate (100)",
}  # fmt: skip


def tasks(scale: Scale) -> list[Task]:
    """Two tasks for each sample set."""
    sets = plans(scale)
    return [_judged(scale, plan) for plan in sets] + [_diverse(scale, plan) for plan in sets]


def _unlike(scale: Scale, plan: Plan) -> str:
    if scale.name == "paper":
        return ""
    return f"{plan.who.label} and judge {scale.judge} stand in; {plan.n} samples of another length"


def _judged(scale: Scale, plan: Plan) -> Task:
    judge_size = 134.5e6 if scale.name == "tiny" else (774e6 if scale.name == "paper" else 7e6)
    length = 1024 if scale.name == "paper" else 256
    paper = None if plan.raced_of else numbers.generative(plan.paper)
    first, *others = JUDGED.values()
    cells = [numbers.cell(QUALITY, plan.label, first, paper_row=plan.paper, paper=paper, unlike=_unlike(scale, plan))]
    cells += [numbers.cell(QUALITY, plan.label, column) for column in others]
    return Task(
        key=f"{QUALITY}/{plan.name}",
        words=f"judging {plan.label}",
        run=functools.partial(_run_judged, scale, plan),
        settings={"judge": scale.judge, "judge_dtype": scale.judge_dtype},
        cells=tuple(cells),
        needs=(plan.key,),
        flops=2.0 * judge_size * length * plan.n,
    )


def _run_judged(scale: Scale, plan: Plan, bench: Bench) -> Outcome:
    found = judge_samples(
        bench.judge(scale.judge, scale.judge_dtype), bench.samples(plan.name), progress=bench.progress
    )
    how = f"; judge in {scale.judge_dtype}" + ("" if plan.family == "data" else f", network in {scale.sampling.dtype}")
    by_name = {
        row.name: dataclasses.replace(row, model=plan.label, protocol=row.protocol + how) for row in found.rows()
    }
    rows = tuple(by_name[name] for name in JUDGED)
    values = {
        "nats_per_token": found.nats_per_token, "nats_per_token_stderr": found.stderr,
        "entropy": found.entropy, "entropy_stderr": found.entropy_stderr, "route": found.route,
    }  # fmt: skip
    return Outcome(rows, values=values)


def _diverse(scale: Scale, plan: Plan) -> Task:
    cells = []
    for theirs, column in COLUMNS.items():
        paper, spread = (None, None) if plan.raced_of else numbers.diversity(plan.paper, theirs)
        unlike = UNLIKE_REPETITION if theirs.startswith("repetition") else _unlike(scale, plan)
        cells.append(
            numbers.cell(DIVERSITY, plan.label, column, paper_row=plan.paper, paper=paper, spread=spread, unlike=unlike)
        )
    return Task(
        key=f"{DIVERSITY}/{plan.name}",
        words=f"diversity of {plan.label}",
        run=functools.partial(_run_diverse, plan),
        settings={"window": WINDOW, "values": "mean, standard error, standard deviation"},
        cells=tuple(cells),
        needs=(plan.key,),
        flops=1e8 * plan.n,
    )


def _run_diverse(plan: Plan, bench: Bench) -> Outcome:
    made = bench.samples(plan.name)
    shortest = min(len(ids) for ids in made.ids)
    found = diversity(made, window=min(WINDOW, shortest - 1))
    return Outcome(tuple(dataclasses.replace(row, model=plan.label, note="") for row in found.rows()))
