"""A training run on disk: checkpoints that are whole or not there, and metrics that go back with them.

    RUN/config.json                       the resolved run
    RUN/metrics.jsonl                     a line every few steps
    RUN/samples.jsonl                     a text now and then, where they are asked for
    RUN/checkpoints/step-00001000/        state.safetensors (weights, EMA, optimizers) + state.json (the rest)
    RUN/model/                            the averaged weights as a model folder, for `unmask.load`: the newest while
                                          it trains, at its end the best where looks at held-out text decide

A process may be killed at any moment: the newest whole checkpoint is the truth, and resuming makes all else agree
with it.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from unmask.checkpoint import read_json, read_tensors, whole_folder, write_json
from unmask.errors import CheckpointError, TrainingError
from unmask.nn.ema import EMA

Optimizers = list[torch.optim.Optimizer]
_ANOTHER = "resume with the settings the run was started with, or start in a new folder"


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first. What a kill left half-written is not among them."""
    found = (run / "checkpoints").glob("step-*")
    return sorted(p for p in found if (p / "state.json").exists() and (p / "state.safetensors").exists())


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
    net: nn.Module, ema: EMA, optimizers: Optimizers, tensors: dict[str, Tensor], numbers: dict[str, Any], where: Path
) -> None:
    """Put a packed state back. Raises CheckpointError where its shapes or names are those of another model."""
    wanted = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"ema.{k}": v for k, v in ema.shadow.items()}
    for name, value in wanted.items():
        _check(tensors.get(name), value, name, where)
    kinds = [type(optimizer).__name__ for optimizer in optimizers]
    if numbers.get("optimizers") != kinds:
        given = f"{numbers.get('optimizers')}, this run uses {kinds}"
        raise CheckpointError(f"{where} was written with the optimizers {given}", _ANOTHER)
    states = [_optimizer_state(optimizer, o, tensors, where) for o, optimizer in enumerate(optimizers)]
    net.load_state_dict({k: tensors[f"net.{k}"] for k in net.state_dict()})
    for k, shadow in ema.shadow.items():
        shadow.copy_(tensors[f"ema.{k}"])
    ema.updates = int(numbers["ema_updates"])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _optimizer_state(
    optimizer: torch.optim.Optimizer, number: int, tensors: dict[str, Tensor], where: Path
) -> dict[int, dict[str, Tensor]]:
    """What `tensors` hold for one optimizer, in copies of its own: every parameter's moments, in its shape."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"optim.{number}."):
            _, _, index, name = key.split(".", 3)
            state.setdefault(int(index), {})[name] = value.clone()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, parameter in enumerate(parameters):
        moments = [k for k, v in state.get(i, {}).items() if v.ndim] or ["moments"]
        for name in moments:
            _check(state.get(i, {}).get(name), parameter, f"optim.{number}.{i}.{name}", where)
    return state


def _check(found: Tensor | None, wanted: Tensor, name: str, where: Path) -> None:
    if found is None or found.shape != wanted.shape:
        shape = "is missing" if found is None else f"has shape {list(found.shape)}"
        raise CheckpointError(
            f"{where} holds another model: {name} {shape}, this run needs {list(wanted.shape)}", _ANOTHER
        )


@contextlib.contextmanager
def writing(what: str, run: Path) -> Iterator[None]:
    """Turns a failure to write inside the block into a TrainingError that says what is safe."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = "No space left" in str(error) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
        done = checkpoints(run)
        last = f"the last whole checkpoint is {done[-1].name}" if done else "there is no whole checkpoint yet"
        raise TrainingError(
            f"cannot write {what} to {run}: {'the disk is full' if full else error}; {last}",
            "free some space and resume the run",
        ) from error


def save(
    run: Path, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any], *, keep: int = 2, best: int | None = None
) -> Path:
    """Write the checkpoint of `step` (steps done), then drop all but the newest `keep` and that of the step `best`.

    Raises TrainingError where it cannot be written, or holds a number that is not finite.
    """
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise TrainingError(
            f"{bad[0]} is not finite after step {step}, so it is not saved",
            "resume from the last checkpoint with a smaller lr, or with precision=float32",
        )
    target = _folder(run, step)
    with writing(f"the checkpoint of step {step}", run):
        with whole_folder(target) as folder:
            save_file(tensors, folder / "state.safetensors")
            write_json(folder / "state.json", numbers | {"step": step})
        prune(run, keep, best)
    return target


def at_step(run: Path, step: int) -> Path:
    """The whole checkpoint of that step. CheckpointError where it is gone."""
    target = _folder(run, step)
    if target not in checkpoints(run):
        raise CheckpointError(f"{run} has lost the checkpoint of step {step}, its best", "resume with patience=0")
    return target


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def prune(run: Path, keep: int, best: int | None = None) -> None:
    """Drop all but the newest `keep` checkpoints and that of the step `best`.

    At no time is there a part of one under its own name.
    """
    for old in checkpoints(run)[:-keep]:
        if best is not None and old == _folder(run, best):
            continue
        leaving = old.with_name(f".{old.name}.old")
        os.replace(old, leaving)
        shutil.rmtree(leaving)


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote: tensors, and numbers with the key "step"."""
    numbers = read_json(checkpoint / "state.json")
    if not isinstance(numbers, dict) or not {"step", "ema_updates", "optimizers"} <= numbers.keys():
        raise CheckpointError(f"{checkpoint / 'state.json'} is not the state of a run", "delete this checkpoint")
    return read_tensors(checkpoint / "state.safetensors"), numbers


def sweep(run: Path) -> None:
    """Remove what a killed writer of ours left half-written in the run's folders."""
    for pattern in (".model.*", ".config.json.*", ".metrics.jsonl", ".samples.jsonl", "checkpoints/.step-*"):
        for left in run.glob(pattern):
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
        self._file = path.open("ab", buffering=0)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. Raises OSError where there is no room for it."""
        data = (json.dumps(line) + "\n").encode()
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        """Bring it to the disk, before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line, which a kill can leave, is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or "step" not in line:
            break
        lines.append(line)
    return lines
