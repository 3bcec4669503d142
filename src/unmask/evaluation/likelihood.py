"""How likely a model finds a text: exact for autoregressive models, an upper bound on -log p for diffusion models.

Two quantities are reported for diffusion, because the paper's leaves parts out:

- `paper`: the mean of the weighted loss over t uniform on [t_min, 1], t_min = 1e-3 (Lou et al. 2024; Deschenaux
  and Gulcehre 2024, appendix A.1). It is not a bound: [0, t_min] and t = 1 are missing, and the mean over a
  shorter interval stands in for the integral.
- `nats_per_token`: the bound. (1 - t_min) times that mean, plus the reconstruction -log p(x0 | x_tmin) under the
  final denoising step, plus the prior KL(q(x_1 | x0) || p(x_1)).

Both are the same quantities whichever estimator draws them. Where only some positions are scored, an exact likelihood
sums those, each given all to its left, and the bound is the conditional one: the other positions are given, clean.

Shapes: N rows, L length, K evaluations a row and round, V clean tokens.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.evaluation.bound import Bound, Measured, summed_up
from unmask.evaluation.estimators import (
    T_MIN,
    Estimator,
    all_draws,
    diffusion_term,
    estimator_variance,
    mean_variance,
    row_variances,
)
from unmask.evaluation.estimators import estimator as named_estimator
from unmask.evaluation.normalization import Normalization, normalization
from unmask.evaluation.rows import Progress, checked_rows, checked_scored, evaluating
from unmask.evaluation.terms import loss_per_token, mean_over, prior_kl, reconstruction_term
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.random import fold

__all__ = [
    "T_MIN", "Bound", "Normalization", "Progress", "diffusion_term", "estimator_variance", "exact_nll",
    "log_likelihood", "loss_per_token", "nelbo", "normalization", "prior_kl", "reconstruction_term",
]  # fmt: skip


def log_likelihood(
    model: LanguageModel,
    rows: Any,
    *,
    times_per_row: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    unigram: Tensor | None = None,
    scored: Any = None,
    estimator: str = "stratified",
    target_stderr: float | None = None,
    max_times_per_row: int = 256,
    progress: Progress | None = None,
) -> Bound:
    """-log p of rows [N, L] of token ids, as a `Bound`: `exact_nll` or `nelbo`, which alone reads what draws noise."""
    if isinstance(model, AutoregressiveLM):
        return exact_nll(model, rows, batch_size=batch_size, scored=scored, progress=progress)
    return nelbo(
        model,
        rows,
        times_per_row=times_per_row,
        seed=seed,
        batch_size=batch_size,
        unigram=unigram,
        scored=scored,
        estimator=estimator,
        target_stderr=target_stderr,
        max_times_per_row=max_times_per_row,
        progress=progress,
    )


def exact_nll(
    model: AutoregressiveLM,
    rows: Any,
    *,
    batch_size: int = 16,
    scored: Any = None,
    progress: Progress | None = None,
) -> Bound:
    """-log p(row) by the chain rule, the first token given `bos_id`; scored [N, L] bool: the positions that count."""
    x = checked_rows(rows, model, batch_size)
    mask, means = checked_scored(scored, x), []
    with evaluating(model):
        for start in range(0, len(x), batch_size):
            nll = model.nll(x[start : start + batch_size].to(model.device)).cpu()
            means.append(mean_over(nll, mask[start : start + batch_size]))
            if progress is not None:
                progress(min(start + batch_size, len(x)), len(x))
    values = torch.cat(means)
    found = Measured(values, values, {"likelihood": values}, mask, exact=True)
    return summed_up(found, x, model.tokenizer, times_per_row=1, seed=0, evaluations=len(x))


def nelbo(
    model: DiffusionLM,
    rows: Any,
    *,
    times_per_row: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    t_min: float = T_MIN,
    unigram: Tensor | None = None,
    scored: Any = None,
    estimator: str = "stratified",
    target_stderr: float | None = None,
    max_times_per_row: int = 256,
    progress: Progress | None = None,
) -> Bound:
    """The negative evidence bound of rows [N, L], with `times_per_row` evaluations for each.

    unigram [V]: the law of the clean tokens that the prior keeps at t = 1, where alpha(1) is not 0; if None, the
    model's own, and for a model that knows none the uniform one. scored [N, L] bool: the positions that are scored,
    each row at least one; the others are given, so that it is the bound on -log p(scored | given). estimator: a name
    in `estimators.ESTIMATORS`. target_stderr: add rounds of times_per_row evaluations, two at least, until the Monte
    Carlo part of the standard error (`mc_stderr`, nats per token) is no larger, or a row has had max_times_per_row.
    Row i draws what (seed, i) decides, whatever the batch size; with low-discrepancy, how many rows there are, too.
    Raises ConfigError for rows or numbers that cannot be used.
    """
    if times_per_row < 1 or not 0 < t_min < 1:
        raise ConfigError(f"times_per_row must be at least 1 and t_min in (0, 1), got {times_per_row} and {t_min}")
    if target_stderr is not None and not (target_stderr > 0 and max_times_per_row >= 2 * times_per_row):
        raise ConfigError(
            f"target_stderr is {target_stderr}, with {times_per_row} to {max_times_per_row} evaluations a row",
            "it must be above 0 and leave room for two rounds, since one cannot tell its own noise",
        )
    x = checked_rows(rows, model, batch_size)
    mask, kind = checked_scored(scored, x), named_estimator(estimator, model.process)
    prior = mean_over(prior_kl(model.process, x, getattr(model, "unigram", None) if unigram is None else unigram), mask)
    rounds = _Rounds(mask, kind, t_min)
    most = 1 if target_stderr is None else max_times_per_row // times_per_row
    with evaluating(model):
        while True:
            key = seed if not rounds.final else fold(seed, "round", len(rounds.final))
            told = _told(progress, len(rounds.final), rounds.expected(target_stderr, most), len(x))
            reconstruction = _reconstruction(model, x, mask, key, batch_size, t_min)
            drawn = all_draws(model, x, mask, kind, times_per_row, key, batch_size=batch_size, t_min=t_min, each=told)
            rounds.add(drawn, reconstruction)
            if len(rounds.final) >= rounds.expected(target_stderr, most):
                break
    used = len(rounds.final)
    return summed_up(
        rounds.measured(prior), x, model.tokenizer, times_per_row=used * times_per_row, seed=seed,
        estimator=estimator, rounds=used, evaluations=used * (times_per_row + 1) * len(x),
    )  # fmt: skip


class _Rounds:
    """The draws so far: [N, K] and the reconstruction [N] of each round."""

    def __init__(self, scored: Tensor, kind: Estimator, t_min: float) -> None:
        sizes = scored.sum(1).double()
        self.scored, self.kind, self.t_min, self.weights = scored, kind, t_min, sizes / sizes.sum()
        self.draws: list[Tensor] = []
        self.final: list[Tensor] = []

    def add(self, draws: Tensor, final: Tensor) -> None:
        self.draws.append(draws)
        self.final.append(final)

    def expected(self, target: float | None, most: int) -> int:
        """How many rounds it will take, as far as is known."""
        if target is None:
            return 1
        if len(self.final) < 2:
            return 2
        error = math.sqrt(self.mc_variances()[0])
        if error <= target:
            return len(self.final)
        return min(most, max(len(self.final) + 1, math.ceil(len(self.final) * (error / target) ** 2)))

    def mc_variances(self) -> tuple[float, float]:
        """Of the means over rows, by chance: of the bound, and of the paper's quantity."""
        paper, final = self._paper(), torch.stack(self.final, 1)
        if final.shape[1] > 1:
            last = float((self.weights.square() * final.var(1)).sum()) / final.shape[1]
        else:  # one draw a row: the spread over rows holds more than chance, so this is on the safe side
            last = float(final.var() * self.weights.square().sum()) if len(final) > 1 else 0.0
        return (1 - self.t_min) ** 2 * paper + last, paper

    def _paper(self) -> float:
        if self.kind.between == "strata" and len(self.draws) > 1:
            return float((self.weights.square() * self.noise()).sum())
        return mean_variance(torch.cat(self.draws, 1), self.weights, self.kind)

    def noise(self) -> Tensor:
        """The variance of each row's mean by chance, [N]."""
        if self.kind.between == "strata" and len(self.draws) > 1:
            means = torch.stack([draws.mean(1) for draws in self.draws], 1)
            return means.var(1) / means.shape[1]
        return row_variances(torch.cat(self.draws, 1), self.kind)

    def measured(self, prior: Tensor) -> Measured:
        paper, final = torch.cat(self.draws, 1).mean(1), torch.stack(self.final, 1).mean(1)
        parts = {"diffusion": (1 - self.t_min) * paper, "reconstruction": final, "prior": prior}
        whole, of_paper = self.mc_variances()
        return Measured(
            (1 - self.t_min) * paper + final + prior, paper, parts, self.scored, exact=False,
            noise=self.noise(), mc_variance=whole, paper_mc_variance=of_paper,
        )  # fmt: skip


def _reconstruction(model: DiffusionLM, x: Tensor, scored: Tensor, seed: int, batch_size: int, t_min: float) -> Tensor:
    """`reconstruction_term` of all rows: [N] on the CPU."""
    made = []
    for start in range(0, len(x), batch_size):
        part, mask = (whole[start : start + batch_size].to(model.device) for whole in (x, scored))
        index = torch.arange(start, start + len(part), device=model.device)
        made.append(reconstruction_term(model, part, index, seed, t_min, mask).cpu())
    return torch.cat(made)


def _told(progress: Progress | None, past: int, rounds: int, rows: int) -> Callable[[int], None]:
    """What hears how many rows of this round are done."""
    if progress is None:
        return lambda done: None
    return lambda done: progress(past * rows + done, max(rounds, past + 1) * rows)
