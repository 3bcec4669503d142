"""Looks at held-out text while a model trains: which was best, and whether the bound has begun to rise.

Every look measures the same rows with the same draws, so two looks are compared row by row: what rows differ by falls
out, and a difference far smaller than either standard error can be seen.
"""

import dataclasses
import math
from typing import Any, Protocol, Self

BEYOND = 2.0  # standard errors of a difference that count as more than noise


class Heldout(Protocol):
    """A measurement of held-out rows, in nats per token; `evaluation.bound.Bound` is one."""

    @property
    def nats_per_token(self) -> float:
        """The mean."""

    @property
    def stderr(self) -> float:
        """Its standard error over rows."""

    @property
    def rows(self) -> tuple[float, ...]:
        """Of each row."""


@dataclasses.dataclass(frozen=True)
class Look:
    """A look at held-out text after `step` steps: nats per token, standard error, and nats per token of each row."""

    step: int
    nats: float
    stderr: float
    rows: tuple[float, ...]

    def above(self, other: "Look") -> tuple[float, float]:
        """By how much it lies above another look at the same rows, and the standard error of that (nan for one row)."""
        gaps = [a - b for a, b in zip(self.rows, other.rows, strict=True)]
        mean, n = sum(gaps) / len(gaps), len(gaps)
        if n < 2:
            return mean, math.nan
        return mean, math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1) / n)


@dataclasses.dataclass(frozen=True)
class Watch:
    """The best look so far, and how many in a row since then were worse by more than noise and did not fall.

    The best of many looks is their luckiest, and while a model stands still all others lie above it; one that forgets
    what it knew gets worse from look to look. last: the look seen last.
    """

    best: Look | None = None
    worse: int = 0
    last: Look | None = dataclasses.field(default=None, compare=False)

    def seen(self, look: Look) -> "Watch":
        """The watch after one more look. The lowest bound is best; one within noise of it is not worse."""
        if self.best is None or len(self.best.rows) != len(look.rows) or look.nats < self.best.nats:
            return Watch(look, 0, look)
        gap, noise = look.above(self.best)
        falls = self.last is not None and look.nats < self.last.nats
        return Watch(self.best, self.worse + 1 if gap > BEYOND * noise and not falls else 0, look)

    def verdict(self, look: Look) -> str:
        """Of the look seen last, for people."""
        if self.best is None or self.best.step == look.step:
            return "best so far"
        gap, noise = look.above(self.best)
        words = f"{gap:+.4f} +- {noise:.4f} against step {self.best.step}"
        return f"{words}, worse {self.worse} times in a row" if self.worse > 1 else words

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> Self:
        """The watch that `as_json` described; a new one for None."""
        if not values or not values.get("best"):
            return cls()
        best, last = (
            Look(**(each | {"rows": tuple(each["rows"])})) if each else None
            for each in (values["best"], values.get("last"))
        )
        return cls(best, int(values["worse"]), last)
