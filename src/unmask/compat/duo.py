"""Duo in the hub's layout (Sahoo et al. 2025, arXiv 2506.10892; s-sahoo/duo and duo-distilled, `model_type: duo`)."""

from pathlib import Path
from typing import Any

from unmask.compat import dit, files
from unmask.diffusion.parametrizations import LeaveOneOut
from unmask.diffusion.processes import Uniform
from unmask.diffusion.schedules import LogLinear
from unmask.model import DiffusionLM

_SETTINGS = ("sampling_eps_min", "sampling_eps_max")


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model: uniform noise over all vocab_size tokens (GPT-2's and [PAD]), conditioned on sigma."""
    dit.only(config, folder, causal=False)
    tokens = files.need(config, "vocab_size", int, folder)
    tensors = dit.drop_scalars(files.read_published(folder), _SETTINGS, folder)
    return DiffusionLM(
        dit.body(dit.shape(config, tokens, folder), dit.bare(tensors), folder),
        Uniform(tokens, LogLinear(1e-3)), LeaveOneOut(), tokenizer=dit.tokenizer(folder, tokens, mask=False),
    )  # fmt: skip
