"""Who may attend to whom: causal between blocks, and the clean text beside the noisy one."""

import torch
from torch import Tensor


def attention_mask(
    start: int, end: int, block_size: int | None, device: torch.device, window: int | None = None
) -> Tensor | None:
    """[end - start, end] bool, True where query start + i may see key j; None where all may see all.

    window: how many blocks a query may see, its own and those before it; None is all.
    """
    if block_size is None:
        return None
    near = window is None or (end - 1) // block_size < window
    if near and start // block_size == (end - 1) // block_size:
        return None
    q, k = (
        torch.arange(start, end, device=device)[:, None] // block_size,
        torch.arange(end, device=device) // block_size,
    )
    return k <= q if near else (k <= q) & (q - k < (window or 0))


def beside_mask(length: int, block_size: int, window: int, device: torch.device) -> Tensor:
    """[2 L, 2 L] bool, True where a query may see a key; the first half is noisy, the second clean.

    window: how many blocks a query may see, its own and those before it.
    """
    block = torch.arange(length, device=device) // block_size
    ahead = block[:, None] - block  # of the query, by blocks
    own, earlier = ahead == 0, (ahead > 0) & (ahead < window)
    noisy = torch.cat([own, earlier], 1)
    return torch.cat([noisy, torch.cat([torch.zeros_like(own), own | earlier], 1)])
