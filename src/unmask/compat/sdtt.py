"""SDTT's students and teachers (Deschenaux and Gulcehre 2025, arXiv 2410.21035; jdeschena/sdtt).

Each model is a revision of one hub repository, such as jdeschena/sdtt@baselines_kld_step_70000, and config.json is the
training's whole config. Students that began as the hub's MDLM have the prefix `backbone.` twice.
"""

from pathlib import Path
from typing import Any

from unmask.compat import dit, files
from unmask.diffusion.parametrizations import CleanLogits
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.schedules import LogLinear
from unmask.errors import CheckpointError
from unmask.model import Conditioning, DiffusionLM

_KEYS = {
    "width": "model.hidden_size", "depth": "model.n_blocks", "heads": "model.n_heads", "length": "model.length",
    "dropout": "model.dropout",
}  # fmt: skip


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model: absorbing noise, log-linear. The last state is the mask; how many there are, the embedding says."""
    kind = files.need({"noise": {"type": "loglinear"}} | config, "noise.type", str, folder)
    if kind != "loglinear":
        raise CheckpointError(f"{folder}: noise.type is {kind!r}", "only SDTT's loglinear can be read")
    tensors = dit.bare(files.read_published(folder))
    if "vocab_embed.embedding" not in tensors:
        raise CheckpointError(
            f"{folder}: no vocab_embed.embedding among its tensors, which begin with {sorted(tensors)[:3]}",
            "SDTT's begin with backbone. or backbone.backbone.",
        )
    states = len(tensors["vocab_embed.embedding"])
    # without time a student's body either is told 0, as MDLM's, or was built without the layers that listen
    listens = any(name.startswith("sigma_map.") for name in tensors)
    timed = files.need({"time_conditioning": False} | config, "time_conditioning", bool, folder)
    told: Conditioning = "sigma" if timed else "zero" if listens else None
    keys = _KEYS | ({"cond_dim": "model.cond_dim"} if listens or timed else {})
    net = dit.body(dit.shape(config, states, folder, keys=keys), tensors, folder)
    return DiffusionLM(
        net, Absorbing(states - 1, LogLinear(1e-3)), CleanLogits(), conditioning=told,
        tokenizer=dit.tokenizer(folder, states - 1, mask=True),
    )  # fmt: skip
