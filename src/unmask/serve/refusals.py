"""Why a request is not answered, as OpenAI says it: {"error": {"message", "type", "param", "code"}} and a status."""

import sys
import traceback
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from unmask.errors import InputError, UnmaskError
from unmask.serve.engine import ClosedError, FullError
from unmask.serve.wire import as_json

_FORMS = {
    "prompt": "it is a text, a list of texts, a list of token ids, or a list of such lists",
    "stop": "it is a text, or a list of up to 4",
}
KINDS = {401: "authentication_error", 408: "timeout_error", 429: "rate_limit_error", 504: "timeout_error"}


class Refusal(Exception):
    """An error body with its status. param: the field at fault. code: a name for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers or {}

    def body(self) -> dict[str, Any]:
        """The error body."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer."""
        return as_json(self.body(), self.status, self.headers)


def refusal(error: Exception, param: str | None = None) -> Refusal:
    """What a client is told of an error: its own mistakes in full, ours without their insides (those go to stderr)."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, FullError):
        wait = {"Retry-After": str(error.retry_after)}
        return Refusal(429, f"{error.message}: {error.hint}", code="queue_full", headers=wait)
    if isinstance(error, ClosedError):
        return closing()
    if isinstance(error, InputError):
        return Refusal(400, error.message if error.hint is None else f"{error.message}: {error.hint}", param=param)
    if isinstance(error, torch.OutOfMemoryError):
        return Refusal(503, "the device is out of memory", code="out_of_memory", headers={"Retry-After": "5"})
    if not isinstance(error, UnmaskError):
        traceback.print_exception(error, file=sys.stderr)
        return Refusal(500, "the server failed at this request; its log says more", code="internal_error")
    return Refusal(500, error.message, code="internal_error")


def closing() -> Refusal:
    """What a request is told while the server finishes what it has."""
    headers = {"Retry-After": "5", "Connection": "close"}
    return Refusal(503, "the server is about to stop and takes no new requests", code="draining", headers=headers)


def invalid(error: RequestValidationError) -> Refusal:
    """The first thing that is wrong with a body, by its field."""
    first: dict[str, Any] = dict(error.errors()[0])
    where = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['ctx']['error']} at character {where[0]}")
    if first["type"] == "extra_forbidden":
        return Refusal(400, f"unknown field {where[-1]!r}", param=where[-1], code="unknown_field")
    if first["type"] == "unsupported":
        return Refusal(400, first["msg"], param=first["ctx"]["field"], code="unsupported_field")
    if not where:
        return Refusal(400, "the body has to be a JSON object, sent as Content-Type: application/json")
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "string_type":
        message = _FORMS.get(where[0], message)
    return Refusal(400, f"{where[0]}: {message}", param=where[0])


def answer_errors(app: FastAPI) -> None:
    """Have the app answer every error with an error body."""

    def refused(request: Request, error: Exception) -> Response:
        return refusal(error).response()

    def not_valid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return invalid(error).response()

    def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is nothing at {request.url.path!r}: see /openapi.json for what is there"
        if error.status_code == 405:
            message = f"{request.method} is not answered at {request.url.path!r}"
        if error.status_code == 400:
            message = "the body cannot be read: it has to be JSON in UTF-8"
        return Refusal(error.status_code, message, headers=dict(error.headers or {})).response()

    for kind in (Refusal, UnmaskError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(HTTPException, plain)
