"""A body with blocks in its training form: noisy blocks beside the clean text, all of them in one pass.

Block b of the noisy text sees itself and the clean blocks before b; block b of the clean text sees the clean ones up to
b (Arriola et al. 2025, arXiv 2503.09573, section 3). Both halves are at the same positions. Beyond the context a block
sees the last `length` positions, its own included. Shapes: B batch, L length, D width.
"""

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.nn.masks import beside_mask
from unmask.nn.transformer import Pass, Transformer


def hidden_beside(
    net: Transformer, noisy: Tensor, clean: Tensor, cond: Tensor | None, *, block_size: int | None = None,
    dropout_keys: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Hidden states [B, L, D] of the noisy text [B, L], each of whose blocks sees the clean ones [B, L] before it.

    cond: [B, 2 L], what adaLN reads for the noisy and for the clean half. block_size: default that of the body.
    Raises ConfigError for texts of different shapes, and beyond the context of a body that does not slide.
    """
    c, L = net.config, noisy.shape[1]
    size = c.block_size if block_size is None else block_size
    assert size is not None
    if noisy.shape != clean.shape:
        raise ConfigError(f"noisy tokens {list(noisy.shape)} and clean ones {list(clean.shape)} are not of one shape")
    if L > c.length and not net.slides:
        raise ConfigError(f"{L} positions do not fit a context of {c.length}", "shorten the input")
    h = net.vocab_embed(torch.cat([noisy, clean], 1))
    if net.position_embed is not None:
        h = h + net.position_embed.embedding[:L].repeat(2, 1)
    rotary = None
    if net.rotary_emb is not None:
        cos, sin = net.rotary_emb(0, L, h.dtype)
        rotary = cos.repeat(2, 1, 1), sin.repeat(2, 1, 1)
    mask = beside_mask(L, size, -(-c.length // size), h.device)
    shared = Pass(net.vector(cond), rotary, mask, False, None, dropout_keys)
    for block in net.blocks:
        h = block(h, shared)
    return net.finish(h[:, :L], None if shared.cond is None else shared.cond[:, :L])
