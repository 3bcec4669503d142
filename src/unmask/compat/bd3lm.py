"""BD3-LM in the hub's layout (Arriola et al. 2025, arXiv 2503.09573; kuleshov-group/bd3lm-owt-block_size4, 8, 16)."""

from pathlib import Path
from typing import Any

from unmask.compat import dit, files
from unmask.compat.mdlm import conditioning
from unmask.diffusion.parametrizations import CleanLogits
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.schedules import LogLinear
from unmask.model import DiffusionLM

EPS = 1e-6  # its move chance is t itself; the share that survives t = 1 only has to be above 0
_NOTE = "its training never hides the first token, <|endoftext|>: give it to the canvas as a prompt"
_SETTINGS = ("sampling_eps_min", "sampling_eps_max")


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model: absorbing noise inside blocks of block_size, attention causal between them."""
    dit.only(config, folder, cross_attn=True, causal=False, adaln=True)
    states = files.need(config, "vocab_size", int, folder)
    shape = dit.shape(config, states, folder, block_size=files.need(config, "block_size", int, folder))
    tensors = dit.drop_scalars(files.read_published(folder), _SETTINGS, folder)
    return DiffusionLM(
        dit.body(shape, dit.bare(tensors), folder), Absorbing(states - 1, LogLinear(EPS)), CleanLogits(),
        conditioning=conditioning(config, folder), tokenizer=dit.tokenizer(folder, states - 1, mask=True),
        card={"note": _NOTE},
    )  # fmt: skip
