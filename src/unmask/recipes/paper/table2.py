"""Table 2: benchmarks through lm-eval."""

import functools

from unmask.evaluation.harness import evaluate_tasks
from unmask.evaluation.results import Entry
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Contender, Scale
from unmask.recipes.paper.task import Outcome, Task, nothing

TABLE = "table2"
SEED = 0
COLUMNS = {
    "lambada_openai": "LAMBADA", "hellaswag": "HellaSwag", "piqa": "PIQA", "arc_easy": "ARC-Easy",
    "arc_challenge": "ARC-Challenge", "winogrande": "WinoGrande",
}  # fmt: skip
DOCUMENTS = {
    "lambada_openai": 5153, "hellaswag": 10042, "piqa": 1838, "arc_easy": 2376, "arc_challenge": 1172,
    "winogrande": 1267,
}  # fmt: skip
CHOICES, TOKENS = 3, 100  # about, of a document: for estimates of time


def tasks(scale: Scale) -> list[Task]:
    """A task for each model and benchmark; the references take fewer documents."""
    return [_one(scale, name, who) for who in (*scale.contenders, *scale.references) for name in scale.tasks]


def _limit(scale: Scale, who: Contender) -> int | None:
    return scale.reference_limit if who in scale.references else scale.harness_limit


def _one(scale: Scale, name: str, who: Contender) -> Task:
    limit, diffusion = _limit(scale, who), who in scale.diffusion
    key = f"{TABLE}/{name}-{numbers.slug(who.label)}"
    if limit == 0:
        why = f"left out at scale {scale.name}"
        return Task(key, "", nothing, {}, cells=_cells(scale, name, who)[:1], impossible=why)
    number = DOCUMENTS[name] if limit is None else limit
    passes = number * (1 if name == "lambada_openai" else CHOICES) * (scale.mc if diffusion else 1)
    return Task(
        key=key,
        words=f"{COLUMNS[name]} for {who.label}, {number} documents",
        run=functools.partial(_run, scale, name, who),
        settings={"benchmark": name, "limit": limit, "seed": SEED} | ({"mc": scale.mc} if diffusion else {}),
        cells=_cells(scale, name, who),
        models=() if who in scale.references else (who.model,),
        flops=2.0 * who.parameters * TOKENS * passes,
    )


def _cells(scale: Scale, name: str, who: Contender) -> tuple[Entry, ...]:
    column = COLUMNS[name]
    unlike = "" if scale.name == "paper" else f"{who.label} stands in for {who.paper}; some of the documents"
    first = numbers.cell(
        TABLE, who.label, column, paper_row=who.paper, paper=numbers.accuracy(who.paper, column), unlike=unlike
    )
    if name == "lambada_openai" and who in scale.diffusion:
        return first, numbers.cell(TABLE, f"{who.label}, left to right", column)
    return (first,)


def _run(scale: Scale, name: str, who: Contender, bench: Bench) -> Outcome:
    model = bench.judge(who.model, scale.judge_dtype) if who in scale.references else bench.model(who.model)
    found = evaluate_tasks(
        model, (name,), limit=_limit(scale, who), mc=scale.mc, seed=SEED, offline=scale.name != "paper", name=who.label,
        progress=bench.progress,
    )  # fmt: skip
    return Outcome(tuple(found[: len(_cells(scale, name, who))]))
