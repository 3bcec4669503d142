"""Several templates filled in one batch, where no line can tell: its tokens and numbers are those that it has alone.

That needs canvases of one length whose gaps have fixed lengths, exact draws, and a rule that takes each row through as
many moves as it takes alone: a grid of times always does, fixed counts and first-hitting where as many positions are
open. Adaptive rules, correctors, races and models with blocks (whose steps are shared among the blocks of a batch) go
one by one. What is left is the last bits of float32; in float64 the text is the same, token for token.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from unmask.evaluation.infill import Infill, Plan, from_sample
from unmask.model import DiffusionLM
from unmask.sampling import Canvas, sample
from unmask.sampling.draws import EXACT
from unmask.sampling.loop import find_rule
from unmask.sampling.named import our_keywords
from unmask.sampling.orders import BLIND, ORDERS

AHEAD = 4  # batches that are read at a time, in search of lines that go together
_GRIDS, _COUNTED = ("tweedie", "euler", "ancestral"), (*ORDERS, *BLIND, "first-hitting")


class Alike:
    """Says which plans go together, given the options of `unmask.sample`."""

    def __init__(self, model: DiffusionLM, options: dict[str, Any]) -> None:
        ours, _ = our_keywords(options)
        exact = ours.get("draws", EXACT) == EXACT and model.block_size is None
        self._rule = find_rule(model, ours.get("rule")).name if exact else None

    def __call__(self, job: Plan) -> tuple[int, int] | None:
        """Equal for plans that go together; None for one that goes alone."""
        if len(job.lengths) > 1 or self._rule not in (*_GRIDS, *_COUNTED):
            return None
        open_ = sum(job.lengths[0])
        return sum(map(len, job.given)) + open_, open_ if self._rule in _COUNTED else 0


def batches(jobs: Iterable[tuple[int, Plan]], alike: Alike, lines: int) -> Iterator[list[list[tuple[int, Plan]]]]:
    """The jobs, a place and a plan each, by the window, as batches of at most `lines` that go together.

    A window is AHEAD * lines; with one line a batch it is one, so that nothing is read ahead.
    """
    left = iter(jobs)
    while window := list(itertools.islice(left, AHEAD * lines if lines > 1 else 1)):
        groups: dict[object, list[tuple[int, Plan]]] = {}
        for place, job in window:
            groups.setdefault(alike(job) or place, []).append((place, job))
        yield [group[i : i + lines] for group in groups.values() for i in range(0, len(group), lines)]


def fill_together(
    model: DiffusionLM, batch: list[tuple[int, Plan]], number: int, seed: int, options: dict[str, Any]
) -> list[list[Infill]]:
    """`number` samples of each job of a batch, those of the job at place p being number * p and on, of the seed."""
    canvases = [Canvas.laid(job.given, job.lengths[0], batch=number) for _, job in batch]
    canvas = Canvas(torch.cat([each.tokens for each in canvases]), torch.cat([each.frozen for each in canvases]))
    numbers = [place * number + i for place, _ in batch for i in range(number)]
    made = sample(model, canvas, seed=seed, first_sample=numbers, **options)
    return [
        [from_sample(model, job, made, numbers[row], seed, row) for row in range(at * number, (at + 1) * number)]
        for at, (_, job) in enumerate(batch)
    ]
