"""The joint: a network, a forward process and a parametrization make a diffusion model.

Shapes: B batch, L length, V clean tokens, S states (V, or V + 1 with the mask last), N rows asked for, D width.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import places
from unmask.diffusion.parametrizations import Parametrization
from unmask.diffusion.processes import Process
from unmask.errors import ConfigError
from unmask.nn.blocks import hidden_beside
from unmask.nn.cache import KVCache
from unmask.nn.compiled import compile_body
from unmask.nn.quantized import quantize
from unmask.nn.transformer import Transformer

if TYPE_CHECKING:
    from unmask.text.tokenizers import Tokenizer

Conditioning = Literal["sigma", "t", "zero"] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Clean:
    """What stands before each block of a text, clean: the context that a block model is trained with.

    x0 [B, L]: the text; of it block b of xt sees the blocks before b. block_size: default the model's.
    """

    x0: Tensor
    block_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The hidden states of one body run; logits are computed lazily, at the positions asked for.

    Every reading takes `at` [B, L] bool, on any device, and answers for its N True positions in row-major order;
    without `at` it answers for all positions, [B, L, ...].
    """

    model: "DiffusionLM"
    hidden: Tensor  # [B, L, D]
    xt: Tensor  # [B, L]
    t: Tensor  # [B, L]

    def _rows(self, at: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, O], current tokens [N] and times [N] at `at`."""
        if at is None:
            return self.model.net.head(self.hidden).flatten(0, 1), self.xt.flatten(), self.t.flatten()
        if at.shape != self.xt.shape or at.dtype != torch.bool:
            raise ConfigError(f"at must be bool of shape {tuple(self.xt.shape)}, got {at.dtype} {tuple(at.shape)}")
        where = places(at, self.xt.device)
        hidden, xt, t = (x.flatten(0, 1).index_select(0, where) for x in (self.hidden, self.xt, self.t))
        return self.model.net.head(hidden), xt, t

    def _shape(self, rows: Tensor, at: Tensor | None) -> Tensor:
        return rows if at is not None else rows.unflatten(0, self.xt.shape)

    @torch.no_grad()
    def logits(self, at: Tensor | None = None) -> Tensor:
        """What the head says, [N, O]; what it means is the parametrization's business."""
        return self._shape(self._rows(at)[0], at)

    @torch.no_grad()
    def log_p0(self, at: Tensor | None = None) -> Tensor:
        """log p(x0 | xt) over the V clean tokens, normalized, [N, V]."""
        rows = self.model.parametrization.log_p0(self.model.process, *self._rows(at))
        return self._shape(rows, at)

    @torch.no_grad()
    def log_score(self, at: Tensor | None = None) -> Tensor:
        """log p_t(y) / p_t(xt), [N, S], 0 at y = xt: SEDD's concrete score, raw (Lou et al. 2024)."""
        rows = self.model.parametrization.log_score(self.model.process, *self._rows(at))
        return self._shape(rows, at)

    @torch.no_grad()
    def log_total(self, at: Tensor | None = None) -> Tensor:
        """log of the sum of the scores of all y != xt, [N], summed in float32."""
        rows = self.model.parametrization.log_total(self.model.process, *self._rows(at))
        return self._shape(rows, at)


class WithWeights:
    """What both kinds of model say of their network: how much it reads at once, and where it is."""

    net: Transformer

    @property
    def length(self) -> int:
        """The context in tokens; of an autoregressive model, the leading `bos_id` not counted."""
        return self.net.config.length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.vocab_embed.embedding.device

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move and cast the weights in place; returns self."""
        self.net.to(device=device, dtype=dtype)
        return self

    def quantize(self, mode: str) -> Self:
        """Round the large matrices to "int8", in place (`unmask.nn.quantized`); returns self. For reading only."""
        quantize(self.net, mode)
        return self

    def compile(self, told: Callable[[str], None] = lambda words: None) -> Self:
        """Let the network be compiled by its next run, in place (`unmask.nn.compiled`); returns self.

        told: hears when it is compiled, and how long that took.
        """
        compile_body(self.net, told)
        return self


class DiffusionLM(WithWeights):
    """A diffusion language model. `length` is its context, `conditioning` the number its network reads.

    unigram [V]: the law of a single token of its training text, if known; likelihood bounds end in it where noise
    does not hide all of a text.
    """

    kind = "diffusion"

    def __init__(
        self,
        net: Transformer,
        process: Process,
        parametrization: Parametrization,
        *,
        conditioning: Conditioning = "sigma",
        tokenizer: "Tokenizer | None" = None,
        card: dict[str, Any] | None = None,
        unigram: Tensor | None = None,
    ) -> None:
        if net.config.num_inputs < process.num_states:
            raise ConfigError(
                f"the network embeds {net.config.num_inputs} states, the process has {process.num_states}"
            )
        if (conditioning is None) != (net.config.cond_dim is None):
            raise ConfigError(
                f"conditioning {conditioning!r} does not fit a network with cond_dim {net.config.cond_dim}"
            )
        self.net, self.process, self.parametrization = net, process, parametrization
        if unigram is not None and unigram.shape != (process.vocab_size,):
            raise ConfigError(f"unigram has shape {list(unigram.shape)}, the process has {process.vocab_size} tokens")
        self.conditioning, self.tokenizer, self.card = conditioning, tokenizer, card or {}
        self.unigram = unigram

    def condition(self, t: Tensor) -> Tensor | None:
        """What the network is told about the time t: sigma, t on the schedule's clock, always 0, or nothing."""
        if self.conditioning is None:
            return None
        if self.conditioning == "zero":
            return t.new_zeros(1)  # one number for all rows
        return self.process.schedule.clock(t) if self.conditioning == "t" else self.process.schedule.sigma(t)

    @property
    def block_size(self) -> int | None:
        """How many tokens it denoises together, given all blocks before them; None: the whole text."""
        return self.net.config.block_size

    @torch.no_grad()
    def predict(self, xt: Tensor, t: Tensor, context: KVCache | Clean | None = None) -> Prediction:
        """Run the body once on xt [B, L] at times t, [B] or [B, L].

        context, of a model with blocks: a `KVCache` of the blocks before xt (see `commit`), or `Clean`, which lets each
        block of xt see the clean ones before it, all in one pass; without it the blocks are read as they stand in xt.
        Raises ConfigError for a context and a model without blocks.
        """
        times = t if t.ndim == 2 else t[:, None].expand(xt.shape)
        if context is not None and self.block_size is None:
            raise ConfigError("a context for a model without blocks", "it reads the whole text: leave it out")
        if isinstance(context, Clean):
            told = self.condition(torch.cat([times, torch.zeros_like(times)], 1))
            hidden = hidden_beside(self.net, xt, context.x0, told, block_size=context.block_size)
        else:
            alike = t.ndim == 1 and t.stride(0) == 0  # one time, expanded: the body computes its modulation once
            hidden = self.net.hidden(xt, self.condition(t[:1] if alike else t), cache=context)
        return Prediction(self, hidden, xt, times)

    @torch.no_grad()
    def commit(self, x0: Tensor, cache: KVCache) -> None:
        """Read the finished blocks x0 [B, L], which follow what `cache` holds, into it."""
        self.net.hidden(x0, self.condition(torch.zeros(1, device=x0.device)), cache=cache, commit=True)

    def log_p0(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, context: KVCache | Clean | None = None
    ) -> Tensor:
        """log p(x0 | xt), [B, L, V], or [N, V] at the True positions of `at`."""
        return self.predict(xt, t, context).log_p0(at)

    def log_score(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, context: KVCache | Clean | None = None
    ) -> Tensor:
        """log p_t(y) / p_t(xt), [B, L, S], or [N, S] at the True positions of `at`."""
        return self.predict(xt, t, context).log_score(at)


class AutoregressiveLM(WithWeights):
    """A left-to-right language model. Every sequence is read behind `bos_id`, so its first token is scored too."""

    kind = "autoregressive"

    def __init__(
        self,
        net: Transformer,
        *,
        bos_id: int,
        tokenizer: "Tokenizer | None" = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        if net.config.block_size != 1:
            raise ConfigError("an autoregressive model needs a causal network (block_size 1)")
        if not 0 <= bos_id < net.config.num_inputs:
            raise ConfigError(f"bos_id {bos_id} is not a token: the network embeds {net.config.num_inputs}")
        self.net, self.bos_id, self.tokenizer, self.card = net, bos_id, tokenizer, card or {}

    def shifted(self, x: Tensor) -> Tensor:
        """What the network reads to predict x [B, L]: bos_id, then x without its last token."""
        return F.pad(x[:, :-1], (1, 0), value=self.bos_id)

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """-log p(x_i | x_<i) in nats, [B, L], float32 or wider."""
        logits = self.net(self.shifted(x))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(logits.transpose(1, 2), x, reduction="none")

    @torch.no_grad()
    def next_logits(self, x: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] of the token after x [B, L], which follows what `cache` holds and is committed to it."""
        if cache.engine is not None and x.shape[1] == 1:
            return cache.engine(x, cache)
        hidden = self.net.hidden(x, cache=cache, commit=True)
        return self.net.head(hidden[:, -1])


LanguageModel = DiffusionLM | AutoregressiveLM
