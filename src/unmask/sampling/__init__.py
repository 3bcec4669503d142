"""Sampling: a canvas, a rule, a draw, and the only denoising loop."""

from typing import Any

from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM
from unmask.sampling.autoregressive import generate
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import Denoising, Frame, Sample, denoise, fill
from unmask.sampling.rules import RULES, Model, Rule

__all__ = [
    "RULES",
    "Canvas",
    "Denoising",
    "Frame",
    "Model",
    "Rule",
    "Sample",
    "denoise",
    "generate",
    "sample",
]


def sample(model: Model | AutoregressiveLM, canvas: Canvas, **options: Any) -> Sample:
    """Write what is open on the canvas: `denoise` to its end, or `generate` for an autoregressive model.

    options: the keyword arguments of the one that runs; ConfigError for `steps` or `rule` with an autoregressive
    model, which takes one step a token.
    """
    if not isinstance(model, AutoregressiveLM):
        return fill(model, canvas, **options)
    wrong = [name for name in ("steps", "rule") if options.get(name) is not None]
    if wrong:
        raise ConfigError(f"{wrong[0]}= with an autoregressive model", "it takes one step a token: leave it out")
    return generate(model, canvas, **{k: v for k, v in options.items() if k not in ("steps", "rule")})
