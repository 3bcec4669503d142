"""Where the time of sampling goes: the body, the head, the draws, the rest. Nothing is measured unless asked."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from unmask.model import LanguageModel
from unmask.sampling.draws import Draws

PARTS = ("body", "head", "draw", "rest")


@dataclasses.dataclass
class Profile:
    """Seconds of each part and, once the block is left, in all; and what was done in them.

    evaluations: runs of the body, each on a batch. rows: the rows of them, summed. logits: rows that the head made
    logits of. draws: tokens drawn. peak_bytes: the most memory of the accelerator during the block; on the CPU the
    most that the process ever had resident, its weights included.
    """

    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    total: float = 0.0
    evaluations: int = 0
    rows: int = 0
    logits: int = 0
    draws: int = 0
    peak_bytes: int = 0

    def as_json(self, tokens: int) -> dict[str, Any]:
        """Plain values. tokens: how many were written; with them, tokens a row's evaluation."""
        return {
            "seconds": {part: round(value, 6) for part, value in self.seconds.items()},
            "total_seconds": round(self.total, 6),
            "evaluations": self.evaluations, "row_evaluations": self.rows, "logit_rows": self.logits,
            "draws": self.draws, "tokens": tokens, "tokens_per_evaluation": tokens / self.rows if self.rows else None,
            "peak_bytes": self.peak_bytes,
        }  # fmt: skip

    def table(self, tokens: int) -> str:
        """Lines for people."""
        whole = max(self.total, 1e-12)
        lines = [f"{part:<6}{self.seconds[part]:>10.3f} s {self.seconds[part] / whole:>7.1%}" for part in PARTS]
        per = f"{tokens / self.rows:.2f}" if self.rows else "-"
        return "\n".join(
            [
                *lines,
                f"{'all':<6}{self.total:>10.3f} s",
                f"{self.evaluations} evaluations of the network, {per} tokens an evaluation and row",
                f"{self.logits} rows of logits, {self.draws} draws, peak memory {self.peak_bytes / 2**20:,.0f} MiB",
            ]
        )


@contextlib.contextmanager
def profiled(model: LanguageModel) -> Iterator[Profile]:
    """Time what the model's body and head and the draws take inside the block; everything is as before after it.

    The device is waited for around each part, so that the whole may take longer than without. One block at a time.
    """
    net, found, device = model.net, Profile(), model.device
    kept = {name: net.__dict__.get(name) for name in ("hidden", "head")}
    body, head, choose = net.hidden, net.head, Draws.choose

    def timed(part: str, call: Callable[..., Any], *given: Any, **options: Any) -> Any:
        _wait(device)
        began = time.perf_counter()
        try:
            return call(*given, **options)
        finally:
            _wait(device)
            found.seconds[part] += time.perf_counter() - began

    def hidden(x: torch.Tensor, *given: Any, **options: Any) -> Any:
        found.evaluations += 1
        found.rows += x.shape[0]
        return timed("body", body, x, *given, **options)

    def logits(h: torch.Tensor) -> Any:
        found.logits += h[..., 0].numel()
        return timed("head", head, h)

    def chosen(draws: Draws, weights: torch.Tensor, u: torch.Tensor) -> Any:
        found.draws += len(weights)
        return timed("draw", choose, draws, weights, u)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    net.__dict__["hidden"], net.__dict__["head"] = hidden, logits
    Draws.choose = chosen  # type: ignore[assignment, method-assign]
    began = time.perf_counter()
    try:
        yield found
    finally:
        _wait(device)
        found.total = time.perf_counter() - began
        found.seconds["rest"] = found.total - sum(found.seconds[part] for part in PARTS[:-1])
        found.peak_bytes = peak_memory(device)
        Draws.choose = choose  # type: ignore[method-assign]
        for name, before in kept.items():
            net.__dict__.pop(name)
            if before is not None:
                net.__dict__[name] = before


def peak_memory(device: torch.device) -> int:
    """The most bytes in use: on a GPU since its count was reset, else resident in this process so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
