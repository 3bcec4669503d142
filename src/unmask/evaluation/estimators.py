"""Estimators of the diffusion term of the bound, by name, and how sharp each is.

All estimate the same thing for each row, the mean over t uniform on [t_min, 1] of the weighted loss per scored token
(the papers' quantity; the bound takes (1 - t_min) times it), and all are unbiased for it row by row:

- stratified: K times a row, one in each K-th of [t_min, 1] (any process);
- independent: K uniform times a row;
- low-discrepancy: K passes over the rows, in each of which one time a row lies on one even grid over all rows with a
  common random shift (Kingma et al. 2021; as MDLM, BD3LM and Duo evaluate, whose passes are 1);
- mask-count: absorbing noise only. K exact counts of masked positions, stratified over 1..n, the noise level by the
  law that it has given the count (`unmask.evaluation.counts` derives it), and within a row the masks of the K
  evaluations taken from one random order of the positions, one after the other: each by itself is a uniformly random
  set, together they cover the row evenly. Strata are narrow where few positions are masked: a mean over k positions has
  a variance of about 1/k - 1/n times that of a position, which is least in sum with strata of equal parts of its
  square root (Neyman's allocation), close to a width that grows in proportion to the stratum's number.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from unmask.diffusion.processes import Absorbing, Process
from unmask.errors import ConfigError, unknown
from unmask.evaluation.counts import counts_and_levels
from unmask.evaluation.rows import Progress, checked_rows, checked_scored, evaluating
from unmask.evaluation.terms import bracket_per_token, corrupted, loss_per_token, mean_over
from unmask.model import DiffusionLM
from unmask.random import fold, uniform

T_MIN = 1e-3


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which draws: of the rows `index` [B] out of `rows`, `times` evaluations each, keyed by seed, t in [t_min, 1]."""

    index: Tensor
    rows: int
    times: int
    seed: int
    t_min: float = T_MIN

    def uniforms(self, name: str, *counters: Tensor | int) -> Tensor:
        """Uniforms named `name`, one for each row [B] or, with counters, for each of their combinations."""
        first = self.index.view(-1, *[1] * max((c.ndim for c in counters if isinstance(c, Tensor)), default=0))
        return uniform(fold(self.seed, name), first, *counters)


Draws = Callable[[DiffusionLM, Tensor, Tensor, Plan], Tensor]


def even_edges(count: int) -> Tensor:
    """Strata of one width: [K + 1] from 0 to 1."""
    return torch.arange(count + 1, dtype=torch.float64) / count


def narrow_first_edges(count: int) -> Tensor:
    """Strata of widths 1, 3, 5, …: [K + 1] from 0 to 1."""
    return even_edges(count).square()


@dataclasses.dataclass(frozen=True)
class Estimator:
    """draws(model, x0 [B, L], scored [B, L] bool, plan): [B, K] float64 whose mean over K is the estimate of a row.

    edges(K): where strata begin and end, [K + 1] from 0 to 1; draw k is K times its width times what it finds.
    between: how the K draws of a row hang together. "strata": each has its own part of the range, rows are
    independent. "alike": independent, as are rows. "passes": draw k of all rows is one pass, passes are independent,
    the rows of a pass are not. absorbing: only for absorbing noise.
    """

    draws: Draws
    between: Literal["strata", "alike", "passes"]
    absorbing: bool = False
    edges: Callable[[int], Tensor] = even_edges


def _noised(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan, k: int, t: Tensor) -> Tensor:
    """The weighted loss per scored token of one noised copy of each row: [B]."""
    position = torch.arange(x0.shape[1], device=x0.device)
    xt = corrupted(model.process, x0, t, uniform(fold(plan.seed, "mask", k), plan.index[:, None], position), scored)
    return mean_over(loss_per_token(model, x0, xt, t, scored), scored)


def _at_times(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan, fraction: Callable[[int], Tensor]) -> Tensor:
    """[B, K]: the loss at t = t_min + (1 - t_min) fraction(k), fraction [B] in [0, 1)."""
    span = 1 - plan.t_min
    made = [_noised(model, x0, scored, plan, k, plan.t_min + span * fraction(k)) for k in range(plan.times)]
    return torch.stack(made, 1)


def _stratified(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan) -> Tensor:
    return _at_times(model, x0, scored, plan, lambda k: (k + plan.uniforms("time", k)) / plan.times)


def _independent(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan) -> Tensor:
    return _at_times(model, x0, scored, plan, lambda k: plan.uniforms("independent", k))


def _low_discrepancy(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan) -> Tensor:
    def fraction(k: int) -> Tensor:
        # the shift goes all the way round: within a cell alone, a row would always meet the same noise
        shift = uniform(fold(plan.seed, "grid"), k, device=x0.device)
        return (plan.index.double() / plan.rows + shift) % 1.0

    return _at_times(model, x0, scored, plan, fraction)


def _mask_count(model: DiffusionLM, x0: Tensor, scored: Tensor, plan: Plan) -> Tensor:
    schedule = model.process.schedule
    ends = schedule.one_minus_alpha(torch.tensor([plan.t_min, 1.0], dtype=torch.float64))
    low, high = float(ends[0]), float(ends[1])
    stratum, n = torch.arange(plan.times, device=x0.device), scored.sum(1)
    edges = narrow_first_edges(plan.times).to(x0.device)
    width = edges.diff()
    u = edges[:-1] + width * plan.uniforms("count", stratum)
    count, level = (
        found.to(x0.device)
        for found in counts_and_levels(n.cpu(), u.cpu(), plan.uniforms("level", stratum).cpu(), low, high)
    )
    times = schedule.inverse(1 - level)
    place, start = _places(scored, plan), count.cumsum(1) - count
    made = []
    for k in range(plan.times):
        at = scored & ((place - start[:, k, None]) % n[:, None] < count[:, k, None])
        xt = torch.where(at, model.process.num_states - 1, x0)
        made.append(bracket_per_token(model, x0, xt, times[:, k], at).sum(1) / count[:, k])
    return torch.stack(made, 1) * plan.times * width * (high - low) / (1 - plan.t_min)


def _places(scored: Tensor, plan: Plan) -> Tensor:
    """A random order of the scored positions of each row: the place of each in it, [B, L]; others come last."""
    position = torch.arange(scored.shape[1], device=scored.device)
    keys = torch.where(scored, plan.uniforms("order", position), 2.0)
    return keys.argsort(dim=1, stable=True).argsort(dim=1)


ESTIMATORS: dict[str, Estimator] = {
    "stratified": Estimator(_stratified, "strata"),
    "independent": Estimator(_independent, "alike"),
    "low-discrepancy": Estimator(_low_discrepancy, "passes"),
    "mask-count": Estimator(_mask_count, "strata", absorbing=True, edges=narrow_first_edges),
}


def estimator(name: str, process: Process) -> Estimator:
    """The row of ESTIMATORS. ConfigError for an unknown name, and for mask-count where the noise is not absorbing."""
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    found = ESTIMATORS[name]
    if found.absorbing and not isinstance(process, Absorbing):
        raise ConfigError(
            f"the estimator {name} counts masks, {type(process).__name__} noise has none", "use stratified"
        )
    return found


def diffusion_term(model: DiffusionLM, x0: Tensor, index: Tensor, times: int, seed: int, t_min: float) -> Tensor:
    """Mean over `times` stratified t in [t_min, 1] of the weighted loss, nats per token, [B] float64."""
    everything = torch.ones_like(x0, dtype=torch.bool)
    return _stratified(model, x0, everything, Plan(index, len(x0), times, seed, t_min)).mean(1)


def row_variances(draws: Tensor, kind: Estimator) -> Tensor:
    """Variance of the mean over K of each row, [N], from draws [N, K]; not a number where K is 1.

    Unbiased for independent draws. Strata have one draw each, so that each is compared with its neighbours (collapsed
    strata: Cochran 1977, section 5A.12): what they differ in the mean is counted as noise, and the value is too large
    rather than too small.
    """
    count = draws.shape[1]
    if count < 2:
        return torch.full((len(draws),), math.nan, dtype=torch.float64)
    if kind.between != "strata":
        return draws.var(1) / count
    width = kind.edges(count).diff().to(draws.device)
    gaps = (draws / (count * width)).diff(dim=1).square() / 2
    around = (torch.cat([gaps[:, :1], gaps], 1) + torch.cat([gaps, gaps[:, -1:]], 1)) / 2
    return (width.square() * around).sum(1)


def mean_variance(draws: Tensor, weights: Tensor, kind: Estimator) -> float:
    """Variance, by chance alone, of the weighted mean over rows: draws [N, K], weights [N] that sum to 1."""
    if kind.between == "passes":
        passes = (weights[:, None] * draws).sum(0)
        return float(passes.var() / len(passes)) if len(passes) > 1 else math.nan
    return float((weights.square() * row_variances(draws, kind)).sum())


@dataclasses.dataclass(frozen=True)
class Variance:
    """What chance does to an estimate: N times the variance of the mean over N rows, in (nats/token)^2.

    So it is the variance of one row where rows are independent, and comparable where they are not. stderr: its own
    standard error. evaluations: a row.
    """

    variance: float
    stderr: float
    evaluations: int
    rows: int
    repeats: int


def estimator_variance(
    model: DiffusionLM,
    rows: Any,
    evaluations: int = 16,
    repeats: int = 8,
    seed: int = 0,
    *,
    scored: Any = None,
    batch_size: int = 16,
    t_min: float = T_MIN,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Variance]:
    """The variance of each estimator that fits the process, on rows [N, L] of a model, by repetition.

    Rows that are drawn independently are each compared with themselves over the repeats, so that the rows' own
    spread is no part of it; passes over a common grid are compared as a whole. ConfigError for fewer than 2 repeats.
    """
    if repeats < 2 or evaluations < 1:
        raise ConfigError(f"a variance needs 2 repeats and 1 evaluation at least, got {repeats} and {evaluations}")
    x = checked_rows(rows, model, batch_size)
    mask = checked_scored(scored, x)
    fits = [n for n, kind in ESTIMATORS.items() if not kind.absorbing or isinstance(model.process, Absorbing)]
    chosen, found = list(names) if names is not None else fits, {}
    with evaluating(model):
        for place, name in enumerate(chosen):
            kind, draws = estimator(name, model.process), []
            for repeat in range(repeats):
                key = fold(seed, "variance", name, repeat)
                draws.append(all_draws(model, x, mask, kind, evaluations, key, batch_size=batch_size, t_min=t_min))
                if progress is not None:
                    progress(place * repeats + repeat + 1, len(chosen) * repeats)
            found[name] = _variance(torch.stack(draws), kind)
    return found


def all_draws(
    model: DiffusionLM, x: Tensor, scored: Tensor, kind: Estimator, times: int, seed: int, *,
    batch_size: int, t_min: float = T_MIN, each: Callable[[int], None] = lambda done: None,
) -> Tensor:  # fmt: skip
    """The draws of all rows x [N, L], [N, K] on the CPU, a batch at a time; `each` hears how many rows are done."""
    made = []
    for start in range(0, len(x), batch_size):
        part, mask = (whole[start : start + batch_size].to(model.device) for whole in (x, scored))
        index = torch.arange(start, start + len(part), device=model.device)
        made.append(kind.draws(model, part, mask, Plan(index, len(x), times, seed, t_min)).cpu())
        each(start + len(part))
    return torch.cat(made)


def _variance(draws: Tensor, kind: Estimator) -> Variance:
    """From draws [R, N, K]."""
    repeats, rows, count = draws.shape
    if kind.between == "passes":
        means = draws.mean(1).flatten()  # of R K passes
        value = rows * float(means.var()) / count
        # the variance of a variance: the fourth moment says it, whatever the law
        error = value * math.sqrt(max(_kurtosis(means) - 1, 0.0) / len(means))
        return Variance(value, error, count, rows, repeats)
    each = draws.mean(2).var(0)  # [N], unbiased for each row
    error = float(each.std() / math.sqrt(rows)) if rows > 1 else math.nan
    return Variance(float(each.mean()), error, count, rows, repeats)


def _kurtosis(values: Tensor) -> float:
    centred = values - values.mean()
    spread = float(centred.square().mean())
    return float(centred.pow(4).mean()) / spread**2 if spread > 0 else 1.0
