"""Latency and throughput of diffusion against left-to-right generation with a key-value cache (Figure 1, Table 7).

All competitors take turns in one run, so that what else the machine does hits them alike. Only the tokens that come out
count. What would take too long is measured in the middle of its run and multiplied: a diffusion step costs most at the
start, where the head reads all positions, and a cached token at the end, so that the middle is the mean of either.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from unmask.devices import settle
from unmask.errors import ConfigError
from unmask.evaluation.latency import BreakEven, Latency, Side, against, break_even
from unmask.evaluation.sizes import SIZES, TWINS, Pair, build_pair, given_pair, hugging_face, is_gpt2, parameters
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.nn.cache import growing
from unmask.random import fold, uniform
from unmask.sampling import Canvas, Sample, generate, sample
from unmask.sampling.autoregressive import Writer, cache_for, with_logits
from unmask.sampling.draws import EXACT, keyed
from unmask.sampling.loop import denoise
from unmask.sampling.rules import GridRule, State

__all__ = [
    "SIZES", "TWINS", "BreakEven", "Latency", "Pair", "against", "break_even", "build_pair", "given_pair", "latency",
    "parameters",
]  # fmt: skip
Progress = Callable[[int, int], None]
NAMES: dict[Side, str] = {"sedd": "SEDD", "ar": "AR, key-value cache", "hf": "Hugging Face generate"}


@dataclasses.dataclass(frozen=True)
class _Entrant:
    """One who takes turns: `run` gives the seconds of a batch, `warm_up` a little of the same work."""

    result: Latency  # whose times are to come
    run: Callable[[], tuple[float, int]]  # and evaluations of the network
    warm_up: Callable[[], object]
    counts: tuple[int, ...] = ()  # numbers of steps that the run stands for, where it gives the seconds of one step


def latency(  # noqa: PLR0913 (all keyword-only)
    pair: Pair,
    *,
    steps: Sequence[int],
    batches: Sequence[int] = (1,),
    tokens: int | None = None,
    repeats: int = 3,
    whole_steps: int = 64,
    whole_tokens: int | None = None,
    whole_batch: int = 1,
    whole_hf: bool = True,
    probe: tuple[int, int] = (8, 16),
    rule: str | None = None,
    at_once: int | None = None,
    hf: bool | None = None,
    progress: Progress | None = None,
) -> list[Latency]:
    """Time both sides of a pair, and Hugging Face's generate on the same weights, at each batch.

    tokens: new ones a sequence (default: the context). Runs of up to whole_steps and whole_tokens (default: all), and
    of batches up to whole_batch, are run whole; the others are extrapolated from `probe` diffusion steps (shared among
    the sequences of a batch, at least 1) and tokens in the middle of their run. rule: of the diffusion side (default:
    the model's own). at_once: its larger batches are made as so many sequences at a time, one part after the other,
    where a whole one would take too long and gains nothing; a part is timed and multiplied. whole_hf: whether generate
    runs whole where ours does. hf: whether to time it at all (default: where the network is GPT-2's). progress: told
    (turns done, turns in all).
    Raises ConfigError for numbers that make no run, and as `hugging_face`.
    """
    tokens = pair.length if tokens is None else tokens
    if not (steps and batches and repeats >= 1 and min(*steps, *batches, *probe) >= 1 and 2 <= tokens <= pair.length):
        raise ConfigError(
            f"steps {list(steps)}, batches {list(batches)}, {repeats} repeats, {tokens} tokens, probe {probe}",
            f"all are at least 1, tokens 2 to {pair.length}",
        )
    other = hugging_face(pair.ar) if hf or (hf is None and is_gpt2(pair.ar)) else None
    entrants: list[_Entrant] = []
    for batch in sorted(set(batches)):
        large = batch > min(whole_batch, at_once or whole_batch)
        entrants += _diffusion(
            pair, sorted(set(steps)), batch, tokens, 0 if large else whole_steps, probe[0], rule=rule, at_once=at_once
        )
        whole = not large and (whole_tokens is None or tokens <= whole_tokens)
        entrants.append(_left_to_right(pair, batch, tokens, whole, probe[1]))
        if other is not None:
            entrants.append(_generate(pair, other, batch, tokens, whole and whole_hf, probe[1]))
    return _take_turns(entrants, repeats, pair.device, progress)


def _take_turns(
    entrants: Sequence[_Entrant], repeats: int, device: torch.device, progress: Progress | None
) -> list[Latency]:
    """What each entrant took in each repeat, and the most memory above what was held before, in MB."""
    found = [dataclasses.replace(entrant.result) for entrant in entrants]
    for turn in range(repeats + 1):
        for i, entrant in enumerate(entrants):
            held = _memory(device, start=True)
            if turn == 0:
                entrant.warm_up()
            else:
                seconds, evaluations = entrant.run()
                found[i] = dataclasses.replace(found[i], times=(*found[i].times, seconds), evaluations=evaluations)
            peak = _memory(device)
            if held is not None and peak is not None:
                found[i] = dataclasses.replace(found[i], peak_mb=max(found[i].peak_mb or 0.0, peak - held))
            if progress is not None:
                progress(turn * len(entrants) + i + 1, len(entrants) * (repeats + 1))
    return [result for entrant, one in zip(entrants, found, strict=True) for result in _expanded(entrant, one)]


def _expanded(entrant: _Entrant, result: Latency) -> list[Latency]:
    """One latency for each number of steps that a probe stands for."""
    if not entrant.counts:
        return [result]
    return [
        dataclasses.replace(
            result, name=result.name.format(n), steps=n, evaluations=n, times=tuple(n * s for s in result.times)
        )
        for n in entrant.counts
    ]


def _blank(pair: Pair, side: Side, batch: int, tokens: int) -> Latency:
    model = pair.sedd if side == "sedd" else pair.ar
    arithmetic = str(pair.dtype).removeprefix("torch.") if side == "hf" else pair.arithmetic
    return Latency(
        name=NAMES[side], side=side, steps=None, batch=batch, tokens=tokens,
        evaluations=tokens, times=(), measured=True, size=pair.name, weights=pair.weights,
        parameters=model.net.num_parameters, dtype=arithmetic, device=_device(pair.device),
        threads=torch.get_num_threads(),
    )  # fmt: skip


def _diffusion(
    pair: Pair, steps: Sequence[int], batch: int, tokens: int, whole: int, probe: int, *, rule: str | None,
    at_once: int | None,
) -> list[_Entrant]:  # fmt: skip
    """Whole runs of the numbers of steps up to `whole`, and one probe for all the others."""
    size = min(batch, at_once or batch)
    blank, canvas = _blank(pair, "sedd", batch, tokens), Canvas.blank(tokens, batch=size)
    most, few = max(steps), max(1, probe // size)
    kind = "" if rule is None else f", {rule}"

    def whole_run(n: int) -> Callable[[], tuple[float, int]]:
        def run() -> tuple[float, int]:
            made: list[Sample] = []
            seconds = _clock(lambda: made.append(sample(pair.sedd, canvas, steps=n, rule=rule, seed=0)), pair.device)
            return seconds, made[0].nfe

        return run

    def warm_up() -> object:
        return _middle_steps(pair.sedd, canvas, most, 1, rule)

    def part_of_it() -> tuple[float, int]:
        return batch / size * _middle_steps(pair.sedd, canvas, most, few, rule), 1

    entrants = [
        _Entrant(
            dataclasses.replace(blank, name=f"SEDD, {n} steps{kind}", steps=n, evaluations=n), whole_run(n), warm_up,
        )
        for n in steps
        if n <= whole
    ]  # fmt: skip
    rest = tuple(n for n in steps if n > whole)
    if rest:
        note = f"extrapolated from {few} of {most} steps, in the middle of the run"
        note += f", {size} of {batch} sequences at a time" if size < batch else ""
        result = dataclasses.replace(blank, name=f"SEDD, {{}} steps{kind}", measured=False, note=note)
        entrants.append(_Entrant(result, part_of_it, warm_up, rest))
    return entrants


def _left_to_right(pair: Pair, batch: int, tokens: int, whole: bool, probe: int) -> _Entrant:
    blank, canvas, few = _blank(pair, "ar", batch, tokens), Canvas.blank(tokens, batch=batch), min(probe, tokens)

    def warm_up() -> object:
        return _middle_tokens(pair.ar, batch, tokens, 2)

    if whole:
        return _Entrant(
            blank, lambda: (_clock(lambda: generate(pair.ar, canvas, seed=0), pair.device), tokens), warm_up
        )
    return _Entrant(
        _probed(blank, few), lambda: (tokens * _middle_tokens(pair.ar, batch, tokens, few), tokens), warm_up
    )  # fmt: skip


def _generate(pair: Pair, model: Any, batch: int, tokens: int, whole: bool, probe: int) -> _Entrant:
    """transformers' generate, drawing from the whole law as ours does."""
    blank, few, start = _blank(pair, "hf", batch, tokens), min(probe, tokens - 1), tokens // 2

    def middle(count: int) -> float:
        held = min(start, tokens - count)
        _written(model, batch, held + 1, 1, pair.ar.bos_id, _filled(model, batch, held))  # as in `_middle_tokens`
        cache = _filled(model, batch, held)
        seconds = _clock(lambda: _written(model, batch, held + 1, count, pair.ar.bos_id, cache), pair.device)
        return seconds / count

    def warm_up() -> object:
        return middle(1)

    def all_of_it() -> float:
        return _clock(lambda: _written(model, batch, 1, tokens, pair.ar.bos_id, None), pair.device)

    if whole:
        return _Entrant(blank, lambda: (all_of_it(), tokens), warm_up)
    return _Entrant(_probed(blank, few), lambda: (tokens * middle(few), tokens), warm_up)


def _probed(blank: Latency, few: int) -> Latency:
    note = f"extrapolated from {few} of {blank.tokens} tokens, in the middle of the run"
    return dataclasses.replace(blank, measured=False, note=note)


@torch.inference_mode()
def _middle_steps(model: DiffusionLM, canvas: Canvas, steps: int, count: int, rule: str | None = None) -> float:
    """Seconds a step, of `count` steps from the middle of a run of `steps`, from random tokens half masked."""
    running = denoise(model, canvas, steps=steps, rule=rule, seed=0)
    prior, grid = next(running).tokens, running.rule
    if not isinstance(grid, GridRule):
        raise ConfigError(f"the rule {grid.name} has no grid of times", "time tweedie, euler or ancestral")
    first = max(0, min(steps // 2, steps - count))
    t = grid.times[first]
    gone = float(model.process.schedule.one_minus_alpha(torch.tensor(t, dtype=torch.float64)))
    at = torch.arange(prior.numel()).view(prior.shape)
    text = (uniform(fold(0, "text"), at) * model.process.vocab_size).long().to(prior.device)
    masked = (uniform(fold(0, "masked"), at) < gone).to(prior.device)
    running.state = State(torch.where(masked, prior, text), t, step=first)
    count = min(count, steps)
    return _clock(lambda: [next(running) for _ in range(count)], model.device) / count


@torch.inference_mode()
def _middle_tokens(model: AutoregressiveLM, batch: int, tokens: int, count: int) -> float:
    """Seconds a token, of `count` tokens in the middle of `tokens`; what the cache holds costs the same.

    A token before them does not count: after the turns of others its weights come from farther away, which a whole
    text does not notice, and a few tokens do.
    """
    cache = cache_for(model, batch, tokens)
    cache.keys.zero_(), cache.values.zero_()  # written memory: pages that nobody wrote are all the same one, in cache
    first = max(0, min(tokens // 2, tokens - count))
    draws = keyed(batch, model.device, seed=0, generator=None, mode=EXACT)
    u = with_logits(draws.uniforms("next", 0, tokens), model.device)

    def write(few: int) -> None:
        x, cache.length = torch.full((batch, 1), model.bos_id, device=model.device), first
        for i in range(few):
            x = one(x, u[:, first + i])[:, None]

    one = Writer(model, cache, draws)
    write(1)
    return _clock(lambda: write(count), model.device) / count


def _filled(model: Any, batch: int, held: int) -> Any:
    """A DynamicCache of transformers that holds `held` positions of zeros, None for none."""
    if not held:
        return None
    from transformers import DynamicCache

    c, cache = model.config, DynamicCache(config=model.config)
    keys = torch.zeros(batch, c.n_head, held, c.n_embd // c.n_head, device=model.device, dtype=model.dtype)
    for layer in range(c.n_layer):
        cache.update(keys, keys.clone(), layer)
    return cache


@torch.inference_mode()
def _written(model: Any, batch: int, given: int, count: int, bos_id: int, cache: Any) -> Any:
    ids = torch.full((batch, given), bos_id, device=model.device)
    with growing(model.device):  # four times as fast on an H100 as it is by itself
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True, do_sample=True, top_k=0,
            top_p=1.0, temperature=1.0, max_new_tokens=count,
        )  # fmt: skip
    assert out.shape[1] == given + count
    return out


def _clock(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call; on an accelerator the clock is read when its queue is empty."""
    settle(device)
    began = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - began


def _memory(device: torch.device, start: bool = False) -> float | None:
    """Megabytes held now (start) or at most since then, on CUDA; None elsewhere."""
    if device.type != "cuda":
        return None
    if start:
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    return torch.cuda.max_memory_allocated(device) / 1e6


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
