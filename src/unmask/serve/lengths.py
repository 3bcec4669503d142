"""Gaps of several lengths in a request: every combination that is tried is a row, and the bound of its text decides.

The rows are moved length by length beside all others. The bound of each is measured behind it, in the worker, between
the moves; a request that is given up stops before the next one. What comes out is what `unmask.infill` makes of the
same seed: the plan, the measurement and the choice are its own.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from unmask.evaluation.infill import Choice, Search, bounds, choose, plan
from unmask.model import AutoregressiveLM
from unmask.sampling.canvas import Canvas
from unmask.sampling.template import Template
from unmask.serve.jobs import Job, News
from unmask.serve.refusals import Refusal
from unmask.serve.schema import InfillRequest
from unmask.serve.service import Chosen, Service
from unmask.serve.work import Look, Row


class Lengths:
    """The combinations of lengths of one request. canvases: one for each. notices: what is to be said of them all."""

    def __init__(self, service: Service, chosen: Chosen, body: InfillRequest, template: Template) -> None:
        """Refusal or ConfigError for what cannot be done."""
        if body.stream:
            raise Refusal(
                400, "a stream of gaps of several lengths: which text is sent is known at the end only; leave out "
                "stream, or give each gap one length", param="stream",
            )  # fmt: skip
        self.chosen, self.n, self.search = chosen, body.n, _search(body, service.settings.max_n)
        context = min(chosen.length, chosen.model.length)  # the bound reads no more than the model's own
        self.plan = plan(chosen.model, template, self.search, context)
        self.canvases = [Canvas.laid(self.plan.given, each) for each in self.plan.lengths]
        self.notices = list(self.plan.notices)

    def rows(self, job: Job) -> list[Row]:
        """All samples of the first combination, then those of the next one."""
        name, way, seed = self.chosen.name, self.chosen.way, self.chosen.seed
        return [
            Row(name, way, canvas, seed, i, self._watch, job.fail, self._behind(job, i, place * self.n + i))
            for place, canvas in enumerate(self.canvases)
            for i in range(self.n)
        ]

    @staticmethod
    def _watch(look: Look) -> bool:
        return look.last or bool(look.committed.all())

    def _behind(self, job: Job, sample: int, index: int) -> Callable[[Look], None]:
        """What the worker does with a text that is whole."""
        model, search, seed = self.chosen.model, self.search, self.chosen.seed
        assert not isinstance(model, AutoregressiveLM)  # of a plan
        several = len(self.canvases) > 1

        def behind(look: Look) -> None:
            began = time.monotonic()
            values = bounds(model, look.tokens[None], search, seed, sample)[0] if several else None
            job.tell(News(index, dataclasses.replace(look, last=True), None, values, time.monotonic() - began))

        return behind

    def seconds(self, ends: Sequence[News]) -> float:
        """Of the longest filling, and of all measurements."""
        return max(news.look.seconds for news in ends if news.look is not None) + sum(news.seconds for news in ends)

    def choices(self, ends: Sequence[News]) -> list[dict[str, Any]]:
        """What was chosen for each sample, with what spoke for it."""
        found = []
        for i in range(self.n):
            choice = self._choice(ends[i :: self.n])
            taken = choice.candidates[choice.chosen]
            found.append({
                "index": i, "text": taken.text, "gaps": [gap.text for gap in choice.gaps], "finish_reason": "length",
                "lengths": list(taken.lengths), "chosen": choice.chosen,
                "candidates": [dataclasses.asdict(each) for each in choice.candidates],
                "notices": list(choice.notices),
            })  # fmt: skip
        return found

    def _choice(self, ends: Sequence[News]) -> Choice:
        """Of one sample."""
        assert not isinstance(self.chosen.model, AutoregressiveLM)  # of a plan
        texts = [news.look.tokens.tolist() for news in ends if news.look is not None]
        values = [news.measured for news in ends if news.measured is not None]
        return choose(self.chosen.model, self.plan, texts, values, self.search.prior)


def _search(body: InfillRequest, most: int) -> Search:
    """How lengths are chosen. Refusal 400 for more combinations than a request may have samples."""
    room = most // body.n
    if room < 2:
        raise Refusal(
            400, f"n is {body.n} with gaps of several lengths, each of which is a sample: at most {most} here in all",
            param="n",
        )  # fmt: skip
    if body.candidates is not None and body.candidates > room:
        raise Refusal(
            400, f"{body.candidates} candidates of lengths with n {body.n}, at most {room} here: each is a sample, and "
            f"a request has at most {most}", param="candidates",
        )  # fmt: skip
    given = {
        name: getattr(body, name) for name in ("prior", "repeats", "candidates") if getattr(body, name) is not None
    }
    return Search(**({"candidates": room} | given))
