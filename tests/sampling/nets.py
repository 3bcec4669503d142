"""Tiny networks with random weights, for what does not ask who trained them."""

import dataclasses

import torch

from unmask.diffusion import Absorbing, CleanLogits, LogLinear, Parametrization, Process, RawScore, Uniform
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.nn.transformer import Transformer, TransformerConfig


def net(inputs: int, length: int, *, causal: bool = False, **options: object) -> Transformer:
    """A body of one block, its weights normal."""
    config = TransformerConfig(
        inputs, inputs, width=16, depth=2, heads=2, length=length, cond_dim=None if causal else 8,
        block_size=1 if causal else None, **options,
    )  # fmt: skip
    made = Transformer(config).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in made.named_parameters():
            p.add_((0.1 if "linear" in name else 0.3) * torch.randn(p.shape, generator=rng))
    return made


def diffusion(kind: str = "score", *, uniform: bool = False, length: int = 12, eps: float = 1e-3) -> DiffusionLM:
    """Raw scores or clean logits, over 7 tokens."""
    process: Process = Uniform(7, LogLinear(eps)) if uniform else Absorbing(7, LogLinear(eps))
    reading: Parametrization = RawScore(not uniform) if kind == "score" else CleanLogits()
    return DiffusionLM(net(process.num_states, length), process, reading)


def autoregressive(length: int = 12, **options: object) -> AutoregressiveLM:
    """Over 7 tokens, of which 6 is bos."""
    return AutoregressiveLM(net(7, length, causal=True, **options), bos_id=6)


def in_blocks(size: int | None = 4, *, length: int = 12, told: str = "zero", **options: object) -> DiffusionLM:
    """Clean logits over 7 tokens by a body with blocks of `size`, or without; float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same weights each time
        plain = net(8, length, **options)
    made = Transformer(dataclasses.replace(plain.config, block_size=size))
    made.load_state_dict(plain.state_dict())
    process = Absorbing(7, LogLinear(1e-3))
    return DiffusionLM(made.double().eval(), process, CleanLogits(), conditioning=told)  # type: ignore[arg-type]
