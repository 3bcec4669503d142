"""Ways to continue a prompt (Deschenaux and Gulcehre 2024, tables 5 and 6).

An autoregressive model continues it plainly, with top-p or with top-k; a diffusion model by writing its whole context
and keeping the first P + R tokens (`scratchpad`), by writing P + R tokens only (`short`), or so with the network told
how much of the row is masked (`matched`, see `MatchedNoise`).

Shapes: N prompts of P tokens, continuations of R, B batch, L length.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.parametrizations import RawScore
from unmask.errors import ConfigError, unknown
from unmask.evaluation.likelihood import T_MIN
from unmask.model import Clean, DiffusionLM, LanguageModel, Prediction
from unmask.nn.cache import KVCache
from unmask.sampling import Canvas, Rule, sample
from unmask.sampling.draws import EXACT
from unmask.text.prompts import Prompts

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Way:
    """How a prompt is continued. scratch: the whole context is written; matched: by `MatchedNoise`."""

    name: str
    kind: Literal["autoregressive", "diffusion"]
    words: str
    scratch: bool = False
    matched: bool = False
    top_p: float = 1.0
    top_k: int | None = None


_WAYS = (
    Way("plain", "autoregressive", "from the model's own law"),
    Way("top-p", "autoregressive", "top-p 0.95", top_p=0.95),
    Way("top-k", "autoregressive", "top-k 50", top_k=50),
    Way("scratchpad", "diffusion", "the whole context written, then cut", scratch=True),
    Way("short", "diffusion", "only prompt and continuation written"),
    Way("matched", "diffusion", "only prompt and continuation written, sigma by the masked fraction", matched=True),
)
WAYS = {way.name: way for way in _WAYS}


class MatchedNoise(DiffusionLM):
    """A diffusion model whose network is told the noise of the row it reads, not the noise of the schedule.

    With P of L tokens given, a row at time t has about (1 - alpha(t)) (1 - P/L) of its tokens masked, while the
    network was trained on 1 - alpha(t). So the body runs at t' with 1 - alpha(t') = the row's masked fraction, t' in
    [t_min, 1], and the rest stays with t: the rule's steps, and the scale of the score,
    log s_t(y) = logits_y(xt, t') - log(e^sigma(t) - 1) - log V. At a mask log p0(y) is the log-softmax of
    logits(xt, t'), which holds no t but t'.

    It shares the model's network. Raises ConfigError for a network that is told no noise, one whose raw scores come
    with their scale (at t' it would be the wrong one), and a process without a mask.
    """

    def __init__(self, model: DiffusionLM, *, t_min: float = T_MIN) -> None:
        if not model.process.commits or model.process.mask_id is None:
            raise ConfigError("noise matched to the masked fraction needs a process that masks", "use another way")
        if model.conditioning in (None, "zero"):
            raise ConfigError("the network is not told the noise, so there is none to match", "use the way short")
        if isinstance(model.parametrization, RawScore) and not model.parametrization.scale_by_sigma:
            raise ConfigError(
                "noise cannot be matched for raw scores without scale_by_sigma: their scale comes from the network",
                "use the way short",
            )
        if model.block_size is not None:
            raise ConfigError("noise cannot be matched in blocks, each of which is at a time of its own", "use short")
        super().__init__(
            model.net, model.process, model.parametrization, conditioning=model.conditioning,
            tokenizer=model.tokenizer, card=model.card, unigram=model.unigram,
        )  # fmt: skip
        self.t_min = t_min

    def told(self, xt: Tensor) -> Tensor:
        """t' of rows xt [B, L]: [B], float64 where there is."""
        masked = wide(self.process.is_mask(xt)).mean(1)
        return self.process.schedule.inverse(1 - masked).clamp(min=self.t_min)

    @torch.no_grad()
    def predict(self, xt: Tensor, t: Tensor, context: KVCache | Clean | None = None) -> Prediction:
        """Run the body once on xt [B, L] at t' of each row; the answer is read at t, [B] or [B, L]. No context."""
        hidden = self.net.hidden(xt, self.condition(self.told(xt)))
        return Prediction(self, hidden, xt, t if t.ndim == 2 else t[:, None].expand(xt.shape))


def find_way(model: LanguageModel, name: str) -> Way:
    """The way of a name; ConfigError for one that is unknown, or meant for the other kind of model."""
    if name not in WAYS:
        raise unknown("way", name, WAYS)
    way = WAYS[name]
    if way.kind != model.kind:
        fit = ", ".join(one.name for one in _WAYS if one.kind == model.kind)
        raise ConfigError(f"the way {name} is for {way.kind} models, this one is {model.kind}", f"use {fit}")
    return way


def continue_prompts(
    model: LanguageModel,
    prompts: Prompts,
    way: str,
    *,
    steps: int = 64,
    rule: str | Rule | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = 16,
    length: int | None = None,
    draws: str = EXACT,
    progress: Progress | None = None,
) -> Tensor:
    """Each prompt and what the model writes behind it, [N, P + R] int64 on the CPU.

    steps and rule: of diffusion models. top_p, top_k: default, the way's own. length: tokens that `scratchpad`
    writes, prompt included; default, the model's context. Prompt i is continued by the draws of (seed, i), whatever
    the batch. Raises ConfigError for a way that does not fit, and where P + R is more than the context.
    """
    parts = continuations(
        model, prompts, way, steps=steps, rule=rule, top_p=top_p, top_k=top_k, seed=seed, batch=batch, length=length,
        draws=draws,
    )  # fmt: skip
    done: list[Tensor] = []
    for part in parts:
        done.append(part)
        if progress is not None:
            progress(sum(len(one) for one in done), len(prompts))
    return torch.cat(done)


def continuations(
    model: LanguageModel,
    prompts: Prompts,
    way: str,
    *,
    steps: int = 64,
    rule: str | Rule | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = 16,
    length: int | None = None,
    draws: str = EXACT,
    first: int = 0,
) -> Iterator[Tensor]:
    """What `continue_prompts` gives, a batch at a time, from prompt `first` on: to go on where a run was stopped."""
    found, size = find_way(model, way), prompts.ids.shape[1] + prompts.references.shape[1]
    canvas_length = (length or model.length) if found.scratch else size
    if not size <= canvas_length <= model.length:
        raise ConfigError(
            f"prompts and continuations of {size} tokens on a canvas of {canvas_length}, "
            f"the model's context is {model.length}",
            "ask for fewer tokens",
        )
    if batch < 1:
        raise ConfigError(f"a batch of {batch} prompts", "ask for at least 1")
    options: dict[str, Any] = {
        "top_p": found.top_p if top_p is None else top_p, "top_k": found.top_k if top_k is None else top_k,
        "seed": seed, "draws": draws,
    }  # fmt: skip
    if found.kind == "diffusion":
        options |= {"steps": steps, "rule": rule}
    writer = MatchedNoise(model) if found.matched and isinstance(model, DiffusionLM) else model
    return _written(writer, prompts.ids, canvas_length, size, options, batch, first)


def _written(
    model: LanguageModel, ids: Tensor, length: int, size: int, options: dict[str, Any], batch: int, first: int
) -> Iterator[Tensor]:
    for start in range(first, len(ids), batch):
        canvas = Canvas.prompt(ids[start : start + batch], length)
        yield sample(model, canvas, first_sample=start, **options).tokens[:, :size].cpu()
