"""Models and rows small enough to train in a second."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.diffusion import Absorbing, Geometric, LogLinear, Uniform
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.loader import Loader
from unmask.training.loop import train
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

V, L = 13, 12


@dataclasses.dataclass(frozen=True)
class Seen:
    """A look at held-out text, as a test wants it."""

    nats_per_token: float
    stderr: float = 0.5
    rows: tuple[float, ...] = ()


KINDS = ("sedd", "raw", "mdlm", "blocks", "uniform", "ar")


def rows(count: int = 21) -> Any:
    return np.random.default_rng(0).integers(0, V, (count, L)).astype(np.uint16)


def loader(count: int = 21, batch: int = 8) -> Loader:
    """21 rows in batches of 8: batches straddle epochs."""
    return Loader(rows(count), global_batch=batch, seed=5)


def model(kind: str = "sedd", *, dropout: float = 0.1, width: int = 16, perturbed: bool = False) -> LanguageModel:
    """perturbed: away from the start, where SEDD's gates and head are zero and all positions look alike."""
    torch.manual_seed(3)
    size = {"width": width, "depth": 2, "heads": 2, "length": L, "dropout": dropout}
    if kind == "ar":
        made: LanguageModel = AutoregressiveLM(Transformer(TransformerConfig(V, V, block_size=1, **size)), bos_id=0)
    elif kind == "uniform":
        net = Transformer(TransformerConfig(V, V, cond_dim=8, **size))
        made = DiffusionLM(net, Uniform(V, Geometric(1e-3, 7.0)), RawScore(scale_by_sigma=False))
    elif kind in ("mdlm", "blocks"):
        net = Transformer(TransformerConfig(V + 1, V + 1, block_size=5 if kind == "blocks" else None, **size))
        made = DiffusionLM(net, Absorbing(V, LogLinear()), CleanLogits(), conditioning=None)
    else:
        net = Transformer(TransformerConfig(V + 1, V + 1, cond_dim=8, **size))
        made = DiffusionLM(net, Absorbing(V, LogLinear()), RawScore(scale_by_sigma=kind == "sedd"))
    if perturbed:
        with torch.no_grad():
            for p in made.net.parameters():
                p.add_(0.1 * torch.randn(p.shape))
    return made


def settings(steps: int = 7, *, optim: OptimSettings | None = None, **others: Any) -> TrainSettings:
    given: dict[str, Any] = {"precision": "float32", "save_every": 3, "log_every": 2, "seed": 11}
    return TrainSettings(steps=steps, optim=optim or OPTIM, **(given | others))


OPTIM = OptimSettings(optimizer="adamw", lr=1e-2, warmup=3, schedule="cosine", ema=0.9)
MUON = OptimSettings(optimizer="muon", lr=1e-2, warmup=3, schedule="cooldown", ema=0.9)


def trained(out: Path, chosen: TrainSettings, kind: str = "sedd", **others: Any) -> LanguageModel:
    """A fresh model of that kind, trained into `out`."""
    made = model(kind)
    train(made, loader(), chosen, out, **others)
    return made


def weights(of: LanguageModel) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in of.net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal to the bit, name by name."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
