"""Draws: where chance enters. By default exact, one keyed uniform a decision, by the inverse CDF in float64.

The published samplers of SEDD and MDLM race exponentials in float32, whose coarse uniforms lower the temperature
the more the more steps there are (Zheng et al. 2024, arXiv 2409.02908); `race` is that arithmetic, to compare with.
Shapes: B samples, L positions, N rows, K choices.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import float_type, precise, rows_of, sent, wide
from unmask.errors import ConfigError, UnmaskError, unknown
from unmask.random import fold, uniform

EXACT, RACE = "exact", "float32-race"
DRAWS = (EXACT, RACE)
ONE_LEVEL, BLOCK = 1024, 256
AHEAD, NUMBERS = 16, 1 << 15  # steps whose uniforms are made at once, and how many numbers these may be


def _pick(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """First index whose cumulative weight is above target: [n] int64, and what is left of the target, [n].

    weights [n, k] >= 0, target [n] >= 0. An index of weight 0 is never the answer; a target that rounding put at or
    above the sum gives the last index of positive weight.
    """
    total = weights.cumsum(-1)
    positive = weights > 0
    hit = positive & (total > target[:, None])
    last = weights.shape[-1] - 1 - positive.flip(-1).to(torch.uint8).argmax(-1)
    index = torch.where(hit.any(-1), hit.to(torch.uint8).argmax(-1), last)
    before = F.pad(total, (1, 0)).gather(-1, index[:, None])[:, 0]
    return index, (target - before).clamp(min=0)


def from_logs(log_p: Tensor) -> Tensor:
    """Weights [N, K] of logits, or of log p up to a constant a row: the largest is 1."""
    log_p = wide(log_p)
    return (log_p - log_p.amax(-1, keepdim=True)).exp_()


def clipped(weights: Tensor) -> Tensor:
    """The negative mass that a draw drops: sum of max(-weights, 0), [N] from weights [N, K]."""
    return -wide(weights).clamp(max=0).sum(-1)


class Watch:
    """Looks at laws before they are drawn from: on the CPU at once; on CUDA, which is not waited for, in the end."""

    def __init__(self) -> None:
        self.bad: Tensor | None = None  # a count, on the device, where a graph that was recorded goes on counting

    def see(self, mass: Tensor) -> None:
        """The sums [N] of laws. UnmaskError for NaN, infinity or nothing positive, from here or from `settle`."""
        bad = ~(torch.isfinite(mass) & (mass > 0))
        if mass.is_cuda:
            self.bad = torch.zeros((), dtype=torch.int64, device=mass.device) if self.bad is None else self.bad
            self.bad.add_(bad.sum())
        elif bool(bad.any()):
            raise _unlawful(f"{int(bad.sum())} of {len(bad)}")

    def settle(self) -> None:
        """Wait for the device, and say what `see` saw since the last time."""
        count = 0 if self.bad is None else int(self.bad)
        if self.bad is not None and count:
            self.bad.zero_()
            raise _unlawful(str(count))


def _unlawful(count: str) -> UnmaskError:
    return UnmaskError(
        f"{count} laws to draw from hold NaN, infinity, or no mass at all",
        "the network's output is not finite or underflows: try float32 weights",
    )


def categorical(weights: Tensor, u: Tensor, watch: Watch | None = None) -> Tensor:
    """Inverse CDF: index i with probability max(weights_i, 0) / sum, [N] int64 from weights [N, K], u [N] in [0, 1).

    A function of the row and its u, so that rows can be drawn in any batch. Sums are float64; a long row is summed in
    blocks, then inside the block. Without float64 (MPS) a block is summed in float32, all else in float64 on the CPU.
    Raises UnmaskError for a row that holds NaN or infinity, or nothing positive; with a `watch`, when it does.
    """
    N, K = weights.shape
    own = Watch() if watch is None else watch
    if N == 0:
        return torch.zeros(0, dtype=torch.int64, device=weights.device)
    w = wide(weights).clamp(min=0)
    w = F.pad(w, (0, -K % BLOCK)).reshape(N, -1, BLOCK) if K > ONE_LEVEL else w
    coarse = precise(w.sum(-1) if K > ONE_LEVEL else w)
    target = sent(precise(u), coarse.device)
    own.see(coarse.sum(-1))
    index, rest = _pick(coarse, target * coarse.cumsum(-1)[:, -1])
    if K > ONE_LEVEL:
        rows = torch.arange(N, device=coarse.device)
        fine = precise(w[rows.to(w.device), index.to(w.device)])
        inner, _ = _pick(fine, rest / coarse[rows, index] * fine.sum(-1))
        index = (index * BLOCK + inner).clamp(max=K - 1)  # beyond it only for a law that is none
    if watch is None:
        own.settle()
    return index.to(weights.device)


def race(weights: Tensor, u: Tensor) -> Tensor:
    """The published draw: argmax of p / (1e-10 - log(u + 1e-10)) in float32, [N] from weights and u [N, K].

    SEDD's `sample_categorical` (and MDLM's, SDTT's). u: torch.rand in float32, a multiple of 2^-24, so that
    the exponential is at least 2^-24 and a token of weight w against a mask of weight 1 wins at the rate
    d / (exp(d / w) - 1), d = 2^-24, instead of w.
    """
    return (weights.float() / (1e-10 - (u + 1e-10).log())).argmax(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """The chance of one run. samples [B], on the CPU: the number of each row, which is what its draws are keyed by.

    Exactly one of seed and generator is given. From a seed, a uniform is a function of (seed, purpose, sample,
    position, step): rows do not depend on the batch they are in. Uniforms from a generator do, and so do those of a
    race, which takes K of them a decision from one stream a batch, as published. seeds: one a row, in place of `seed`.
    device: where a race takes its uniforms. watch: sees the laws of all that is drawn.
    """

    samples: Tensor
    seed: int | None
    generator: torch.Generator | None = None
    mode: str = EXACT
    seeds: tuple[int, ...] | None = None
    device: torch.device | str = "cpu"
    watch: Watch = dataclasses.field(default_factory=Watch, repr=False)

    stream: torch.Generator = dataclasses.field(init=False, repr=False)
    ahead: dict[str, tuple[int, Tensor]] = dataclasses.field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in DRAWS:
            raise unknown("draws", self.mode, DRAWS)
        if (self.seed is None) == (self.generator is None):
            raise ConfigError("draws need a seed or a generator, and not both", "give one of seed= and generator=")
        stream = self.generator
        if self.seed is not None:
            first = [int(each) for each in self.samples[:1] if each > 0]  # another stream for a later batch
            stream = torch.Generator(self.device).manual_seed(fold(self.seed, "race", *first))
        object.__setattr__(self, "stream", stream)

    @property
    def exact(self) -> bool:
        """Whether draws follow their law to the last bit of float64."""
        return self.mode == EXACT

    def keep(self, rows: Tensor) -> "Draws":
        """The draws of the rows of these indices [b]."""
        seeds = None if self.seeds is None else tuple(self.seeds[i] for i in rows.tolist())
        kept = dataclasses.replace(self, samples=rows_of(self.samples, rows), seeds=seeds)
        kept.ahead.update({name: (first, u.index_select(1, rows.cpu())) for name, (first, u) in self.ahead.items()})
        return kept

    def uniforms(self, purpose: str, step: int, length: int) -> Tensor:
        """One float64 uniform in [0, 1) a sample and position: [B, L], on the CPU."""
        if self.seed is None:
            where = self.stream.device
            u = torch.rand((len(self.samples), length), generator=self.stream, device=where, dtype=float_type(where))
            return u.cpu().double()
        first, u = self.ahead.get(purpose, (0, torch.empty(0, 0, 0)))
        if not (first <= step < first + len(u) and u.shape[2] == length):
            first, u = step, self._of_steps(purpose, step, length)
            self.ahead[purpose] = first, u
        return u[step - first]

    def _of_steps(self, purpose: str, step: int, length: int) -> Tensor:
        """Those of this step and some after it, [steps, B, L]: a few numbers take no less time than many.

        Step 0 is by itself, for what has no other.
        """
        assert self.seed is not None
        key: int | Tensor = fold(self.seed, purpose)
        if self.seeds is not None:
            key = torch.tensor([[fold(seed, purpose)] for seed in self.seeds])
        count = 1 if step == 0 else max(1, min(AHEAD, NUMBERS // max(1, len(self.samples) * length)))
        steps = torch.arange(step, step + count)[:, None, None]
        return uniform(key, self.samples[:, None], torch.arange(length), steps)

    def choose(self, weights: Tensor, u: Tensor) -> Tensor:
        """An index a row: [N] from weights [N, K] and u [N], by inverse CDF; a race takes uniforms of its own."""
        if self.exact:
            return categorical(weights, u, self.watch)
        chance = torch.rand(weights.shape, generator=self.stream, device=self.stream.device, dtype=torch.float32)
        return race(weights, chance.to(weights.device))


def keyed(
    batch: int,
    device: torch.device,
    *,
    seed: int | None,
    generator: torch.Generator | None,
    mode: str,
    first_sample: int | Sequence[int] = 0,
) -> Draws:
    """The draws of samples first_sample to first_sample + batch, or of those numbers, one a row.

    Without seed and generator a fresh seed comes from torch's global generator; `Draws.seed` says which.
    ConfigError for both of them, an unknown mode, or as many numbers as there are no rows.
    """
    numbers = range(first_sample, first_sample + batch) if isinstance(first_sample, int) else first_sample
    if len(numbers) != batch:
        raise ConfigError(f"{len(numbers)} numbers of samples for {batch} rows", "give one a row, or the first")
    if seed is None and generator is None:
        seed = int(torch.randint(2**62, ()))
    return Draws(torch.tensor(list(numbers)), seed, generator, mode, device=device)
