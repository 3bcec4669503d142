"""The sample sets of tables 3 and 4: real text, autoregressive, and diffusion by steps, exact and raced."""

import dataclasses
import functools

from unmask.evaluation.samples import SampleSettings, data_samples, write_samples
from unmask.recipes.heldout import heldout_rows
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Contender, Scale
from unmask.recipes.paper.task import Outcome, Task
from unmask.report.paper.content import Family, Text
from unmask.sampling.draws import EXACT, RACE

SEED = 0
TOP_P = 0.95
SHOWN = 2  # texts of a set on the page


@dataclasses.dataclass(frozen=True)
class Plan:
    """A set to be made. paper: its row in table 3. raced_of: the name of the exact set that it repeats."""

    name: str
    label: str
    family: Family
    paper: str
    n: int
    who: Contender
    steps: int | None = None
    top_p: float = 1.0
    draws: str = EXACT
    raced_of: str = ""

    @property
    def key(self) -> str:
        """The task that makes it."""
        return f"samples/{self.name}"


def plans(scale: Scale) -> list[Plan]:
    """Every set, in the order of the paper's tables: data, autoregressive, diffusion by steps; small models only."""
    ar, sedd, how = scale.autoregressive[0], scale.diffusion[0], scale.sampling
    made = [
        Plan("text", "Real text, held out", "data", "OpenWebText", how.many, sedd),
        Plan("ar", f"{ar.label}, plain", "autoregressive", "GPT-2 (no annealing)", how.many, ar),
        Plan(
            "ar-top-p", f"{ar.label}, top-p {TOP_P:g}", "autoregressive", "GPT-2 (top-p 0.95)", how.many, ar,
            top_p=TOP_P,
        ),
    ]  # fmt: skip
    for steps in how.steps:
        label, paper = f"{sedd.label}, {steps:,} steps", f"SEDD {steps} steps"
        exact = Plan(f"sedd-{steps}", label, "diffusion", paper, how.number(steps), sedd, steps=steps)
        made.append(exact)
        if steps in how.raced:
            made.append(
                dataclasses.replace(
                    exact, n=how.raced[steps], name=f"sedd-{steps}-raced", label=f"{label}, published draws",
                    draws=RACE, raced_of=exact.name,
                )
            )  # fmt: skip
    return made


def tasks(scale: Scale) -> list[Task]:
    """A task for each set."""
    return [_task(scale, plan) for plan in plans(scale)]


def _task(scale: Scale, plan: Plan) -> Task:
    length = 1024 if scale.name == "paper" else 256
    evaluations = {"data": 0, "autoregressive": 1}.get(plan.family, plan.steps or 0)
    return Task(
        key=plan.key,
        words=f"{plan.n} x {plan.label}",
        run=functools.partial(_run, scale, plan),
        settings={
            "n": plan.n, "steps": plan.steps, "top_p": plan.top_p, "draws": plan.draws, "seed": SEED,
            "batch": scale.sampling.batch, "family": plan.family, "dtype": scale.sampling.dtype,
        },
        models=(plan.who.model,),
        flops=2.0 * plan.who.parameters * length * plan.n * evaluations,
        product=f"samples/{plan.name}.jsonl",
    )  # fmt: skip


def settings(scale: Scale, plan: Plan, bench: Bench) -> SampleSettings:
    """What decides a set."""
    model = bench.model(plan.who.model)
    return SampleSettings(
        name=plan.name, model=plan.who.model, weights=bench.fingerprint(plan.who.model), n=plan.n,
        length=model.length, seed=SEED, steps=plan.steps, draws=plan.draws, top_p=plan.top_p,
        batch=scale.sampling.batch, extra={"dtype": scale.sampling.dtype},
    )  # fmt: skip


def _run(scale: Scale, plan: Plan, bench: Bench) -> Outcome:
    model, path = bench.model(plan.who.model, scale.sampling.dtype), bench.results.sample_file(plan.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = settings(scale, plan, bench)
    if plan.family == "data":
        rows, _ = heldout_rows(model, scale.text, plan.n, say=bench.say)
        made = data_samples(path, rows, model.tokenizer, dataclasses.replace(wanted, n=len(rows)), overwrite=True)
    else:
        made = write_samples(path, model, wanted, progress=bench.progress, overwrite=True)
    texts = tuple(
        Text(plan.label, text, plan.family, note=f"sample {i} of {len(made.texts)}, seed {SEED}")
        for i, text in enumerate(made.texts[:SHOWN])
    )
    values = {
        "n": len(made.texts), "seconds": sum(made.seconds), "nfe": made.nfe, "clipped_mass": made.clipped_mass,
        "batch": scale.sampling.batch,
    }  # fmt: skip
    return Outcome(texts=() if plan.raced_of else texts, values=values)
