"""The rules that walk down a grid of times, by name, and the grids."""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.diffusion.processes import Process
from unmask.diffusion.times import cosine_grid, linear_grid
from unmask.errors import unknown
from unmask.sampling.laws import ancestral_law, euler_law, tweedie_law
from unmask.sampling.rules import LATEST, GridRule

GRIDS: dict[str, Callable[[int, float, float], Tensor]] = {"cosine": cosine_grid, "linear": linear_grid}


def _times(grid: str, steps: int, start: float, end: float) -> tuple[float, ...]:
    if grid not in GRIDS:
        raise unknown("grid", grid, GRIDS)
    return tuple(GRIDS[grid](steps, start, end).tolist())


def tweedie(steps: int, start: float = 1.0, *, grid: str = "linear") -> GridRule:
    """SEDD's analytic sampler over raw scores: `steps` steps from `start` to 1e-5, then one to clean data."""

    def odds(process: Process, t: Tensor, s: Tensor) -> Tensor:
        return torch.expm1(process.schedule.sigma(t) - process.schedule.sigma(s))

    return GridRule("tweedie", "score", _times(grid, steps, start, LATEST), tweedie_law, odds)


def euler(steps: int, start: float = 1.0, *, grid: str = "linear") -> GridRule:
    """SEDD's Euler sampler over raw scores: `steps` steps from `start` to 1e-5, then Tweedie's to clean data."""

    def odds(process: Process, t: Tensor, s: Tensor) -> Tensor:
        return (t - s) * process.schedule.dsigma(t)

    return GridRule("euler", "score", _times(grid, steps, start, LATEST), euler_law, odds)


def ancestral(steps: int, start: float = 1.0, *, grid: str = "linear") -> GridRule:
    """Posterior sampling over normalized p(x0): `steps` steps from `start` to 0, the last to clean data."""

    def odds(process: Process, t: Tensor, s: Tensor) -> Tensor:
        lost = process.schedule.one_minus_alpha(t)
        return (lost - process.schedule.one_minus_alpha(s)) / lost

    return GridRule("ancestral", "p0", _times(grid, steps, start, 0.0), ancestral_law, odds)
