"""Keys and values of tokens already read. The caller owns it; the network holds nothing between calls.

Shapes: B batch, H heads, K keys, L queries, d head width.
"""

import dataclasses

import torch
from torch import Tensor

from unmask.errors import ConfigError


@dataclasses.dataclass
class KVCache:
    """Room for `capacity` positions of `depth` layers: keys and values [depth, B, H, capacity, d].

    A forward pass writes its own keys behind the committed ones and sees both; only `commit` makes them
    stay.
    """

    keys: Tensor
    values: Tensor
    length: int = 0
    offset: int = 0  # positions before the first that is held: they were dropped

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

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value [B, H, L, d] behind the committed ones; returns all, [B, H, length + L, d]."""
        end = self.length + key.shape[2]
        if end > self.capacity:
            raise ConfigError(f"the cache holds {self.capacity} positions, asked for {end}", "make a larger one")
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
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def crop(self, length: int) -> None:
        """Forget everything from position `length` on."""
        if not 0 <= length <= self.length:
            raise ConfigError(f"cannot crop a cache of {self.length} positions to {length}")
        self.length = length
