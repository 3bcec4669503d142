"""Rank correlation with a permutation test, for a few pairs."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import DataError
from unmask.evaluation.results import Row

EXACT_UP_TO = 9  # pairs: 362,880 orders
ORDERS = 100_000  # drawn where there are more


@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of n pairs.

    p: two-sided, the share of orders with a rho as far from 0; of all orders where exact (up to 9 pairs), else of
    100,000 drawn ones.
    """

    rho: float
    p: float
    n: int
    exact: bool

    def row(self, model: str, protocol: str) -> Row:
        """rho as a row, p in its note."""
        how = "exact" if self.exact else "of 100,000 drawn orders"
        return Row("rank_correlation", model, self.rho, "rho", protocol, n=self.n, note=f"p = {self.p:.3g}, {how}")


def rank_correlation(mauve_values: Sequence[float], perplexities: Sequence[float]) -> RankCorrelation:
    """Spearman's rank correlation, ties at their mean rank, with a permutation test.

    Raises DataError for fewer than 3 pairs, lists of unlike length, values that are not finite or all the same.
    """
    x, y = np.asarray(mauve_values, float), np.asarray(perplexities, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"a rank correlation of {len(x)} and {len(y)} values", "give at least 3 pairs of numbers")
    a, b = (_ranks(v) - (len(v) + 1) / 2 for v in (x, y))
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    if scale == 0:
        raise DataError("a rank correlation of values that are all the same", "give values that differ")
    rho, exact = float(a @ b) / scale, len(x) <= EXACT_UP_TO
    if exact:
        orders = np.array(list(itertools.permutations(range(len(x)))))
    else:
        rng = np.random.default_rng(0)
        orders = np.array([np.arange(len(x)), *(rng.permutation(len(x)) for _ in range(ORDERS))])
    far = np.abs(b[orders] @ a) / scale >= abs(rho) - 1e-12
    return RankCorrelation(rho, float(far.mean()), len(x), exact)


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    """Ranks from 1, ties at their mean."""
    below = (values[None] < values[:, None]).sum(1)
    return below + ((values[None] == values[:, None]).sum(1) + 1) / 2
