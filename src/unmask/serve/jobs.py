"""Between the worker and a request: what the worker's thread says arrives here on the event loop, in order.

A request waits for its rows at most so long, and no longer than its client does; whoever stops waiting cancels them.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import Request
from torch import Tensor

from unmask.errors import InputError
from unmask.serve.engine import Engine
from unmask.serve.reading import Reading
from unmask.serve.refusals import Refusal
from unmask.serve.work import Look, Row

HEARTBEAT = 15.0  # seconds of silence in a stream


@dataclasses.dataclass(frozen=True, eq=False)
class News:
    """Of row `index`: how it stands, its text as far as it is final, or both. reading.reason or look.last ends it.

    measured: what its bound was found to be, nats per token, [R], in so many seconds.
    """

    index: int
    look: Look | None = None
    reading: Reading | None = None
    measured: Tensor | None = None
    seconds: float = 0.0

    @property
    def last(self) -> bool:
        """Whether nothing follows about this row."""
        return self.reading.reason is not None if self.reading is not None else self.look is not None and self.look.last


class Job:
    """The rows of one request. Made on the event loop; `tell` and `fail` are for the worker's thread."""

    def __init__(self, engine: Engine, timeout: float) -> None:
        self._engine, self._loop = engine, asyncio.get_running_loop()
        self._until, self._timeout = time.monotonic() + timeout, timeout
        self._news: asyncio.Queue[News | Exception] = asyncio.Queue()
        self._rows: Sequence[Row] = ()

    def tell(self, news: News | Exception) -> None:
        """Say something; nobody listens once the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)
        except RuntimeError:
            pass

    def fail(self, error: Exception) -> None:
        """A row will not be finished. What was given was checked before: this is not the client's mistake."""
        self.tell(Refusal(500, error.message, code="internal_error") if isinstance(error, InputError) else error)

    def start(self, rows: Sequence[Row]) -> None:
        """Hand the rows to the engine. FullError, ClosedError as `Engine.submit`."""
        self._rows = rows
        self._engine.submit(rows)

    def cancel(self) -> None:
        """Nobody waits any more. Rows that are finished do not care."""
        if self._rows:
            self._engine.cancel(self._rows)

    async def news(self) -> AsyncIterator[News | None]:
        """All there is to know until every row is finished, None after a long silence.

        Raises what a row failed with, and Refusal 504 when time is up.
        """
        left = len(self._rows)
        while left:
            pause = min(HEARTBEAT, self._until - time.monotonic())
            try:
                news = await asyncio.wait_for(self._news.get(), max(pause, 0))
            except TimeoutError:
                if time.monotonic() < self._until:
                    yield None
                    continue
                raise Refusal(
                    504, f"not finished within {self._timeout:g} s: ask for less, or in fewer steps", code="timeout"
                ) from None
            if isinstance(news, Exception):
                raise news
            left -= news.last
            yield news

    async def whole(self, request: Request) -> list[News]:
        """The last news of each row, by index. Refusal 499 when the client has gone."""
        gone = asyncio.create_task(_gone(request))
        done = asyncio.create_task(self._ends())
        try:
            await asyncio.wait({gone, done}, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            raise Refusal(499, "the client has gone", code="client_gone")
        finally:
            gone.cancel()
            done.cancel()
            self.cancel()

    async def _ends(self) -> list[News]:
        ends = {news.index: news async for news in self.news() if news is not None and news.last}
        return [ends[i] for i in sorted(ends)]


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
