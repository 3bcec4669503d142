"""The app: routes, and what stands around them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel

import unmask
from unmask.model import AutoregressiveLM, LanguageModel
from unmask.sampling.named import rules_for
from unmask.serve.completions import MISTRAL, OPENAI, Completion
from unmask.serve.engine import Engine
from unmask.serve.guard import Guard
from unmask.serve.infill import Infill
from unmask.serve.metrics import Metrics
from unmask.serve.page import page, policy
from unmask.serve.refusals import Refusal, answer_errors
from unmask.serve.schema import CompletionRequest, FimRequest, InfillRequest, Vote
from unmask.serve.service import Service
from unmask.serve.settings import Settings
from unmask.serve.votes import Votes
from unmask.serve.wire import STREAM, as_json

_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ErrorBody(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every answer that is not 200."""

    error: ErrorBody


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 404, 413, 429, 500, 503, 504)
}


def build(models: Mapping[str, LanguageModel], settings: Settings) -> FastAPI:
    """The app that serves the models by these names, the first by default. `app.state.service` is its Service."""
    engine = Engine(models, slots=settings.slots, queue=settings.queue)
    service = Service(models, settings, engine, Metrics(engine))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.close, settings.timeout)

    app = FastAPI(
        title="unmask", version=unmask.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        responses=_ERRORS,
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(Guard, service=service)
    answer_errors(app)
    _text_routes(app, service)
    _vote_routes(app, Votes(settings.votes) if settings.votes is not None else None)
    _other_routes(app, service)
    return app


def _text_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/completions")
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """A text after a prompt, before a suffix if there is one: OpenAI's completions."""
        return await _answered(request, service, await asyncio.to_thread(Completion, service, body, OPENAI))

    @app.post("/v1/fim/completions")
    async def fim(request: Request, body: FimRequest) -> Response:
        """A text between a prompt and a suffix: Mistral's fill-in-the-middle."""
        return await _answered(request, service, await asyncio.to_thread(Completion, service, body, MISTRAL))

    @app.post("/v1/infill")
    async def infill(request: Request, body: InfillRequest) -> Response:
        """The gaps of a template, anywhere in it."""
        return await _answered(request, service, await asyncio.to_thread(Infill, service, body))

    @app.get("/v1/models")
    async def models() -> Response:
        """The models that are served, the default first."""
        return as_json({"object": "list", "data": [_card(service, name) for name in service.models]})

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        """One of them."""
        if model not in service.models:
            raise Refusal(404, f"no model {model!r} here", param="model", code="model_not_found")
        return as_json(_card(service, model))


async def _answered(request: Request, service: Service, asked: Completion | Infill) -> Response:
    """The answer, whole or as a stream."""
    job = service.job()
    asked.start(job)
    if asked.body.stream:
        return StreamingResponse(asked.stream(job), media_type=STREAM, headers=_STREAM_HEADERS)
    return as_json(asked.answer(await job.whole(request)))


def _card(service: Service, name: str) -> dict[str, Any]:
    """A model as OpenAI lists it, with its kind, its context and the rules that sample it."""
    model = service.models[name]
    rules = [] if isinstance(model, AutoregressiveLM) else rules_for(model.process)
    return {
        "id": name, "object": "model", "created": service.since, "owned_by": "unmask",
        "kind": model.kind, "context": model.length, "rules": rules,
    }  # fmt: skip


def _vote_routes(app: FastAPI, votes: Votes | None) -> None:
    def file() -> Votes:
        if votes is None:
            raise Refusal(404, "this server keeps no votes: start it with --votes FILE", code="no_votes")
        return votes

    @app.post("/v1/votes")
    async def vote(body: Vote) -> Response:
        """Keep which of two texts a reader prefers."""
        kept = file()
        if body.left.model == body.right.model:
            raise Refusal(400, "both texts are of one model: there is nothing to prefer", param="right")
        await asyncio.to_thread(kept.add, body)
        return as_json({"object": "vote", "kept": True})

    @app.get("/v1/votes")
    async def counts() -> Response:
        """Wins and the win rate of each pair of models."""
        return as_json(await asyncio.to_thread(file().counts))


def _other_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Whether requests are answered: 200, or 503."""
        state = "draining" if service.closing else "ok" if service.engine.alive else "broken"
        return as_json({"status": state, "version": unmask.__version__}, 200 if state == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        """The page."""
        rules = f"{policy()}; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": rules, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return HTMLResponse(page(), headers=headers)
