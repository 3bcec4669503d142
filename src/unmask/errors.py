"""What can go wrong, as a caller sees it. One message: what was wrong, what was given, what to do.

UnmaskError                  exit code 1
├── TrainingError            a run that cannot go on (NaN loss, full disk)
└── InputError               exit code 2: something the caller gave
    ├── ConfigError          an unknown name or a value out of range
    ├── CheckpointError      a model folder that cannot be read as it stands
    ├── DataError            text that cannot be used
    └── AssetError           something that has to be fetched and was not
"""

import difflib
from collections.abc import Iterable


class UnmaskError(Exception):
    """Base of every error that this package raises on purpose. `hint` says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class TrainingError(UnmaskError):
    """A training run that cannot go on."""


class InputError(UnmaskError):
    """Something the caller gave cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """An unknown name, or a value out of its range."""


class CheckpointError(InputError):
    """A model folder that is missing something, has too much, or is damaged."""


class DataError(InputError):
    """Text that cannot be read or holds nothing."""


class AssetError(InputError):
    """An asset that is not here and could not be fetched, or is not what it should be."""


def unknown(kind: str, given: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a table: offers the nearest one, lists them all."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.4)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown {kind} {given!r}", f"{guess}known: {', '.join(names)}")
