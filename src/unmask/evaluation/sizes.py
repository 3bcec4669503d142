"""Pairs of networks whose speed is compared: the paper's sizes with random weights, the twins, or two given models.

Speed does not depend on the weights, save that a raw score decides how fast the masks go: the head of a random SEDD is
zero, so that all scores are calibrated and the masks go at the pace of the schedule.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from unmask.compat import gpt2, load
from unmask.diffusion.parametrizations import RawScore
from unmask.diffusion.processes import Absorbing
from unmask.diffusion.schedules import LogLinear
from unmask.errors import ConfigError, unknown
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.nn.compiled import is_compiled
from unmask.nn.quantized import is_quantized, plain_state
from unmask.nn.rotary import Rotary
from unmask.nn.transformer import Transformer, TransformerConfig

Model = TypeVar("Model", DiffusionLM, AutoregressiveLM)


@dataclasses.dataclass(frozen=True)
class Size:
    """The shape of both networks of a pair; `tokens` without the mask, `cond_dim` SEDD's alone."""

    width: int
    depth: int
    heads: int
    length: int
    tokens: int = gpt2.GPT2_TOKENS
    cond_dim: int = 128


SIZES = {
    "tiny": Size(32, 2, 2, 32, 97, 16),  # for tests
    "small": Size(768, 12, 12, 1024),  # SEDD 170 M, GPT-2 124 M
    "medium": Size(1024, 24, 16, 1024),  # 424 M, 355 M
    "xl": Size(2048, 24, 32, 2048),  # 1.45 B, 1.31 B: table 7 and figure 1
}
TWINS = "twins"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A diffusion and an autoregressive model that are compared."""

    name: str
    sedd: DiffusionLM
    ar: AutoregressiveLM
    weights: str = "random weights"

    def __post_init__(self) -> None:
        if self.sedd.device != self.ar.device or self.dtype != self.ar.net.vocab_embed.embedding.dtype:
            raise ConfigError("the two models of a pair differ in device or dtype", "move both to one, with .to()")

    @property
    def device(self) -> torch.device:
        """Where both are."""
        return self.sedd.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights of both."""
        return self.sedd.net.vocab_embed.embedding.dtype

    @property
    def arithmetic(self) -> str:
        """The dtype, and what else `made_faster` did: as in "bfloat16, int8, compiled"."""
        net, words = self.sedd.net, [str(self.dtype).removeprefix("torch.")]
        words += ["int8"] if is_quantized(net) else []
        return ", ".join(words + (["compiled"] if is_compiled(net) else []))

    @property
    def length(self) -> int:
        """The shorter context."""
        return min(self.sedd.length, self.ar.length)


def build_pair(name: str, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Pair:
    """The pair of a size in SIZES, or the embedded "twins". device: default CPU. Raises ConfigError for other names."""
    if name == TWINS:
        return given_pair("sedd-twin", "ar-twin", device=device, dtype=dtype, name=TWINS)
    if name not in SIZES:
        raise unknown("size", name, [*SIZES, TWINS])
    size, where = SIZES[name], torch.device(device or "cpu")
    sedd = random_sedd(size, device=where, dtype=dtype)
    return Pair(name, sedd, _gpt2(size, sedd.net))


def given_pair(
    model: str, against: str, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    name: str | None = None,
) -> Pair:  # fmt: skip
    """The pair of two models by folder, hub id or embedded name. ConfigError unless one of each kind, in this order."""
    sedd, ar = (load(which, device=device, dtype=dtype) for which in (model, against))
    if not isinstance(sedd, DiffusionLM) or not isinstance(ar, AutoregressiveLM):
        raise ConfigError(
            f"{model} is {sedd.kind} and {against} is {ar.kind}",
            "give a diffusion model first, then the autoregressive one that it is compared with",
        )
    return Pair(name or f"{model} and {against}", sedd, ar, "their own weights")


def made_faster(
    pair: Pair, *, quantize: str | None, compile: bool, told: Callable[[str], None] = lambda words: None
) -> Pair:
    """The pair with both networks quantized and compiled, in place, where asked for; see `unmask.DiffusionLM`."""
    faster(pair.sedd, quantize=quantize, compile=compile, told=told)
    faster(pair.ar, quantize=quantize, compile=compile, told=told)
    return pair


def faster(
    model: Model, *, quantize: str | None, compile: bool, told: Callable[[str], None] = lambda words: None
) -> Model:
    """The model quantized and compiled, in place, where asked for."""
    if quantize is not None:
        model.quantize(quantize)
    if compile:
        model.compile(told)
    return model


def parameters(size: Size) -> tuple[int, int]:
    """Trainable numbers of SEDD and of GPT-2 of a size, counted without making the weights."""
    with torch.device("meta"):
        return Transformer(_sedd_shape(size)).num_parameters, Transformer(_gpt2_shape(size)).num_parameters


def _sedd_shape(size: Size) -> TransformerConfig:
    states = size.tokens + 1
    return TransformerConfig(
        states, states, width=size.width, depth=size.depth, heads=size.heads, length=size.length,
        cond_dim=size.cond_dim,
    )  # fmt: skip


def _gpt2_shape(size: Size) -> TransformerConfig:
    config = {"n_embd": size.width, "n_layer": size.depth, "n_head": size.heads, "n_positions": size.length}
    return gpt2.network(config | {"vocab_size": size.tokens}, Path("GPT-2"))


def random_sedd(
    size: Size, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> DiffusionLM:
    """SEDD's half of a pair, of any shape. device: default CPU."""
    net = _random(_sedd_shape(size), torch.device(device or "cpu"), dtype)
    assert net.output_layer.linear is not None
    torch.nn.init.zeros_(net.output_layer.linear.weight)
    return DiffusionLM(net, Absorbing(vocab_size=size.tokens, schedule=LogLinear()), RawScore(scale_by_sigma=True))


def _gpt2(size: Size, beside: Transformer) -> AutoregressiveLM:
    """The other half. Matrices that both have are one memory: half of it, and only one of the two runs at a time."""
    weight = beside.vocab_embed.embedding
    net = _random(_gpt2_shape(size), weight.device, weight.dtype, dict(beside.named_parameters()))
    return AutoregressiveLM(net, bos_id=size.tokens - 1)


@torch.no_grad()
def _random(
    config: TransformerConfig, device: torch.device, dtype: torch.dtype, there: Mapping[str, Tensor] | None = None
) -> Transformer:
    """A network of normal(0, 0.02) matrices, repeated from 65,537 numbers: 1.4 billion fresh ones take a minute.

    there: matrices that are taken instead of new ones, where name and shape are the same.
    """
    with torch.device("meta"):
        net = Transformer(config)
    if net.rotary_emb is not None:
        net.rotary_emb = Rotary(config.width // config.heads).to(device)
    numbers = (0.02 * torch.randn(65_537, generator=torch.Generator().manual_seed(0))).to(device, dtype)
    made = {}
    for name, p in net.named_parameters():
        known = None if there is None or p.ndim == 1 else there.get(name)
        if known is not None and known.shape == p.shape:
            made[name] = known.detach()
        elif p.ndim == 1:
            made[name] = torch.full(
                p.shape, float("norm" in name and name.endswith("weight")), device=device, dtype=dtype
            )
        else:
            made[name] = numbers.repeat(p.numel() // len(numbers) + 1)[: p.numel()].view(p.shape).clone()
    net.load_state_dict(made, strict=False, assign=True)
    return net.eval()


def hugging_face(model: AutoregressiveLM) -> Any:
    """The same weights as a GPT2LMHeadModel of transformers, in the pair's dtype, which never ends a text early.

    ConfigError where transformers is missing or the network is not GPT-2's.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            "Hugging Face's generate is measured with transformers, which is not installed",
            "pip install 'unmask[judge]', or leave it out with --no-hf",
        ) from None
    c = model.net.config
    if not is_gpt2(model):
        raise ConfigError(
            "Hugging Face's generate is compared on GPT-2's architecture, and this model's is another",
            "leave it out with --no-hf, or measure a size such as small",
        )
    config = transformers.GPT2Config(
        vocab_size=c.num_inputs, n_positions=c.length, n_embd=c.width, n_layer=c.depth, n_head=c.heads,
        bos_token_id=model.bos_id, eos_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        made = transformers.GPT2LMHeadModel(config)
    state: dict[str, Tensor] = gpt2.publish(plain_state(model.net))
    made.load_state_dict(state | {"lm_head.weight": state["transformer.wte.weight"]}, assign=True)
    made.tie_weights()
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = None, 0
    return made.eval()


def is_gpt2(model: AutoregressiveLM) -> bool:
    """Whether the network is GPT-2's: learned positions, biases, a tied head."""
    c = model.net.config
    return c.positions == "learned" and c.bias and c.tied and c.cond_dim is None
