"""The blocks of a body through torch.compile: once for a length, not once a step.

One block is compiled and stands for all, so that a deep body takes no longer to compile than a shallow one; it takes
any number of rows, since rows leave a batch as they are done. On CUDA the compiled blocks are replayed as graphs where
a batch is small (`unmask.nn.graphs`).
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.nn.graphs import Replayed, Stack
from unmask.nn.transformer import Pass, Transformer

Told = Callable[[str], None]
MISSING = (
    "it needs a C++ compiler and Python's headers (Debian and Ubuntu: apt-get install g++ python3-dev), on CUDA triton "
    "too; or leave compiling out"
)


class CompiledStack:
    """What stands for `Transformer.stack` of a network. Training and reading with a cache go the plain way.

    told: hears when something is compiled, which the first call of a shape does, and how long it took. torch.compile
    keeps about eight shapes in a process; what is beyond them goes the plain way too.
    """

    def __init__(self, net: Transformer, told: Told) -> None:
        self.net, self.told = net, told
        self.seen: set[tuple[object, ...]] = set()
        self.full = False
        self.run: Stack | None = None

    def __call__(self, h: Tensor, shared: Pass) -> Tensor:
        """The residual stream behind all blocks, [B, L, D]."""
        if self.net.training or torch.is_grad_enabled() or shared.cache is not None:
            return Transformer.stack(self.net, h, shared)
        if self.run is None:
            self.run = _block_by_block(self.net)
            self.run = Replayed(self.net, self.run) if h.is_cuda else self.run
        if shared.rotary is not None:
            shared.rotary_in(h.dtype)  # not inside, where it would tell the first block from the others
        alike = None if shared.cond is None else (len(shared.cond) == 1, shared.cond.shape[1])
        shape = (min(len(h), 2), h.shape[1], h.dtype, alike, torch.is_inference_mode_enabled())
        if shape in self.seen:
            return self.run(h, shared)
        return Transformer.stack(self.net, h, shared) if self.full else self._first(h, shared, shape)

    def _first(self, h: Tensor, shared: Pass, shape: tuple[object, ...]) -> Tensor:
        """The first run of a shape, which compiles."""
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        assert self.run is not None
        began = time.perf_counter()
        self.told(f"compiling the network for {_words(h)}, once")
        try:
            out = self.run(h, shared)
        except FailOnRecompileLimitHit:
            self.full = True
            self.told("torch.compile keeps no more shapes: this one runs as it is")
            return Transformer.stack(self.net, h, shared)
        except TorchDynamoException as error:
            cause = str(getattr(error, "inner_exception", error)).splitlines()[0]
            raise ConfigError(f"the network could not be compiled: {cause}", MISSING) from None
        self.told(f"compiled in {time.perf_counter() - began:.0f} s")
        self.seen.add(shape)
        return out


def compile_body(net: Transformer, told: Told) -> Transformer:
    """Let the blocks of `net` be compiled where they are first used, in place; returns net.

    Raises ConfigError on a device other than the CPU and CUDA. What compiling lacks is said, as a ConfigError too, by
    the first call.
    """
    device = net.vocab_embed.embedding.device
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"compiling on {device.type}", "use the CPU or CUDA, or leave compiling out")
    net.__dict__["stack"] = CompiledStack(net, told)
    return net


def is_compiled(net: Transformer) -> bool:
    """Whether `compile_body` has been here."""
    return isinstance(net.__dict__.get("stack"), CompiledStack)


def _block_by_block(net: Transformer) -> Stack:
    one = torch.compile(_block, dynamic=False, fullgraph=True)

    def run(h: Tensor, shared: Pass) -> Tensor:
        if shared.cond is not None and len(shared.cond) > 1:
            torch._dynamo.mark_dynamic(shared.cond, 0)
        for block in net.blocks:
            if len(h) > 1:
                torch._dynamo.mark_dynamic(h, 0)
            h = one(block, h, shared)
        return h

    return run


def _block(block: nn.Module, h: Tensor, shared: Pass) -> Tensor:
    out: Tensor = block(h, shared)
    return out


def _words(h: Tensor) -> str:
    return f"{'any number of rows' if len(h) > 1 else '1 row'} of {h.shape[1]} tokens"
