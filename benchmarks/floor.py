"""The floor: a plain transformer with the matrix products of SEDD, and nothing else. No noise, no condition."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, L, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D))
        return x + self.mlp(self.norm2(x))


class PlainTransformer(nn.Module):
    """[B, L] tokens to [B, L, V] logits at all positions."""

    def __init__(self, vocab: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def forward_backward(net: PlainTransformer, x: Tensor) -> None:
    """One bare forward and backward pass of next-to-nothing: cross-entropy on all rows, bf16 autocast."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        logits = net(x)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), x.flatten())
    loss.backward()
    net.zero_grad(set_to_none=True)
