"""What a step minimizes. Every draw is keyed, so ranks, micro-batches and restarts do not change it.

Masks are keyed by (run seed, epoch, sample index), times by (run seed, step, place in the global batch) and the block
of a model that has blocks, dropout by (run seed, step, place). Shapes: B rows of this rank, L length, V clean tokens.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.diffusion.losses import absorbing_score_entropy_rows, masked_cross_entropy, score_entropy
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.times import low_discrepancy, spread
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.blocks import hidden_beside
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
    """One noisy batch: xt [B, L], the times t and the weights that make up for their law, float64.

    Both are [B]; of a model with blocks [B, L], alike in a block.
    """

    xt: Tensor
    t: Tensor
    weight: Tensor


class DiffusionObjective(nn.Module):
    """The negative evidence bound of a diffusion model on t in [t_min, 1], summed over a batch, in nats.

    t = t_min + (1 - t_min) s^t_power, s uniform and low-discrepancy, weighted by ds^t_power/ds: the same integral for
    every t_power. 2 lessens the noise that the weights 1/t of a log-linear schedule bring, and masks a third.

    A model with blocks is trained on all of them in one pass, each at a time of its own and given the clean ones before
    it: the sum of their bounds (Arriola et al. 2025, arXiv 2503.09573, equation 8).
    """

    def __init__(self, model: DiffusionLM, *, seed: int, t_min: float = 1e-3, t_power: float = 1.0) -> None:
        super().__init__()
        self.net, self.model = model.net, model
        self.seed, self.t_min, self.t_power = seed, t_min, t_power

    def corrupt(self, batch: Batch) -> Corruption:
        """Draw times and noisy rows; a function of the seed, the step and the samples alone."""
        s = self._spread(batch)
        t = self.t_min + (1 - self.t_min) * s**self.t_power
        position = torch.arange(batch.rows.shape[1], device=batch.rows.device)
        u = uniform(fold(self.seed, "corrupt"), batch.epoch[:, None], batch.index[:, None], position)
        weight = self.t_power * s ** (self.t_power - 1)
        return Corruption(self.model.process.corrupt(batch.rows, t, u=u), t, weight)

    def _spread(self, batch: Batch) -> Tensor:
        """Times in [0, 1) before `t_power`, evenly spread over the global batch: [B], or [B, L] alike in a block.

        Each block goes through the cells of the batch from a start of its own, so that its times are uniform.
        """
        key, size, device = fold(self.seed, "time"), self.model.block_size, batch.rows.device
        if size is None:
            return low_discrepancy(batch.global_size, uniform(key, batch.step, device=device), batch.place, t_min=0.0)
        block = torch.arange(batch.rows.shape[1], device=device) // size
        turn = batch.global_size * uniform(key, batch.step, block)
        return low_discrepancy(batch.global_size, turn, batch.place[:, None], t_min=0.0)

    def _hidden(self, batch: Batch, noisy: Corruption) -> Tensor:
        """What the head reads, [B, L, D]; of a model with blocks behind the clean ones before each."""
        keys = dropout_keys(self.net, self.seed, batch)
        beside, t = self.model.block_size is not None, noisy.t
        if beside:
            t = spread(t, noisy.xt).expand(noisy.xt.shape)
            t = torch.cat([t, torch.zeros_like(t)], 1)  # of the noisy half and of the clean one
        cond = self.model.condition(t)
        cond = None if cond is None else cond.float()
        if beside:
            return hidden_beside(self.net, noisy.xt, batch.rows, cond, dropout_keys=keys)
        return self.net.hidden(noisy.xt, cond, dropout_keys=keys)

    def forward(self, batch: Batch) -> Tensor:
        """Sum over the rows and positions of this batch, in nats; float32, a scalar.

        Where tokens are final the loss is 0 off the mask, and the head runs on the masked rows alone.
        """
        noisy = self.corrupt(batch)
        hidden = self._hidden(batch, noisy)
        process = self.model.process
        at = process.is_mask(noisy.xt) if process.commits else torch.ones_like(noisy.xt, dtype=torch.bool)
        t, weight = (spread(x, noisy.xt).expand(noisy.xt.shape)[at] for x in (noisy.t, noisy.weight))
        loss = self.loss(self.net.head(hidden[at]), batch.rows[at], noisy.xt[at], t)
        return (weight.to(loss.dtype) * loss).sum()

    def loss(self, logits: Tensor, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Nats per unit of t at the rows of logits [N, O], whose tokens are x0, xt and t [N]: [N]."""
        process, parametrization = self.model.process, self.model.parametrization
        if isinstance(process, Absorbing) and parametrization == RawScore(scale_by_sigma=True):
            rate, sigma = process.schedule.dsigma(t).float(), process.schedule.sigma(t).float()
            return rate * absorbing_score_entropy_rows(logits, x0, sigma, process.vocab_size)
        if isinstance(process, Absorbing) and isinstance(parametrization, CleanLogits):
            return masked_cross_entropy(process, parametrization.log_p0(process, logits, xt, t), x0, xt, t)
        return score_entropy(process, parametrization.log_score(process, logits, xt, t), x0, xt, t)


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


def objective(model: LanguageModel, *, seed: int, t_min: float = 1e-3, t_power: float = 1.0) -> Objective:
    """The training objective that goes with a model."""
    if isinstance(model, DiffusionLM):
        return DiffusionObjective(model, seed=seed, t_min=t_min, t_power=t_power)
    return AutoregressiveObjective(model, seed=seed)
