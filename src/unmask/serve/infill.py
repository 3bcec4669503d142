"""POST /v1/infill: a template with gaps, whole or frame by frame. `lengths` is for gaps of several lengths."""

import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from unmask.sampling.canvas import Canvas
from unmask.sampling.template import Template
from unmask.serve.jobs import Job, News
from unmask.serve.lengths import Lengths
from unmask.serve.reading import UNKNOWN
from unmask.serve.refusals import Refusal, refusal
from unmask.serve.schema import InfillRequest
from unmask.serve.service import Service, usage
from unmask.serve.wire import DONE, WAITING, event
from unmask.serve.work import Look, Row, Sure
from unmask.text.pieces import byte_table, one, pieces

MARK = 64  # bytes that a gap of one token takes at most, and more than a backslash doubles


class Infill:
    """One request under way."""

    def __init__(self, service: Service, body: InfillRequest) -> None:
        """Refusal or ConfigError for what cannot be done. Reads the template, which may take a while."""
        self.service, self.body, self.chosen = service, body, service.chosen(body)
        service.check_rows(body.n, "n")
        if body.stream and body.n != 1:
            raise Refusal(400, f"a stream of {body.n} samples at once: n is 1 with stream", param="n")
        if body.alternatives and not body.diffusing:
            raise Refusal(400, "alternatives are named in frames: they need diffusing", param="alternatives")
        self.chosen.check_size(body.template, "template", MARK)
        self.template = Template.parse(body.template)
        self.lengths = None if self.template.fixed else Lengths(service, self.chosen, body, self.template)
        canvases = self.lengths.canvases if self.lengths is not None else [self._canvas()]
        self.way = dataclasses.replace(self.chosen.way, top=body.alternatives if body.diffusing else None)
        self.rule = [self.way.check(self.chosen.model, each) for each in canvases].pop()
        self.canvas = canvases[0]
        self.id, self.created = f"infill-{uuid.uuid4().hex}", int(time.time())
        self.given = int(self.canvas.frozen.sum())

    def _canvas(self) -> Canvas:
        return Canvas.parse(self.body.template, self.chosen.tokenizer, length=self.chosen.length)

    def start(self, job: Job) -> None:
        """Hand the rows to the engine."""
        if self.lengths is not None:
            job.start(self.lengths.rows(job))
            return
        name, seed = self.chosen.name, self.chosen.seed
        rows = [Row(name, self.way, self.canvas, seed, i, self._watch(job, i), job.fail) for i in range(self.body.n)]
        job.start(rows)

    def _watch(self, job: Job, index: int) -> Callable[[Look], bool]:
        def watch(look: Look) -> bool:
            finished = look.last or bool(look.committed.all())
            look = dataclasses.replace(look, last=finished)
            if self.body.stream or finished:
                job.tell(News(index, look))
            return finished

        return watch

    def usage(self, written: int | None = None) -> dict[str, Any]:
        """Tokens of the whole request, counted once. written: in all gaps that are returned, where lengths differ."""
        written = self.body.n * (self.canvas.length - self.given) if written is None else written
        self.service.metrics.wrote(self.chosen.name, self.given, written)
        return usage(self.given, written)

    def _gaps(self, look: Look) -> list[str]:
        """The text of each gap that has begun, as far as it is final from the left; in a gap that is whole, all of it.

        Of the last of them, bytes that are no character yet are left out.
        """
        final = int(look.committed.long().cumprod(0).sum())
        tokens, frozen, texts, at = look.tokens[:final].tolist(), self.canvas.frozen[0].tolist(), list[str](), 0
        while len(texts) < len(self.template.gaps):
            start = next(i for i in range(at, len(frozen)) if not frozen[i])
            at = start + self.template.gaps[len(texts)].least
            text = self.chosen.tokenizer.decode(tokens[start:at])
            texts.append(self.template.own_text(len(texts), text if at <= final else text.rstrip(UNKNOWN)))
            if at > final:
                break
        return texts

    def _text(self, look: Look) -> str:
        """The given text and what is final of the gaps, up to the first that is not whole."""
        gaps = self._gaps(look)
        if look.last:
            return self.template.filled(gaps)
        return "".join(piece + text for piece, text in zip(self.template.given, gaps, strict=False))

    def answer(self, ends: Sequence[News]) -> dict[str, Any]:
        """The whole answer."""
        if self.lengths is not None:
            choices, seconds = self.lengths.choices(ends), self.lengths.seconds(ends)
            counted = self.usage(sum(sum(each["lengths"]) for each in choices))
            return self._answer(choices, counted, seconds) | {"notices": self.lengths.notices}
        looks = [news.look for news in ends if news.look is not None]
        choices = [
            {"index": i, "text": self._text(look), "gaps": self._gaps(look), "finish_reason": "length"}
            for i, look in enumerate(looks)
        ]
        return self._answer(choices, self.usage(), max(look.seconds for look in looks))

    def _answer(self, choices: list[dict[str, Any]], counted: dict[str, Any], seconds: float) -> dict[str, Any]:
        return {
            "id": self.id, "object": "infill", "created": self.created, "model": self.chosen.name,
            "seed": self.chosen.seed, "rule": self.rule, "choices": choices, "usage": counted,
            "seconds": round(seconds, 6),
        }  # fmt: skip

    async def stream(self, job: Job) -> AsyncIterator[bytes]:
        """Server-sent events: frames, or what is new of the text that is final from the left."""
        said, look = "", None
        frames = Frames(self) if self.body.diffusing else None
        try:
            async for news in job.news():
                if news is None or news.look is None:
                    yield WAITING
                    continue
                look = news.look
                if frames is not None:
                    yield frames.event(look)
                    continue
                text = self._text(look)
                if len(text) > len(said) or look.last:
                    yield event(self._chunk(text[len(said) :], look.last))
                said = text
            assert look is not None
            yield event({
                "object": "infill.done", "text": self._text(look), "seed": self.chosen.seed, "rule": self.rule,
                "usage": self.usage(), "seconds": round(look.seconds, 6),
            })  # fmt: skip
            yield DONE
        except Exception as error:  # the status is sent already: what is wrong is an event
            yield event(refusal(error).body())
        finally:
            job.cancel()

    def _chunk(self, text: str, last: bool) -> dict[str, Any]:
        return {
            "id": self.id, "object": "infill.chunk", "created": self.created, "model": self.chosen.name,
            "choices": [{"index": 0, "text": text, "finish_reason": "length" if last else None}],
        }  # fmt: skip


class Frames:
    """Makes the events of one sample: an entry a position, what was committed when, and how sure the model was.

    An entry is written anew only where it changed: an autoregressive model has as many frames as tokens.
    """

    def __init__(self, of: Infill) -> None:
        self._table, self._rule = byte_table(of.chosen.tokenizer), of.rule
        self._given: list[bool] = of.canvas.frozen[0].tolist()
        self._committed: list[int | None] = [0 if each else None for each in self._given]
        self._says: list[tuple[Any, ...]] = [()] * len(self._given)
        self._entries = [""] * len(self._given)

    def event(self, look: Look) -> bytes:
        """The event of a look."""
        here, final = look.here.tolist(), look.committed.tolist()
        ids = [number if stands else None for number, stands in zip(look.tokens.tolist(), here, strict=True)]
        texts, sure = pieces(self._table, ids), {each.position: each for each in look.top}
        for i, (number, text) in enumerate(zip(ids, texts, strict=True)):
            if final[i] and self._committed[i] is None:
                self._committed[i] = look.step
            says = number, text, self._committed[i], sure.get(i)
            if says != self._says[i]:
                self._says[i], self._entries[i] = says, self._entry(i, *says)
        frame = {"object": "infill.frame", "step": look.step, "t": look.t, "nfe": look.nfe}
        return event(frame | {"seconds": round(look.seconds, 6), "rule": self._rule}, tokens=self._entries)

    def _entry(self, i: int, number: int | None, text: str | None, committed: int | None, sure: Sure | None) -> str:
        """A position, as JSON."""
        others = [] if sure is None else [[one(self._table, other), _round(p)] for other, p in sure.others]
        return json.dumps({
            "id": number, "text": text or "", "given": self._given[i], "committed_at": committed,
            "p": None if sure is None else _round(sure.p), "alternatives": others,
        }, allow_nan=False)  # fmt: skip


def _round(p: float) -> float:
    return round(p, 6)
