"""Many samples into a file, batch by batch, by one process or several; resumable after a kill.

While it grows there are, beside PATH: PATH.plan (what was asked for, the seed, the batch, how many processes) and a
part a process, PATH.r-of-R.part, in the form of `samples`; batch j belongs to process j modulo R. At the end the first
process joins the parts in the order of the samples. PATH then holds nothing that depends on the time, on the batch or
on the number of processes, so that equal samples are equal files; what they took is in PATH.facts.
"""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unmask.errors import ConfigError, DataError
from unmask.evaluation.processes import ALONE, Ranks
from unmask.evaluation.sample_set import FORMAT, BatchFacts, SampleSettings, facts_of
from unmask.evaluation.samples import append, draw_batch, other_settings, part_file, part_of, records
from unmask.evaluation.verifier import Verifier
from unmask.model import LanguageModel
from unmask.random import fold
from unmask.sampling import Canvas
from unmask.sampling.batching import many
from unmask.sampling.draws import EXACT

Told = Callable[[float, int], None]  # (samples made so far, by all processes; of how many)
_BATCH = b'{"batch"'  # how the line behind a batch begins


@dataclasses.dataclass(frozen=True)
class Made:
    """What is in the file. samples: in it. tried: how many samples it took, in their order, to find these.

    seconds: of sampling and verifying, of the slowest process, all its lives together. made: samples that were made
    in that time, those behind the last one needed included. batch, processes: how.
    """

    path: Path
    samples: int
    tried: int
    made: int
    seconds: float
    batch: int
    processes: int
    new_tokens: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, the rates included."""
        values = dataclasses.asdict(self) | {"path": str(self.path)}
        seconds = max(self.seconds, 1e-9)
        return values | {
            "seconds": round(self.seconds, 4),
            "tokens_per_second": round(self.made * self.new_tokens / seconds, 2),
            "samples_per_second": round(self.samples / seconds, 4),
        }


def write_many(
    path: str | Path,
    model: LanguageModel,
    settings: SampleSettings,
    canvas: Canvas,
    *,
    batch: int | None,
    choose_batch: Callable[[int], int] = lambda most: min(most, 16),
    ranks: Ranks = ALONE,
    verifier: Verifier | None = None,
    until: int | None = None,
    overwrite: bool = False,
    told: Told | None = None,
    batch_made: Callable[[int], None] | None = None,
) -> Made | None:
    """Make settings.n samples of `canvas` [1, L], or go on with them; None in all processes but the first.

    settings: a seed of None is the one that an earlier call took, else a fresh one; `batch` is not read. batch: samples
    at a time, None: as an earlier call did, else what `choose_batch` says, given the most that make sense. verifier:
    only samples whose text (as in the file) it accepts are kept. until: stop at the first so many, in the order of
    the samples. told: how far all are. batch_made: the size of each batch that this process made. Nothing in memory
    grows with n. Raises ConfigError where the file, or what an earlier call left, was made with other settings,
    unless `overwrite`; and what sampling and verifying raise.
    """
    if until is not None and (verifier is None or until < 1):
        raise ConfigError(f"until {until} samples are accepted", "give a verifier, and at least 1")
    if batch is not None and batch < 1:
        raise ConfigError(f"batches of {batch} samples", "at least 1")
    path = Path(path)
    if ranks.index == 0:
        most = -(-settings.n // ranks.count)
        _begin(
            path, _asked(model, settings, verifier, until), ranks.count, batch, lambda: choose_batch(most), overwrite
        )
    ranks.wait()
    plan = _plan(path)
    ranks.wait()
    if plan is not None:
        made_so = SampleSettings(**plan["settings"])
        job = _Job(path, model, canvas, made_so, plan, ranks, verifier, until, told, batch_made)
        job.make()
        ranks.wait()
        if ranks.index == 0:
            _join(path, plan, until, int((~canvas.frozen).sum()))
    if ranks.index == 0:
        _tidy(path)
        return _made(path)
    return None


def earlier_seed(path: str | Path) -> int | None:
    """The seed of the file, or of what an earlier call left of it; None where there is neither."""
    head = _header(Path(path)) or _plan(Path(path)) or {}
    seed = (head.get("asked") or head).get("settings", {}).get("seed")
    return None if seed is None else int(seed)


def _asked(
    model: LanguageModel, settings: SampleSettings, verifier: Verifier | None, until: int | None
) -> dict[str, Any]:
    """All that decides the samples, as JSON. The batch does, too, where draws are those of the race."""
    extra = settings.extra | ({} if verifier is None else {"verifier": verifier.name, "until": until})
    values = dataclasses.replace(settings, extra=extra).as_json()
    if settings.draws == EXACT:
        del values["batch"]
    tokenizer = None if model.tokenizer is None else model.tokenizer.fingerprint
    return {"format": FORMAT, "settings": values, "tokenizer": tokenizer}


def _begin(
    path: Path,
    asked: dict[str, Any],
    processes: int,
    batch: int | None,
    choose: Callable[[], int],
    overwrite: bool,
) -> None:
    """See that either the file is there, made so, or a plan."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = _header(path)
    if path.exists():
        theirs = {} if head is None else head.get("asked") or {}
        if _same(asked, theirs):
            _tidy(path)
            return
        if not overwrite:
            if not theirs:
                raise DataError(f"{path} is there, and not a file of many samples", "give another, or --force")
            raise _other(path, theirs, asked)
    plan = _plan(path)
    if plan is not None and _same(asked, plan):
        if plan["processes"] != processes or batch not in (None, plan["batch"]):
            raise ConfigError(
                f"{path} was begun by {plan['processes']} processes in batches of {plan['batch']}",
                "go on with as many, or remove its .plan and .part files",
            )
        return
    if plan is not None and not overwrite:
        raise _other(_plan_of(path), plan, asked)
    _tidy(path)
    if asked["settings"]["seed"] is None:
        asked["settings"]["seed"] = fold("seed", time.time_ns())
    size = choose() if batch is None else batch
    if "batch" in asked["settings"]:
        asked["settings"]["batch"] = size
    with _plan_of(path).with_suffix(".new").open("wb") as file:
        append(file, [asked | {"batch": size, "processes": processes}])
    os.replace(file.name, _plan_of(path))


def _same(asked: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether they are the same; a seed, and the batch of a race, are theirs where none is asked for."""
    mine = asked["settings"]
    free = {key: theirs["settings"][key] for key in ("seed", "batch") if key in theirs.get("settings", {})}
    free = {key: value for key, value in free.items() if key == "batch" or mine["seed"] is None}
    return all(asked[key] == theirs.get(key) for key in ("format", "tokenizer")) and mine | free == theirs["settings"]


def _other(path: Path, theirs: dict[str, Any], asked: dict[str, Any]) -> ConfigError:
    settings = {key: value for key, value in asked["settings"].items() if key != "seed" or value is not None}
    return other_settings(path, theirs, asked | {"settings": settings})


@dataclasses.dataclass(frozen=True)
class _Job:
    """The share of one process."""

    path: Path
    model: LanguageModel
    canvas: Canvas
    settings: SampleSettings
    plan: dict[str, Any]
    ranks: Ranks
    verifier: Verifier | None
    until: int | None
    told: Told | None
    batch_made: Callable[[int], None] | None

    def make(self) -> None:
        """Make the batches of this process that its part does not hold yet; stop where enough were accepted."""
        size, ranks, n = self.plan["batch"], self.ranks, self.settings.n
        part = _part(self.path, ranks.index, ranks.count)
        header = {**self.plan, "rank": ranks.index}
        total = 0
        with part_file(part, header, overwrite=False) as (file, done):
            file.flush()
            kept = _accepted(part_of(part)) if done and self.until is not None else []
            for turn in range(-(-n // (size * ranks.count))):
                first = (turn * ranks.count + ranks.index) * size
                accepted = kept[turn] if turn < len(kept) else 0
                if first < n and turn * size >= done:
                    accepted = self._batch(file, first, min(size, n - first))
                if self.until is not None:
                    total += ranks.total(accepted)
                    if total >= self.until:
                        break

    def _batch(self, file: BinaryIO, first: int, size: int) -> int:
        """Make, verify and keep samples first to first + size; how many were accepted."""

        def within(done: int, moves: int) -> None:
            if self.told is not None:
                before = first - self.ranks.index * self.plan["batch"]  # all made up to this turn
                self.told(min(before + self.ranks.count * size * done / moves, self.settings.n), self.settings.n)

        rows = many(self.canvas, size)
        made, seconds = draw_batch(self.model, rows, self.settings, first, within)
        facts = BatchFacts(first, size, seconds, made.nfe, made.clipped_mass, made.rule, made.reads)
        *lines, last = records(made.tokens.cpu().numpy(), facts, self.settings, self.model.tokenizer)
        began = time.perf_counter()
        if self.verifier is not None:
            verdicts = self.verifier([line["text"] for line in lines], first)
            lines = [line for line, accepted in zip(lines, verdicts, strict=True) if accepted]
        took = time.perf_counter() - began if self.verifier is not None else 0.0
        append(file, [*lines, last | {"checked": {"accepted": len(lines), "seconds": took}}])
        if self.batch_made is not None:
            self.batch_made(size)
        return len(lines)


def _accepted(part: Path) -> list[int]:
    """How many samples of each whole batch are in a part."""
    found, since = [], 0
    with part.open("rb") as lines:
        next(lines)
        for line in lines:
            if line.startswith(_BATCH):
                found.append(since)
            since = 0 if line.startswith(_BATCH) else since + 1
    return found


def _join(path: Path, plan: dict[str, Any], until: int | None, new_tokens: int) -> None:
    """The parts in the order of the samples, without their times, as the file; the times beside it."""
    kept, tried, made = 0, plan["settings"]["n"], 0
    seconds = [0.0] * plan["processes"]
    for rank, line in _in_order(path, plan):
        if line.startswith(_BATCH):
            facts = json.loads(line)
            made += facts["batch"]["size"]
            seconds[rank] += facts["batch"]["seconds"] + facts["checked"]["seconds"]
        elif until is None or kept < until:
            kept += 1
            if kept == until:
                tried = json.loads(line)["sample"] + 1
    asked = {key: plan[key] for key in ("format", "settings", "tokenizer")}
    head = asked | {"settings": asked["settings"] | {"n": kept}, "asked": asked, "tried": tried}
    summary = Made(path, kept, tried, made, max(seconds), plan["batch"], plan["processes"], new_tokens).as_json()
    left = kept
    with part_of(path).open("wb") as file, part_of(facts_of(path)).open("wb") as aside:
        append(file, [head])
        append(aside, [{"made": summary | {"path": path.name}}])
        for _, line in _in_order(path, plan):
            if line.startswith(_BATCH):
                aside.write(line)
            elif left:
                left -= 1
                file.write(line)
        for each in (file, aside):
            each.flush()
            os.fsync(each.fileno())
    os.replace(part_of(facts_of(path)), facts_of(path))
    os.replace(part_of(path), path)


def _in_order(path: Path, plan: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """The lines of all parts, batch by batch in the order of the samples, each with its process."""
    count = plan["processes"]
    files = [part_of(_part(path, rank, count)).open("rb") for rank in range(count)]
    try:
        for file in files:
            next(file)
        for turn in itertools.count():
            rank = turn % count
            for line in files[rank]:
                yield rank, line
                if line.startswith(_BATCH):
                    break
            else:
                return  # nothing more here, so nothing in those behind it
    finally:
        for file in files:
            file.close()


def _made(path: Path) -> Made:
    """The summary that stands first beside the file."""
    try:
        with facts_of(path).open("rb") as lines:
            found = json.loads(next(lines))["made"]
        known = {field.name for field in dataclasses.fields(Made)}
        return Made(**{key: value for key, value in found.items() if key in known} | {"path": path})
    except (OSError, StopIteration, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{facts_of(path)} is missing or damaged: {error}", f"{path} itself is whole") from None


def _header(path: Path) -> dict[str, Any] | None:
    """The first line of a file, None where there is none that is an object."""
    try:
        with path.open("rb") as lines:
            head = json.loads(next(lines))
    except (OSError, StopIteration, ValueError):
        return None
    return head if isinstance(head, dict) else None


def _plan(path: Path) -> dict[str, Any] | None:
    return _header(_plan_of(path))


def _plan_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.plan")


def _part(path: Path, rank: int, count: int) -> Path:
    return path.with_name(f"{path.name}.{rank}-of-{count}")


def _tidy(path: Path) -> None:
    """Remove the parts and, last, the plan."""
    plan = _plan(path)
    for rank in range(0 if plan is None else plan["processes"]):
        part_of(_part(path, rank, plan["processes"] if plan else 0)).unlink(missing_ok=True)
    _plan_of(path).unlink(missing_ok=True)
