"""A training run as one value: what to train, on what, how. It is saved as JSON beside what it makes."""

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any

from unmask.errors import ConfigError, unknown
from unmask.training.loop import TrainSettings


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """kind: "sedd" (raw scores, the paper's), "mdlm" (normalized p(x0), no condition) or "ar".

    process: "absorbing" or "uniform". Sizes are in vectors, layers, heads and tokens.
    """

    kind: str = "sedd"
    width: int = 256
    depth: int = 6
    heads: int = 4
    length: int = 256
    cond_dim: int = 128
    dropout: float = 0.0
    process: str = "absorbing"
    schedule: str = "loglinear"


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """corpus: names joined by +, a file or a folder. tokenizer: "gpt2", "bpe:SIZE" or a folder with one."""

    corpus: str = "excerpt"
    tokenizer: str = "bpe:4096"
    packing: str = "sedd"
    heldout_rows: int = 64


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides a run. batch_size: rows a step, over all ranks and micro-batches."""

    name: str
    model: ModelShape = ModelShape()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings(steps=1000)
    batch_size: int = 12

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `from_json` reads them."""
        return dataclasses.asdict(self)


def from_json(values: dict[str, Any]) -> Run:
    """The run that `as_json` described. Raises ConfigError for a key it does not know."""
    made: Run = _build(Run, values, "")
    return made


def _build(kind: Any, values: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            raise unknown("setting", f"{path}{key}", (f"{path}{k}" for k in hints))
        hint = hints[key]
        nested = dataclasses.is_dataclass(hint) and isinstance(value, dict)
        arguments[key] = _build(hint, value, f"{path}{key}.") if nested else _freeze(value)
    return kind(**arguments)


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def with_settings(run: Run, changes: Iterable[str]) -> Run:
    """The run with "key=value" changes, keys dotted as in its JSON: "train.optim.lr=1e-3".

    A last part that names one setting only may stand alone: "width=128". Raises ConfigError for an unknown key
    (the nearest is offered) or a value of another type.
    """
    values = run.as_json()
    known = list(_leaves(Run))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, got {change!r}", "for example --set model.width=128")
        path = _full_name(key.strip(), [name for name, _ in known])
        hint = dict(known)[path]
        target = values
        *parents, last = path.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = _parse(path, text.strip(), hint)
    return from_json(values)


def _full_name(key: str, names: list[str]) -> str:
    if key in names:
        return key
    matches = [name for name in names if name.rsplit(".", 1)[-1] == key]
    if len(matches) == 1:
        return matches[0]
    raise unknown("setting", key, names)


def _leaves(kind: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{path}{name}.")
        else:
            yield f"{path}{name}", hint


def _parse(path: str, text: str, hint: Any) -> Any:
    """The value of `text` as the type `hint` of the setting `path`."""
    if isinstance(hint, types.UnionType):
        if text.lower() == "none":
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    try:
        if typing.get_origin(hint) is tuple:
            kinds = typing.get_args(hint)
            parts = text.strip("()[]").split(",")
            if len(parts) != len(kinds):
                raise ValueError
            return tuple(k(p) for k, p in zip(kinds, parts, strict=True))
        if hint is int:
            number = float(text)
            if number != int(number):
                raise ValueError
            return int(number)
        return hint(text)
    except (ValueError, OverflowError):
        wanted = getattr(hint, "__name__", str(hint))
        raise ConfigError(f"{path} takes a value of type {wanted}, got {text!r}") from None
