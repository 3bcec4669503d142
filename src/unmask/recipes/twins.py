"""The embedded pair: SEDD and an autoregressive model of the same body, the same tokens in the same order."""

import dataclasses

from unmask.recipes.run import DataSettings, ModelShape, Run
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

DATA = DataSettings(corpus="sotu+gutenberg+wiki+wikiextract", tokenizer="bpe:4096", heldout_rows=64)
TRAIN = TrainSettings(
    steps=8000,
    optim=OptimSettings(
        optimizer="muon", lr=1e-3, muon_lr=0.02, warmup=200, schedule="cooldown", cooldown=0.15, ema=0.999
    ),
    log_every=50,
    eval_every=1000,
    save_every=250,
)


def twins(kind: str) -> Run:
    """kind: "sedd" or "ar"."""
    sedd = kind == "sedd"
    shape = ModelShape(kind, width=256, depth=6, heads=4, length=256, start="neighbors" if sedd else "zero")
    return Run(f"twins/{kind}", shape, DATA, dataclasses.replace(TRAIN, t_power=2.0 if sedd else 1.0), batch_size=12)
