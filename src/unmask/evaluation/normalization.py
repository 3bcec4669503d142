"""Do raw scores belong to a distribution? At a mask they should sum to 1 / (e^sigma - 1)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from unmask.diffusion.parametrizations import log_expm1_sigma
from unmask.errors import ConfigError
from unmask.evaluation.rows import checked_rows, evaluating
from unmask.evaluation.terms import before
from unmask.model import DiffusionLM
from unmask.random import fold, uniform


@dataclasses.dataclass(frozen=True)
class Normalization:
    """(e^sigma - 1) times the sum of the scores at masked positions at time t: 1 for the scores of a distribution.

    mean, std: over n positions.
    """

    t: float
    mean: float
    std: float
    n: int


def normalization(
    model: DiffusionLM,
    rows: Any,
    times: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *,
    seed: int = 0,
    batch_size: int = 16,
) -> tuple[Normalization, ...]:
    """How far raw scores are from those of a distribution at each of `times`, over masked positions of rows [N, L].

    Raises ConfigError for a process without a mask, whose scores have no such sum.
    """
    if not model.process.commits:
        raise ConfigError("scores sum to 1 / (e^sigma - 1) at masked positions only", "measure an absorbing model")
    x = checked_rows(rows, model, batch_size)
    position = torch.arange(x.shape[1])
    found = []
    with evaluating(model):
        for k, each in enumerate(times):
            totals = []
            for start in range(0, len(x), batch_size):
                part = x[start : start + batch_size]
                index = torch.arange(start, start + len(part))
                t = torch.full((len(part),), each, dtype=torch.float64)
                xt = model.process.corrupt(part, t, u=uniform(fold(seed, "normalization", k), index[:, None], position))
                at, context = model.process.is_mask(xt), before(model, part.to(model.device))
                total = model.predict(xt.to(model.device), t.to(model.device), **context).log_total(at.to(model.device))
                scale = log_expm1_sigma(model.process, t)[:, None].expand(xt.shape)[at]
                totals.append((total.cpu().double() + scale).exp())
            values = torch.cat(totals)
            spread = float(values.std()) if len(values) > 1 else math.nan
            found.append(Normalization(each, float(values.mean()), spread, len(values)))
    return tuple(found)
