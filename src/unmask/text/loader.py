"""The order in which training sees rows: a function of the seed and the step, and of nothing else."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask import random
from unmask.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows for one step, and where each comes from."""

    rows: Tensor  # [B, L] int64
    epoch: Tensor  # [B] int64: how many times the corpus had been seen through
    index: Tensor  # [B] int64: the row of the corpus


class Loader:
    """Rows in an endless order that any step can ask for: nothing is kept from step to step.

    Row k of step n is element n*global_batch + k of the epochs one after another, each of which is a
    permutation of the rows. So a run resumes at any step, and the ranks that share it do not change it.
    """

    def __init__(self, rows: NDArray[Any], *, global_batch: int, seed: int) -> None:
        """rows: [N, L] of token ids; an array on disk does. global_batch: rows a step, over all ranks."""
        if rows.ndim != 2 or rows.shape[0] == 0:
            raise DataError(f"rows to load must be [N, L] with N >= 1, got {list(rows.shape)}")
        if global_batch < 1:
            raise ConfigError(f"a global batch of {global_batch} rows is empty", "ask for at least 1")
        self.rows = rows
        self.global_batch = global_batch
        self.seed = seed
        # a batch touches few epochs; two permutations are kept because a batch may straddle two
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = random.permutation(len(self.rows), random.fold(self.seed, "epoch", epoch)).numpy()
        return order

    @property
    def steps_per_epoch(self) -> float:
        """How many steps see the corpus once; not whole in general."""
        return len(self.rows) / self.global_batch

    def batch(self, step: int) -> Batch:
        """The global batch of the step (counted from 0); it may hold rows of two epochs or more."""
        if step < 0:
            raise ConfigError(f"step {step} is below 0", "steps are counted from 0")
        element = step * self.global_batch + np.arange(self.global_batch, dtype=np.int64)
        epoch, place = np.divmod(element, len(self.rows))
        index = np.empty_like(place)
        for each in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == each
            index[here] = self._order(each)[place[here]]
        rows = torch.from_numpy(self.rows[index].astype(np.int64))
        return Batch(rows, torch.from_numpy(epoch), torch.from_numpy(index))
