"""What a step minimizes. Every draw is keyed, so ranks, micro-batches and restarts do not change it.

Masks are keyed by (run seed, epoch, sample index), times by (run seed, step, place in the global batch), dropout
by (run seed, step, place). Shapes: B rows of this rank, L length, V clean tokens.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.diffusion.losses import absorbing_score_entropy_rows, masked_cross_entropy, score_entropy
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.times import low_discrepancy
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.transformer import Transformer
from unmask.random import fold, uniform
from unmask.text import loader


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some rows of one step's global batch, and what their draws are keyed by."""

    rows: Tensor  # [B, L] int64
    epoch: Tensor  # [B] int64
    index: Tensor  # [B] int64, the row of the corpus
    place: Tensor  # [B] int64, the place in the global batch
    step: int
    global_size: int

    @classmethod
    def cut(cls, whole: loader.Batch, step: int, first: int, count: int, device: torch.device) -> "Batch":
        """Rows first to first + count of the global batch of `step`, on `device`."""
        part = slice(first, first + count)
        rows, epoch, index = (x[part].to(device) for x in (whole.rows, whole.epoch, whole.index))
        place = torch.arange(first, first + count, device=device)
        return cls(rows, epoch, index, place, step, len(whole.rows))


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One noisy batch: xt [B, L] and the times t [B], float64."""

    xt: Tensor
    t: Tensor


class DiffusionObjective(nn.Module):
    """The negative evidence bound of a diffusion model on t in [t_min, 1], summed over a batch, in nats."""

    def __init__(self, model: DiffusionLM, *, seed: int, t_min: float = 1e-3) -> None:
        super().__init__()
        self.net, self.model = model.net, model
        self.seed, self.t_min = seed, t_min

    def corrupt(self, batch: Batch) -> Corruption:
        """Draw times and noisy rows; a function of the seed, the step and the samples alone."""
        device = batch.rows.device
        shift = uniform(fold(self.seed, "time"), batch.step, device=device)
        t = low_discrepancy(batch.global_size, shift, batch.place, t_min=self.t_min)
        position = torch.arange(batch.rows.shape[1], device=device)
        u = uniform(fold(self.seed, "corrupt"), batch.epoch[:, None], batch.index[:, None], position)
        return Corruption(self.model.process.corrupt(batch.rows, t, u=u), t)

    def forward(self, batch: Batch) -> Tensor:
        """Sum over the rows and positions of this batch, in nats; float32, a scalar."""
        noisy = self.corrupt(batch)
        process, parametrization = self.model.process, self.model.parametrization
        keys = dropout_keys(self.net, self.seed, batch)
        cond = self.model.condition(noisy.t)
        hidden = self.net.hidden(noisy.xt, None if cond is None else cond.float(), dropout_keys=keys)
        if not isinstance(process, Absorbing):
            log_score = parametrization.log_score(process, self.net.head(hidden), noisy.xt, noisy.t)
            return score_entropy(process, log_score, batch.rows, noisy.xt, noisy.t).sum()
        at = process.is_mask(noisy.xt)
        logits, x0 = self.net.head(hidden[at]), batch.rows[at]
        t = noisy.t[:, None].expand(noisy.xt.shape)[at]
        if parametrization == RawScore(scale_by_sigma=True):
            sigma = process.schedule.sigma(t).float()
            loss = absorbing_score_entropy_rows(logits, x0, sigma, process.vocab_size)
            return (process.schedule.dsigma(t).float() * loss).sum()
        if isinstance(parametrization, CleanLogits):
            log_p0 = parametrization.log_p0(process, logits, noisy.xt[at], t)
            return masked_cross_entropy(process, log_p0[:, None], x0[:, None], noisy.xt[at][:, None], t).sum()
        log_score = parametrization.log_score(process, logits, noisy.xt[at], t)
        return score_entropy(process, log_score[:, None], x0[:, None], noisy.xt[at][:, None], t).sum()


class AutoregressiveObjective(nn.Module):
    """Cross-entropy of the next token, summed over a batch, in nats."""

    def __init__(self, model: AutoregressiveLM, *, seed: int) -> None:
        super().__init__()
        self.net, self.model, self.seed = model.net, model, seed

    def forward(self, batch: Batch) -> Tensor:
        """Sum over the rows and positions of this batch, in nats; float32, a scalar."""
        keys = dropout_keys(self.net, self.seed, batch)
        hidden = self.net.hidden(self.model.shifted(batch.rows), dropout_keys=keys)
        logits = self.net.head(hidden).flatten(0, 1)
        return F.cross_entropy(logits.float(), batch.rows.flatten(), reduction="sum")


Objective = DiffusionObjective | AutoregressiveObjective


def dropout_keys(net: Transformer, seed: int, batch: Batch) -> list[int] | None:
    """One key a row, from (seed, step, place in the global batch); None where nothing is dropped."""
    if not net.training or not net.config.dropout:
        return None
    return [fold(seed, "dropout", batch.step, place) for place in batch.place.tolist()]


def objective(model: LanguageModel, *, seed: int, t_min: float = 1e-3) -> Objective:
    """The training objective that goes with a model."""
    if isinstance(model, DiffusionLM):
        return DiffusionObjective(model, seed=seed, t_min=t_min)
    return AutoregressiveObjective(model, seed=seed)
