"""Sampling: a canvas, a rule, a draw, and the only denoising loop."""

import dataclasses
from typing import Any

from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM
from unmask.sampling.autoregressive import generate
from unmask.sampling.canvas import Canvas
from unmask.sampling.correctors import Remasking, with_corrector
from unmask.sampling.loop import Denoising, Frame, Sample, denoise, fill
from unmask.sampling.named import RULES, our_keywords
from unmask.sampling.rules import Model, Rule

__all__ = [
    "RULES",
    "Canvas",
    "Denoising",
    "Frame",
    "Model",
    "Remasking",
    "Rule",
    "Sample",
    "denoise",
    "generate",
    "sample",
    "with_corrector",
]

_DIFFUSION_ONLY = ("steps", "rule", "tau", "gamma", "grid", "block_size")


def sample(model: Model | AutoregressiveLM, canvas: Canvas, **options: Any) -> Sample:
    """Write what is open on the canvas: `denoise` to its end, or `generate` for an autoregressive model.

    options: the keyword arguments of the one that runs, also under their names elsewhere (nucleus_p, remasking, ...;
    `Sample.notices` says what they were taken for). ConfigError for `steps`, `rule` or a rule's option with an
    autoregressive model, which takes one step a token.
    """
    ours, notices = our_keywords(options)
    if not isinstance(model, AutoregressiveLM):
        made = fill(model, canvas, **ours)
    else:
        wrong = [name for name in _DIFFUSION_ONLY if ours.get(name) is not None]
        if wrong:
            raise ConfigError(f"{wrong[0]}= with an autoregressive model", "it takes one step a token: leave it out")
        made = generate(model, canvas, **{k: v for k, v in ours.items() if k not in _DIFFUSION_ONLY})
    return dataclasses.replace(made, notices=notices + made.notices)
