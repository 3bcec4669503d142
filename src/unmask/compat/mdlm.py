"""MDLM in the hub's layout (Sahoo et al. 2024, arXiv 2406.07524; kuleshov-group/mdlm-owt, `model_type: mdlm`)."""

from pathlib import Path
from typing import Any

from unmask.compat import dit, files
from unmask.diffusion.parametrizations import CleanLogits
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.schedules import LogLinear
from unmask.model import Conditioning, DiffusionLM


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model: absorbing noise, log-linear; the last of vocab_size states is the mask."""
    states = files.need(config, "vocab_size", int, folder)
    net = dit.body(dit.shape(config, states, folder), dit.bare(files.read_published(folder)), folder)
    return DiffusionLM(
        net, Absorbing(states - 1, LogLinear(1e-3)), CleanLogits(), conditioning=conditioning(config, folder),
        tokenizer=dit.tokenizer(folder, states - 1, mask=True),
    )  # fmt: skip


def conditioning(config: dict[str, Any], where: Path) -> Conditioning:
    """sigma where the network is conditioned on it; published ones are told 0 at all times, and not nothing."""
    told = files.need({"time_conditioning": False} | config, "time_conditioning", bool, where)
    return "sigma" if told else "zero"
