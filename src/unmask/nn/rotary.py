"""Rotary positions: a rotation of queries and keys by angles that grow with the position (Su et al. 2021)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021), in halves as GPT-NeoX. x: [B, L, H, d]; cos, sin: [L, 1, d / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)], -1)


class Rotary(nn.Module):
    """Frequencies of rotary positions, 10000^(-2 i / d); a buffer: published checkpoints carry it."""

    inv_freq: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        self.register_buffer("inv_freq", 1.0 / 10_000**exponent)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rotary":
        """Follow the module to a device, but stay float32: rounded, they lead far positions astray."""
        exact = self.inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != exact.dtype:
            self.inv_freq = exact.to(self.inv_freq.device)
        return self

    def forward(self, start: int, end: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions start to end, [end - start, 1, d / 2]; float64 for it, else float32."""
        wide = dtype if dtype == torch.float64 else torch.float32
        position = torch.arange(start, end, device=self.inv_freq.device, dtype=wide)
        angle = (position[:, None] * self.inv_freq.to(wide))[:, None, :]
        return angle.cos(), angle.sin()
