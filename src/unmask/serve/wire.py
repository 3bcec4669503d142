"""JSON and server-sent events, in ASCII, so that a lone surrogate in an error message cannot break an answer."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"  # a comment, so that nobody in between takes the connection for dead


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(json.dumps(body, allow_nan=False), status, headers, "application/json")


def event(body: Any) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(body, allow_nan=False)}\n\n".encode()
