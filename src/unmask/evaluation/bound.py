"""A likelihood and its errors: what `likelihood` measures, summed up."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from unmask.text.token_bytes import count_bytes
from unmask.text.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Bound:
    """-log p of rows, in nats per token: exact where `exact`, else an upper bound.

    stderr: of the mean over rows, Monte Carlo error included; it cannot fall below what rows differ by. mc_stderr:
    its Monte Carlo part, which more evaluations make smaller (0 where exact, not a number where one evaluation a row
    cannot tell; on the safe side where it comes from one round of strata). n: rows. tokens: scored ones; a row
    counts by its scored tokens. parts: what nats_per_token is the sum of. paper: the paper's quantity, equal to
    nats_per_token where exact. perplexity: exp of the mean (the paper's order); perplexity_mean_exp: mean of the exp
    over rows (the order of the SEDD paper), of the same quantity, which noise makes larger, by about
    `mean_exp_bias` here. Errors of perplexities by the delta method. rows, paper_rows: nats per token of each row.
    times_per_row: evaluations of the diffusion term, rounds included; evaluations: rows read by the network in all.
    """

    nats_per_token: float
    stderr: float
    n: int
    exact: bool
    parts: dict[str, float]
    paper: float
    paper_stderr: float
    perplexity: float
    perplexity_mean_exp: float
    paper_perplexity: float
    paper_perplexity_mean_exp: float
    bits_per_byte: float | None
    tokens: int
    times_per_row: int
    seed: int
    rows: tuple[float, ...] = dataclasses.field(repr=False, default=())
    mc_stderr: float = 0.0
    paper_mc_stderr: float = 0.0
    parts_stderr: dict[str, float] = dataclasses.field(default_factory=dict)
    perplexity_stderr: float = math.nan
    perplexity_mean_exp_stderr: float = math.nan
    paper_perplexity_stderr: float = math.nan
    paper_perplexity_mean_exp_stderr: float = math.nan
    mean_exp_bias: float = 0.0
    bits_per_byte_stderr: float | None = None
    text_bytes: int | None = None
    estimator: str = ""
    rounds: int = 1
    evaluations: int = 0
    paper_rows: tuple[float, ...] = dataclasses.field(repr=False, default=())


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a measurement leaves: values a row [N], nats per scored token, and how they were had.

    parts: what `whole` is the sum of. noise: the variance of `whole` by chance, [N]. mc_variance, paper_mc_variance:
    that of the means over rows.
    """

    whole: Tensor
    paper: Tensor
    parts: dict[str, Tensor]
    scored: Tensor  # [N, L] bool
    exact: bool
    noise: Tensor | None = None
    mc_variance: float = 0.0
    paper_mc_variance: float = 0.0


def summed_up(measured: Measured, x: Tensor, tokenizer: Tokenizer | None, **facts: Any) -> Bound:
    """The `Bound` of rows x [N, L]. facts: its fields that say how it was made."""
    sizes = measured.scored.sum(1).double()
    whole, paper, exact = measured.whole, measured.paper, measured.exact
    mean, error = ratio(whole * sizes, sizes)
    paper_mean, paper_error = (mean, error) if exact else ratio(paper * sizes, sizes)
    parts = {name: ratio(values * sizes, sizes) for name, values in measured.parts.items()}
    length = None if tokenizer is None else count_bytes(tokenizer, x, measured.scored)
    bits, bits_error = (None, None) if length is None or not bool(length.any()) else ratio(whole * sizes, length)
    scale = 1 / math.log(2)
    noise = torch.zeros_like(whole) if measured.noise is None else measured.noise
    return Bound(
        nats_per_token=mean, stderr=error, n=len(whole), exact=exact,
        parts={name: value for name, (value, _) in parts.items()},
        parts_stderr={name: spread for name, (_, spread) in parts.items()},
        paper=paper_mean, paper_stderr=paper_error,
        perplexity=_exp(mean), perplexity_stderr=_scaled(_exp(mean), error),
        perplexity_mean_exp=float(whole.exp().mean()), perplexity_mean_exp_stderr=_stderr(whole.exp()),
        paper_perplexity=_exp(paper_mean), paper_perplexity_stderr=_scaled(_exp(paper_mean), paper_error),
        paper_perplexity_mean_exp=float(paper.exp().mean()), paper_perplexity_mean_exp_stderr=_stderr(paper.exp()),
        mean_exp_bias=_finite(float((whole.exp() * noise).mean() / 2)),
        mc_stderr=_finite(math.sqrt(measured.mc_variance)),
        paper_mc_stderr=_finite(math.sqrt(measured.paper_mc_variance)),
        bits_per_byte=None if bits is None else bits * scale,
        bits_per_byte_stderr=None if bits_error is None else bits_error * scale,
        text_bytes=None if length is None else int(length.sum()),
        tokens=int(sizes.sum()), rows=tuple(whole.tolist()), paper_rows=tuple(paper.tolist()), **facts,
    )  # fmt: skip


def ratio(amounts: Tensor, sizes: Tensor) -> tuple[float, float]:
    """Sum of amounts over sum of sizes, both [N], and its standard error over rows (Cochran 1977, section 6.4).

    With equal sizes these are the mean of amount / size and its usual standard error; not a number for one row.
    """
    value, n = float(amounts.sum() / sizes.sum()), len(amounts)
    if n < 2:
        return value, math.nan
    spread = (amounts - value * sizes).square().sum() / (n - 1)
    return value, _finite(float((spread / n).sqrt() / sizes.mean()))


def _stderr(values: Tensor) -> float:
    return _finite(float(values.std() / math.sqrt(len(values)))) if len(values) > 1 else math.nan


def _scaled(value: float, error: float) -> float:
    return _finite(value * error)


def _finite(value: float) -> float:
    """The number; one and the same `nan` where it is none, so that equal results compare equal."""
    return value if math.isfinite(value) else math.nan


def _exp(nats: float) -> float:
    """e^nats, infinite where that is too much for a float."""
    return float(torch.tensor(nats, dtype=torch.float64).exp())
