"""What is scored: rows of token ids, which of their positions count, and a model that is only read."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM, LanguageModel

Progress = Callable[[int, int], None]


@contextlib.contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
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


def checked_rows(rows: Any, model: LanguageModel, batch_size: int = 1) -> Tensor:
    """rows as [N, L] int64 on the CPU. ConfigError for another shape, too long a row or ids that the model has not."""
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


def checked_scored(scored: Any, x: Tensor) -> Tensor:
    """scored as bool [N, L] on the CPU, all True where it is None. ConfigError for another shape or an empty row."""
    if scored is None:
        return torch.ones_like(x, dtype=torch.bool)
    mask = scored.cpu() if isinstance(scored, Tensor) else torch.from_numpy(np.array(scored))
    if mask.dtype != torch.bool or mask.shape != x.shape:
        raise ConfigError(
            f"scored must be bool {list(x.shape)}, the shape of rows, got {mask.dtype} {list(mask.shape)}"
        )
    if bool((empty := ~mask.any(1)).any()):
        raise ConfigError(f"row {int(empty.nonzero()[0])} has no scored position", "leave such rows out")
    return mask
