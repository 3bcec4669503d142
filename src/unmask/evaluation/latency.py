"""How long one batch took, and from which batch on the other side is ahead."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from unmask.evaluation.results import Row

Side = Literal["sedd", "ar", "hf"]  # diffusion, our cached engine, Hugging Face's generate


@dataclasses.dataclass(frozen=True)
class Latency:
    """Seconds that one batch took in each repeat. steps: of the diffusion model, None for the others.

    evaluations: of the network, each on the whole batch. tokens: new ones a sequence. measured: whether a repeat ran
    whole; else `note` says from what it was extrapolated. peak_mb: memory above the weights, None on a CPU.
    """

    name: str
    side: Side
    steps: int | None
    batch: int
    tokens: int
    evaluations: int
    times: tuple[float, ...]
    measured: bool
    size: str
    weights: str
    parameters: int
    dtype: str
    device: str
    threads: int
    note: str = ""
    peak_mb: float | None = None

    @property
    def seconds(self) -> float:
        """The median over repeats."""
        return statistics.median(self.times)

    @property
    def low(self) -> float:
        """The first quartile."""
        return statistics.quantiles(self.times, method="inclusive")[0] if len(self.times) > 1 else self.times[0]

    @property
    def high(self) -> float:
        """The third quartile."""
        return statistics.quantiles(self.times, method="inclusive")[2] if len(self.times) > 1 else self.times[0]

    @property
    def throughput(self) -> float:
        """New tokens a second, of the whole batch."""
        return self.batch * self.tokens / self.seconds

    @property
    def tokens_per_evaluation(self) -> float:
        """New tokens of one sequence for each time that the network runs."""
        return self.tokens / self.evaluations

    @property
    def protocol(self) -> str:
        """What two latencies must share to be compared."""
        return (
            f"{self.size}, {self.tokens} new tokens, batch {self.batch}, {self.dtype}, {self.device}, "
            f"{self.threads} threads, {self.weights}, median of interleaved repeats after a warm-up"
        )

    def row(self, *, throughput: bool = False) -> Row:
        """Seconds a batch, or tokens a second, with the quartiles in its note."""
        value, unit = (self.throughput, "tokens/s") if throughput else (self.seconds, "s")
        ends = [self.batch * self.tokens / s for s in (self.high, self.low)] if throughput else [self.low, self.high]
        note = f"quartiles {ends[0]:.4g} to {ends[1]:.4g} {unit}" + (f"; {self.note}" if self.note else "")
        name = "throughput" if throughput else "latency"
        return Row(name, self.name, value, unit, self.protocol, n=len(self.times), note=note)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        derived = ("seconds", "low", "high", "throughput", "tokens_per_evaluation")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}


@dataclasses.dataclass(frozen=True)
class BreakEven:
    """The batch from which left-to-right generation gives more tokens a second than diffusion in `steps` steps.

    batch: interpolated on logarithmic axes; "always" where it is ahead from the smallest batch tried on, "never" where
    it is behind at the largest. tried: the batches.
    """

    steps: int
    batch: float | Literal["always", "never"]
    tried: tuple[int, ...]

    @property
    def words(self) -> str:
        """For a table: where the other side gives more tokens a second."""
        if self.batch == "always":
            return f"at every batch, {self.tried[0]} to {self.tried[-1]}"
        if self.batch == "never":
            return f"at no batch up to {self.tried[-1]}"
        return f"from batch {self.batch:.2g}"


def break_even(latencies: Sequence[Latency], *, side: Side = "ar") -> list[BreakEven]:
    """For each number of diffusion steps, the break-even batch against `side`. Steps of a single size and dtype.

    Where the two cross more than once, the last time counts. A step count with no batch in common is left out.
    """
    other = {x.batch: x.throughput for x in latencies if x.side == side}
    out = []
    for steps in sorted({x.steps for x in latencies if x.steps is not None}):
        ours = {x.batch: x.throughput for x in latencies if x.steps == steps}
        tried = sorted(ours.keys() & other.keys())
        ahead = [math.log(other[b] / ours[b]) for b in tried]
        if tried:
            out.append(BreakEven(steps, _crossing(tried, ahead), tuple(tried)))
    return out


def _crossing(batches: Sequence[int], ahead: Sequence[float]) -> float | Literal["always", "never"]:
    """Where `ahead` goes above 0 for good."""
    if ahead[-1] <= 0:
        return "never"
    behind = [i for i, lead in enumerate(ahead) if lead <= 0]
    if not behind:
        return "always"
    i = behind[-1]
    part = -ahead[i] / (ahead[i + 1] - ahead[i])
    return math.exp((1 - part) * math.log(batches[i]) + part * math.log(batches[i + 1]))


def against(latencies: Sequence[Latency], one: Side = "ar", other: Side = "hf") -> dict[int, float]:
    """Seconds of `one` over seconds of `other`, by batch: below 1, `one` is faster. Median of the paired repeats."""
    times = {side: {x.batch: x.times for x in latencies if x.side == side} for side in (one, other)}
    return {
        batch: statistics.median(a / b for a, b in zip(seconds, times[other][batch], strict=True))
        for batch, seconds in times[one].items()
        if batch in times[other]
    }
