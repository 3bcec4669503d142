"""Sampling from left to right, the baseline of every diffusion model. Shapes: B batch, L length, V tokens."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM
from unmask.nn.cache import KVCache
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import EXACT, Draws, keyed, widest
from unmask.sampling.loop import Progress, Sample, check_canvas, reshaping
from unmask.sampling.transforms import Transform


def generate(  # noqa: PLR0913 (all keyword-only)
    model: AutoregressiveLM,
    canvas: Canvas | Sequence[int] | Tensor,
    *,
    length: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    draws: str = EXACT,
    first_sample: int = 0,
    use_cache: bool = True,
    stop_at_eos: bool = False,
    progress: Progress | None = None,
) -> Sample:
    """Write the canvas to its end, one token a step, given the tokens before it.

    canvas: a Canvas, or the prompt's ids ([P], or a tensor [B, P]) with `length`, which counts prompt and new tokens;
    the bos token that the model reads first is not counted. temperature (0 is greedy), top_p, top_k, min_p, seed,
    generator, draws and first_sample as in `denoise`. use_cache: keep keys and values instead of reading everything
    again for each token; the tokens are the same. stop_at_eos: the tokens after the first new eos are eos, and the
    run ends when all rows have one. progress: told, after every token, how many are written, and of how many.
    Raises ConfigError for a canvas that gives tokens after a gap, one longer than the context, and as `denoise`.
    """
    begun = time.perf_counter()
    given = _canvas(canvas, length)
    check_canvas(given, model.length, model.net.config.num_inputs)
    if bool((given.frozen[:, 1:] & ~given.frozen[:, :-1]).any()):
        raise ConfigError(
            "the canvas gives tokens after a gap: an autoregressive model only writes to the right of what is given",
            "use a prompt on the left, or a diffusion model",
        )
    if stop_at_eos and model.tokenizer is None:
        raise ConfigError("stop_at_eos needs a tokenizer to know eos, and the model has none", "give the model one")
    eos = model.tokenizer.eos_id if stop_at_eos and model.tokenizer is not None else None
    reshape = reshaping(temperature, top_p, top_k, min_p)
    chance = keyed(given.batch, model.device, seed=seed, generator=generator, mode=draws, first_sample=first_sample)
    tokens, nfe = _write(model, given.to(model.device), chance, reshape, eos, use_cache, progress)
    return Sample(
        tokens=tokens.clone(), nfe=nfe, steps=nfe, seconds=time.perf_counter() - begun, clipped_mass=0.0,
        rule="autoregressive", reads="next", draws=draws, seed=chance.seed,
    )  # fmt: skip


def _canvas(canvas: Canvas | Sequence[int] | Tensor, length: int | None) -> Canvas:
    if isinstance(canvas, Canvas):
        if length not in (None, canvas.length):
            raise ConfigError(
                f"length {length} with a canvas of {canvas.length}", "a canvas has its length: leave it out"
            )
        return canvas
    if length is None:
        raise ConfigError("a prompt without a length", "length counts the prompt and the new tokens")
    return Canvas.prompt(canvas, length)


@torch.inference_mode()
def _write(
    model: AutoregressiveLM,
    canvas: Canvas,
    draws: Draws,
    reshape: Transform | None,
    eos: int | None,
    use_cache: bool,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """The tokens [B, L], and how often the network ran."""
    B, L = canvas.tokens.shape
    start = int(canvas.frozen.sum(1).min())
    read = torch.cat([canvas.tokens.new_full((B, 1), model.bos_id), canvas.tokens], 1)  # bos, then the canvas
    u = draws.uniforms("next", 0, L)
    ended = torch.zeros(B, dtype=torch.bool, device=read.device)
    cache = model.net.cache(B, L) if use_cache else None
    nfe, seen = 0, 0
    for i in range(start, L):
        new = write_one(model, read[:, seen : i + 1], cache, draws, u[:, i], reshape)
        seen, nfe = (i + 1 if use_cache else 0), nfe + 1
        if eos is not None:
            new = torch.where(ended, eos, new)
            ended = ended | ((new == eos) & ~canvas.frozen[:, i])
        read[:, i + 1] = torch.where(canvas.frozen[:, i], canvas.tokens[:, i], new)
        if progress is not None:
            progress(i + 1 - start, L - start)
        if eos is not None and bool(ended.all()):
            read[:, i + 2 :] = eos
            break
    return read[:, 1:], nfe


def write_one(
    model: AutoregressiveLM,
    x: Tensor,
    cache: KVCache | None,
    draws: Draws,
    u: Tensor,
    reshape: Transform | None = None,
) -> Tensor:
    """The token [B] after x [B, L], drawn with u [B]; x is all there is, or all that the cache has not read."""
    logits = model.net.head(model.net.hidden(x)[:, -1]) if cache is None else model.next_logits(x, cache)
    log_p = torch.log_softmax(widest(logits), -1)
    return draws.choose((log_p if reshape is None else reshape(log_p)).exp(), u)
