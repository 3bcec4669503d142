"""Where the time of sampling goes: the body, the head, the draws, the rest. Nothing is measured unless asked."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from unmask.devices import settle
from unmask.model import LanguageModel
from unmask.nn.decoding import Decoder
from unmask.nn.static import StaticStep
from unmask.sampling.autoregressive import Writer
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

    def timed(part: str, call: Callable[..., Any], *given: Any, **options: Any) -> Any:
        settle(device)
        began = time.perf_counter()
        try:
            return call(*given, **options)
        finally:
            settle(device)
            found.seconds[part] += time.perf_counter() - began

    def body(call: Callable[..., Any], place: int) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            found.evaluations += 1
            found.rows += given[place].shape[0]
            return timed("body", call, *given, **options)

        return run

    def head(call: Callable[..., Any], place: int) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            found.logits += given[place][..., 0].numel()
            return timed("head", call, *given)

        return run

    def chosen(draws: Draws, weights: torch.Tensor, u: torch.Tensor) -> Any:
        found.draws += len(weights)
        return timed("draw", choose, draws, weights, u)

    def replayed(writer: Writer, logits: torch.Tensor, u: torch.Tensor) -> Any:
        found.draws += len(u)
        return timed("draw", replay, writer, logits, u)

    choose, replay = Draws.choose, Writer.replay
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.ExitStack() as swaps:
        for owner, name, stand_in in (
            (net, "hidden", body(net.hidden, 0)), (Decoder, "hidden", body(Decoder.hidden, 1)),
            (StaticStep, "__call__", body(StaticStep.__call__, 1)),  # a graph is one piece: its head counts as body
            (Writer, "replay", replayed),
            (net, "head", head(net.head, 0)), (Decoder, "head", head(Decoder.head, 1)), (Draws, "choose", chosen),
        ):  # fmt: skip
            swaps.enter_context(_swapped(owner, name, stand_in))
        began = time.perf_counter()
        try:
            yield found
        finally:
            settle(device)
            found.total = time.perf_counter() - began
            found.seconds["rest"] = found.total - sum(found.seconds[part] for part in PARTS[:-1])
            found.peak_bytes = peak_memory(device)


@contextlib.contextmanager
def _swapped(owner: object, name: str, stand_in: Callable[..., Any]) -> Iterator[None]:
    """Another function in its own place of a class or an object, inside the block."""
    before = vars(owner).get(name)
    setattr(owner, name, stand_in)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def peak_memory(device: torch.device) -> int:
    """The most bytes in use: on a GPU since its count was reset, else resident in this process so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
