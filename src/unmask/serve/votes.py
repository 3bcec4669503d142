"""Votes of a blind comparison: one JSON line each, and how often each model was preferred."""

import datetime
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

from unmask.errors import DataError
from unmask.serve.schema import Vote

Z = 1.959963984540054  # of a normal law, 95 % lie within so many standard deviations


class Votes:
    """The file of votes. Safe for several threads of one process."""

    def __init__(self, path: Path) -> None:
        """DataError where the file cannot be written."""
        self._path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise DataError(f"votes cannot be written to {path}: {error.strerror}", "give another --votes") from None

    def add(self, vote: Vote) -> None:
        """Append a vote, on the disk when this returns."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps(vote.model_dump() | {"time": when}).encode() + b"\n"
        with self._lock, self._path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # a line that a crash cut short stays alone
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def counts(self) -> dict[str, Any]:
        """Wins of each pair of models; what is no vote in the file is counted as unreadable."""
        pairs: dict[tuple[str, str], dict[str, int]] = {}
        unreadable = 0
        with self._lock, self._path.open("rb") as file:
            for line in file:
                try:
                    vote = json.loads(line)
                    left, right, winner = vote["left"]["model"], vote["right"]["model"], vote["winner"]
                    chosen = {"left": left, "right": right, "tie": None}[winner]
                except (ValueError, KeyError, TypeError):
                    unreadable += bool(line.strip())
                    continue
                a, b = sorted((str(left), str(right)))
                counted = pairs.setdefault((a, b), {"a": 0, "b": 0, "ties": 0})
                counted["ties" if chosen is None else "a" if chosen == a else "b"] += 1
        return {"object": "votes", "pairs": [_pair(*each) for each in sorted(pairs.items())], "unreadable": unreadable}


def _pair(names: tuple[str, str], counted: dict[str, int]) -> dict[str, Any]:
    """What is known of a pair. win_rate: of `a`, among votes that prefer one; its interval is Wilson's at 95 %."""
    decided = counted["a"] + counted["b"]
    return {
        "a": names[0], "b": names[1], "a_wins": counted["a"], "b_wins": counted["b"], "ties": counted["ties"],
        "votes": decided + counted["ties"], "win_rate": counted["a"] / decided if decided else None,
        "interval": wilson(counted["a"], decided) if decided else None,
    }  # fmt: skip


def wilson(wins: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion, wins of n, n at least 1 (Wilson 1927)."""
    rate, z2 = wins / n, Z * Z
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
