"""Orders: which of the masked positions come first. The higher the score, the earlier; equal ones in random order.

Equal scores are no rare thing: with rotary positions all masks of a blank canvas are alike, and would else be ordered
by how a matrix product rounds, which depends on the batch.

An order of ORDERS is a function of the network's p0, log p0 [N, V] -> score [N], in the dtype of log p0. It sees p0 as
the network has it, before temperature and truncations, and never a drawn token. One of BLIND is a function of keyed
uniforms u [B, L] -> score [B, L] and needs no network, so that the head runs only at the positions that it chooses.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Order = Callable[[Tensor], Tensor]


def confidence(log_p0: Tensor) -> Tensor:
    """The log of the largest probability (MaskGIT, Chang et al. 2022; LLaDA's low_confidence remasking keeps these)."""
    return log_p0.amax(-1)


def margin(log_p0: Tensor) -> Tensor:
    """The largest probability less the second (Kim et al. 2025, arXiv 2502.06768; Dream's topk_margin)."""
    best = log_p0.topk(2, -1).values.exp()
    return best[..., 0] - best[..., 1]


def entropy(log_p0: Tensor) -> Tensor:
    """The negative entropy, in nats (Dream's entropy)."""
    return log_p0.exp().mul_(log_p0.clamp(min=torch.finfo(log_p0.dtype).min)).sum(-1)


def at_random(u: Tensor) -> Tensor:
    """Every set of positions alike (LLaDA's random remasking)."""
    return u


def left_to_right(u: Tensor) -> Tensor:
    """The leftmost first, whatever u."""
    return -torch.arange(u.shape[1], device=u.device, dtype=u.dtype).expand(u.shape)


ORDERS: dict[str, Order] = {"confidence": confidence, "entropy": entropy, "margin": margin}
BLIND: dict[str, Order] = {"left-to-right": left_to_right, "random-order": at_random}


def rounded(score: Tensor) -> Tensor:
    """To the nearest multiple of 2^-14 (float64: 2^-20): what lies closer together is equal, up to where it is cut."""
    grid = 2.0**20 if score.dtype == torch.float64 else 2.0**14
    return torch.round(score * grid) / grid


def ranks(score: Tensor, at: Tensor, u: Tensor) -> Tensor:
    """The place of each True position of `at` in its row's order, from 0: [B, L]; the others come behind.

    Equal scores are in the order of the uniforms u [B, L].
    """
    shuffled = u.argsort(dim=-1, stable=True)
    score = score.masked_fill(~at, -math.inf).gather(-1, shuffled)
    order = shuffled.gather(-1, score.sort(dim=-1, descending=True, stable=True).indices)
    return torch.empty_like(order).scatter_(-1, order, torch.arange(at.shape[1], device=at.device).expand(at.shape))
