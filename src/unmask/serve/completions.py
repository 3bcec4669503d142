"""POST /v1/completions and /v1/fim/completions: a text after a prompt, before a suffix if there is one."""

import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from unmask.sampling.canvas import Canvas
from unmask.serve.jobs import Job, News
from unmask.serve.reading import Reading, read
from unmask.serve.refusals import Refusal, refusal
from unmask.serve.schema import CompletionRequest, FimRequest
from unmask.serve.service import Chosen, Service, usage
from unmask.serve.wire import DONE, WAITING, event
from unmask.serve.work import Look, Row

BUCKET = 32  # canvases of a diffusion model are as long as a multiple of this, so that more of them share evaluations
MASKED = "░"


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """Where the new text stands: `room` positions from `first` on a canvas [1, L], `given` tokens around it."""

    canvas: Canvas
    first: int
    room: int
    given: int


def place(chosen: Chosen, prompt: Sequence[int], suffix: Sequence[int], room: int) -> Place:
    """The canvas of a prompt. Refusal 400 where it does not fit the model.

    A diffusion model writes on behind the canvas, up to a multiple of BUCKET: what is there is not returned.
    """
    given, length = len(prompt) + len(suffix), chosen.length
    needed = given + room
    if needed > length:
        raise Refusal(
            400, f"{given} given tokens and {room} new ones make {needed}, a sample has at most {length} here",
            param="max_tokens", code="context_length_exceeded",
        )  # fmt: skip
    if suffix and chosen.writes_rightwards:
        raise Refusal(
            400, f"{chosen.name} is autoregressive: it writes only to the right of what is given", param="suffix"
        )
    size = needed if chosen.writes_rightwards else min(length, -(-needed // BUCKET) * BUCKET)
    parts: list[int | Sequence[int]] = [list(prompt), room, list(suffix)]
    parts += [size - needed] if size > needed else []
    return Place(Canvas.template(*parts), len(prompt), room, given)


class Completion:
    """One request under way: its rows, what they say, and the answer's shape."""

    def __init__(self, service: Service, body: CompletionRequest | FimRequest, shape: "Shape") -> None:
        """Refusal or ConfigError for what cannot be done. Reads the prompts, which may take a while."""
        self.service, self.body, self.shape, self.chosen = service, body, shape, service.chosen(body)
        stop = body.stop if body.stop is not None else ()
        self.stops = (stop,) if isinstance(stop, str) else tuple(stop)
        prompts = _prompts(self.chosen, body.prompt)
        service.check_rows(len(prompts) * body.n, "n")
        suffix = self.chosen.encode(body.suffix or "", "suffix")
        self.places = [place(self.chosen, prompt, suffix, body.max_tokens) for prompt in prompts]
        self.rule = [self.chosen.way.check(self.chosen.model, each.canvas) for each in self.places].pop()
        self.id, self.created = f"{shape.prefix}-{uuid.uuid4().hex}", int(time.time())
        if body.stream_options is not None and not body.stream:
            raise Refusal(400, "stream_options is for streams", param="stream_options")

    def start(self, job: Job) -> None:
        """Hand the rows to the engine."""
        rows = []
        for i, where in enumerate(where for where in self.places for _ in range(self.body.n)):
            watch = self._watch(job, i, where)
            rows.append(Row(self.chosen.name, self.chosen.way, where.canvas, self.chosen.seed, i, watch, job.fail))
        job.start(rows)

    def _watch(self, job: Job, index: int, where: Place) -> Callable[[Look], bool]:
        """What the worker calls after each move of a row: reads the text that is final from the left."""
        known, there, tokenizer = -1, slice(where.first, where.first + where.room), self.chosen.tokenizer

        def watch(look: Look) -> bool:
            nonlocal known
            final = int(look.committed[there].long().cumprod(0).sum())
            shown = look if self.body.diffusing else None
            if final == known and shown is None:
                return False
            known, ids = final, look.tokens[there][:final].tolist()
            reading = read(tokenizer, ids, whole=final == where.room, stops=self.stops)
            if self.body.stream or reading.reason is not None:
                job.tell(News(index, shown, reading))
            return reading.reason is not None

        return watch

    def usage(self, readings: Sequence[Reading]) -> dict[str, Any]:
        """Tokens of the whole request, counted once."""
        given, written = sum(where.given for where in self.places), sum(reading.tokens for reading in readings)
        self.service.metrics.wrote(self.chosen.name, given, written)
        return usage(given, written)

    def answer(self, ends: Sequence[News]) -> dict[str, Any]:
        """The whole answer."""
        readings = [news.reading for news in ends if news.reading is not None]
        choices = [self.shape.whole(i, r.text, r.reason) for i, r in enumerate(readings)]
        return self._around(self.shape.object, choices) | {"usage": self.usage(readings)}

    async def stream(self, job: Job) -> AsyncIterator[bytes]:
        """Server-sent events: what is new of each text, or whole frames where the client asked for them."""
        said: dict[int, str] = {}
        ends: dict[int, Reading] = {}
        try:
            async for news in job.news():
                if news is None or news.reading is None:
                    yield WAITING
                    continue
                if news.look is not None:
                    yield event(self._frame(news.index, news.look))
                old, reading = said.get(news.index, ""), news.reading
                said[news.index] = reading.text
                if reading.reason is not None:
                    ends[news.index] = reading
                new = reading.text if self.body.diffusing else reading.text[len(old) :]
                if (new and not self.body.diffusing) or reading.reason is not None:
                    choice = self.shape.part(news.index, new, reading.reason)
                    yield event(self._around(self.shape.chunk, [choice]))
            counted = self.usage([ends[i] for i in sorted(ends)])
            if self.body.stream_options is not None and self.body.stream_options.include_usage:
                yield event(self._around(self.shape.chunk, []) | {"usage": counted})
            yield DONE
        except Exception as error:  # the status is sent already: what is wrong is an event
            yield event(refusal(error).body())
        finally:
            job.cancel()

    def _around(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.chosen.name,
            "seed": self.chosen.seed, "rule": self.rule, "choices": choices,
        }  # fmt: skip

    def _frame(self, index: int, look: Look) -> dict[str, Any]:
        """The text as it stands, the masks shown: it takes the place of the frame before."""
        where = self.places[index // self.body.n]
        there = slice(where.first, where.first + where.room)
        ids, here = look.tokens[there].tolist(), look.here[there].tolist()
        text, run = "", list[int]()
        for number, stands in zip([*ids, 0], [*here, False], strict=True):
            if stands:
                run.append(number)
                continue
            text += self.chosen.tokenizer.decode(run) + MASKED
            run = []
        frame = self.shape.frame(index, text[: -len(MASKED)])
        return self._around(self.shape.frames, [frame]) | {"step": look.step, "t": look.t, "nfe": look.nfe}


def _prompts(chosen: Chosen, prompt: str | list[str] | list[int] | list[list[int]]) -> list[list[int]]:
    """The token ids of each prompt. Refusal 400 for none, and for ids that are no tokens."""
    if isinstance(prompt, str):
        return [chosen.encode(prompt, "prompt")]
    if not prompt:
        raise Refusal(400, "prompt is an empty list: give a text", param="prompt")
    if isinstance(prompt[0], int):
        prompt = [prompt]
    rows = [chosen.encode(each, "prompt") if isinstance(each, str) else list(each) for each in prompt]
    for number in (number for row in rows for number in row):
        if number >= chosen.tokenizer.vocab_size:
            size = chosen.tokenizer.vocab_size
            raise Refusal(400, f"token {number} in the prompt, the model has {size} tokens", param="prompt")
    return rows


@dataclasses.dataclass(frozen=True)
class Shape:
    """How an API says the same: names of objects, and a choice whole, in part, and as a frame."""

    prefix: str
    object: str
    chunk: str
    frames: str
    whole: Callable[[int, str, str | None], dict[str, Any]]
    part: Callable[[int, str, str | None], dict[str, Any]]
    frame: Callable[[int, str], dict[str, Any]]


def _text(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _message(index: int, text: str, reason: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "tool_calls": None}
    return {"index": index, "message": message, "finish_reason": reason}


def _delta(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": reason}


OPENAI = Shape(
    "cmpl", "text_completion", "text_completion", "text_completion.frame", _text, _text,
    lambda index, text: _text(index, text, None),
)  # fmt: skip
MISTRAL = Shape(
    "fim", "chat.completion", "chat.completion.chunk", "chat.completion.frame", _message, _delta,
    lambda index, text: _delta(index, text, None),
)  # fmt: skip
