"""The one transformer body: SEDD's DiT, its causal twin and GPT-2 are settings of it.

Module and parameter names are those of SEDD's published checkpoints (Lou et al. 2024), so their weights
load as they are. Shapes: B batch, L queries, K keys (cached + L), H heads, d head width, D = H * d,
C condition width, O outputs of the head.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.nn.cache import KVCache, StaticCache, attention_for
from unmask.nn.dropout import keyed_dropout
from unmask.nn.masks import attention_mask
from unmask.nn.rotary import Rotary, rotate


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The shape of a body.

    num_inputs: rows of the embedding. num_outputs: O. length: the longest context. cond_dim: C, the width
    of the adaLN condition, or None for a body without one. block_size: 1 is causal, k is causal between
    blocks of k, None is full attention. positions: "rotary" or "learned". bias: biases on attention and
    norms (GPT-2). tied: the head is the embedding.
    """

    num_inputs: int
    num_outputs: int
    width: int
    depth: int
    heads: int
    length: int
    cond_dim: int | None = None
    block_size: int | None = None
    positions: str = "rotary"
    bias: bool = False
    tied: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.width, self.heads) < 1:
            raise ConfigError(f"width and heads must be at least 1, got {self.width} and {self.heads}")
        if self.width % self.heads or (self.positions == "rotary" and self.width // self.heads % 2):
            raise ConfigError(f"width {self.width} does not split into {self.heads} heads of an even width")
        if self.positions not in ("rotary", "learned"):
            raise ConfigError(f"positions must be 'rotary' or 'learned', got {self.positions!r}")
        if min(self.num_inputs, self.num_outputs, self.length) < 1 or self.depth < 0:
            raise ConfigError(f"num_inputs, num_outputs and length must be at least 1, depth at least 0: {self}")
        if any(k is not None and k < 1 for k in (self.block_size, self.cond_dim)):
            raise ConfigError(f"block_size {self.block_size} and cond_dim {self.cond_dim} must be at least 1, or None")
        if self.tied and self.num_inputs != self.num_outputs:
            raise ConfigError(f"a tied head has {self.num_inputs} outputs, not {self.num_outputs}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class LayerNorm(nn.Module):
    """Layer norm over D, summed in float32, eps 1e-5, with a weight and, for GPT-2, a bias."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D], in float32 or wider; in half precision where x and the weights are."""
        if x.dtype == self.weight.dtype and x.dtype.itemsize == 2:  # one kernel, which sums in float32 and rounds once
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)
        x = x if x.dtype == torch.float64 else x.float()
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, 1e-5)

    def modulated(self, x: Tensor, shift: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """adaLN: norm(x) (1 + scale) + shift (Peebles and Xie 2023), in dtype. shift, scale: [1 or B, 1 or L, D].

        Where all rows are at one noise level, scale and shift are a weight and a bias of the norm's own kernel.
        """
        if shift.shape[:2] == (1, 1) and x.dtype == shift.dtype == self.weight.dtype:
            weight, bias = self.weight * (1 + scale[0, 0]), shift[0, 0]
            return F.layer_norm(x, self.weight.shape, weight, bias, 1e-5).to(dtype)
        return torch.addcmul(shift, self(x).to(dtype), 1 + scale)


class Embedding(nn.Module):
    """A table of vectors, [rows, D]."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(rows, width))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] int64 to [B, L, D]."""
        return F.embedding(x, self.embedding)


class ScalarEmbedding(nn.Module):
    """A number (SEDD: the total noise sigma) as a vector: 256 cosines and sines, then a small MLP."""

    def __init__(self, cond_dim: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))

    def forward(self, value: Tensor) -> Tensor:
        """[...] to [..., C]."""
        half = self.frequencies // 2
        steps = torch.arange(half, dtype=torch.float32, device=value.device)
        angle = value.float()[..., None] * torch.exp(-math.log(10_000) * steps / half)
        waves = torch.cat([angle.cos(), angle.sin()], -1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


@dataclasses.dataclass
class Pass:
    """What one forward pass shares among its blocks."""

    cond: Tensor | None  # [1 or B, 1 or L, C], after SiLU
    rotary: tuple[Tensor, Tensor] | None
    mask: Tensor | None
    causal: bool  # the mask is the plain causal one, which SDPA knows by name
    cache: KVCache | None
    dropout_keys: list[int] | None

    def rotary_in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines in a dtype, rounded once a pass."""
        assert self.rotary is not None
        if self.rotary[0].dtype != dtype:
            self.rotary = self.rotary[0].to(dtype), self.rotary[1].to(dtype)
        return self.rotary


class Block(nn.Module):
    """Attention and MLP on a residual stream; with a condition, shifted, scaled and gated by it."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        width = config.width
        self.index, self.heads, self.p_drop = index, config.heads, config.dropout
        self.norm1 = LayerNorm(width, config.bias)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=config.bias)
        self.attn_out = nn.Linear(width, width, bias=config.bias)
        self.norm2 = LayerNorm(width, config.bias)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = None if config.cond_dim is None else nn.Linear(config.cond_dim, 6 * width)

    def attend(self, h: Tensor, shared: Pass) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        B, L, D = h.shape
        qk, v = self.attn_qkv(h).view(B, L, 3 * self.heads, -1).split((2 * self.heads, self.heads), 2)
        if shared.rotary is not None:
            qk = rotate(qk, *shared.rotary_in(qk.dtype))
        q, k, v = (x.transpose(1, 2) for x in (*qk.chunk(2, 2), v))  # each [B, H, L, d]
        if shared.cache is not None:
            k, v = shared.cache.extend(self.index, k, v)
            k, v = k.to(q.dtype), v.to(q.dtype)
        mask = None if shared.causal else shared.mask
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=shared.causal)
        return self.attn_out(out.transpose(1, 2).reshape(B, L, D))

    def drop(self, x: Tensor, shared: Pass, slot: int) -> Tensor:
        """Dropout in training; keyed where the caller gave keys."""
        if not (self.training and self.p_drop):
            return x
        if shared.dropout_keys is None:
            return F.dropout(x, self.p_drop)
        return keyed_dropout(x, self.p_drop, shared.dropout_keys, 2 * self.index + slot)

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """The residual stream, [B, L, D], after this block."""
        dtype = self.norm1.weight.dtype
        if self.adaLN_modulation is None:
            x = x + self.drop(self.attend(self.norm1(x).to(dtype), shared), shared, 0)
            return x + self.drop(self.mlp(self.norm2(x).to(dtype)), shared, 1)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(shared.cond).chunk(6, -1)
        h = self.norm1.modulated(x, shift1, scale1, dtype)
        x = torch.addcmul(x, gate1, self.drop(self.attend(h, shared), shared, 0))
        h = self.norm2.modulated(x, shift2, scale2, dtype)
        return torch.addcmul(x, gate2, self.drop(self.mlp(h), shared, 1))


class OutputLayer(nn.Module):
    """The last norm (in `Transformer.hidden`) and the head (in `Transformer.head`)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_final = LayerNorm(config.width, config.bias)
        self.linear = None if config.tied else nn.Linear(config.width, config.num_outputs, bias=not config.bias)
        self.adaLN_modulation = None if config.cond_dim is None else nn.Linear(config.cond_dim, 2 * config.width)


class Transformer(nn.Module):
    """Tokens in, hidden states out; logits only of the hidden states that the caller asks for."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_embed = Embedding(config.num_inputs, config.width)
        learned = config.positions == "learned"
        self.position_embed = Embedding(config.length, config.width) if learned else None
        self.rotary_emb = None if learned else Rotary(config.width // config.heads)
        self.sigma_map = None if config.cond_dim is None else ScalarEmbedding(config.cond_dim)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.depth))
        self.output_layer = OutputLayer(config)
        self._initialize()

    def _initialize(self) -> None:
        """With a condition, adaLN and head start at zero (SEDD); without one, GPT-2's normal(0, 0.02)."""
        if self.config.cond_dim is not None:
            for name, p in self.named_parameters():
                if "adaLN_modulation" in name or name.startswith("output_layer.linear"):
                    nn.init.zeros_(p)
            return
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith(("attn_out.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * self.config.depth) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    @property
    def slides(self) -> bool:
        """Whether it reads texts longer than its context: each block then sees the last `length` positions."""
        c = self.config
        return c.block_size is not None and 1 < c.block_size <= c.length and self.rotary_emb is not None

    @property
    def num_parameters(self) -> int:
        """Trained numbers, each counted once, whatever `quantize` made of them."""
        copied = "output_layer.linear" if self.config.tied else "-"
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith(copied))

    def cache(self, batch: int, capacity: int | None = None) -> KVCache:
        """An empty cache for `batch` rows of up to `capacity` (default: the context) positions."""
        c, weight = self.config, self.vocab_embed.embedding
        return KVCache.empty(
            depth=c.depth, batch=batch, heads=c.heads, head_width=c.width // c.heads,
            capacity=capacity or c.length, device=weight.device, dtype=weight.dtype,
        )  # fmt: skip

    def hidden(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        commit: bool = False,
        dropout_keys: list[int] | None = None,
    ) -> Tensor:
        """Hidden states [B, L, D] of tokens x [B, L] int64, ready for `head`.

        cond: [1], [B] or [B, L], the number that adaLN reads. cache: tokens follow what it holds, and see it;
        `commit` makes them part of it. Raises ConfigError beyond the context length, unless the body `slides`.
        """
        start = cache.length if cache is not None else 0
        end = start + x.shape[1]
        if end > self.config.length and not self.slides:
            raise ConfigError(f"{end} positions do not fit a context of {self.config.length}", "shorten the input")
        h = self.vocab_embed(x)
        if self.position_embed is not None:
            still = StaticCache.of(cache, x.shape[1])
            h = h + self.position_embed.embedding[slice(start, end) if still is None else still.at]
        shared = self._pass(h, cond, start, end, cache, dropout_keys)
        with attention_for(cache, x.shape[1]):
            h = self.stack(h, shared)
        if cache is not None and commit:
            cache.commit(x.shape[1])
        return self.finish(h, shared.cond)

    def finish(self, h: Tensor, vector: Tensor | None) -> Tensor:
        """The last norm, shifted and scaled by the condition's `vector`: what `head` reads, [B, L, D]."""
        norm, modulation = self.output_layer.norm_final, self.output_layer.adaLN_modulation
        if modulation is None:
            return norm(h)
        shift, scale = modulation(vector).chunk(2, -1)
        return norm.modulated(h, shift, scale, shift.dtype)

    def vector(self, cond: Tensor | None) -> Tensor | None:
        """What adaLN reads of the condition [1], [B] or [B, L]: [1 or B, 1 or L, C]; None for a body without one."""
        if self.sigma_map is None:
            return None
        if cond is None:
            raise ConfigError("this body is conditioned: it needs cond [B] or [B, L]")
        vector = F.silu(self.sigma_map(cond))
        return vector[:, None, :] if vector.ndim == 2 else vector

    def stack(self, h: Tensor, shared: Pass) -> Tensor:
        """The residual stream behind all blocks, [B, L, D]; `nn.compiled` puts a faster one in its place."""
        for block in self.blocks:
            h = block(h, shared)
        return h

    def _pass(
        self,
        h: Tensor,
        cond: Tensor | None,
        start: int,
        end: int,
        cache: KVCache | None,
        keys: list[int] | None,
    ) -> Pass:
        c = self.config
        still = StaticCache.of(cache, end - start)
        if still is not None:
            table = None if self.rotary_emb is None else self.rotary_emb(0, still.reach, h.dtype)
            rotary = None if table is None else (table[0][still.at], table[1][still.at])
            return Pass(self.vector(cond), rotary, still.mask(), False, cache, keys)
        place = 0 if cache is None else cache.offset
        rotary = None if self.rotary_emb is None else self.rotary_emb(place + start, place + end, h.dtype)
        window = -(-c.length // c.block_size) if self.slides and c.block_size is not None else None
        mask = attention_mask(start, end, c.block_size, h.device, window)
        causal = mask is not None and c.block_size == 1 and start == 0
        return Pass(self.vector(cond), rotary, mask, causal, cache, keys)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., O] of hidden states [..., D]: call it on the rows that are needed, and no others."""
        embedding, linear = self.vocab_embed.embedding, self.output_layer.linear
        hidden = hidden.to(embedding.dtype)
        return F.linear(hidden, embedding) if linear is None else linear(hidden)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Logits [B, L, O] at all positions."""
        return self.head(self.hidden(x, cond))
