"""Sampling from left to right, the baseline of every diffusion model. Shapes: B batch, L length, V tokens."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.devices import float_type, sent, wide
from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM
from unmask.nn.cache import KVCache
from unmask.nn.compiled import is_compiled
from unmask.nn.decoding import compiled_cache, why_not
from unmask.nn.graphs import record
from unmask.nn.static import StaticStep
from unmask.nn.transformer import Transformer
from unmask.sampling.canvas import Canvas
from unmask.sampling.draws import EXACT, Draws, categorical, from_logs, keyed
from unmask.sampling.loop import Progress, Sample, check_canvas, reshaping
from unmask.sampling.transforms import Transform

RULE = "autoregressive"  # where the name of a rule is told
ROWS_A_DRAW = 16  # laws in float64 at a time: more of them are slower, for they no longer fit what memory is at hand


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
    compile: bool = False,
    stop_at_eos: bool = False,
    progress: Progress | None = None,
) -> Sample:
    """Write the canvas to its end, one token a step, given the tokens before it.

    canvas: a Canvas, or the prompt's ids ([P], or a tensor [B, P]) with `length`, which counts prompt and new tokens;
    the bos token that the model reads first is not counted. temperature (0 is greedy), top_p, top_k, min_p, seed,
    generator, draws and first_sample as in `denoise`. use_cache: keep keys and values instead of reading everything
    again for each token; the tokens are the same. compile: take tokens through native code on the CPU, built in a few
    seconds by its C++ compiler once a process, or through CUDA graphs (see `unmask.nn.decoding`); so does a model after
    `model.compile()`, unless it is quantized. stop_at_eos: the tokens after the first new eos are eos, and the run ends
    when all rows have one. progress: told, after every token, how many are written, and of how many.
    Raises ConfigError for a canvas that gives tokens after a gap, one longer than the context, compile for a network or
    a machine that has no such way or without the cache, and as `denoise`.
    """
    begun = time.perf_counter()
    given = _canvas(canvas, length)
    check_canvas(given, model.length, model.net.config.num_inputs)
    if bool((given.frozen[:, 1:] & ~given.frozen[:, :-1]).any()):
        raise ConfigError(
            "the canvas gives tokens after a gap: an autoregressive model only writes to the right of what is given",
            "use a prompt on the left, or a diffusion model",
        )
    if compile and not use_cache:
        raise ConfigError("compile=True without the cache", "what is compiled is the step of one token: use the cache")
    if stop_at_eos and model.tokenizer is None:
        raise ConfigError("stop_at_eos needs a tokenizer to know eos, and the model has none", "give the model one")
    eos = model.tokenizer.eos_id if stop_at_eos and model.tokenizer is not None else None
    reshape = reshaping(temperature, top_p, top_k, min_p)
    chance = keyed(given.batch, model.device, seed=seed, generator=generator, mode=draws, first_sample=first_sample)
    cache = None
    if use_cache:
        cache = cache_for(model, given.batch, given.length, compile=compile)
    tokens, nfe = _write(model, given.to(model.device), chance, reshape, eos, cache, progress)
    return Sample(
        tokens=tokens.clone(), nfe=nfe, steps=nfe, seconds=time.perf_counter() - begun, clipped_mass=0.0,
        rule=RULE, reads="next", draws=draws, seed=chance.seed,
    )  # fmt: skip


def cache_for(model: AutoregressiveLM, batch: int, length: int, *, compile: bool = False) -> KVCache:
    """An empty cache: the fast one where it is asked for, or where the model was compiled and its network has one."""
    net = model.net
    fast = is_compiled(net) and (model.device.type == "cuda" or why_not(net) is None)
    return (compiled_cache if compile or fast else Transformer.cache)(net, batch, length)


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
    cache: KVCache | None,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """The tokens [B, L], and how often the network ran."""
    B, L = canvas.tokens.shape
    start = int(canvas.frozen.sum(1).min())
    read = torch.cat([canvas.tokens.new_full((B, 1), model.bos_id), canvas.tokens], 1)  # bos, then the canvas
    u = with_logits(draws.uniforms("next", 0, L), model.device)
    ended = torch.zeros(B, dtype=torch.bool, device=read.device)
    nfe, seen, write = 0, 0, Writer(model, cache, draws, reshape)
    for i in range(start, L):
        new = write(read[:, seen : i + 1], u[:, i])
        seen, nfe = (0 if cache is None else i + 1), nfe + 1
        if eos is not None:
            new = torch.where(ended, eos, new)
            ended = ended | ((new == eos) & ~canvas.frozen[:, i])
        read[:, i + 1] = torch.where(canvas.frozen[:, i], canvas.tokens[:, i], new)
        if progress is not None:
            progress(i + 1 - start, L - start)
        if eos is not None and bool(ended.all()):
            read[:, i + 2 :] = eos
            break
    draws.watch.settle()
    return read[:, 1:], nfe


class Writer:
    """Writes a token a call: the network, then the draw, which is a graph too where the network's step is one."""

    def __init__(
        self, model: AutoregressiveLM, cache: KVCache | None, draws: Draws, reshape: Transform | None = None
    ) -> None:
        self.model, self.cache, self.draws, self.reshape = model, cache, draws, reshape
        still = cache is not None and isinstance(cache.engine, StaticStep) and model.device.type == "cuda"
        self.still = still and draws.exact and reshape is None
        self.recorded: tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The token [B] after x [B, L], drawn with u [B]; x is all there is, or all that the cache has not read.

        As a graph's, it is there until the next call.
        """
        net = self.model.net
        logits = net.head(net.hidden(x)[:, -1]) if self.cache is None else self.model.next_logits(x, self.cache)
        if not self.still:
            return draw_next(logits, self.draws, u, self.reshape)
        return self.replay(logits, u)

    def replay(self, logits: Tensor, u: Tensor) -> Tensor:
        """`draw_next` of logits [B, V] and u [B] as a graph."""
        if self.recorded is None:
            own, chance = logits.clone(), u.clone()
            graph, new = record(lambda: categorical(from_logs(own), chance, self.draws.watch), own.device)
            self.recorded = graph, own, chance, new
        graph, own, chance, new = self.recorded
        own.copy_(logits)
        chance.copy_(u)
        graph.replay()
        return new


def with_logits(u: Tensor, device: torch.device) -> Tensor:
    """Uniforms of a whole text where its draws are made: on the device, unless that has no float64."""
    return sent(u, device) if float_type(device) == torch.float64 else u


def draw_next(logits: Tensor, draws: Draws, u: Tensor, reshape: Transform | None = None) -> Tensor:
    """The next token [B] by its logits [B, V], drawn with u [B]."""
    if not draws.exact:  # one stream for all rows
        return _draw(logits, draws, u, reshape)
    parts = zip(logits.split(ROWS_A_DRAW), u.split(ROWS_A_DRAW), strict=True)
    return torch.cat([_draw(rows, draws, chance, reshape) for rows, chance in parts])


def _draw(logits: Tensor, draws: Draws, u: Tensor, reshape: Transform | None) -> Tensor:
    """A token a row, [N] from logits [N, V] and u [N]."""
    if reshape is None and draws.exact:  # which takes weights of any sum
        return draws.choose(from_logs(logits), u)
    log_p = torch.log_softmax(wide(logits), -1)
    return draws.choose((log_p if reshape is None else reshape(log_p)).exp(), u)
