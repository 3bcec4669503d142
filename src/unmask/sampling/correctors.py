"""Correctors: a move at one time, made after each move of a rule, that takes back some of what it decided.

A move of a rule draws its positions apart; a corrector gives them another chance. What a row costs is then no longer
bounded by its open positions, and no token is final before the end. Shapes: B batch, L length.
"""

import dataclasses
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from unmask.devices import sent
from unmask.errors import ConfigError
from unmask.sampling.laws import Reads
from unmask.sampling.rules import LATEST, Rule, Run, State, count, write


class Corrector(Protocol):
    """From state to state, at the same times."""

    @property
    def name(self) -> str:
        """What the rule's name is followed by."""

    def __call__(self, run: Run, state: State) -> State:
        """The state after it; step, t, times and done stay."""


@dataclasses.dataclass(frozen=True)
class Remasking:
    """ReMDM's capped remasking at a standing alpha (Wang et al. 2025, arXiv 2503.00307), for noise that commits.

    With r = min(eta, (1 - alpha) / alpha): a token that is not given turns into the mask with probability r, and a
    mask into token y with r alpha / (1 - alpha) p0_y, as many as are masked on average. Given x0 it leaves the noisy
    law of a position as it is; of all positions together up to order eta^2, as they are drawn apart.
    """

    eta: float = 0.008
    name: str = "remasking"
    only_committing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta is {self.eta}", "it is the largest probability that a token is masked again")

    def rates(self, run: Run, state: State) -> tuple[Tensor, Tensor]:
        """The probabilities that a token is masked, and that a mask is filled: [B] each, float64; 0 in a clean row."""
        times = run.times(state)
        lost = run.model.process.schedule.one_minus_alpha(times.clamp(min=LATEST))
        remask = torch.where(times > 0, (lost / (1 - lost)).clamp(max=self.eta), 0.0)
        return remask, remask * (1 - lost) / lost

    def __call__(self, run: Run, state: State) -> State:
        """Remask and fill at once, each position with one keyed uniform."""
        at, process = run.open(state), run.model.process
        u = run.draws.uniforms("corrector", state.step, run.canvas.length)
        remask, fill = (rate[:, None].expand(u.shape) for rate in self.rates(run, state))
        turns = at & (u < fill)
        masked = ~run.canvas.here & ~at & (u < remask)
        left = at & ~turns | masked
        if bool(turns.any()):
            tokens = write(run, run.predict(state), state.tokens, turns, u / fill, "p0")
            state = count(state, tokens, left, 0.0, int(turns.sum()))
        tokens = state.tokens.masked_fill(sent(masked, state.tokens.device), process.num_states - 1)
        return state.written(tokens, left)


@dataclasses.dataclass(frozen=True)
class Corrected:
    """A rule with a corrector after each of its moves but the one to clean data."""

    rule: Rule
    corrector: Corrector

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.rule.name}+{self.corrector.name}"

    @property
    def reads(self) -> Reads:
        """What the rule reads."""
        return self.rule.reads

    @property
    def start(self) -> float:
        """Where the rule starts."""
        return self.rule.start

    @property
    def only_committing(self) -> bool:
        """Whether one of the two needs noise that commits."""
        return any(getattr(part, "only_committing", False) for part in (self.rule, self.corrector))

    def __call__(self, run: Run, state: State) -> State:
        """A move, clamped, then its correction."""
        after = self.rule(run, state)
        if after.t == 0:
            return after
        return self.corrector(run, after.clamped(run.canvas))


def with_corrector(rule: Rule, corrector: Corrector) -> Corrected:
    """The rule, each of its moves followed by the corrector: `with_corrector(RULES["ancestral"](64), Remasking())`."""
    return Corrected(rule, corrector)
