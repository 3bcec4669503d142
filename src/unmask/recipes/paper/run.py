"""Do the tasks of a plan that are not done yet, in order, and say how long the rest will take."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from unmask.errors import ConfigError, UnmaskError, unknown
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.store import Record
from unmask.recipes.paper.task import Task

Update = Callable[[int, int], None]
WAITING = "not measured yet"


@dataclasses.dataclass(frozen=True)
class Done:
    """Where a plan stands. records: of what is finished, by key. reasons: why the others are not."""

    records: Mapping[str, Record]
    reasons: Mapping[str, str]


def select(tasks: Sequence[Task], only: Sequence[str]) -> list[Task]:
    """The tasks of the named parts, with all that they need, in the order of the plan; all without names."""
    if not only:
        return list(tasks)
    parts = {task.part for task in tasks}
    for name in only:
        if name not in parts:
            raise unknown("part of the report", name, parts)
    by_key = {task.key: task for task in tasks}
    wanted: set[str] = set()

    def want(key: str) -> None:
        if key not in wanted:
            wanted.add(key)
            for need in by_key[key].needs:
                want(need)

    for task in tasks:
        if task.part in only:
            want(task.key)
    return [task for task in tasks if task.key in wanted]


def carry_out(
    tasks: Sequence[Task],
    bench: Bench,
    *,
    only: Sequence[str] = (),
    measure: bool = True,
    update: Update | None = None,
    after: Callable[[Done], None] | None = None,
) -> Done:
    """Run what is not done. A task that fails leaves its reason; those that need it say so; the others go on.

    tasks: each after all that it needs. only: parts to run; the others are read if they are there, without the files
    that they left, which only work to do needs. measure: False reads only.
    update: told (permille done, 1000), by the cost of tasks. after: called after each task that ran.
    """
    chosen = {task.key for task in select(tasks, only)}
    records: dict[str, Record] = {}
    reasons: dict[str, str] = {}
    identities: dict[str, str] = {}
    clock = _Clock(sum(task.flops for task in tasks if task.key in chosen), update)
    for number, task in enumerate(tasks):
        bench.progress = clock.within(task.flops) if task.key in chosen else None
        runs = measure and task.key in chosen
        reason = _look(task, bench, records, identities, reasons, product=runs)
        ran = False
        if reason is None and task.key not in records:
            if not runs:
                reason = WAITING
            else:
                bench.say(f"[{task.key}] {task.words}{clock.left()}")
                reason, ran = _do(task, bench, records, identities), True
        if reason is not None:
            reasons[task.key] = reason
        if task.key in chosen:
            clock.done(task.flops, counted=ran)
        if after is not None and ran:
            after(Done(records, reasons | {later.key: WAITING for later in tasks[number + 1 :]}))
    return Done(records, reasons)


def _look(
    task: Task,
    bench: Bench,
    records: dict[str, Record],
    identities: dict[str, str],
    reasons: Mapping[str, str],
    *,
    product: bool,
) -> str | None:
    """Find what is kept; the reason why the task cannot run, or None."""
    if task.impossible:
        return task.impossible
    missing = [key for key in task.needs if key not in records]
    if missing:
        why = reasons.get(missing[0], WAITING)
        return why if why == WAITING else f"{why} ({missing[0]})"
    try:
        prints = {name: bench.fingerprint(name) for name in task.models}
    except UnmaskError as error:
        return error.message
    identities[task.key] = task.identity(prints, identities)
    found = bench.results.find(task, identities[task.key], product=product)
    if found is not None:
        records[task.key] = found
    return None


def _do(task: Task, bench: Bench, records: dict[str, Record], identities: dict[str, str]) -> str | None:
    began = time.perf_counter()
    try:
        outcome = task.run(bench)
    except ConfigError as error:
        return f"{error.message} ({error.hint})" if error.hint else error.message
    except UnmaskError as error:
        return error.message
    took = time.perf_counter() - began
    records[task.key] = bench.results.keep(task, identities[task.key], outcome, took)
    return None


class _Clock:
    """Work done and time left, in floating-point operations; what was there already counts neither way."""

    def __init__(self, total: float, update: Update | None) -> None:
        self.total, self.update = max(total, 1.0), update
        self.spent, self.began = 0.0, time.monotonic()

    def within(self, flops: float) -> Update:
        """A progress of (done, total) inside a task of so many operations."""

        def tell(done: int, of: int) -> None:
            self._show(self.spent + flops * done / max(of, 1))

        return tell

    def done(self, flops: float, *, counted: bool) -> None:
        """A task is over; not counted if its outcome was there already."""
        if counted:
            self.spent += flops
        else:
            self.total -= flops
        self._show(self.spent)

    def left(self) -> str:
        """The time left, in words, once there is something to judge by."""
        elapsed = time.monotonic() - self.began
        if elapsed < 20 or self.spent <= 0:
            return ""
        return f"  (about {elapsed * (self.total - self.spent) / self.spent / 60:.0f} min left)"

    def _show(self, spent: float) -> None:
        if self.update is not None:
            self.update(int(1000 * min(spent / max(self.total, 1.0), 1.0)), 1000)
