"""What every request passes before it is read: who asks, how much is sent, and whether the server still takes requests.

A plain ASGI layer, so that a body is bounded before it is parsed and a stream passes through untouched.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from unmask.serve.refusals import Refusal, closing, refusal
from unmask.serve.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 30.0  # for a body to arrive
SWALLOW = 16  # a body of up to so many times the limit is read to its end, so that its sender sees the answer
ALWAYS = ("/healthz", "/metrics")  # answered while the server is about to stop


class Guard:
    """The layer around the app."""

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._service.busy += 1
        try:
            await self._answer(scope, receive, watched)
        finally:
            self._service.busy -= 1
            route = getattr(scope.get("route"), "path", "other")
            self._service.metrics.answered(route, status, time.monotonic() - began)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if self._service.closing and scope["path"] not in ALWAYS:
                raise closing()
            self._check_key(scope)
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = _again(await self._body(scope, receive), receive)
            await self._app(scope, receive, marked)
        except Exception as error:
            if started:  # the answer is on its way: all that is left is to break it off
                raise
            await refusal(error).response()(scope, receive, send)

    def _check_key(self, scope: Message) -> None:
        """Refusal 401 where the API and its numbers are asked for without the key."""
        key = self._service.settings.api_key
        if key is None or not scope["path"].startswith(("/v1", "/metrics")):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + key.encode()):
            raise Refusal(
                401, "this server wants its API key, as 'Authorization: Bearer KEY'", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The body. Refusal 413 where it is too long, 408 where it takes too long."""
        limit = self._service.settings.body
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = announced.isdigit() and int(announced) > limit
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not too_long or size + limit <= SWALLOW * limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(499, "the client has gone", code="client_gone")
                    part = message.get("body", b"")
                    size += len(part)
                    too_long = too_long or size > limit
                    if not too_long:
                        parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} s", headers=_CLOSE) from None
        if too_long:
            raise Refusal(413, f"the body is longer than {limit} bytes", code="body_too_long", headers=_CLOSE)
        return b"".join(parts)


_CLOSE = {"Connection": "close"}


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what comes after it."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
