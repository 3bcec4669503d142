"""A number and its birth certificate."""

import dataclasses
import datetime
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import unmask


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured value. `stderr` is None where the value has no sampling error; `protocol` says how it was made.

    Two rows may be compared where name, unit and protocol agree.
    """

    name: str
    model: str
    value: float
    unit: str
    protocol: str
    stderr: float | None = None
    n: int | None = None
    seed: int | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return dataclasses.asdict(self)


def provenance(**settings: Any) -> dict[str, Any]:
    """Where and when a set of rows was made: version, commit, machine, and a hash of the settings."""
    return {
        "unmask": unmask.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "settings": settings,
        "settings_hash": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12],
    }


def _commit() -> str | None:
    """The commit of the source tree, with + if it has changes; None for an installed package."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return None
    if head.returncode or "site-packages" in here.parts:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
