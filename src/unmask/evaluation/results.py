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

    spread: the standard deviation over what was averaged, where that is of interest itself. Two rows may be compared
    where name, unit and protocol agree.
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
    spread: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A cell of a table of the paper: the paper's number and ours, or why there is none of ours.

    table: "table1" ... "table7" or "figure1". row and column: as printed. paper: what the paper prints for
    `paper_row`, paper_spread its standard deviation. unlike: why the two numbers are not of one protocol (another
    model, judge, data or number of samples), empty where they are. reason: why `measured` is None.
    """

    table: str
    row: str
    column: str
    measured: Row | None
    paper: float | None = None
    paper_spread: float | None = None
    paper_row: str = ""
    unlike: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Entry":
        """The entry of `as_json`."""
        measured = values.get("measured")
        return cls(**(values | {"measured": None if measured is None else Row(**measured)}))


def provenance(**settings: Any) -> dict[str, Any]:
    """Where and when a set of rows was made: version, commit, machine, and a hash of the settings."""
    return {
        "unmask": unmask.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "settings": settings,
        "settings_hash": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12],
    }


def processor() -> str:
    """What the processor calls itself, where the system says so; else its architecture."""
    lines = [line for line in cpuinfo() if line.startswith("model name")]
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor() or platform.machine()


def cpuinfo() -> list[str]:
    """Linux's lines about the processor; none elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


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
