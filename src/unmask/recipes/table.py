"""Runs by name, and what each is."""

import functools
from collections.abc import Callable

from unmask.errors import unknown
from unmask.recipes.run import DataSettings, ModelShape, Run
from unmask.recipes.twins import twins
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

# The corpus, batch, optimizer and averages that SEDD (Lou et al. 2024, arXiv 2310.16834, appendix C and the
# published configuration) and MDLM (Sahoo et al. 2024, arXiv 2406.07524, appendix C) share.
_WEB = DataSettings(corpus="openwebtext", tokenizer="gpt2", heldout_rows=1024)
_PAPER = OptimSettings(lr=3e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup=2500, clip=1.0, ema=0.9999)
_SMALL = {"width": 768, "depth": 12, "heads": 12, "length": 1024, "dropout": 0.1}


def smoke() -> Run:
    """The excerpt that ships with the package, a tiny SEDD, 40 steps: seconds on one core, for tests and CI."""
    shape = ModelShape(kind="sedd", width=64, depth=2, heads=2, length=64, cond_dim=32, dropout=0.1)
    optim = OptimSettings(optimizer="muon", lr=2e-3, muon_lr=0.02, warmup=5, schedule="cooldown", ema=0.9)
    train = TrainSettings(steps=40, optim=optim, log_every=10, eval_every=20, save_every=20)
    return Run("smoke", shape, DataSettings("excerpt", "bpe:512", heldout_rows=16), train, batch_size=16)


def sedd_small() -> Run:
    """SEDD-small with absorbing noise as published: GPT-2's size, OpenWebText, 1.3 million steps of 512 rows."""
    train = TrainSettings(steps=1_300_000, optim=_PAPER, log_every=50, eval_every=10_000, save_every=5000)
    return Run("sedd-small", ModelShape(kind="sedd", cond_dim=128, **_SMALL), _WEB, train, batch_size=512)  # type: ignore[arg-type]


def mdlm_small() -> Run:
    """MDLM of the same size on the same text: the denoiser without a time condition, 1 million steps of 512 rows."""
    train = TrainSettings(steps=1_000_000, optim=_PAPER, log_every=50, eval_every=10_000, save_every=5000)
    return Run("mdlm-small", ModelShape(kind="mdlm", **_SMALL), _WEB, train, batch_size=512)  # type: ignore[arg-type]


RECIPES: dict[str, Callable[[], Run]] = {
    "smoke": smoke,
    "twins/sedd": functools.partial(twins, "sedd"),
    "twins/ar": functools.partial(twins, "ar"),
    "sedd-small": sedd_small,
    "mdlm-small": mdlm_small,
}


def recipe(name: str) -> Run:
    """The run of that name. Raises ConfigError for an unknown one, and offers the nearest."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]()
