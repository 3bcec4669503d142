"""Tables 5 and 6: continuations of prompts, by MAUVE and by a judge's perplexity of them."""

import dataclasses
import functools
from typing import Any

import torch

from unmask.evaluation.conditional import Quality, conditional_quality
from unmask.evaluation.continuation import continuation_nll
from unmask.evaluation.mauve import features
from unmask.evaluation.ranks import rank_correlation
from unmask.evaluation.results import Entry
from unmask.evaluation.samples import SampleSettings, write_continuations
from unmask.evaluation.ways import WAYS, continuations
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Conditional, Contender, Scale
from unmask.recipes.paper.task import Outcome, Task, nothing
from unmask.text.prompts import Prompts, prompts

SEED = 0
TABLES = {"small": "table5", "medium": "table6"}
COLUMNS = ("MAUVE", "Continuation perplexity", "Continuation nats per byte")
LOST = "the paper's values are lost in the text at hand"


@dataclasses.dataclass(frozen=True)
class Job:
    """One way in which one model continues the prompts."""

    scale: Scale
    what: Conditional
    who: Contender
    way: str

    @property
    def diffusion(self) -> bool:
        """Whether the model denoises."""
        return WAYS[self.way].kind == "diffusion"

    @property
    def name(self) -> str:
        """Its part of keys and files: `sedd-short`, `ar`, `ar-top-k`."""
        who = "sedd" if self.diffusion else "ar"
        return who if self.way == "plain" else f"{who}-{self.way}"

    @property
    def file(self) -> str:
        """The name of its sample set."""
        return f"continued-{self.name}" if self.who.size == "small" else f"continued-{self.who.size}-{self.name}"

    @property
    def label(self) -> str:
        """What the row is called."""
        return f"{self.who.label}, {WAYS[self.way].words}"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the continuations."""
        what = self.what
        return {
            "prompts": what.prompts, "count": what.count, "prompt_tokens": what.prompt_tokens,
            "reference_tokens": what.reference_tokens, "way": self.way, "seed": SEED, "batch": what.batch,
            "dtype": self.scale.sampling.dtype,
            **({"steps": what.steps} if self.diffusion else {}),
        }  # fmt: skip


def tasks(scale: Scale) -> list[Task]:
    """For each size: two tasks for each way, the text itself, and how MAUVE goes with the perplexity."""
    made: list[Task] = []
    for size, table in TABLES.items():
        sedd = [who for who in scale.diffusion if who.size == size]
        ar = [who for who in scale.autoregressive if who.size == size]
        if scale.conditional is None or not (sedd and ar):
            made += [_absent(scale, table, size)]
            continue
        jobs = [Job(scale, scale.conditional, sedd[0], way) for way in ("scratchpad", "short", "matched")]
        jobs += [Job(scale, scale.conditional, ar[0], way) for way in ("plain", "top-p", "top-k")]
        made += [_generated(job, table) for job in jobs]
        made += [_measured(job, table) for job in jobs]
        made += [_real(scale, scale.conditional, ar[0], table)]
        made += [_correlated(scale, jobs, table)]
    return made


def _absent(scale: Scale, table: str, size: str) -> Task:
    cells = tuple(Entry(table, f"{who} {size}", COLUMNS[0], None) for who in ("SEDD", "GPT-2"))
    why = f"no models of size {size} at scale {scale.name}: it has one pair; measured at scale paper"
    return Task(f"{table}/absent", "", nothing, {}, cells=cells, impossible=why)


def _generated(job: Job, table: str) -> Task:
    whole = 1024 if job.scale.name == "paper" else 256
    length = whole if job.way == "scratchpad" else job.what.prompt_tokens + job.what.reference_tokens
    evaluations = job.what.steps if job.diffusion else 1
    return Task(
        key=f"samples/{job.file}",
        words=f"{job.what.count} prompts continued by {job.label}",
        run=functools.partial(_run_generated, job),
        settings=job.settings,
        models=(job.who.model,),
        flops=2.0 * job.who.parameters * length * job.what.count * evaluations,
        product=f"samples/{job.file}.jsonl",
    )


def _prompts(what: Conditional, who: Contender, bench: Bench) -> Prompts:
    """The prompts, in the tokens of a model; without a name, from the held-out documents of its training text."""
    model = bench.model(who.model)
    name = what.prompts or str(model.card.get("data", {}).get("corpus", "excerpt"))
    assert model.tokenizer is not None
    return prompts(
        name, model.tokenizer, count=what.count, prompt_tokens=what.prompt_tokens,
        reference_tokens=what.reference_tokens,
    )  # fmt: skip


def _run_generated(job: Job, bench: Bench) -> Outcome:
    model, way = bench.model(job.who.model, job.scale.sampling.dtype), WAYS[job.way]
    given = _prompts(job.what, job.who, bench)
    settings = SampleSettings(
        name=job.file, model=job.who.model, weights=bench.fingerprint(job.who.model), n=job.what.count,
        length=given.rows.shape[1], seed=SEED, steps=job.what.steps if job.diffusion else None, top_p=way.top_p,
        top_k=way.top_k, batch=job.what.batch,
        extra={key: value for key, value in job.settings.items() if key not in ("seed", "steps")},
    )  # fmt: skip
    made = write_continuations(
        bench.results.sample_file(job.file), model.tokenizer, settings,
        lambda first: continuations(
            model, given, job.way, steps=job.what.steps, seed=SEED, batch=job.what.batch, first=first
        ),
        overwrite=True, progress=bench.progress,
    )  # fmt: skip
    return Outcome(values={"seconds": sum(made.seconds), "n": len(made.texts)})


def table_of(job: Job) -> str:
    """The table of a job's model."""
    return TABLES[job.who.size]


def _cells(table: str, label: str) -> tuple[Entry, ...]:
    return tuple(numbers.cell(table, label, column) for column in COLUMNS)


def _judge_flops(scale: Scale, what: Conditional) -> float:
    size = {"tiny": 134.5e6, "paper": 774e6}.get(scale.name, 7e6)
    return 2.0 * size * what.features * what.count


def _measured(job: Job, table: str) -> Task:
    return Task(
        key=f"{table}/{job.name}",
        words=f"MAUVE and perplexity of {job.label}",
        run=functools.partial(_run_measured, job),
        settings={
            "judge": job.scale.judge,
            "judge_dtype": job.scale.judge_dtype,
            "features": job.what.features,
            "seeds": job.what.seeds,
        },
        cells=_cells(table, job.label),
        models=(job.who.model,),
        needs=(f"samples/{job.file}",),
        flops=_judge_flops(job.scale, job.what),
    )


def _run_measured(job: Job, bench: Bench) -> Outcome:
    judge, model = bench.judge(job.scale.judge, job.scale.judge_dtype), bench.model(job.who.model)
    given = _prompts(job.what, job.who, bench)
    size = given.rows.shape[1]
    made = torch.stack([torch.from_numpy(ids[:size]) for ids in bench.samples(job.file).ids])
    assert model.tokenizer is not None
    tokenizer, cut = model.tokenizer, job.what.features
    references = bench.once(
        f"{table_of(job)} references", lambda: features(judge, given.rows, tokenizer=tokenizer, max_tokens=cut)
    )
    found: Quality = conditional_quality(
        judge, tokenizer, given, made, seeds=range(1, job.what.seeds + 1), max_tokens=cut,
        reference_features=references, progress=bench.progress,
    )  # fmt: skip
    steps = f"; {job.what.steps} steps" if job.diffusion else ""
    steps += f"; judge in {job.scale.judge_dtype}, network in {job.scale.sampling.dtype}"
    rows = [
        dataclasses.replace(row, protocol=f"{row.protocol}{steps}", note="") for row in found.rows(job.label, seed=SEED)
    ]
    rows[0] = dataclasses.replace(rows[0], spread=found.mauve.std, protocol=f"{rows[0].protocol}; sd over the seeds")
    values = {
        "per_seed": list(found.mauve.per_seed), "std": found.mauve.std, "words": WAYS[job.way].words,
        "mauve": found.mauve.mean, "perplexity": found.continuation.perplexity,
    }  # fmt: skip
    return Outcome(tuple(rows), values=values)


def _real(scale: Scale, what: Conditional, who: Contender, table: str) -> Task:
    """The continuations that the documents have: what the judge says of them."""
    return Task(
        key=f"{table}/text",
        words="the judge reads the documents' own continuations",
        run=functools.partial(_run_real, scale, what, who),
        settings={
            "judge": scale.judge, "judge_dtype": scale.judge_dtype,
            "prompts": what.prompts, "count": what.count, "prompt_tokens": what.prompt_tokens,
            "reference_tokens": what.reference_tokens,
        },
        cells=_cells(table, "Real text, held out")[1:],
        models=(who.model,),
        flops=_judge_flops(scale, what) / 2,
    )  # fmt: skip


def _run_real(scale: Scale, what: Conditional, who: Contender, bench: Bench) -> Outcome:
    judge, model = bench.judge(scale.judge, scale.judge_dtype), bench.model(who.model)
    given = _prompts(what, who, bench)
    assert model.tokenizer is not None
    tokens = min(50, what.reference_tokens)
    found = continuation_nll(
        judge, model.tokenizer, given.rows, what.prompt_tokens, tokens=tokens, progress=bench.progress
    )
    how = f"{len(given)} prompts of {what.prompt_tokens} tokens from {given.source}; judge {judge.name}; their own text"
    return Outcome(tuple(found.rows("Real text, held out", how)))


def _correlated(scale: Scale, jobs: list[Job], table: str) -> Task:
    keys = tuple(f"{table}/{job.name}" for job in jobs)
    return Task(
        key=f"{table}/correlation",
        words="how MAUVE goes with the continuations' perplexity",
        run=functools.partial(_run_correlated, keys),
        settings={},
        needs=keys,
    )


def _run_correlated(keys: tuple[str, ...], bench: Bench) -> Outcome:
    values: dict[str, Any] = {}
    for name, kept in (("with_top_k", keys), ("without_top_k", [key for key in keys if "top-k" not in key])):
        pairs = [bench.results.values(key) for key in kept]
        found = rank_correlation([p["mauve"] for p in pairs], [p["perplexity"] for p in pairs])
        values[name] = {"rho": found.rho, "p": found.p, "n": found.n}
    return Outcome(values=values)
