"""What the published float32 draw does to text, in closed form: a temperature that falls with the number of steps.

SEDD's and MDLM's samplers draw by a race: argmax of w_i / E_i with E_i = 1e-10 - log(u_i + 1e-10), where u_i is a
float32 multiple of d = 2^-24. So E is never below d + 1e-10, and a token of weight w, racing against a rest of weight
1 - w, wins with probability

    sum_k d exp(-(k d + 1e-10) / w) = d exp(-1e-10 / w) / (exp(d / w) - 1)

instead of w. Tokens of weight below d almost never win. A step of SEDD's gives token y the weight a p_y against the
mask's 1 - a, and a falls as 1 / steps: the more steps, the more of the tail is cut (Zheng et al. 2024, "Masked
Diffusion Models are Secretly Time-Agnostic Masked Models", arXiv 2409.02908, section 4).
Shapes: N rows, K choices, V tokens, M steps, G grid points.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.diffusion.times import linear_grid
from unmask.errors import ConfigError
from unmask.evaluation.judge import Judge
from unmask.evaluation.results import Row
from unmask.random import fold, uniform

GRID = 2.0**-24  # of torch.rand in float32, near 1
SHIFT = 1e-10  # what the published code adds
_BIN, _LOWEST = 0.01, math.log(1e-14)  # the law is tabulated over log p: width of a cell, lowest point
_CHUNK = 2**22  # numbers of a law held at once


def rate(weights: Tensor, *, grid: float = GRID, shift: float = SHIFT) -> Tensor:
    """The probability that a choice of weight w wins against a rest of weight 1 - w: any shape, float64.

    Exact up to relative O(grid) where the rest's exponential is continuous, which it is to a weight far above `grid`.
    """
    w = weights.double()
    ratio = grid / w.clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(w > 0, grid * torch.exp(-shift / w.clamp(min=1e-300)) / torch.expm1(ratio), 0.0)


def raced(weights: Tensor, *, grid: float = GRID, shift: float = SHIFT) -> Tensor:
    """The law of the winner of one float32 race: [N, K] float64 from weights [N, K], of any sum; negative ones as 0.

    Tokens too light to win leave the others a smaller field: w is taken relative to the R <= 1 that makes the
    probabilities sum to 1, `rate(w / R)`. Raises ConfigError for a row without positive weight.
    """
    w = weights.double().clamp(min=0)
    total = w.sum(-1, keepdim=True)
    if not bool((torch.isfinite(total) & (total > 0)).all()):
        raise ConfigError("a race among weights that are not finite or not positive", "give weights with a sum above 0")
    w = w / total
    low, high = torch.full_like(total, math.log(grid) - 40), torch.zeros_like(total)  # of log R
    for _ in range(60):
        middle = (low + high) / 2
        short = rate(w / middle.exp(), grid=grid, shift=shift).sum(-1, keepdim=True) < 1
        low, high = torch.where(short, low, middle), torch.where(short, middle, high)
    law = rate(w / high.exp(), grid=grid, shift=shift)
    return law / law.sum(-1, keepdim=True)


def step_odds(steps: int) -> Tensor:
    """a = (t - s) / t of each step of SEDD's sampler on its log-linear schedule: [M] float64, from t = 1 to 1e-5.

    The probability with which a masked position leaves the mask in that step.
    """
    t = linear_grid(steps)
    return (t[:-1] - t[1:]) / t[:-1]


@dataclasses.dataclass(frozen=True, eq=False)
class _Curve:
    """What a run makes of a token of probability p, tabulated over log p; rows differ only in how long they last."""

    log_p: Tensor  # [G]
    gain: Tensor  # [M, G]: rate(a p) / (a p) * a, the hazard a unit of p
    last: Tensor  # [G]: rate(p) / p, the draw to clean data

    @classmethod
    def of(cls, odds: Tensor, grid: float, shift: float) -> "_Curve":
        log_p = torch.arange(_LOWEST, _BIN, _BIN, dtype=torch.float64)
        p = log_p.exp()
        gain = rate(odds.double()[:, None] * p, grid=grid, shift=shift) / p
        return cls(log_p, gain, rate(p, grid=grid, shift=shift) / p)

    def place(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Where log_p [..., V] lies: the cell to its left, int64, and how far into it, in [0, 1]."""
        x = ((log_p - _LOWEST) / _BIN).clamp(0, len(self.log_p) - 1 - 1e-9)
        left = x.floor().long()
        return left, x - left

    def mass(self, log_p: Tensor, weight: Tensor) -> Tensor:
        """[n, G]: `weight` [n, V] put where log_p [n, V] lies, shared between the two nearest points."""
        left, part = self.place(log_p)
        out = weight.new_zeros(len(log_p), len(self.log_p))
        return out.scatter_add(1, left, weight * (1 - part)).scatter_add(1, left + 1, weight * part)

    def gains(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """q / p at the grid points [n, G], of rows with `mass` [n, G]; and what was left to the last draw, [n]."""
        hazard = (mass @ self.gain.T).clamp(max=1)  # [n, M]
        left = torch.cumprod(1 - hazard, 1)
        alive = torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], 1)
        ended = left[:, -1:] / (mass @ self.last)[:, None].clamp(min=1e-300)
        return alive @ self.gain + ended * self.last, left[:, -1]


def _log_laws(log_p: Tensor) -> Tensor:
    if log_p.ndim != 2 or not len(log_p):
        raise ConfigError(f"laws of shape {list(log_p.shape)}", "give log p [N, V] with N of at least 1")
    return torch.log_softmax(log_p.double(), -1)


def _odds(steps: int | Sequence[float] | Tensor) -> Tensor:
    if isinstance(steps, int):
        return step_odds(steps)
    odds = torch.as_tensor(steps, dtype=torch.float64)
    if odds.ndim != 1 or not len(odds) or not bool(((odds > 0) & (odds <= 1)).all()):
        raise ConfigError("the odds of the steps must be one number in (0, 1] each", "or give the number of steps")
    return odds


def raced_unmask(
    p: Tensor, steps: int | Sequence[float] | Tensor, *, grid: float = GRID, shift: float = SHIFT
) -> Tensor:
    """The law of the token that a position ends up with, [N, V] float64, if its conditional stays p [N, V] throughout.

    steps: SEDD's number of equal steps, or the odds a of each. A token's hazard at a step is `rate(a p)`, what is
    still masked after the last one is drawn from `rate(p)`. Relative error about 1e-5, from a table over log p.
    """
    curve = _Curve.of(_odds(steps), grid, shift)
    log_p = _log_laws(p.double().log())
    out = torch.empty_like(log_p)
    for i in range(0, len(log_p), size := max(1, _CHUNK // log_p.shape[1])):
        rows = log_p[i : i + size]
        gain, _ = curve.gains(curve.mass(rows, rows.exp()))
        left, part = curve.place(rows)
        out[i : i + size] = rows.exp() * torch.lerp(gain.gather(1, left), gain.gather(1, left + 1), part)
    return out / out.sum(-1, keepdim=True)


@dataclasses.dataclass(frozen=True, eq=False)
class RaceEffect:
    """What a race of `steps` steps does to the tokens of `n` positions; means over them, in nats.

    entropy_exact: of the tokens that exact draws give, the sampler's H(q); entropy_raced: of the raced ones.
    cross_exact and cross_raced: what the judge's -log p of such a token is on average; their exponentials are
    perplexities. Where the sampler's law is the judge's, cross_exact = entropy_exact. The standard errors, over
    positions, are of entropy_exact - entropy_raced and of cross_exact - cross_raced. swept: the share of positions
    that the steps left to the last draw.
    """

    steps: int
    n: int
    entropy_exact: float
    entropy_raced: float
    cross_exact: float
    cross_raced: float
    entropy_stderr: float
    cross_stderr: float
    swept: float
    cross: Tensor = dataclasses.field(repr=False)  # [N], -log p of a raced token at each position

    @property
    def entropy_lost(self) -> float:
        """Nats a token."""
        return self.entropy_exact - self.entropy_raced

    @property
    def perplexity_exact(self) -> float:
        """What the judge would say of exact draws."""
        return math.exp(self.cross_exact)

    @property
    def perplexity_raced(self) -> float:
        """What the judge would say of raced ones."""
        return math.exp(self.cross_raced)

    def rows(self, model: str, *, seed: int | None = None) -> list[Row]:
        """The entropy lost and the two perplexities. model: whose conditionals these are."""
        protocol = f"closed form of the float32 race, {self.steps} steps, fixed conditionals"
        lost, after, before = self.entropy_lost, self.perplexity_raced, self.perplexity_exact
        return [
            Row("race_entropy_lost", model, lost, "nats/token", protocol, self.entropy_stderr, self.n, seed),
            Row("race_perplexity", model, after, "perplexity", protocol, after * _sem(self.cross), self.n, seed,
                note=f"{before:.2f} by exact draws"),
            Row("race_perplexity_ratio", model, after / before, "ratio", protocol,
                after / before * self.cross_stderr, self.n, seed, note="raced / exact, paired by position"),
        ]  # fmt: skip


def _sem(x: Tensor) -> float:
    return float(x.std() / math.sqrt(len(x))) if len(x) > 1 else math.nan


def race_effect(
    log_p: Tensor, steps: int, *, sampler: Tensor | None = None, grid: float = GRID, shift: float = SHIFT
) -> RaceEffect:
    """The effect of `steps` raced steps on positions whose conditionals are log p [N, V], in closed form.

    sampler: log q [N, V], the conditionals of the model that samples, where they are not the judge's log p. First
    order: the judge then scores the raced token in a context that was not raced.
    """
    curve = _Curve.of(step_odds(steps), grid, shift)
    _log_laws(log_p[:1])
    parts: list[Tensor] = []
    for i in range(0, len(log_p), size := max(1, _CHUNK // log_p.shape[-1])):
        judged = _log_laws(log_p[i : i + size])
        log_q = judged if sampler is None else _log_laws(sampler[i : i + size])
        mass = curve.mass(log_q, log_q.exp())
        gain, left = curve.gains(mass)
        gain = gain / (mass * gain).sum(-1, keepdim=True)
        heard = torch.where(log_q > _LOWEST, log_q.exp(), 0.0)  # below the table nothing wins, and -inf * 0 is not 0
        nll = curve.mass(log_q, heard * -judged.clamp(min=-1e4))
        entropy = curve.mass(log_q, heard * -log_q.clamp(min=-1e4))
        raced_entropy = (gain * entropy - mass * gain * gain.clamp(min=1e-300).log()).sum(-1)
        parts.append(torch.stack([entropy.sum(-1), raced_entropy, nll.sum(-1), (gain * nll).sum(-1), left], -1))
    values = torch.cat(parts)
    entropy, entropy_raced, cross, cross_raced, swept = values.mean(0).tolist()
    return RaceEffect(
        steps=steps, n=len(values), entropy_exact=entropy, entropy_raced=entropy_raced, cross_exact=cross,
        cross_raced=cross_raced, entropy_stderr=_sem(values[:, 0] - values[:, 1]),
        cross_stderr=_sem(values[:, 2] - values[:, 3]), swept=swept, cross=values[:, 3],
    )  # fmt: skip


def tempered(log_p: Tensor, perplexity: float, steps: int) -> tuple[float, Tensor]:
    """The temperature T at which a sampler with conditionals p^(1/T) gets this perplexity from the judge log p, raced.

    So a judge stands in for a weaker sampler: SEDD's own conditionals are flatter than those of GPT-2 large. Returns
    T in [1, 4] and log q [N, V]. Raises ConfigError where no such T gives it.
    """

    def heat(T: float) -> Tensor:
        return torch.log_softmax(log_p.double() / T, -1)

    low, high = 1.0, 4.0
    reached = [race_effect(log_p, steps, sampler=heat(T)).perplexity_raced for T in (low, high)]
    if not reached[0] <= perplexity <= reached[1]:
        raise ConfigError(
            f"perplexity {perplexity} at {steps} steps: temperatures 1 to 4 give {reached[0]:.1f} to {reached[1]:.1f}",
            "this judge cannot stand in for that sampler",
        )
    for _ in range(16):
        middle = (low + high) / 2
        above = race_effect(log_p, steps, sampler=heat(middle)).perplexity_raced > perplexity
        low, high = (low, middle) if above else (middle, high)
    return high, heat(high)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The perplexity at `many` steps over that at `few`, by the arithmetic alone; stderr over positions, paired."""

    few: int
    many: int
    value: float
    stderr: float
    n: int

    def share(self, few: float, many: float) -> tuple[float, float]:
        """How much of a measured fall of perplexity, from `few` to `many`, this is, in nats; and its standard error."""
        if min(few, many) <= 0 or few == many:
            raise ConfigError(f"perplexities {few} and {many}", "give two that are positive and differ")
        fall = math.log(many / few)
        return math.log(self.value) / fall, abs(self.stderr / self.value / fall)

    def row(self, model: str, *, seed: int | None = None) -> Row:
        """The ratio; model: whose conditionals."""
        protocol = "closed form of the float32 race, fixed conditionals"
        note = f"perplexity at {self.many} steps over that at {self.few}"
        return Row("race_steps_ratio", model, self.value, "ratio", protocol, self.stderr, self.n, seed, note)


def perplexity_ratio(few: RaceEffect, many: RaceEffect) -> Ratio:
    """The ratio that the race alone predicts between two numbers of steps, from effects on the same positions."""
    if few.n != many.n:
        raise ConfigError(f"effects on {few.n} and {many.n} positions", "take both on the same conditionals")
    change = many.cross - few.cross
    value = math.exp(float(change.mean()))
    return Ratio(few.steps, many.steps, value, value * _sem(change), few.n)


def zipf(vocab: int, exponent: float = 1.0) -> Tensor:
    """log p [1, V] of Zipf's law, p_k proportional to k^-exponent, float64."""
    if vocab < 1:
        raise ConfigError(f"a law of {vocab} tokens", "it needs at least 1")
    return torch.log_softmax(-exponent * torch.arange(1, vocab + 1, dtype=torch.float64).log(), -1)[None]


def zipf_effect(vocab: int, steps: int, exponent: float = 1.0) -> RaceEffect:
    """`race_effect` on Zipf's law: how the vocabulary and the steps matter."""
    return race_effect(zipf(vocab, exponent), steps)


@torch.no_grad()
def conditionals(judge: Judge, ids: Tensor, count: int, seed: int, *, context: int | None = None) -> Tensor:
    """log p [count, V] float64, CPU: what the judge expects at `count` positions of texts ids [R, L], keyed by seed.

    Position n lies in row n modulo R, so that rows repeat only where count > R: take as many rows as positions, and
    the standard errors hold. context: read only so many tokens before the position (default: all, up to the judge's
    length). bos comes first where the judge has one. Raises ConfigError where there is nothing to read.
    """
    if ids.ndim != 2 or ids.shape[1] < 2 or not len(ids) or count < 1:
        raise ConfigError(
            f"{count} positions of ids {list(ids.shape)}", "give ids [R, L], L of at least 2, and count >= 1"
        )
    if context is not None and context < 1:
        raise ConfigError(f"a context of {context} tokens", "it must be at least 1")
    bos = [] if judge.bos_id is None else [judge.bos_id]
    room = judge.length - len(bos)
    u = uniform(fold(seed, "conditionals"), torch.arange(count))
    where = 1 + (u * (ids.shape[1] - 1)).long()
    rows = []
    for n, position in enumerate(where.tolist()):
        read = ids[n % len(ids), max(0, position - min(context or room, room)) : position].tolist()
        hidden = judge.hidden(torch.tensor([bos + read], device=judge.device))[:, -1]
        rows.append(torch.log_softmax(judge.head(hidden).double(), -1).cpu())
    return torch.cat(rows)
