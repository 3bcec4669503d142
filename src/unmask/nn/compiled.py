"""The blocks of a body through torch.compile, once for each shape: what is sampled has one shape from step to step.

On the CPU one block is compiled and stands for all, so that it takes as long for a deep body as for a shallow one; on
CUDA the whole stack is, and replayed as a CUDA graph.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.nn.transformer import Block, Pass, Transformer

Told = Callable[[str], None]
MISSING = (
    "it needs a C++ compiler and Python's headers (Debian and Ubuntu: apt-get install g++ python3-dev), on CUDA triton "
    "and a C compiler; or leave compiling out"
)


class CompiledStack:
    """What stands for `Transformer.stack` of a network. Training and reading with a cache go the plain way.

    told: hears when a shape is compiled, which happens in its first call, and how long it took. torch.compile keeps
    about eight of them in a process; what is beyond runs as it is.
    """

    def __init__(self, net: Transformer, told: Told) -> None:
        self.net, self.told = net, told
        self.seen: set[tuple[object, ...]] = set()
        self.full = False
        self.run: Callable[[Tensor, Pass], Tensor] | None = None

    def __call__(self, h: Tensor, shared: Pass) -> Tensor:
        """The residual stream behind all blocks, [B, L, D]."""
        shape = (h.shape, h.dtype, shared.cond is None or shared.cond.shape, torch.is_inference_mode_enabled())
        plain = self.net.training or torch.is_grad_enabled() or shared.cache is not None
        if plain or (self.full and shape not in self.seen):
            return Transformer.stack(self.net, h, shared)
        if self.run is None:
            self.run = _as_a_graph(self.net) if h.is_cuda else _block_by_block(self.net)
        if shared.rotary is not None:
            shared.rotary_in(h.dtype)  # not inside, where it would tell the first block from the others
        return self.run(h, shared) if shape in self.seen else self._first(h, shared, shape)

    def _first(self, h: Tensor, shared: Pass, shape: tuple[object, ...]) -> Tensor:
        """The first run of a shape, which compiles."""
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        assert self.run is not None
        began = time.perf_counter()
        self.told(f"compiling the network for {h.shape[0]} x {h.shape[1]} tokens, once")
        try:
            out = self.run(h, shared)
        except FailOnRecompileLimitHit:
            self.full = True
            self.told("torch.compile keeps no more shapes: this one runs as it is")
            return Transformer.stack(self.net, h, shared)
        except TorchDynamoException as error:
            raise ConfigError(f"the network could not be compiled: {str(error).splitlines()[0]}", MISSING) from None
        self.told(f"compiled in {time.perf_counter() - began:.0f} s")
        self.seen.add(shape)
        return out


def _block_by_block(net: Transformer) -> Callable[[Tensor, Pass], Tensor]:
    one = torch.compile(_block, dynamic=False, fullgraph=True)

    def run(h: Tensor, shared: Pass) -> Tensor:
        for block in net.blocks:
            h = one(block, h, shared)
        return h

    return run


def _as_a_graph(net: Transformer) -> Callable[[Tensor, Pass], Tensor]:
    whole = torch.compile(_stack, dynamic=False, fullgraph=True, mode="reduce-overhead")

    def run(h: Tensor, shared: Pass) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return whole(net, h, shared).clone()  # the next step writes over what a graph gave

    return run


def _block(block: Block, h: Tensor, shared: Pass) -> Tensor:
    return block(h, shared)


def _stack(net: Transformer, h: Tensor, shared: Pass) -> Tensor:
    return Transformer.stack(net, h, shared)


def compile_body(net: Transformer, told: Told = lambda words: None) -> Transformer:
    """Let the blocks of `net` be compiled where they are first used, in place; returns net.

    Raises ConfigError where torch cannot compile at all; what compiling itself lacks is said, as a ConfigError too, by
    the first call.
    """
    if net.vocab_embed.embedding.device.type not in ("cpu", "cuda"):
        raise ConfigError(f"compiling on {net.vocab_embed.embedding.device.type}", "use the CPU or CUDA, or leave it out")
    net.__dict__["stack"] = CompiledStack(net, told)
    return net


def is_compiled(net: Transformer) -> bool:
    """Whether `compile_body` has been here."""
    return isinstance(net.__dict__.get("stack"), CompiledStack)


@contextlib.contextmanager
def plain_body(net: Transformer) -> Iterator[None]:
    """The network as it was before `compile_body`, inside the block: for trials of many shapes."""
    stack = net.__dict__.pop("stack", None)
    try:
        yield
    finally:
        if stack is not None:
            net.__dict__["stack"] = stack
