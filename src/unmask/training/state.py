"""A training run on disk: checkpoints that are whole or not there, and metrics that go back with them.

RUN/config.json                       the resolved run
RUN/metrics.jsonl                     a line every few steps
RUN/checkpoints/step-00001000/        state.safetensors (weights, EMA, optimizers) + state.json (the rest)
RUN/model/                            the averaged weights as a model folder, for `unmask.load`
"""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unmask.checkpoint import read_json, read_tensors, whole_folder, write_json
from unmask.errors import CheckpointError, TrainingError
from unmask.nn.ema import EMA

Optimizers = list[torch.optim.Optimizer]


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first. What a kill left half-written is not among them."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if (p / "state.json").exists())


def pack_state(net: nn.Module, ema: EMA, optimizers: Optimizers) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All of a run's state as tensors and, for what is not a tensor, JSON values."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.shadow.items()}
    numbers: dict[str, Any] = {"ema_updates": ema.updates, "optimizers": []}
    for o, optimizer in enumerate(optimizers):
        numbers["optimizers"].append(type(optimizer).__name__)
        for i, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optim.{o}.{i}.{name}"] = torch.as_tensor(value)
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, numbers


def unpack_state(
    net: nn.Module,
    ema: EMA,
    optimizers: Optimizers,
    tensors: dict[str, Tensor],
    numbers: dict[str, Any],
    where: Path,
) -> None:
    """Put a packed state back. Raises CheckpointError where its shapes or names are those of another model."""
    wanted = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"ema.{k}": v for k, v in ema.shadow.items()}
    for name, value in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != value.shape:
            shape = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise CheckpointError(
                f"{where} holds another model: {name} {shape}, this run needs {list(value.shape)}",
                "resume with the settings the run was started with, or start in a new folder",
            )
    kinds = [type(optimizer).__name__ for optimizer in optimizers]
    if numbers["optimizers"] != kinds:
        raise CheckpointError(f"{where} was written with {numbers['optimizers']}, this run uses {kinds}")
    net.load_state_dict({k: tensors[f"net.{k}"] for k in net.state_dict()})
    for k, shadow in ema.shadow.items():
        shadow.copy_(tensors[f"ema.{k}"])
    ema.updates = numbers["ema_updates"]
    for o, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optim.{o}."):
                _, _, index, name = key.split(".", 3)
                state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def save(run: Path, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any], *, keep: int = 2) -> Path:
    """Write the checkpoint of `step` (steps done), then drop all but the newest `keep`."""
    target = run / "checkpoints" / f"step-{step:08d}"
    try:
        with whole_folder(target) as folder:
            save_file(tensors, folder / "state.safetensors")
            write_json(folder / "state.json", numbers | {"step": step})
    except Exception as error:
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error)
        if not full and not isinstance(error, OSError):
            raise
        reason = "the disk is full" if full else str(error)
        done = checkpoints(run)
        last = f"the last whole checkpoint is {done[-1].name}" if done else "there is no earlier checkpoint"
        raise TrainingError(
            f"cannot write the checkpoint of step {step} to {target.parent}: {reason}; {last}",
            "free some space and resume the run",
        ) from None
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return target


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote: tensors, and numbers with the key "step"."""
    return read_tensors(checkpoint / "state.safetensors"), read_json(checkpoint / "state.json")


def sweep(run: Path) -> None:
    """Remove what a killed writer left half-written in the run's folders."""
    for folder in (run, run / "checkpoints"):
        for left in folder.glob(".*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


class Metrics:
    """metrics.jsonl: one JSON object a line, each with "step", flushed as it is written."""

    def __init__(self, path: Path, *, after: int) -> None:
        """Opens for appending, having cut off every line of a step beyond `after` and a torn last line."""
        kept = [line for line in read_metrics(path) if line["step"] <= after] if path.exists() else []
        temporary = path.with_name(f".{path.name}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line, which a kill can leave, is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
