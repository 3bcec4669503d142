"""Templates by the file: a JSON object a line in, the same object with its text and how it was made out.

A line has `template`, or `length` with `prefix`, `suffix` or both; all other fields pass through. `text` and `infill`
are added, so that a line may not have them. Every line is read and checked before the first is filled. While a file
grows it is PATH.part, in the form of `unmask.evaluation.samples`: what was asked for, then the lines of each template
and a line behind them; a call that was cut off goes on behind its last whole template. PATH appears at the end.
"""

import dataclasses
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unmask.errors import ConfigError, DataError, InputError
from unmask.evaluation.infill import Infill, Plan, Search, infills, plan
from unmask.evaluation.infill_batches import Alike, batches, fill_together
from unmask.evaluation.rows import Progress
from unmask.evaluation.samples import append, fingerprint, part_file, part_of
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.random import fold
from unmask.sampling.template import Template

FORMAT = 1
ADDED = ("text", "infill")
_SIDES = ("prefix", "suffix")


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the file: its number, from 1, its fields, and the template that they are."""

    number: int
    fields: dict[str, Any]
    template: Template


@dataclasses.dataclass(frozen=True)
class Piped:
    """A file of templates that has no path: all that came through a pipe, and what messages call it."""

    content: bytes
    name: str = "stdin"

    def __str__(self) -> str:
        return self.name


Source = Path | Piped


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done: every template of `source`, `number` times. seed: sample i of all is (seed, i)'s.

    model: its name, for the header; by: what else decides its numbers. options: those of `unmask.sample`. batch_size:
    samples that are made at a time where lines go together (`infill_batches`); those of one line always are.
    ConfigError below 1.
    """

    source: Source
    model: str
    number: int
    search: Search
    seed: int
    options: dict[str, Any]
    by: dict[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"a batch of {self.batch_size} samples", "at least 1")


def read_lines(source: Source) -> Iterator[Line]:
    """The lines of a file one by one, empty ones passed over. DataError, with the line's number, for a bad one."""
    try:
        with _opened(source) as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield _line(raw, number, f"{source}, line {number}")
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}", "check the file and its permissions") from None


def checked(model: LanguageModel, job: Job) -> int:
    """How many templates there are. Raises what filling them would, with the number of the line, before any work."""
    count = 0
    for line in read_lines(job.source):
        _plan(model, job, line)
        count += 1
    if not count:
        raise DataError(f"{job.source} holds no line", "a line is an object with a field 'template'")
    return count


def filled(model: LanguageModel, job: Job, first: int = 0) -> Iterator[list[dict[str, Any]]]:
    """The lines of each template from number `first` (from 0) on, filled: `number` objects each."""
    if isinstance(model, AutoregressiveLM):
        checked(model, job)  # says why not
        return
    lines: dict[int, Line] = {}

    def plans() -> Iterator[tuple[int, Plan]]:
        for place, line in enumerate(read_lines(job.source)):
            if place >= first:
                lines[place] = line
                yield place, _plan(model, job, line)

    for window in batches(plans(), Alike(model, job.options), max(1, job.batch_size // job.number)):
        made: dict[int, list[Infill]] = {}
        for batch in window:
            made.update(zip([place for place, _ in batch], _made(model, job, batch), strict=True))
        for place in sorted(made):
            fields = lines.pop(place).fields
            yield [fields | {"text": each.text, "infill": _facts(each.as_json())} for each in made[place]]


def _made(model: DiffusionLM, job: Job, batch: list[tuple[int, Plan]]) -> list[list[Infill]]:
    """What the plans of a batch come to."""
    if len(batch) > 1:
        return fill_together(model, batch, job.number, job.seed, job.options)
    [(place, each)] = batch
    first = place * job.number
    return [infills(model, each, job.number, search=job.search, seed=job.seed, first_sample=first, **job.options)]


def write_filled(
    path: Path, model: LanguageModel, job: Job, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Fill every line into a file that appears whole, or go on with one that was cut off; what it took and said.

    progress: told the templates that are done, and all. Raises ConfigError where the file is there, and where an
    earlier call left one of other settings, unless `overwrite`; DataError for bad lines, before anything is written.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there", "give another file, or write over it with --force")
    if path.exists() and isinstance(job.source, Path) and path.samefile(job.source):
        raise ConfigError(f"{path} is read and written", "give another file to write to")
    total, began = checked(model, job), time.perf_counter()
    try:
        with part_file(path, _header(model, job), overwrite) as (file, done):
            resumed = done
            for lines in filled(model, job, done):
                append(file, [*({"line": line} for line in lines), {"batch": {"size": 1}}])
                done += 1
                if progress is not None:
                    progress(done, total)
        notices = _finish(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "check the folder and the disk") from None
    return {
        "path": str(path), "templates": total, "lines": total * job.number, "resumed": resumed, "seed": job.seed,
        "seconds": round(time.perf_counter() - began, 4), "notices": notices,
    }  # fmt: skip


def earlier_seed(path: Path) -> int | None:
    """The seed of what an earlier call left of a file; None where there is nothing to go on with."""
    try:
        with part_of(path).open("rb") as lines:
            return int(json.loads(next(lines))["settings"]["seed"])
    except (OSError, StopIteration, ValueError, KeyError, TypeError):
        return None


def fresh_seed(path: Path | None) -> int:
    """The seed of an earlier call that was cut off, else a new one."""
    found = None if path is None else earlier_seed(path)
    return fold("seed", time.time_ns()) if found is None else found


def _opened(source: Source) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source.content)


def _header(model: LanguageModel, job: Job) -> dict[str, Any]:
    """All that decides the lines, as JSON."""
    assert model.tokenizer is not None  # checked
    with _opened(job.source) as file:
        source = hashlib.sha256(file.read()).hexdigest()[:12]
    settings = {
        "source": source, "model": job.model,
        "weights": fingerprint(model), "number": job.number, "seed": job.seed, **dataclasses.asdict(job.search),
        "options": job.options, **job.by,
    }  # fmt: skip
    found: dict[str, Any] = {"format": FORMAT, "settings": json.loads(json.dumps(settings))}
    return found | {"tokenizer": model.tokenizer.fingerprint}


def _finish(path: Path) -> dict[str, int]:
    """The lines alone, under a name of their own, then under the file's. How many lines each notice is in."""
    whole, notices = path.with_name(f"{path.name}.whole"), Counter[str]()
    with part_of(path).open("rb") as part, whole.open("wb") as file:
        next(part)
        for record in map(json.loads, part):
            if "line" in record:
                file.write(json.dumps(record["line"]).encode() + b"\n")
                notices.update(record["line"]["infill"]["notices"])
        file.flush()
        os.fsync(file.fileno())
    os.replace(whole, path)
    part_of(path).unlink()
    return dict(notices)


def _line(raw: bytes, number: int, place: str) -> Line:
    try:
        fields = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is not UTF-8, at byte {error.start + 1} of it", "convert the file to UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON: {error}", "a line is an object with a field 'template'") from None
    hint = "give 'template', or 'length' with 'prefix', 'suffix' or both"
    if not isinstance(fields, dict):
        raise DataError(f"{place} is no object, but {type(fields).__name__}", hint)
    if taken := [name for name in ADDED if name in fields]:
        raise DataError(f"{place} has the field {taken[0]!r}, which is what is written", "rename it")
    sides = [name for name in _SIDES if name in fields]
    if ("template" in fields) == bool(sides) or bool(sides) != ("length" in fields):
        raise DataError(f"{place} has the fields {', '.join(sorted(fields)) or 'none'}", hint)
    for name in sides or ["template"]:
        if not isinstance(fields[name], str):
            raise DataError(f"{place}: the field {name!r} is {type(fields[name]).__name__}", "it is a text")
    try:
        if not sides:
            return Line(number, fields, Template.parse(fields["template"]))
        return Line(
            number, fields, Template.between(fields.get("prefix", ""), fields.get("suffix", ""), fields["length"])
        )
    except InputError as error:
        raise DataError(f"{place}: {error.message}", error.hint) from None


def _plan(model: LanguageModel, job: Job, line: Line) -> Plan:
    if isinstance(model, AutoregressiveLM):
        return plan(model, line.template, job.search)  # says why not, whatever the line
    try:
        return plan(model, line.template, job.search)
    except InputError as error:
        raise DataError(f"{job.source}, line {line.number}: {error.message}", error.hint) from None


def _facts(made: dict[str, Any]) -> dict[str, Any]:
    """Of an infill, what is the same whenever it is made."""
    return {key: value for key, value in made.items() if key not in ("text", "seconds")}
