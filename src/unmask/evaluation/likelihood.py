"""How likely a model finds a text: exact for autoregressive models, an upper bound on -log p for diffusion models.

Two quantities are reported for diffusion, because the paper's leaves parts out:

- `paper`: the mean of the weighted loss over t uniform on [t_min, 1], t_min = 1e-3 (Lou et al. 2024; Deschenaux
  and Gulcehre 2024, appendix A.1). It is not a bound: [0, t_min] and t = 1 are missing, and the mean over a
  shorter interval stands in for the integral.
- `nats_per_token`: the bound. (1 - t_min) times that mean, plus the reconstruction -log p(x0 | x_tmin) under the
  final denoising step, plus the prior KL(q(x_1 | x0) || p(x_1)).

Shapes: N rows, L length, K times per row, V clean tokens.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.diffusion.losses import score_entropy
from unmask.diffusion.parametrizations import log_expm1_sigma
from unmask.diffusion.processes import Process
from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.random import fold, uniform

Progress = Callable[[int, int], None]
T_MIN = 1e-3


@dataclasses.dataclass(frozen=True)
class Bound:
    """-log p of rows, in nats per token: exact where `exact`, else an upper bound.

    stderr: of the mean over rows, Monte Carlo error included. n: rows. parts: what nats_per_token is the sum of.
    paper: the paper's quantity, equal to nats_per_token where exact. perplexity: exp of the mean (the paper's
    order); perplexity_mean_exp: mean of the exp over rows (the order of the SEDD paper), of the same quantity.
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


def log_likelihood(
    model: LanguageModel,
    rows: Any,
    *,
    times_per_row: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    unigram: Tensor | None = None,
    progress: Progress | None = None,
) -> Bound:
    """-log p of rows [N, L] of token ids, as a `Bound`. `times_per_row` and `unigram` are read by `nelbo` only."""
    if isinstance(model, AutoregressiveLM):
        return exact_nll(model, rows, batch_size=batch_size, progress=progress)
    return nelbo(
        model,
        rows,
        times_per_row=times_per_row,
        seed=seed,
        batch_size=batch_size,
        unigram=unigram,
        progress=progress,
    )


def exact_nll(model: AutoregressiveLM, rows: Any, *, batch_size: int = 16, progress: Progress | None = None) -> Bound:
    """-log p(row) by the chain rule, the first token given `bos_id`."""
    x = _rows(rows, model, batch_size)
    means = []
    with _evaluating(model):
        for start in range(0, len(x), batch_size):
            means.append(model.nll(x[start : start + batch_size].to(model.device)).cpu().double().mean(1))
            if progress is not None:
                progress(min(start + batch_size, len(x)), len(x))
    values = torch.cat(means)
    return _bound(model, x, values, values, {"likelihood": float(values.mean())}, exact=True, times=1, seed=0)


def nelbo(
    model: DiffusionLM,
    rows: Any,
    *,
    times_per_row: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    t_min: float = T_MIN,
    unigram: Tensor | None = None,
    progress: Progress | None = None,
) -> Bound:
    """The negative evidence bound of rows [N, L], with `times_per_row` stratified times for each.

    unigram [V]: the law of the clean tokens that the prior keeps at t = 1, where alpha(1) is not 0; if None, the
    model's own, and for a model that knows none the uniform one. Row i draws what (seed, i) decides, whatever the
    batch size. Raises ConfigError for rows or numbers that cannot be used.
    """
    if times_per_row < 1 or not 0 < t_min < 1:
        raise ConfigError(f"times_per_row must be at least 1 and t_min in (0, 1), got {times_per_row} and {t_min}")
    x = _rows(rows, model, batch_size)
    prior = prior_kl(model.process, x, getattr(model, "unigram", None) if unigram is None else unigram)
    diffusion, reconstruction = [], []
    with _evaluating(model):
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size].to(model.device)
            index = torch.arange(start, start + len(part), device=model.device)
            diffusion.append(diffusion_term(model, part, index, times_per_row, seed, t_min).cpu())
            reconstruction.append(reconstruction_term(model, part, index, seed, t_min).cpu())
            if progress is not None:
                progress(start + len(part), len(x))
    paper, final, first = torch.cat(diffusion), torch.cat(reconstruction), prior.mean(1)
    whole = (1 - t_min) * paper + final + first
    parts = {
        "diffusion": float((1 - t_min) * paper.mean()),
        "reconstruction": float(final.mean()),
        "prior": float(first.mean()),
    }
    return _bound(model, x, whole, paper, parts, exact=False, times=times_per_row, seed=seed)


def diffusion_term(model: DiffusionLM, x0: Tensor, index: Tensor, times: int, seed: int, t_min: float) -> Tensor:
    """Mean over `times` stratified t in [t_min, 1] of the weighted loss, nats per token, [B] float64."""
    total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    position = torch.arange(x0.shape[1], device=x0.device)
    for k in range(times):
        u = uniform(fold(seed, "time"), index, k)
        t = t_min + (1 - t_min) * (k + u) / times
        xt = model.process.corrupt(x0, t, u=uniform(fold(seed, "mask", k), index[:, None], position))
        total += loss_per_token(model, x0, xt, t).double().mean(1)
    return total / times


def loss_per_token(model: DiffusionLM, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """The weighted score entropy, [B, L], nats per unit of t; computed where it is not zero by construction."""
    at = model.process.is_mask(xt) if model.process.commits else torch.ones_like(xt, dtype=torch.bool)
    log_score = model.log_score(xt, t, at=at)  # [N, S]
    times = t[:, None].expand(xt.shape)[at]
    rows = score_entropy(model.process, log_score[:, None], x0[at][:, None], xt[at][:, None], times)[:, 0]
    return torch.zeros(xt.shape, dtype=rows.dtype, device=xt.device).masked_scatter(at, rows)


def reconstruction_term(model: DiffusionLM, x0: Tensor, index: Tensor, seed: int, t_min: float) -> Tensor:
    """E[-log p(x0 | x_tmin)] under the final step, nats per token, [B] float64.

    For a committing process only masked positions contribute, about one in a thousand; so one position a row is
    masked for certain and weighted by the chance that it is.
    """
    t = torch.full((len(x0),), t_min, dtype=torch.float64, device=x0.device)
    position = torch.arange(x0.shape[1], device=x0.device)
    xt = model.process.corrupt(x0, t, u=uniform(fold(seed, "reconstruction"), index[:, None], position))
    if not model.process.commits:
        nll = -model.log_p0(xt, t).gather(-1, x0[..., None])[..., 0]
        return nll.double().mean(1)
    chosen = (uniform(fold(seed, "chosen"), index) * x0.shape[1]).long()
    at = position == chosen[:, None]
    xt = torch.where(at, model.process.num_states - 1, xt)
    nll = -model.log_p0(xt, t, at=at).gather(-1, x0[at][:, None])[:, 0]
    return (1 - model.process.alpha(t)) * nll.double()


def prior_kl(process: Process, x0: Tensor, unigram: Tensor | None = None) -> Tensor:
    """KL(q(x_1 | x0) || p(x_1)) in nats, [N, L] float64.

    p(x_1) of an absorbing process has mass alpha(1) on clean tokens, spread as `unigram` [V]: without it the
    divergence is infinite, since q leaves alpha(1) there too.
    """
    one = torch.ones((), dtype=torch.float64)
    alpha = float(process.alpha(one))
    if process.commits:
        if unigram is None:
            unigram = torch.full((process.vocab_size,), 1 / process.vocab_size)
        if unigram.shape != (process.vocab_size,):
            raise ConfigError(f"unigram has shape {list(unigram.shape)}, the model has {process.vocab_size} tokens")
        return -alpha * unigram.cpu().double().log()[x0]
    tokens, back = torch.unique(x0, return_inverse=True)
    sigma, log_pi = process.schedule.sigma(one)[None], process.prior_log_prob(torch.arange(process.num_states)).double()
    values = []
    for some in tokens.split(256):  # [256, S] at a time: all of [V, S] would be gigabytes
        q = process.transition(some, sigma)
        values.append((torch.xlogy(q, q) - q * log_pi).sum(-1))
    return torch.cat(values)[back]


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
    x = _rows(rows, model, batch_size)
    position = torch.arange(x.shape[1])
    found = []
    with _evaluating(model):
        for k, each in enumerate(times):
            totals = []
            for start in range(0, len(x), batch_size):
                part = x[start : start + batch_size]
                index = torch.arange(start, start + len(part))
                t = torch.full((len(part),), each, dtype=torch.float64)
                xt = model.process.corrupt(part, t, u=uniform(fold(seed, "normalization", k), index[:, None], position))
                at = model.process.is_mask(xt)
                total = model.predict(xt.to(model.device), t.to(model.device)).log_total(at.to(model.device))
                scale = log_expm1_sigma(model.process, t)[:, None].expand(xt.shape)[at]
                totals.append((total.cpu().double() + scale).exp())
            values = torch.cat(totals)
            spread = float(values.std()) if len(values) > 1 else math.nan
            found.append(Normalization(each, float(values.mean()), spread, len(values)))
    return tuple(found)


@contextlib.contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    """The model without dropout and gradients inside the block, and as it was after it."""
    net = getattr(model, "net", None)  # whatever answers as a model will do, a network or not
    training = net is not None and net.training
    if net is not None:
        net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if net is not None:
            net.train(training)


def _rows(rows: Any, model: LanguageModel, batch_size: int) -> Tensor:
    x = torch.as_tensor(np.asarray(rows).astype(np.int64)) if not isinstance(rows, Tensor) else rows.cpu().long()
    if x.ndim != 2 or not x.numel():
        raise ConfigError(f"rows must be [N, L] with N >= 1, got {list(x.shape)}")
    if x.shape[1] > model.length:
        raise ConfigError(f"rows of {x.shape[1]} tokens do not fit the model's context of {model.length}")
    size = model.net.config.num_inputs if isinstance(model, AutoregressiveLM) else model.process.vocab_size
    if int(x.min()) < 0 or int(x.max()) >= size:
        raise ConfigError(f"rows hold the ids {int(x.min())} to {int(x.max())}, the model has {size} tokens")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    return x


def _bound(
    model: LanguageModel, x: Tensor, whole: Tensor, paper: Tensor, parts: dict[str, float], *,
    exact: bool, times: int, seed: int,
) -> Bound:  # fmt: skip
    n = len(whole)
    mean = float(whole.mean())
    return Bound(
        nats_per_token=mean,
        stderr=_stderr(whole),
        n=n,
        exact=exact,
        parts=parts,
        paper=float(paper.mean()),
        paper_stderr=_stderr(paper),
        perplexity=_exp(mean),
        perplexity_mean_exp=float(whole.exp().mean()),
        paper_perplexity=_exp(float(paper.mean())),
        paper_perplexity_mean_exp=float(paper.exp().mean()),
        bits_per_byte=_bits_per_byte(model, x, mean),
        tokens=x.numel(),
        times_per_row=times,
        seed=seed,
        rows=tuple(whole.tolist()),
    )


def _stderr(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _exp(nats: float) -> float:
    """e^nats, infinite where that is too much for a float."""
    return float(torch.tensor(nats, dtype=torch.float64).exp())


def _bits_per_byte(model: LanguageModel, x: Tensor, nats_per_token: float) -> float | None:
    """All nats of the rows over all their bytes; ends of documents cost nats and count no byte."""
    if model.tokenizer is None:
        return None
    size = sum(len(model.tokenizer.decode(row).encode()) for row in x)
    return nats_per_token * x.numel() / (math.log(2) * size) if size else None
