"""The law of a run of a rule that chooses positions, by enumeration, text by text and without the package's rules.

A chooser says which sets of masked positions a move unmasks, with which probability, from p0 alone.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.sampling.transforms import Transform

from .world import World

Sets = list[tuple[float, tuple[int, ...]]]
Chooser = Callable[[dict[int, list[float]], int], Sets]  # ({position: p0}, moves made) -> sets
SCORES: dict[str, Callable[[list[float]], float]] = {
    "confidence": max,
    "margin": lambda p: sorted(p)[-1] - sorted(p)[-2],
    "entropy": lambda p: sum(q * math.log(q) for q in p if q > 0),
}


def shared_out(n: int, steps: int, move: int) -> int:
    """How many of n positions the move of that number unmasks: as even as it goes, the larger shares first."""
    return n // steps + (move < n % steps)


def by_score(name: str, steps: int, n: int) -> Chooser:
    """Fixed counts in an order."""

    def choose(p0: dict[int, list[float]], move: int) -> Sets:
        first = sorted(p0, key=(lambda i: i) if name == "left-to-right" else (lambda i: -SCORES[name](p0[i])))
        return [(1.0, tuple(first[: shared_out(n, steps, move)]))]

    return choose


def at_random(steps: int, n: int) -> Chooser:
    """Fixed counts, any set of that many alike."""

    def choose(p0: dict[int, list[float]], move: int) -> Sets:
        sets = list(itertools.combinations(p0, shared_out(n, steps, move)))
        return [(1 / len(sets), one) for one in sets]

    return choose


def above(tau: float) -> Chooser:
    """What is at least tau, or else the most probable one."""

    def choose(p0: dict[int, list[float]], move: int) -> Sets:
        sure = [i for i in p0 if max(p0[i]) >= tau]
        return [(1.0, tuple(sure or [max(p0, key=lambda i: max(p0[i]))]))]

    return choose


def bounded(gamma: float) -> Chooser:
    """The largest k of the k least uncertain whose entropies less the largest sum to at most gamma."""

    def choose(p0: dict[int, list[float]], move: int) -> Sets:
        h = {i: -SCORES["entropy"](p0[i]) for i in p0}
        first = sorted(p0, key=lambda i: h[i])
        most = max(k for k in range(1, len(first) + 1) if sum(h[i] for i in first[:k]) - h[first[k - 1]] <= gamma)
        return [(1.0, tuple(first[:most]))]

    return choose


def bayes(world: World, x: tuple[int, ...]) -> dict[int, list[float]]:
    """{masked position: p(token | what is not masked)}; the mask is the token behind the last."""
    seen = [i for i, token in enumerate(x) if token < world.vocab_size]
    fits = [all(int(text[i]) == x[i] for i in seen) for text in world.tokens]
    weight = torch.where(torch.tensor(fits), world.p, 0.0)
    weight = weight / weight.sum()
    return {
        i: [float(weight[world.tokens[:, i] == v].sum()) for v in range(world.vocab_size)]
        for i in range(len(x))
        if i not in seen
    }


def step_law(world: World, x: tuple[int, ...], choose: Chooser, move: int, reshape: Transform | None) -> dict:
    """{state: probability} after a move from x."""
    p0, law = bayes(world, x), {}
    if not p0:
        return {x: 1.0}
    new = {i: p if reshape is None else reshape(torch.tensor([p]).double().log())[0].exp() for i, p in p0.items()}
    for chance, where in choose(p0, move):
        for tokens in itertools.product(range(world.vocab_size), repeat=len(where)):
            drawn = dict(zip(where, tokens, strict=True))
            y = tuple(drawn.get(i, old) for i, old in enumerate(x))
            weight = math.prod(float(new[i][v]) for i, v in drawn.items())
            law[y] = law.get(y, 0.0) + chance * weight
    return law


def run_law(world: World, start: tuple[int, ...], choose: Chooser, reshape: Transform | None = None) -> Tensor:
    """The law of the text at the end of a run from `start`: [W]."""
    law = {start: 1.0}
    for move in range(len(start)):
        after: dict = {}
        for x, weight in law.items():
            for y, chance in step_law(world, x, choose, move, reshape).items() if weight else ():
                after[y] = after.get(y, 0.0) + weight * chance
        law = after
    out = torch.zeros_like(world.p)
    for x, weight in law.items():
        if weight:
            out[int(world.index(torch.tensor([x])))] += weight
    return out
