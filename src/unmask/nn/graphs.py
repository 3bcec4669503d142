"""CUDA graphs: work whose shapes and addresses stay the same, recorded once and played again in a single call.

That is what few tokens need: their kernels are over before the processor has launched the next ones.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unmask.nn.transformer import Pass, Transformer

FEW = 4096  # tokens of a batch; more keep a GPU busy for longer than it takes to launch the next kernels
Stack = Callable[[Tensor, Pass], Tensor]


def record(work: Callable[[], Tensor], device: torch.device, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Work on a CUDA device as a graph, and what it writes its result to. pool: memory shared with other graphs.

    Whatever the work reads has to stay where it is, and alive. Graphs of one pool are not played at the same time.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries make what they need in a first run, which a graph cannot record
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            out = work()
    return graph, out


@dataclasses.dataclass(frozen=True, eq=False)
class _Recorded:
    """A graph of the stack with what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    h: Tensor  # [rows, L, D]
    shared: Pass
    out: Tensor  # [rows, L, D]

    def play(self, h: Tensor, cond: Tensor | None) -> Tensor:
        """The stack of h [B, L, D], B at most `rows`; the rows beyond hold what was there before, and disturb none."""
        self.h[: len(h)].copy_(h)
        if cond is not None and self.shared.cond is not None:
            self.shared.cond[: len(cond)].copy_(cond)
        self.graph.replay()
        return self.out[: len(h)].clone()  # the next play writes over it


class Replayed:
    """A stack of blocks on CUDA, replayed where a batch has FEW tokens: a graph for each number of rows.

    Rows are rounded up to a power of two, since they leave a batch as they are done. With more tokens `run` itself
    takes them.
    """

    def __init__(self, net: Transformer, run: Stack) -> None:
        self.net, self.run = net, run
        self.recorded: dict[tuple[object, ...], _Recorded] = {}
        self.pool: Any = None

    def __call__(self, h: Tensor, shared: Pass) -> Tensor:
        """The residual stream behind all blocks, [B, L, D]."""
        rows, length = 1 << (len(h) - 1).bit_length(), h.shape[1]
        if rows * length > FEW:
            return self.run(h, shared)
        alike = None if shared.cond is None else (len(shared.cond) == 1, shared.cond.shape[1])
        key = (rows, length, h.dtype, alike, torch.is_inference_mode_enabled(), *self._places())
        if key not in self.recorded:
            self.recorded[key] = self._record(h.new_zeros(rows, *h.shape[1:]), shared)
        return self.recorded[key].play(h, shared.cond)

    def _record(self, h: Tensor, shared: Pass) -> _Recorded:
        cond = shared.cond
        if cond is not None:
            cond = cond.new_zeros(1 if len(cond) == 1 else len(h), *cond.shape[1:])
        own = dataclasses.replace(shared, cond=cond)
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        graph, out = record(lambda: self.run(h, own), h.device, self.pool)
        return _Recorded(graph, h, own, out)

    def _places(self) -> tuple[int, ...]:
        """Where the weights lie: a graph goes on reading there, whatever was moved or rounded since."""
        first, last = self.net.blocks[0], self.net.blocks[-1]
        return first.attn_qkv.weight.data_ptr(), last.mlp[2].weight.data_ptr()  # type: ignore[union-attr,index,operator]
