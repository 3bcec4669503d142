"""Rules that choose positions: first-hitting, fixed counts in an order, thresholds. For noise that commits only.

They read the normalized p0, of raw scores too. A row's network is told the time at which its share of masks is the
expected one, so that rows of a batch are at different times. Positions are chosen from p0 as the network has it;
temperature and truncations reshape the law of the token, which is drawn after the position is chosen.
Every move unmasks at least one position of every row that has one left, and a move without an open position runs no
network: a row costs no more evaluations than it has open positions. Shapes: B batch, L length, V clean tokens.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.processes import Process
from unmask.errors import ConfigError
from unmask.sampling.laws import Reads
from unmask.sampling.orders import BLIND, ORDERS, Order, confidence, entropy, ranks, rounded
from unmask.sampling.rules import LATEST, Prediction, Run, State, chance, chunks, count, write


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What a rule may look at when it chooses among the positions `at` [B, L]: no token is drawn yet."""

    run: Run
    state: State
    at: Tensor

    @functools.cached_property
    def prediction(self) -> Prediction:
        """The network's answer; asked for once, by the choice or by the draw."""
        return self.run.predict(self.state)

    def read(self, order: Order) -> Tensor:
        """The order's score [B, L] from p0, rounded, a part of the positions at a time; -inf where `at` is False."""
        parts = chunks(self.at, self.run.model.process.num_states, self.state.tokens.device, itemsize=4)
        found = [rounded(order(self.prediction.log_p0(part))) for part in parts]
        _ = self.uniforms, self.chance  # while a device is at the scores
        score = torch.full(self.at.shape, -math.inf, dtype=torch.float64)
        return score.masked_scatter_(self.at, torch.cat(found).cpu().double())

    def ranks(self, score: Tensor) -> Tensor:
        """The place of each position of `at` in the order of the scores [B, L], from 0."""
        return ranks(score, self.at, self.uniforms)

    @functools.cached_property
    def uniforms(self) -> Tensor:
        """A keyed uniform a position: [B, L]."""
        return self.run.draws.uniforms("order", self.state.step, self.at.shape[1])

    @functools.cached_property
    def chance(self) -> Tensor:
        """The uniforms of the new tokens: [B, L]."""
        return chance(self.run, self.state)


Choose = Callable[[View], Tensor]


def time_of(process: Process, lost: Tensor) -> Tensor:
    """The time at which 1 - alpha is `lost`, at least LATEST: [B] float64 from float64."""
    return process.schedule.inverse(1 - lost).clamp(min=LATEST)


def time_of_masks(run: Run, at: Tensor) -> Tensor:
    """The time at which a row is expected to have as many masks as `at` [B, L], of its open positions: [B].

    1 - alpha(t) = masks / open, as a share of 1 - alpha(1): all masked is t = 1.
    """
    share = at.sum(1).double() / (~run.canvas.here).sum(1).clamp(min=1)
    first = run.model.process.schedule.one_minus_alpha(torch.ones((), dtype=torch.float64))
    return time_of(run.model.process, share * first)


def _move(view: View, turns: Tensor, left: Tensor) -> State:
    """Draw the tokens of `turns` [B, L], behind which `left` is left. Does not set t, times and done."""
    run, state = view.run, view.state
    tokens = write(run, view.prediction, state.tokens, turns, view.chance, "p0")
    return dataclasses.replace(count(state, tokens, left, 0.0, int(turns.sum())), step=state.step + 1)


def _settle(state: State, left: Tensor, times: Tensor) -> State:
    """The state at `times` [B] with the masks `left` [B, L]; a row without any is at 0, and so are all in the end."""
    busy = left.any(1)
    if not bool(busy.any()):
        return dataclasses.replace(state, t=0.0, times=None, done=True)
    return dataclasses.replace(state, t=float(times[busy].max()), times=times.masked_fill(~busy, 0.0))


@dataclasses.dataclass(frozen=True)
class Unmasking:
    """Moves that unmask what `choose` chooses, until no mask is left."""

    name: str
    choose: Choose
    reads: ClassVar[Reads] = "p0"
    start: ClassVar[float] = 1.0
    only_committing: ClassVar[bool] = True

    def __call__(self, run: Run, state: State) -> State:
        """Choose positions, then draw their tokens."""
        at = run.open(state)
        if not bool(at.any()):
            return _settle(state, at, run.times(state))
        view = View(run, dataclasses.replace(state, times=time_of_masks(run, at)), at)
        turns = self.choose(view) & at
        left = at & ~turns
        return _settle(_move(view, turns, left), left, time_of_masks(run, left))


@dataclasses.dataclass(frozen=True)
class FirstHitting:
    """The exact sampler of Zheng et al. (2024, arXiv 2409.02908), one token a move and row, without a grid.

    Of n masked positions at t, the first unmasks at the time t' with 1 - alpha(t') = (1 - alpha(t)) u^(1/n); it is
    any of them alike, and its token is drawn from the network's p0 at t'.
    """

    name: ClassVar[str] = "first-hitting"
    reads: ClassVar[Reads] = "p0"
    start: ClassVar[float] = 1.0
    only_committing: ClassVar[bool] = True

    def __call__(self, run: Run, state: State) -> State:
        """Go to each row's next hit, and unmask there."""
        at, process = run.open(state), run.model.process
        if not bool(at.any()):
            return _settle(state, at, run.times(state))
        u = run.draws.uniforms("hit", state.step, 1)[:, 0]
        lost = process.schedule.one_minus_alpha(run.times(state)) * u ** (1 / at.sum(1).clamp(min=1).double())
        times = torch.where(at.any(1), time_of(process, lost), run.times(state))
        view = View(run, dataclasses.replace(state, times=times), at)
        turns = at & (view.ranks(view.uniforms) == 0)
        left = at & ~turns
        return _settle(_move(view, turns, left), left, times)


def in_order(name: str, steps: int) -> Unmasking:
    """`steps` moves, of which each unmasks the first of an order of ORDERS or BLIND.

    A row of n open positions is shared out as evenly as it goes, the larger moves first (LLaDA, Nie et al. 2025,
    arXiv 2502.09992): ceil(left / moves left). Where n is below `steps`, it takes n moves of one.
    """
    if steps < 1:
        raise ConfigError(f"{steps} sampling steps", "a run takes at least 1 step")

    def choose(view: View) -> Tensor:
        left, moves = view.at.sum(1, keepdim=True), max(1, steps - view.state.step)
        score = view.read(ORDERS[name]) if name in ORDERS else BLIND[name](view.uniforms)
        return view.ranks(score) < (left + moves - 1) // moves

    return Unmasking(name, choose)


def threshold(*, tau: float = 0.9) -> Unmasking:
    """Every position whose largest p0 is at least tau, and the largest of a row (Fast-dLLM, arXiv 2505.22618).

    p0 is compared as it is ordered: in logs, rounded (`orders.rounded`), so that the batch does not decide.
    """
    if not 0 <= tau <= 1:
        raise ConfigError(f"tau is {tau}", "it is a probability: positions as sure as that are unmasked together")

    def choose(view: View) -> Tensor:
        score = view.read(confidence)
        return (score >= (math.log(tau) if tau else -math.inf)) | (view.ranks(score) == 0)

    return Unmasking("threshold", choose)


def entropy_bounded(*, gamma: float = 0.1) -> Unmasking:
    """The most positions, by rising entropy, whose entropies but the largest sum to at most gamma nats a row.

    The EB-sampler (Ben-Hamu et al. 2025, arXiv 2505.24857): the sum bounds what is lost by drawing them apart.
    """
    if not gamma >= 0:
        raise ConfigError(f"gamma is {gamma}", "it is a bound in nats: 0 unmasks one uncertain position at a time")

    def choose(view: View) -> Tensor:
        score = view.read(entropy)
        place = view.ranks(score)
        cost = wide(-score).masked_fill(~view.at, 0.0)
        ordered = torch.zeros_like(cost).scatter_(1, place, cost)
        before = (ordered.cumsum(1) - ordered).gather(1, place)  # what the positions ahead of it cost
        return (before <= gamma) | (place == 0)

    return Unmasking("entropy-bounded", choose)
