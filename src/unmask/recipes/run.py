"""A training run as one value: what to train, on what, how. It is saved as JSON beside what it makes."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from typing import Any

from unmask.diffusion import PROCESSES
from unmask.diffusion.schedules import SCHEDULES
from unmask.errors import ConfigError, unknown
from unmask.training.settings import TrainSettings

KINDS = ("sedd", "mdlm", "ar")
STARTS = ("zero", "neighbors")


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """kind: "sedd" (raw scores, the paper's), "mdlm" (normalized p(x0), no condition) or "ar".

    process: "absorbing" or "uniform". start: "zero", SEDD's closed gates, or "neighbors", heads that begin by looking
    around (sedd only; see nn/starts.py). Sizes are in vectors, layers, heads and tokens. block_size: so many tokens are
    denoised together, given those before them, from left to right (mdlm only: block diffusion); None: the whole text.
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
    start: str = "zero"
    block_size: int | None = None

    def __post_init__(self) -> None:
        for what, name, known in (
            ("kind of model", self.kind, KINDS),
            ("process", self.process, PROCESSES),
            ("noise schedule", self.schedule, SCHEDULES),
            ("start", self.start, STARTS),
        ):
            if name not in known:
                raise unknown(what, name, known)
        if self.kind == "mdlm" and not PROCESSES[self.process].commits:
            raise ConfigError(f"kind 'mdlm' needs the absorbing process, got {self.process!r}", "use kind=sedd")
        if self.block_size is not None and self.kind != "mdlm":
            raise ConfigError(f"blocks need kind 'mdlm', got {self.kind!r}", "use kind=mdlm, or no block_size")
        if self.block_size is not None and not 2 <= self.block_size < self.length:
            raise ConfigError(
                f"block_size {self.block_size} does not fit a context of {self.length} tokens",
                "give at least 2 and less than the context",
            )


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """corpus: names joined by +, a file, a folder or a hub data set. field: what holds the text in rows of these.

    tokenizer: "gpt2", "bpe:SIZE", a folder with one, or "model": that of the model that the run begins with.
    """

    corpus: str = "excerpt"
    tokenizer: str = "bpe:4096"
    packing: str = "sedd"
    heldout_rows: int = 64
    field: str = "text"

    def __post_init__(self) -> None:
        if self.heldout_rows < 1:
            raise ConfigError(f"heldout_rows must be at least 1, got {self.heldout_rows}")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides a run. batch_size: rows a step, over all ranks and micro-batches.

    init: the model whose weights it begins with (an embedded name, a folder or a hub id; its shape is then `model`'s),
    or None for fresh ones. sample_tokens: the length of a text written at every look at held-out text (0: none).
    """

    name: str
    model: ModelShape = ModelShape()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings(steps=1000)
    batch_size: int = 12
    init: str | None = None
    sample_tokens: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.sample_tokens < 0:
            raise ConfigError(f"sample_tokens must be at least 0 (no samples), got {self.sample_tokens}")
        if self.data.tokenizer == "model" and self.init is None:
            raise ConfigError("tokenizer 'model' is that of the model to begin with, and there is none", "give --init")

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `from_json` reads them."""
        return dataclasses.asdict(self)


def from_json(values: dict[str, Any]) -> Run:
    """The run that `as_json` described. Raises ConfigError for a key it does not know or a value of another type."""
    made: Run = _fit("", values, Run)
    return made


def _fit(path: str, value: Any, hint: Any) -> Any:
    """A plain value as the type `hint` of the setting `path`, or ConfigError."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(path, value, hint)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = typing.get_args(hint)
        if len(value) == len(kinds):
            return tuple(_fit(path, v, k) for v, k in zip(value, kinds, strict=True))
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in (bool, int, str) and type(value) is hint:
        return value
    raise ConfigError(f"{path or 'a run'} takes a value of type {_type_name(hint)}, got {value!r}")


def _build(path: str, values: dict[str, Any], kind: Any) -> Any:
    hints, dot = typing.get_type_hints(kind), "." if path else ""
    for key in values:
        if key not in hints:
            raise unknown("setting", f"{path}{dot}{key}", (f"{path}{dot}{k}" for k in hints))
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise ConfigError(f"the run lacks the setting {path}{dot}{field.name}", "add it to its config.json")
    return kind(**{key: _fit(f"{path}{dot}{key}", value, hints[key]) for key, value in values.items()})


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return " and ".join(_type_name(kind) for kind in typing.get_args(hint)) + ", separated by a comma"
    return "an object" if dataclasses.is_dataclass(hint) else str(getattr(hint, "__name__", hint))


def with_settings(run: Run, changes: Iterable[str]) -> Run:
    """The run with "key=value" changes, keys dotted as in its JSON: "train.optim.lr=1e-3".

    A last part that names one setting only may stand alone: "width=128". Raises ConfigError for an unknown key
    (the nearest is offered) or a value of another type.
    """
    hints = dict(_leaves(Run))
    return with_values(run, {path: _parse(path, text, hints[path]) for path, text in _pairs(changes)})


def with_values(run: Run, chosen: dict[str, Any]) -> Run:
    """The run with other values of settings, by their full names: {"model.width": 128}."""
    values = run.as_json()
    for path, value in chosen.items():
        target = values
        *parents, last = path.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return from_json(values)


def names(changes: Iterable[str]) -> frozenset[str]:
    """The full names of the settings that "key=value" changes change."""
    return frozenset(path for path, _ in _pairs(changes))


def _pairs(changes: Iterable[str]) -> Iterable[tuple[str, str]]:
    known = [name for name, _ in _leaves(Run)]
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, got {change!r}", "for example --set model.width=128")
        yield _full_name(key.strip(), known), text.strip()


def _full_name(key: str, names: list[str]) -> str:
    if key in names:
        return key
    last = {name: name.rsplit(".", 1)[-1] for name in names}
    matches = [name for name in names if last[name] == key]
    if len(matches) > 1:
        raise ConfigError(f"the setting {key!r} could be {' or '.join(matches)}", "write it in full")
    if not matches:
        raise unknown("setting", key, names if "." in key else set(last.values()))
    return matches[0]


def _leaves(kind: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{path}{name}.")
        else:
            yield f"{path}{name}", hint


def _parse(path: str, text: str, hint: Any) -> Any:
    """The value that `text` stands for, as the type `hint` of the setting `path`."""
    if isinstance(hint, types.UnionType):
        if text.lower() == "none":
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    if typing.get_origin(hint) is tuple:
        kinds, parts = typing.get_args(hint), text.strip("()[]").split(",")
        if len(parts) == len(kinds):
            return tuple(_parse(path, part.strip(), kind) for part, kind in zip(parts, kinds, strict=True))
    value: Any = text
    if hint is bool:
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif hint in (int, float):
        value = _number(text, hint)
    return _fit(path, value, hint)


def _number(text: str, hint: type) -> Any:
    """An int or a float, 1e6 being a whole number too; the text itself where it is neither."""
    try:
        return hint(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
