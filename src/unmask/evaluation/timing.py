"""How long a call takes: wall-clock seconds, repeated, after a run that is not counted."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable

import torch

from unmask.devices import settle
from unmask.errors import ConfigError
from unmask.evaluation.results import Row


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over repeats."""
        return statistics.fmean(self.seconds)

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean; None for a single repeat."""
        count = len(self.seconds)
        return statistics.stdev(self.seconds) / math.sqrt(count) if count > 1 else None

    def row(self, model: str, *, protocol: str, name: str = "seconds_per_sequence", seed: int | None = None) -> Row:
        """The mean as a row, the fastest repeat in its note."""
        fastest = min(self.seconds)
        return Row(
            name, model, self.mean, "s", protocol, stderr=self.stderr, n=len(self.seconds), seed=seed,
            note=f"fastest of {len(self.seconds)}: {fastest:.4g} s",
        )  # fmt: skip


def time_calls(
    call: Callable[[], object],
    *,
    repeats: int = 3,
    warm_up: Callable[[], object] | None = None,
    device: torch.device | str = "cpu",
) -> Timing:
    """Time `call`, `repeats` times, after `warm_up` (default: the call itself) once.

    On an accelerator the clock is read when its queue is empty. Raises ConfigError for fewer than one repeat.
    """
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, got {repeats}")
    (warm_up or call)()
    seconds = []
    for _ in range(repeats):
        settle(device)
        began = time.perf_counter()
        call()
        settle(device)
        seconds.append(time.perf_counter() - began)
    return Timing(tuple(seconds))
