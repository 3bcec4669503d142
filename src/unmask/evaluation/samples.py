"""Sample sets: generated sequences kept on disk with how they were made, so that metrics need no second sampling.

A set is a file of JSON lines: what it is, then the samples of each batch and behind them one line of what the batch
took. The file grows under the name PATH.part and gets its own name when it is whole.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.errors import ConfigError, DataError
from unmask.evaluation.sample_set import FORMAT, BatchFacts, SampleSet, SampleSettings, read_samples
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.sampling import Canvas, Sample, sample
from unmask.text.tokenizers import Tokenizer

Progress = Callable[[int, int], None]
Batch = tuple[NDArray[Any], BatchFacts]  # ids [B, L] and what they took
__all__ = [
    "BatchFacts", "SampleSet", "SampleSettings", "append", "data_samples", "draw_batch", "fingerprint",
    "other_settings", "part_file", "part_of", "read_samples", "records", "write_batches", "write_continuations",
    "write_samples",
]  # fmt: skip


def fingerprint(model: LanguageModel) -> str:
    """12 hexadecimal digits of the sha256 of all weights with their names and types, wherever they are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def write_samples(
    path: str | Path,
    model: LanguageModel,
    settings: SampleSettings,
    *,
    canvases: Callable[[range], Canvas] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SampleSet:
    """Sample what the settings say into a file, batch by batch, or read the file if it is there already.

    canvases: the canvas of samples i to j; default: blank ones. Sample i draws what (seed, i) decides, whatever the
    batch (exact draws). A call that was cut off goes on behind its last whole batch. progress: told
    (done, in all), counted in samples times moves. Raises ConfigError where the file was made with other settings,
    unless `overwrite`, and as `unmask.sample`.
    """
    if settings.length > model.length:
        raise ConfigError(
            f"samples of {settings.length} tokens, the model's context is {model.length}", "ask for shorter samples"
        )

    def batches(done: int) -> Iterator[Batch]:
        for start in range(done, settings.n, settings.batch):
            places = range(start, min(start + settings.batch, settings.n))
            canvas = Canvas.blank(settings.length, batch=len(places)) if canvases is None else canvases(places)
            if canvas.batch != len(places) or canvas.length != settings.length:
                raise ConfigError(
                    f"canvases of [{canvas.batch}, {canvas.length}], expected [{len(places)}, {settings.length}]",
                    "give a canvas of the settings' shape",
                )
            told = _within(progress, start, len(places), settings.n)
            made, seconds = draw_batch(model, canvas, settings, start, told)
            facts = BatchFacts(start, len(places), seconds, made.nfe, made.clipped_mass, made.rule, made.reads)
            yield made.tokens.cpu().numpy(), facts

    return write_batches(path, model.tokenizer, settings, batches, overwrite=overwrite)


def data_samples(
    path: str | Path, rows: Any, tokenizer: Tokenizer | None, settings: SampleSettings, *, overwrite: bool = False
) -> SampleSet:
    """Rows [N, L] of real text as a sample set: what samples are compared with. N and L are the settings' too."""
    x = np.asarray(rows)
    if x.shape != (settings.n, settings.length):
        raise ConfigError(
            f"rows of shape {list(x.shape)}, the settings say [{settings.n}, {settings.length}]", "make them agree"
        )

    def batches(done: int) -> Iterator[Batch]:
        if done < len(x):
            yield x[done:], BatchFacts(done, len(x) - done, 0.0, 0, 0.0)

    return write_batches(path, tokenizer, settings, batches, overwrite=overwrite)


def write_continuations(
    path: str | Path,
    tokenizer: Tokenizer | None,
    settings: SampleSettings,
    parts: Callable[[int], Iterator[Tensor]],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SampleSet:
    """Prompts and what was written behind them as a sample set, kept batch by batch as `parts` gives them.

    parts: from sample `first` on, ids [B, L] a batch (`unmask.evaluation.conditional.continuations` has it as
    `first=`). progress: told (samples done, in all).
    """

    def batches(done: int) -> Iterator[Batch]:
        began = time.perf_counter()
        for part in parts(done):
            yield part.cpu().numpy(), BatchFacts(done, len(part), time.perf_counter() - began, 0, 0.0)
            done, began = done + len(part), time.perf_counter()
            if progress is not None:
                progress(done, settings.n)

    return write_batches(path, tokenizer, settings, batches, overwrite=overwrite)


def write_batches(
    path: str | Path,
    tokenizer: Tokenizer | None,
    settings: SampleSettings,
    batches: Callable[[int], Iterator[Batch]],
    *,
    overwrite: bool = False,
) -> SampleSet:
    """What all of the above do: read the file if it is there, else go on behind what an earlier call left.

    batches: given how many samples there are already, the ids [B, L] and facts of each batch that follows. A batch is
    on the disk before the next one is asked for.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "settings": settings.as_json(),
        "tokenizer": None if tokenizer is None else tokenizer.fingerprint,
    }
    if (found := _finished(path, header, overwrite)) is not None:
        return found
    with part_file(path, header, overwrite) as (file, done):
        for rows, facts in batches(done):
            append(file, records(rows, facts, settings, tokenizer))
            done += len(rows)
    if done != settings.n:
        raise ConfigError(f"{done} samples were made, the settings say {settings.n}", "make them agree")
    os.replace(part_of(path), path)
    return read_samples(path)


def draw_batch(
    model: LanguageModel, canvas: Canvas, settings: SampleSettings, first: int, progress: Progress | None
) -> tuple[Sample, float]:
    """A batch from sample `first` on, and its wall time, until the tokens are there.

    `settings.extra["options"]`: options of `unmask.sample` beyond those that the settings have of their own.
    """
    options: dict[str, Any] = {
        key: getattr(settings, key) for key in ("seed", "draws", "temperature", "top_p", "top_k", "min_p")
    }
    options |= {key: getattr(settings, key) for key in ("steps", "rule") if getattr(settings, key) is not None}
    options |= settings.extra.get("options", {})
    assert isinstance(model, DiffusionLM | AutoregressiveLM)
    began = time.perf_counter()
    made = sample(model, canvas, first_sample=first, progress=progress, **options)
    made.tokens.cpu()  # waits for an accelerator
    return made, time.perf_counter() - began


def _within(progress: Progress | None, start: int, size: int, n: int) -> Progress | None:
    """The progress of one batch of `size` samples as that of all n."""
    if progress is None:
        return None
    return lambda done, moves: progress(start * moves + size * done, n * moves)


def records(
    rows: NDArray[Any], facts: BatchFacts, settings: SampleSettings, tokenizer: Tokenizer | None
) -> Iterator[dict[str, Any]]:
    """The lines of a batch: a sample each, and what they took."""
    for i, ids in enumerate(rows.tolist()):
        text = "" if tokenizer is None else tokenizer.decode(ids, keep_special=True)
        yield {"sample": facts.first + i, "seed": settings.seed, "text": text, "ids": ids}
    yield {"batch": dataclasses.asdict(facts)}


def append(file: BinaryIO, lines: Iterable[dict[str, Any]]) -> None:
    """Add whole lines and make them durable."""
    file.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
    file.flush()
    os.fsync(file.fileno())


def _finished(path: Path, header: dict[str, Any], overwrite: bool) -> SampleSet | None:
    """The set at `path`, if it was made so; None where there is none, or it may be written over."""
    if not path.exists():
        return None
    try:
        found = read_samples(path)
    except DataError:
        if overwrite:
            return None
        raise
    theirs = {"format": FORMAT, "settings": found.settings.as_json(), "tokenizer": found.tokenizer}
    if theirs == header:
        return found
    if not overwrite:
        raise other_settings(path, theirs, header)
    return None


def other_settings(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> ConfigError:
    """The error for a file of other settings: it names what differs."""
    old, new = ({**each.get("settings", {}), "tokenizer": each.get("tokenizer")} for each in (theirs, ours))
    differing = [f"{key} {old.get(key)!r}, not {new[key]!r}" for key in new if old.get(key) != new[key]]
    return ConfigError(
        f"{path} was made with other settings: {'; '.join(differing) or 'another format'}",
        "give another file, or write over it",
    )


@contextlib.contextmanager
def part_file(path: Path, header: dict[str, Any], overwrite: bool) -> Iterator[tuple[BinaryIO, int]]:
    """The unfinished file, open behind its last whole batch, and how many samples it holds."""
    part = part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole, done = (0, 0) if not part.exists() else _whole(part, header, path if not overwrite else None)
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(whole)
        file.seek(whole)
        if not whole:
            append(file, [header])
        yield file, done


def _whole(part: Path, header: dict[str, Any], refuse: Path | None) -> tuple[int, int]:
    """Bytes and samples of an unfinished file up to its last whole batch; (0, 0) where it is of no use."""
    size, whole, done = 0, 0, 0
    with part.open("rb") as lines:
        for number, line in enumerate(lines):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:  # not JSON, or not UTF-8
                record = None
            if not isinstance(record, dict):
                break  # cut off in the middle of a line
            if number == 0 and record != header:
                if refuse is not None:
                    raise other_settings(part, record, header)
                return 0, 0
            size += len(line)
            if number == 0 or "batch" in record:
                whole, done = size, done + (record["batch"]["size"] if number else 0)
    return whole, done


def part_of(path: Path) -> Path:
    """Where a set grows until it is whole."""
    return path.with_name(f"{path.name}.part")
