"""`unmask report`: the paper's tables and figure, measured where that is not done yet, and their page."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unmask.errors import unknown
from unmask.evaluation.results import Entry, provenance
from unmask.recipes.data import Say
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.claims import Evidence, claims
from unmask.recipes.paper.notes import notes
from unmask.recipes.paper.plan import plan
from unmask.recipes.paper.run import Done, Update, carry_out, select
from unmask.recipes.paper.scales import SCALES, Scale
from unmask.recipes.paper.series import series
from unmask.recipes.paper.store import Results
from unmask.recipes.paper.task import Task
from unmask.report import figures
from unmask.report.paper.content import PaperReport
from unmask.report.paper.write import write_paper

PAUSE = 120.0  # seconds at least between two drawings of an unfinished page
TITLE = "Promises, Outlooks and Challenges of Diffusion Language Modeling, measured again"


def find_scale(name: str) -> Scale:
    """The scale of a name; ConfigError for an unknown one."""
    if name not in SCALES:
        raise unknown("scale", name, SCALES)
    return SCALES[name]


def paper_report(
    out: Path,
    *,
    scale: Scale,
    only: Sequence[str] = (),
    models: Mapping[str, str] | None = None,
    device: str | None = None,
    measure: bool = True,
    say: Say = lambda words: None,
    update: Update | None = None,
) -> tuple[Path, PaperReport]:
    """Measure what is missing in the results folder `out`, write its page, and return the page and what is on it.

    only: parts of the plan, such as table3 and figure1; the others are shown as they stand. models: folders or hub
    ids that stand in for models of the scale, by name. measure: False only draws the page again. update: told the
    permille of the work that is done. A task is kept as soon as it is done: a second call goes on where the first
    was stopped. Raises ConfigError for an unknown part or a folder of another kind, and where matplotlib is missing.
    """
    figures.require()
    tasks = plan(scale)
    select(tasks, only)
    bench = Bench(Results(out, scale.name), dict(models or {}), device, say)
    drawn = time.monotonic()

    def after(done: Done) -> None:
        nonlocal drawn
        if time.monotonic() - drawn > PAUSE:
            write_paper(assemble(scale, tasks, done), out)
            drawn = time.monotonic()

    done = carry_out(tasks, bench, only=only, measure=measure, update=update, after=after)
    report = assemble(scale, tasks, done)
    say("drawing the page")
    return write_paper(report, out), report


def assemble(scale: Scale, tasks: Sequence[Task], done: Done) -> PaperReport:
    """What is on the page."""
    evidence = Evidence(scale, done.records, done.reasons)
    made = provenance(scale=scale.name, judge=scale.judge, packing=scale.packing)
    made["command"] = f"unmask report --scale {scale.name}"
    made["minutes"] = round(sum(record.seconds for record in done.records.values()) / 60, 1)
    made["commits"] = sorted({str(record.provenance.get("commit")) for record in done.records.values()})
    return PaperReport(
        title=TITLE,
        scale=f"{scale.name}: {scale.words}",
        entries=tuple(entry for task in tasks for entry in _filled(task, done)),
        series=series(evidence),
        claims=claims(evidence),
        texts=tuple(
            text for task in tasks if task.key in done.records for text in done.records[task.key].outcome.texts
        ),
        notes=notes(evidence),
        provenance=made,
        pending=dict(done.reasons),
    )


def _filled(task: Task, done: Done) -> list[Entry]:
    """The cells of a task with what was measured, or with the reason why not."""
    if task.key not in done.records:
        return [dataclasses.replace(cell, reason=done.reasons.get(task.key, "")) for cell in task.cells]
    rows = done.records[task.key].outcome.rows
    return [
        dataclasses.replace(cell, measured=row, reason="" if row else "this measurement has no such number")
        for cell, row in zip(task.cells, rows, strict=True)
    ]
