"""A model of this package as lm-eval sees it. lm-eval is imported here; import this module where it is used."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from unmask.compat import load
from unmask.errors import ConfigError, unknown
from unmask.evaluation import choices
from unmask.evaluation.choices import GREEDY, Protocol, Request
from unmask.evaluation.harness import causal
from unmask.evaluation.judge import ASSET_JUDGES, Judge, OurJudge, find_judge
from unmask.evaluation.rows import Progress
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.random import fold
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import fill

MAX_GEN_TOKS = 256  # new tokens where a task does not say, as in lm-eval's own backends


class UnmaskLM(TemplateLM):
    """A diffusion model, an autoregressive model or a judge, for lm-eval: `--model unmask`.

    pretrained: a model of `unmask.load` or what it loads, a judge, or a judge's name ("smollm2"). mode, canvas, sigma,
    reads, mc and seed: of `choices.Protocol`, for diffusion models. greedy: the rule of `choices.GREEDY` that
    `is_greedy` follows; `matches` keeps the answers of both. greedy_only: tasks of which nothing else is wanted: their
    likelihoods under a diffusion model are not estimated, and nan. add_bos: put the model's bos token in front of every
    context, as lm-eval's `add_bos_token`; without it, as there, only where the context is empty. steps: of diffusion
    where text is generated. batch_size and max_batch_size are lm-eval's and are not read. A request that does not fit
    the model's context raises DataError: nothing is cut, and nothing is scored 0.
    """

    def __init__(  # noqa: PLR0913
        self,
        pretrained: str | DiffusionLM | AutoregressiveLM | Judge,
        *,
        mode: str = "conditional",
        canvas: str = "exact",
        sigma: str = "target",
        reads: str | None = None,
        mc: int = 32,
        seed: int = 0,
        greedy: str = "one-pass",
        greedy_only: Collection[str] = (),
        add_bos: bool = False,
        steps: int = 64,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        if greedy not in GREEDY:
            raise unknown("greedy rule", greedy, GREEDY)
        self.protocol = Protocol(mode, canvas, sigma, reads, mc, seed)
        self.greedy, self.greedy_only = greedy, greedy_only
        self.add_bos, self.steps, self.progress = add_bos, steps, progress
        self.model, self.judge = _found(pretrained, device, dtype)
        found = self.model if self.model is not None else self.judge
        assert found is not None  # one of the two
        if found.tokenizer is None:
            raise ConfigError("the model has no tokenizer, so it cannot read text", "put its tokenizer.json beside it")
        self.text = found.tokenizer  # not `tokenizer`: lm-eval takes what is called so for one of transformers
        self.max_length = found.length
        self._device = found.device
        self.matches: dict[tuple[str, str], choices.Match] = {}

    @property
    def eot_token_id(self) -> int:
        """The id that ends a document."""
        return self.text.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is replaced by (autoregressive models)."""
        bos = None if self.judge is None else self.judge.bos_id
        return self.eot_token_id if bos is None else bos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The ids of a text; behind the bos token if `add_bos`, unless add_special_tokens is False."""
        ids = self.text.encode(string)
        bos = self.add_bos and self.judge is not None and add_special_tokens is not False
        return [self.prefix_token_id, *ids] if bos else ids

    def encoded(self, instance: Instance) -> tuple[list[int], list[int]]:
        """Context and continuation of a request as ids, by lm-eval's conventions.

        Spaces at the end of the context move to the continuation. An empty context stays empty for a diffusion model
        and becomes the prefix token for others.
        """
        context, continuation = instance.args
        if context:
            return self._encode_pair(context, continuation)
        ids = self.tok_encode(continuation, add_special_tokens=False)
        if self.judge is None:
            return [], ids
        return (ids[:1], ids[1:]) if ids[:1] == [self.prefix_token_id] else ([self.prefix_token_id], ids)

    def fits(self, instance: Instance) -> bool:
        """Whether a loglikelihood request fits the model's context."""
        context, target = self.encoded(instance)
        if self.model is not None:
            return len(context) + len(target) <= choices.room(self.model, self.protocol)
        return len(context) + len(target) - 1 <= self.max_length

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log p(continuation | context), is_greedy) of each request."""
        pairs = [self.encoded(request) for request in requests]
        out = self._diffusion(requests, pairs) if self.model is not None else self._exact(pairs)
        for request, answer in zip(requests, out, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return out

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """The same of (texts, context ids, continuation ids), which know no document: a context is its question."""
        pairs = [(context, continuation) for _, context, continuation in requests]
        if self.model is None:
            return self._exact(pairs)
        asked = [Request(tuple(context), tuple(target), _number(None, texts[0])) for texts, context, target in requests]
        values = choices.log_likelihoods(self.model, asked, self.protocol, progress=self.progress)
        matches = choices.greedy_matches(self.model, asked, self.protocol)
        return [(value, match.by(self.greedy)) for value, match in zip(values.tolist(), matches, strict=True)]

    def _exact(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        assert self.judge is not None
        return causal.scores(self.judge, pairs, progress=self.progress)

    def _diffusion(
        self, requests: Sequence[Instance], pairs: Sequence[tuple[list[int], list[int]]]
    ) -> list[tuple[float, bool]]:
        assert self.model is not None
        asked = [
            Request(tuple(context), tuple(target), question(request))
            for request, (context, target) in zip(requests, pairs, strict=True)
        ]
        matches = choices.greedy_matches(self.model, asked, self.protocol)
        self.matches.update(zip((request.args for request in requests), matches, strict=True))
        scored = [i for i, request in enumerate(requests) if request.task_name not in self.greedy_only]
        progress, rest = self.progress, len(requests) - len(scored)
        if progress is not None and not scored:
            progress(rest, rest)
        found = choices.log_likelihoods(
            self.model,
            [asked[i] for i in scored],
            self.protocol,
            progress=None if progress is None else lambda done, total: progress(rest + done, rest + total),
        )
        values = dict(zip(scored, found.tolist(), strict=True))
        return [(values.get(i, math.nan), match.by(self.greedy)) for i, match in enumerate(matches)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p of each whole text, in windows of the model's context.

        Autoregressive: exact, windows as in lm-eval. Diffusion: the bound of one window after the other, the last one
        given the tokens before it that fit; the others know nothing of each other.
        """
        texts = [request.args[0] for request in requests]
        windows = [self._windows(self.text.encode(text)) for text in texts]
        pairs = [window for some in windows for window in some]
        if self.model is None:
            values = [value for value, _ in self._exact(pairs)]
        else:
            asked = [Request(tuple(context), tuple(target), i) for i, (context, target) in enumerate(pairs)]
            plain = Protocol(reads=self.protocol.reads, mc=self.protocol.mc, seed=self.protocol.seed)
            values = choices.log_likelihoods(self.model, asked, plain, progress=self.progress).tolist()
        out, place = [], 0
        for text, some in zip(texts, windows, strict=True):
            out.append(sum(values[place : place + len(some)]))
            place += len(some)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), out[-1])
        return out

    def _windows(self, ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """Context and target of each window; every token is a target once."""
        if self.model is None:
            windows = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            return [make_disjoint_window(window) for window in windows]
        size = self.max_length
        starts = range(0, len(ids), size)
        return [(ids[max(0, min(start, len(ids) - size)) : start], ids[start : start + size]) for start in starts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that follows each context: at most `max_gen_toks` tokens, up to the first of `until`.

        Greedy unless the task asks for sampling. A diffusion model fills that many tokens in `steps` steps.
        """
        out = []
        for number, request in enumerate(requests):
            context, options = request.args
            out.append(self._continue(self.tok_encode(context), dict(options), number))
            self.cache_hook.add_partial("generate_until", request.args, out[-1])
            if self.progress is not None:
                self.progress(number + 1, len(requests))
        return out

    def _continue(self, context: list[int], options: dict[str, Any], number: int) -> str:
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        temperature = float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0
        seed = fold(self.protocol.seed, "generate", number)
        most = next((options[key] for key in _MOST if options.get(key) is not None), None)
        if most is None:
            most = max(1, min(MAX_GEN_TOKS, self.max_length - len(context)))
        if self.judge is not None:
            start = context or [self.prefix_token_id]
            return causal.continuation(self.judge, start, int(most), until=stops, temperature=temperature, seed=seed)
        assert self.model is not None
        canvas = Canvas.prompt(context, len(context) + int(most))
        new = fill(self.model, canvas, steps=self.steps, temperature=temperature, seed=seed).tokens[0, len(context) :]
        ends = (new == self.eot_token_id).nonzero()
        return causal.cut(self.text.decode(new[: int(ends[0])] if len(ends) else new), stops)


_MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def question(request: Instance) -> int:
    """A number below 2^32 for what is asked: the same for all choices, whatever else is asked beside it."""
    if request.doc:
        key = json.dumps(request.doc, sort_keys=True, default=str)
    else:
        key = str(request.args[0])
    return _number(request.task_name, key)


def _number(task: str | None, key: str) -> int:
    return fold("question", str(task), key) & 0xFFFFFFFF


def _found(
    pretrained: str | DiffusionLM | AutoregressiveLM | Judge, device: str | None, dtype: str | None
) -> tuple[DiffusionLM | None, Judge | None]:
    """The diffusion model, or else the judge."""
    found: Any = pretrained
    if isinstance(found, str | Path):
        kind = None if dtype is None else getattr(torch, dtype, None)
        if dtype is not None and not isinstance(kind, torch.dtype):
            raise ConfigError(f"dtype {dtype!r} is not a type of numbers", "give float32, bfloat16 or float16")
        if str(found) in ASSET_JUDGES or Path(found).suffix == ".gguf":
            found = find_judge(str(found), device=device, dtype=kind)
        else:
            found = load(found, device=device, dtype=kind)
    if isinstance(found, AutoregressiveLM):
        name = str(pretrained) if isinstance(pretrained, str | Path) else str(found.card.get("name", "the model"))
        found = OurJudge(name, found)
    return (found, None) if isinstance(found, DiffusionLM) else (None, found)
