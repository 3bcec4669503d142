"""The ways of sampling that docs/guides/choose-a-sampler.md compares: each a rule with its options."""

import dataclasses
from typing import Any

from unmask.sampling.correctors import Remasking, with_corrector
from unmask.sampling.named import RULES

STEPS = 32


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table. kind: how the figure groups it. options: of `unmask.sample`; None: ar-twin writes.

    plain: without temperature and truncation.
    """

    name: str
    kind: str
    options: dict[str, Any] | None
    plain: bool = True


def _corrected() -> dict[str, Any]:
    return {"rule": with_corrector(RULES["ancestral"](STEPS), Remasking(0.02))}


def _steps(rule: str, **more: Any) -> dict[str, Any]:
    return {"rule": rule, "steps": STEPS} | more


CASES = (
    Case("tweedie", "grid", _steps("tweedie")),
    Case("euler", "grid", _steps("euler")),
    Case("ancestral", "grid", _steps("ancestral")),
    Case("ancestral, cosine grid", "grid", _steps("ancestral", grid="cosine")),
    Case("ancestral, remasking 0.02", "grid", _corrected()),
    Case("ancestral, temperature 0.8", "truncated", _steps("ancestral", temperature=0.8), plain=False),
    Case("ancestral, top-p 0.9", "truncated", _steps("ancestral", top_p=0.9), plain=False),
    Case("random-order", "order", _steps("random-order")),
    Case("left-to-right", "order", _steps("left-to-right")),
    Case("confidence", "order", _steps("confidence")),
    Case("margin", "order", _steps("margin")),
    Case("entropy", "order", _steps("entropy")),
    Case("threshold, tau 0.1", "adaptive", {"rule": "threshold", "tau": 0.1}),
    Case("entropy-bounded, gamma 16", "adaptive", {"rule": "entropy-bounded", "gamma": 16.0}),
    Case("first-hitting", "adaptive", {"rule": "first-hitting"}),
    Case("ar-twin, left to right", "autoregressive", None),
)
