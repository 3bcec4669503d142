"""SEDD's checkpoints, as published and as its training leaves them (Lou et al. 2024, arXiv 2310.16834).

Our parameter names are SEDD's, so the map of the weights is the identity; only the config is translated.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoint import fill
from unmask.compat import files
from unmask.diffusion.parametrizations import RawScore
from unmask.diffusion.processes import Absorbing, Process, Uniform
from unmask.diffusion.schedules import Geometric, LogLinear, Schedule
from unmask.errors import CheckpointError
from unmask.model import DiffusionLM
from unmask.nn.rotary import Rotary
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.tokenizers import gpt2

KEYS = ("graph", "noise", "model", "tokens")
GPT2_TOKENS = 50257
_META = Path("checkpoints-meta") / "checkpoint.pth"
_HYDRA = Path(".hydra") / "config.yaml"
INV_FREQ = "rotary_emb.inv_freq"


def config_path(folder: Path) -> Path | None:
    """The config of a folder of SEDD's training code, which Hydra wrote; None where there is none."""
    return next((p for p in (folder / "config.json", folder / _HYDRA) if p.is_file()), None)


def load(folder: Path, config: dict[str, Any]) -> DiffusionLM:
    """The model in a hub folder, or a training folder's averages; float32, on the CPU, in eval mode."""
    if files.published(folder):
        return assemble(config, files.read_published(folder), folder)
    if (folder / _META).is_file():
        return load_training(folder / _META, config)
    loose = sorted(folder.glob("*.pth"))
    if len(loose) != 1:
        found = f"{len(loose)} .pth files" if loose else "no weights"
        raise CheckpointError(
            f"{found} in {folder}",
            f"it needs one of {', '.join(files.PUBLISHED)} or {_META}; or give the .pth file itself",
        )
    return load_training(loose[0], config)


def load_file(path: Path) -> DiffusionLM:
    """A .pth file of SEDD's training code; its config is beside it or, by Hydra, one or two folders up."""
    for folder in path.absolute().parents[:3]:
        if (found := config_path(folder)) is not None:
            return load_training(path, files.read_config(found))
    raise CheckpointError(
        f"no config for {path}",
        "put the run's config beside it as config.json, or keep it in its folder with .hydra",
    )


def load_training(path: Path, config: dict[str, Any]) -> DiffusionLM:
    """{model, ema: {shadow_params}, step}: the averages, stored in the order of the parameters."""
    content = files.read_pickle(path)
    for key in ("model", "ema"):
        if not isinstance(content.get(key), dict):
            raise CheckpointError(f"{path} lacks {key!r}", f"it has {', '.join(map(str, content)) or 'nothing'}")
    weights = files.named_tensors(content["model"], path)
    shadows = content["ema"].get("shadow_params")
    names = [name for name in weights if name != INV_FREQ]
    if not isinstance(shadows, list) or len(shadows) != len(names):
        count = len(shadows) if isinstance(shadows, list) else "no"
        raise CheckpointError(f"{path} has {count} averages (ema.shadow_params) for {len(names)} parameters")
    averages = files.named_tensors(dict(zip(names, shadows, strict=True)), path)
    for name, average in averages.items():
        if average.shape != weights[name].shape:
            raise CheckpointError(
                f"{path}: the average for {name} has shape {list(average.shape)}, expected {list(weights[name].shape)}",
                "the averages are not in the order of the parameters",
            )
    return assemble(config, weights | averages, path)


def assemble(config: dict[str, Any], tensors: dict[str, Tensor], where: Path) -> DiffusionLM:
    """The model of SEDD's config with these weights; CheckpointError naming `where` if they do not fit."""
    law = process(config, where)
    scaled = files.need(config, "model.scale_by_sigma", bool, where)
    if scaled and not isinstance(law, Absorbing):
        raise CheckpointError(f"{where}: scale_by_sigma goes with graph.type absorb only", "set it to false")
    shape = network(config, where)
    with torch.device("meta"):
        net = Transformer(shape)
    fill(net, tensors | {INV_FREQ: frequencies(tensors.get(INV_FREQ), shape, where)}, str(where))
    net.eval()
    return DiffusionLM(net, law, RawScore(scaled), tokenizer=gpt2() if law.vocab_size == GPT2_TOKENS else None)


def network(config: dict[str, Any], where: Path) -> TransformerConfig:
    """The body: as many inputs and outputs as states, full attention, conditioned on sigma."""
    kind = config.get("model", {}).get("type", "ddit") if isinstance(config.get("model"), dict) else "ddit"
    if kind != "ddit":
        raise CheckpointError(f"{where}: model.type is {kind!r}", "only SEDD's ddit can be read")
    states = process(config, where).num_states
    return TransformerConfig(
        num_inputs=states,
        num_outputs=states,
        width=files.need(config, "model.hidden_size", int, where),
        depth=files.need(config, "model.n_blocks", int, where),
        heads=files.need(config, "model.n_heads", int, where),
        length=files.need(config, "model.length", int, where),
        cond_dim=files.need(config, "model.cond_dim", int, where),
        dropout=files.need(config, "model.dropout", float, where),
    )


def process(config: dict[str, Any], where: Path) -> Process:
    """graph.type and noise.type. SEDD's loglinear has its eps, 1e-3, in the code: it reads no sigma_min."""
    tokens = files.need(config, "tokens", int, where)
    noise, graph = (files.need(config, key, str, where) for key in ("noise.type", "graph.type"))
    schedule: Schedule
    if noise == "loglinear":
        schedule = LogLinear(1e-3)
    elif noise == "geometric":
        schedule = Geometric(*(files.need(config, f"noise.{key}", float, where) for key in ("sigma_min", "sigma_max")))
    else:
        raise CheckpointError(f"{where}: noise.type is {noise!r}", "SEDD has loglinear and geometric")
    if graph == "absorb":
        return Absorbing(tokens, schedule)
    if graph == "uniform":
        return Uniform(tokens, schedule)
    raise CheckpointError(f"{where}: graph.type is {graph!r}", "SEDD has absorb and uniform")


def frequencies(stored: Tensor | None, shape: TransformerConfig, where: Path) -> Tensor:
    """Our rotary frequencies; stored ones, where there are any, must equal them to their own precision."""
    own = Rotary(shape.width // shape.heads).inv_freq
    if stored is None:
        return own
    if not stored.is_floating_point() or stored.shape != own.shape:
        raise CheckpointError(f"{where}: {INV_FREQ} has shape {list(stored.shape)}, expected {list(own.shape)}")
    if not torch.allclose(stored.double(), own.double(), rtol=max(1e-6, 2 * torch.finfo(stored.dtype).eps), atol=0):
        raise CheckpointError(
            f"{where}: {INV_FREQ} is not 10000^(-2 i / d)", "the model uses other positions than SEDD"
        )
    return own
