"""Dropout whose mask is a function of a key for each row, so that ranks and restarts do not change it."""

import torch
from torch import Tensor


def keyed_dropout(x: Tensor, p: float, keys: list[int], layer: int) -> Tensor:
    """Zero entries of x [B, L, D] with probability p and scale the rest by 1 / (1 - p).

    keys: one 63-bit number for each row of the batch; `layer` tells the calls of one forward pass apart.
    """
    keep = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    generator = torch.Generator(device=x.device)
    for row, key in enumerate(keys):
        generator.manual_seed((key + 0x9E3779B97F4A7C15 * (layer + 1)) & 0x7FFFFFFFFFFFFFFF)
        keep[row].bernoulli_(1 - p, generator=generator)
    return x * keep / (1 - p)
