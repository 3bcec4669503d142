"""How many samples to write at a time: grow the batch while tokens a second still gain and memory allows."""

import dataclasses
import itertools
import os
import time
from pathlib import Path
from typing import Any

import torch

from unmask.devices import settle
from unmask.model import AutoregressiveLM, LanguageModel
from unmask.sampling.autoregressive import generate
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import denoise
from unmask.sampling.rules import room as laws_room

GAIN = 1.1  # a batch twice as large has to be this much faster
MOVES, NEW_TOKENS = 3, 8  # of a trial, the first move not counted
SHARE = 0.5  # of the free memory


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The batch chosen, and the samples a second of each batch tried, relative to those of a batch of 1."""

    batch: int
    trials: tuple[tuple[int, float], ...]
    reason: str

    def words(self) -> str:
        """One line for people."""
        tried = ", ".join(f"{size}: {speed / self.trials[0][1]:.2f}x" for size, speed in self.trials)
        return f"batches of {self.batch} ({self.reason}; speed by batch: {tried})"


def calibrate(model: LanguageModel, canvas: Canvas, *, most: int, room: float, **options: Any) -> Calibration:
    """The batch for many samples of `canvas` [1, L]: 1, doubled while samples a second rise by more than a tenth.

    most: no larger batch (how many samples there are). room: bytes that may be used, see `free_memory`. options: those
    of `unmask.sample`, as the samples will have them. Takes a few moves at each size; the samples are thrown away.
    """
    one, per_row = canvas.to(model.device), row_bytes(model, canvas.length)
    trials = [(1, 1 / _pace(model, one, 1, options))]
    while True:
        size = 2 * trials[-1][0]
        if size > most:
            return Calibration(min(trials[-1][0], most), tuple(trials), "no more are asked for")
        if size * per_row > SHARE * room:
            return Calibration(trials[-1][0], tuple(trials), "memory")
        try:
            speed = size / _pace(model, one, size, options)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return Calibration(trials[-1][0], tuple(trials), "memory")
        if speed < GAIN * trials[-1][1]:
            return Calibration(trials[-1][0], (*trials, (size, speed)), "twice as many gain less than a tenth")
        trials.append((size, speed))


def row_bytes(model: LanguageModel, length: int) -> float:
    """What a row of a batch may take beside the weights, in bytes: activations, logits, a cache. Generous."""
    c, size = model.net.config, model.net.vocab_embed.embedding.dtype.itemsize
    activations = 48.0 * c.width * max(size, 4)
    cache = 2.0 * c.depth * c.width * size if getattr(model.net.config, "block_size", None) is not None else 0.0
    logits = 6 * min(8.0 * length * c.num_outputs, laws_room(model.device))
    if isinstance(model, AutoregressiveLM):
        logits = 6.0 * 8 * c.num_outputs
    return length * (activations + cache) + logits


def free_memory(device: torch.device) -> float:
    """Free bytes on the device: of a GPU, of a container where its limit can be read, of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    free = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")] or free
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        free += [float(limit) - float(used)] if limit != "max" else []
    except (OSError, ValueError):
        pass  # another system: what was found so far
    return max(min(free), 0.0)


def many(canvas: Canvas, batch: int) -> Canvas:
    """One canvas [1, L] as a batch of it."""
    return Canvas(canvas.tokens.repeat(batch, 1), canvas.frozen.repeat(batch, 1))


def _pace(model: LanguageModel, canvas: Canvas, batch: int, options: dict[str, Any]) -> float:
    """Seconds of a move on a batch: the fastest of a few."""
    rows, device = many(canvas, batch), model.device
    if isinstance(model, AutoregressiveLM):
        given = int(canvas.frozen.sum())
        end = min(given + NEW_TOKENS, canvas.length)
        rows = Canvas(rows.tokens[:, :end], rows.frozen[:, :end])
        marks = [time.perf_counter()]

        def told(done: int, total: int) -> None:
            settle(device)
            marks.append(time.perf_counter())

        generate(model, rows, progress=told, **options)
        return min(b - a for a, b in itertools.pairwise(marks))
    running, marks = denoise(model, rows, **options), []
    next(running)
    for _, _ in zip(range(MOVES), running, strict=False):
        settle(device)
        marks.append(time.perf_counter())
    pairs = itertools.pairwise(marks)
    return min((b - a for a, b in pairs), default=1.0)
