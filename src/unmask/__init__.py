"""unmask: diffusion language models. Train, sample, fill gaps and score them, with exact numerics, on any machine.

    import unmask

    model = unmask.load("sedd-twin")                      # an embedded name, a folder, or a hub id
    canvas = unmask.Canvas.prompt(model.tokenizer.encode("Fellow citizens"), length=64)
    print(model.tokenizer.decode(unmask.sample(model, canvas, steps=32, seed=0).tokens[0]))

The names below are promised, with their keyword arguments and the checkpoint format; modules not named here are
not, and neither are exact samples for a seed across versions. Nothing heavy is imported before it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask import errors
    from unmask import evaluation as evaluate
    from unmask.checkpoint import push_to_hub, save
    from unmask.compat import convert, load
    from unmask.diffusion.hybrid import Hybrid
    from unmask.diffusion.matrix import RateMatrix
    from unmask.diffusion.processes import Absorbing, Uniform
    from unmask.evaluation.infill import Infill, infill
    from unmask.model import AutoregressiveLM, DiffusionLM
    from unmask.sampling import Canvas, Frame, Sample, denoise, sample

__version__ = "0.1.0"

_DOOR = {
    "Absorbing": "unmask.diffusion.processes",
    "AutoregressiveLM": "unmask.model",
    "Canvas": "unmask.sampling",
    "DiffusionLM": "unmask.model",
    "Frame": "unmask.sampling",
    "Hybrid": "unmask.diffusion.hybrid",
    "Infill": "unmask.evaluation.infill",
    "RateMatrix": "unmask.diffusion.matrix",
    "Sample": "unmask.sampling",
    "Uniform": "unmask.diffusion.processes",
    "convert": "unmask.compat",
    "denoise": "unmask.sampling",
    "errors": "unmask.errors",
    "evaluate": "unmask.evaluation",
    "infill": "unmask.evaluation.infill",
    "load": "unmask.compat",
    "push_to_hub": "unmask.checkpoint",
    "sample": "unmask.sampling",
    "save": "unmask.checkpoint",
}
__all__ = [  # noqa: RUF022
    "load", "save", "convert", "push_to_hub", "sample", "denoise", "infill", "Canvas", "Sample", "Frame", "Infill",
    "DiffusionLM", "AutoregressiveLM", "Absorbing", "Uniform", "Hybrid", "RateMatrix", "evaluate", "errors",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    module = importlib.import_module(_DOOR[name])
    value = module if name in ("errors", "evaluate") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
