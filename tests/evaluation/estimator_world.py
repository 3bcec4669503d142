"""A world of three tokens and four positions, and what the bound of its texts is by full enumeration."""

import itertools

import numpy as np
import torch
from torch import Tensor

from exact.world import World
from unmask.diffusion import Absorbing, Cosine, Geometric, LogLinear, Process
from unmask.diffusion.losses import score_entropy
from unmask.evaluation.counts import count_masses, level_at
from unmask.evaluation.terms import bracket_per_token

from .exact_models import BayesModel

LONG = World.make(3, 4)
T_MIN = 0.01


class RawModel(BayesModel):
    """Scores of no distribution: those of the truth, tilted by token, position, what is seen and the time."""

    def log_score(self, xt: Tensor, t: Tensor, *, at: Tensor | None = None) -> Tensor:
        rows = super().log_score(xt, t)
        place = torch.arange(xt.shape[1]).double()[:, None]
        token = torch.arange(rows.shape[-1]).double()
        seen = (xt * torch.tensor([1.0, 0.7, 0.4, 0.9])[: xt.shape[1]]).sum(1)[:, None, None]
        tilt = 0.4 * torch.sin(2 * place + 3 * token + seen) + 0.5 * (t[:, None, None] - 0.3)
        rows = (rows + tilt).scatter(-1, xt[..., None], 0.0)
        return rows if at is None else rows[at]


def model(kind: str, process: Process | None = None) -> BayesModel:
    made = RawModel if kind == "raw" else BayesModel
    return made(process or Absorbing(3, LogLinear(1e-3)), LONG)


def nodes(low: float, high: float, count: int = 48) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's points and weights on [low, high]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.tensor(low + (high - low) * (x + 1) / 2), torch.tensor(w * (high - low) / 2)


def by_time(lm: BayesModel, x0: Tensor, scored: Tensor) -> float:
    """The papers' quantity of one text by summing over all masks at every time of a quadrature."""
    times, weights = nodes(T_MIN, 1.0)
    total = 0.0
    for pattern in itertools.product([False, True], repeat=int(scored.sum())):
        at = torch.zeros_like(scored)
        at[scored.nonzero()[:, 0]] = torch.tensor(pattern)
        if not at.any():
            continue
        m = lm.process.schedule.one_minus_alpha(times)
        chance = m ** int(at.sum()) * (1 - m) ** int((scored & ~at).sum())
        xt = torch.where(at, 3, x0).expand(len(times), -1)
        loss = score_entropy(lm.process, lm.log_score(xt, times), x0.expand_as(xt), xt, times)
        total += float((weights * chance * loss.sum(1)).sum())
    return total / (1 - T_MIN) / int(scored.sum())


def by_count(lm: BayesModel, x0: Tensor, scored: Tensor) -> float:
    """The same by the derivation of `counts`: over counts, sets of that count, and m given the count."""
    n = int(scored.sum())
    schedule = lm.process.schedule
    low, high = (float(schedule.one_minus_alpha(torch.tensor(t).double())) for t in (T_MIN, 1.0))
    total = 0.0
    for k, mass in enumerate(count_masses(n, low, high).tolist(), start=1):
        u, weights = nodes(0.0, 1.0)
        m = level_at(n, torch.full((len(u),), k), u, low, high)
        t = schedule.inverse(1 - m)
        sets = list(itertools.combinations(scored.nonzero()[:, 0].tolist(), k))
        for chosen in sets:
            at = torch.zeros_like(scored)
            at[list(chosen)] = True
            xt = torch.where(at, 3, x0).expand(len(t), -1)
            g = bracket_per_token(lm, x0.expand_as(xt), xt, t, at.expand_as(xt))
            total += mass / len(sets) * float((weights * g.sum(1)).sum()) / k
    return total / n / (1 - T_MIN)


TEXTS = LONG.tokens[[0, 13, 40, 77]]
SCORED = torch.tensor([[True] * 4, [True] * 4, [True, False, True, True], [False, True, False, False]])
SCHEDULES = {"loglinear": LogLinear(1e-3), "geometric": Geometric(1e-3, 6.0), "cosine": Cosine(1e-3)}
