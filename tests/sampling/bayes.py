"""The exact denoiser of an enumerable world, dressed as a model, and the exact law of a whole run on it."""

import dataclasses
import itertools

import torch
from torch import Tensor

from exact.world import World
from unmask.diffusion import CleanLogits, Process, RawScore
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import keyed
from unmask.sampling.rules import GridRule, Move, Run, State, to_clean
from unmask.sampling.transforms import Transform


@dataclasses.dataclass
class BayesModel:
    """Knows p(x0 | xt). warp, in nats, spoils the raw score (not p0): a fixed offset a state and position."""

    world: World
    process: Process
    parametrization: object = CleanLogits()
    warp: Tensor | None = None  # [L, S]
    calls: int = 0

    @property
    def length(self) -> int:
        return self.world.length

    def predict(self, xt: Tensor, t: Tensor) -> "BayesPrediction":
        self.calls += 1
        return BayesPrediction(self, xt, t, self.world.bayes(self.process)(xt, t))


@dataclasses.dataclass
class BayesPrediction:
    model: BayesModel
    xt: Tensor
    t: Tensor
    p0: Tensor

    def log_p0(self, at: Tensor | None = None) -> Tensor:
        return self.p0 if at is None else self.p0[at]

    def log_score(self, at: Tensor | None = None) -> Tensor:
        score = self.model.process.score(self.p0.exp(), self.xt, self.t).log()
        if self.model.warp is not None:
            score = (score + self.model.warp).scatter(-1, self.xt[..., None], 0.0)
        return score if at is None else score[at]

    def log_total(self, at: Tensor | None = None) -> Tensor:
        xt = self.xt if at is None else self.xt[at]
        return self.log_score(at).scatter(-1, xt[..., None], -torch.inf).logsumexp(-1)


def raw(world: World, process: Process, warp: float = 0.0) -> BayesModel:
    """A model of raw scores: the exact ones, or spoiled by normal noise of `warp` nats."""
    noise = torch.randn(world.length, process.num_states, generator=torch.Generator().manual_seed(3)).double()
    return BayesModel(world, process, RawScore(False), warp * noise if warp else None)


def states(process: Process, length: int) -> Tensor:
    """Every noisy text, [S^L, L]."""
    return torch.tensor(list(itertools.product(range(process.num_states), repeat=length)))


def a_run(
    model: BayesModel, canvas: Canvas, reshape: Transform | None = None, mode: str = "exact", seed: int = 0
) -> Run:
    chance = keyed(canvas.batch, torch.device("cpu"), seed=seed, generator=None, mode=mode)
    return Run(model, canvas, chance, reshape)


def rows_law(run: Run, move: Move, x: Tensor, t: float) -> Tensor:
    """The law of every position after a move from x [N, L] at t: [N, L, S], clipped and normalized, not clamped."""
    state = State(x, t)
    canvas = Canvas(torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool))
    wide = dataclasses.replace(run, canvas=canvas)
    weights = move.law(wide, wide.predict(state), state, torch.ones_like(x, dtype=torch.bool))
    weights = weights.clamp(min=0).view(*x.shape, -1)
    return weights / weights.sum(-1, keepdim=True)


def chain_law(run: Run, rule: GridRule) -> Tensor:
    """The exact law of a whole run's outcome, [W], by enumeration: the canvas' first row says what is frozen."""
    process, world = run.model.process, run.model.world
    x = states(process, world.length)
    frozen, given = run.canvas.frozen[0], run.canvas.tokens[0]
    law = torch.where(frozen, x == given, process.prior_log_prob(x).double().exp()).double().prod(-1)
    pairs = list(itertools.pairwise(rule.times))
    moves = [(t, rule.move(process, i)) for i, (t, _) in enumerate(pairs)]
    moves += [(rule.times[-1], to_clean(rule.reads))] if rule.times[-1] else []
    stay = torch.nn.functional.one_hot(x, process.num_states).double()
    for t, move in moves:
        each = torch.where(frozen[None, :, None], stay, rows_law(run, move, x, t))  # [N, L, S]
        step = torch.stack([each[:, i][:, x[:, i]] for i in range(world.length)]).prod(0)  # [N, N]
        law = law @ step
    clean = (x < world.vocab_size).all(-1)
    assert float(law[~clean].sum()) < 1e-12
    out = torch.zeros_like(world.p)
    return out.index_add(0, world.index(x[clean]), law[clean])


def tv(a: Tensor, b: Tensor) -> float:
    return float(0.5 * (a - b).abs().sum())


def assert_counts(counts: Tensor, law: Tensor) -> None:
    """Counts [..., K] are those of draws from law [..., K]: chi-square within 5 sigma, none impossible."""
    n = counts.sum(-1, keepdim=True)
    want = n * law
    assert int(counts[want == 0].sum()) == 0
    few = want < 5
    counts, want = counts.double(), want.double()
    pool = torch.stack([torch.where(few, c, 0.0).sum(-1) for c in (counts, want)])
    chi = (torch.where(few, 0.0, (counts - want) ** 2 / want.clamp(min=1e-300))).sum(-1)
    chi = chi + torch.where(pool[1] > 1, (pool[0] - pool[1]) ** 2 / pool[1].clamp(min=1e-300), 0.0)
    freedom = (~few).sum(-1) + (pool[1] > 1).long() - 1
    total, dof = float(chi.sum()), int(freedom.clamp(min=0).sum())
    assert dof >= 1
    assert total < dof + 5 * (2 * dof) ** 0.5 + 10, (total, dof)
