"""Keys and values of tokens already read. The caller owns it; the network holds nothing between calls.

Shapes: B batch, H heads, K keys, L queries, d head width.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.errors import ConfigError

Engine = Callable[[Tensor, "KVCache"], Tensor]


def growing(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Inside, attention on CUDA goes without cuDNN's kernels: they are planned anew for each length of a cache."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    found: contextlib.AbstractContextManager[None] = sdpa_kernel(others)
    return found


@dataclasses.dataclass(eq=False)
class KVCache:
    """Room for `capacity` positions of `depth` layers: keys and values [depth, B, H, capacity, d].

    A forward pass writes its own keys behind the committed ones and sees both; only `commit` makes them
    stay. engine: takes one token [B, 1] a row and the cache, commits the token and gives logits [B, V], where there is
    a faster way to do it than the network's own (see `unmask.nn.decoding`).
    """

    keys: Tensor
    values: Tensor
    length: int = 0
    offset: int = 0  # positions before the first that is held: they were dropped
    engine: Engine | None = None

    @classmethod
    def empty(
        cls,
        *,
        depth: int,
        batch: int,
        heads: int,
        head_width: int,
        capacity: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "KVCache":
        """An empty cache. Bytes: 2 * depth * batch * heads * capacity * head_width * itemsize."""
        shape = (depth, batch, heads, capacity, head_width)
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        return self.keys.shape[3]

    def room(self, count: int) -> int:
        """Where `count` more positions end. ConfigError if that is beyond the capacity."""
        end = self.length + count
        if end > self.capacity:
            raise ConfigError(f"the cache holds {self.capacity} positions, asked for {end}", "make a larger one")
        return end

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value [B, H, L, d] behind the committed ones; returns all, [B, H, length + L, d]."""
        end = self.room(key.shape[2])
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def commit(self, count: int) -> None:
        """Keep the first `count` positions that the last forward pass wrote."""
        if not 0 <= count <= self.capacity - self.length:
            raise ConfigError(f"cannot commit {count} positions to {self.length} of {self.capacity}")
        self.length += count

    def drop(self, count: int) -> None:
        """Forget the first `count` positions; the others keep their places in the text."""
        if not 0 <= count <= self.length:
            raise ConfigError(f"cannot drop {count} positions of a cache of {self.length}")
        for held in (self.keys, self.values):
            held[:, :, :, : self.length - count] = held[:, :, :, count : self.length].clone()
        self.length, self.offset = self.length - count, self.offset + count

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices [b], and forget the others."""
        rows = rows.to(self.keys.device)
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def crop(self, length: int) -> None:
        """Forget everything from position `length` on."""
        if not 0 <= length <= self.length:
            raise ConfigError(f"cannot crop a cache of {self.length} positions to {length}")
        self.length = length


@dataclasses.dataclass(eq=False, kw_only=True)
class StaticCache(KVCache):
    """A cache for steps of one token of unchanging shapes: they go to `at` and see `reach` positions, masked beyond it.

    at: [1] int64, on the device. Whoever makes such a step sets it to `length` first. Other numbers of tokens go
    behind the committed ones, as in every cache.
    """

    at: Tensor
    reach: int

    @classmethod
    def like(cls, cache: KVCache) -> "StaticCache":
        """With the tensors of another."""
        at = torch.zeros(1, dtype=torch.int64, device=cache.keys.device)
        return cls(keys=cache.keys, values=cache.values, length=cache.length, at=at, reach=cache.capacity)

    @staticmethod
    def of(cache: KVCache | None, count: int) -> "StaticCache | None":
        """The cache, if it is static and `count` tokens make such a step: one."""
        return cache if isinstance(cache, StaticCache) and count == 1 else None

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value [B, H, 1, d] at `at`; returns the first `reach` positions, [B, H, reach, d]."""
        if key.shape[2] != 1:
            return super().extend(layer, key, value)
        self.keys[layer].index_copy_(2, self.at, key)
        self.values[layer].index_copy_(2, self.at, value)
        return self.keys[layer, :, :, : self.reach], self.values[layer, :, :, : self.reach]

    def mask(self) -> Tensor:
        """[1, reach] bool, True where a token at `at` may see."""
        return torch.arange(self.reach, device=self.at.device)[None, :] <= self.at


def attention_for(cache: KVCache | None, count: int) -> contextlib.AbstractContextManager[None]:
    """Which kernels attention may choose from, for `count` tokens behind a cache: `growing` unless its shapes stay."""
    if cache is None or StaticCache.of(cache, count) is not None:
        return contextlib.nullcontext()
    return growing(cache.keys.device)
