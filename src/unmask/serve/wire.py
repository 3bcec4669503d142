"""JSON and server-sent events, in ASCII, so that a lone surrogate in an error message cannot break an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import Response

STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"  # a comment, so that nobody in between takes the connection for dead


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(json.dumps(body, allow_nan=False), status, headers, "application/json")


def event(body: Any, **lists: Sequence[str]) -> bytes:
    """One server-sent event. lists: further fields of the body, each a list of what is JSON already."""
    text = json.dumps(body, allow_nan=False)
    for name, parts in lists.items():
        text = f'{text[:-1]}, "{name}": [{", ".join(parts)}]}}'
    return f"data: {text}\n\n".encode()
