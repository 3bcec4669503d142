"""A foreign checkpoint's files: configs in JSON or YAML, weights in safetensors or pickles, none run."""

import importlib
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from unmask.checkpoint import read_json, read_tensors
from unmask.errors import CheckpointError

T = TypeVar("T")
_CALLS = re.compile(r"GLOBAL ([\w.]+)")  # a function or class that torch does not allow, in its words
PUBLISHED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def read_config(path: Path) -> dict[str, Any]:
    """The object in a .json or .yaml file. CheckpointError where it cannot be read or is not an object."""
    config = read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds a {type(config).__name__}, not an object", "is it the right file?")
    return config


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; only where PyYAML is installed."""
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise CheckpointError(
            f"{path} needs PyYAML",
            "pip install pyyaml, or put the config beside the weights as config.json",
        ) from None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is not YAML: {error}", "fetch the file again") from None


def need(config: dict[str, Any], key: str, kind: type[T], where: Path) -> T:
    """The value of a dotted key such as "model.hidden_size"; CheckpointError if absent or not of this kind.

    A float may be written as an int or, as YAML reads 1e-4, as a string.
    """
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise CheckpointError(f"the config of {where} lacks the key {key!r}", "was the model saved whole?")
        value = value[part]
    if kind is float and not isinstance(value, bool):
        try:
            value = float(value)
        except (TypeError, ValueError):
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"the config of {where} has {key} = {value!r}, which is not of type {kind.__name__}")
    return value


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, on the CPU: tensors and plain values, no code is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of another protocol, which fail anyway
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged or hostile stream makes the reader stumble in many ways
        if asked := _CALLS.search(str(error)):
            raise CheckpointError(
                f"{path} is refused: besides tensors it holds {asked[1]}, and to unpickle that may run code",
                "no code of a checkpoint is run: have its maker save the tensors alone, as model.safetensors",
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose words tell to trust the file
            reason = "it is not tensors and plain values as torch.save writes them"
        raise CheckpointError(
            f"{path} cannot be read as weights ({path.stat().st_size} bytes): {reason}",
            "it is damaged, or holds more than tensors; fetch it again, or save it as model.safetensors",
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    return content


def named_tensors(value: Any, where: Path) -> dict[str, Tensor]:
    """`value`, checked to be a dictionary of tensors."""
    if not isinstance(value, dict) or not all(isinstance(x, Tensor) for x in value.values()):
        raise CheckpointError(f"{where} does not hold named tensors", "is it a checkpoint of another program?")
    return {str(k): v for k, v in value.items()}


def published(folder: Path) -> bool:
    """Whether the folder has weights under one of the names that the hub uses."""
    return any((folder / name).is_file() for name in PUBLISHED)


def read_published(folder: Path) -> dict[str, Tensor]:
    """The weights of a hub folder: model.safetensors, its shards, or pytorch_model.bin."""
    whole, index, binary = (folder / name for name in PUBLISHED)
    if whole.is_file():
        return read_tensors(whole)
    if index.is_file():
        shards = sorted(set(need(read_config(index), "weight_map", dict, index).values()))
        if any(not isinstance(name, str) or Path(name).name != name for name in shards):
            raise CheckpointError(f"{index} names files outside {folder}")
        return {k: v for name in shards for k, v in read_tensors(folder / name).items()}
    if binary.is_file():
        return named_tensors(read_pickle(binary), binary)
    raise CheckpointError(f"no weights in {folder}", f"it needs one of {', '.join(PUBLISHED)}")
