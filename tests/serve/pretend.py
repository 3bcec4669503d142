"""A small server that keeps the contract of the page, over the embedded twins: real frames, real votes."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import unmask
from unmask.errors import UnmaskError
from unmask.sampling import RULES, Canvas, denoise
from unmask.sampling.recording import Recorder
from unmask.serve.page import page

MODELS = ("sedd-twin", "ar-twin")


class Pretend(ThreadingHTTPServer):
    """votes: a list, or None where voting is off. pause: seconds between frames, so that a run can be looked at."""

    daemon_threads = True

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {name: unmask.load(name) for name in MODELS}
        self.pause = pause
        self.votes: list[dict[str, Any]] | None = []
        self.asked: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Pretend

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(200, page(), "text/html; charset=utf-8")
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [self.describe(name) for name in MODELS]})
        elif self.path == "/v1/votes" and self.server.votes is not None:
            self.answer(200, {"pairs": standing(self.server.votes)})
        else:
            self.answer(404, {"error": {"message": f"nothing at {self.path}"}})

    def describe(self, name: str) -> dict[str, Any]:
        model = self.server.models[name]
        rules = sorted(RULES) if model.kind == "diffusion" else []
        return {"id": name, "object": "model", "kind": model.kind, "context": model.length, "rules": rules}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.path == "/v1/votes":
            assert self.server.votes is not None
            self.server.votes.append(body)
            self.answer(200, {"object": "vote"})
            return
        try:
            events = {"/v1/infill": self.infill, "/v1/completions": self.complete}[self.path](body)
            first = next(events)
        except UnmaskError as error:
            self.answer(400, {"error": {"message": error.message}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in [first, *events] if not self.server.pause else chained(first, events):
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                time.sleep(self.server.pause)
            self.wfile.write(b"data: [DONE]\n\n")
        except BrokenPipeError:  # the reader has had enough
            pass

    def infill(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        model = self.server.models[body["model"]]
        canvas = Canvas.parse(body["template"], model.tokenizer, length=model.length)
        options = {key: body[key] for key in ("steps", "rule", "temperature", "top_p", "seed") if key in body}
        running = denoise(model, canvas, top=body["alternatives"], **options)
        recorder = Recorder(model.tokenizer, running)
        for moment in recorder:
            ids = running.state.tokens[0].tolist()
            tokens = [
                {
                    "id": None if text is None else i, "text": text or "", "given": token.given,
                    "committed_at": token.committed_at,
                    "p": token.p if token.committed_at == moment.step else None,
                    "alternatives": token.alternatives if token.committed_at == moment.step else [],
                }
                for i, text, token in zip(ids, recorder.texts, recorder.tokens, strict=True)
            ]  # fmt: skip
            yield {
                "object": "infill.frame", "step": moment.step, "t": moment.t, "nfe": moment.nfe, "tokens": tokens,
                "seconds": moment.seconds,
            }  # fmt: skip
        made = recorder.recording()
        text = made.text.split("<|endoftext|>")[0]
        yield {"object": "infill.done", "text": text, "seed": body["seed"], "usage": {}, "seconds": moment.seconds}

    def complete(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        model = self.server.models[body["model"]]
        ids = model.tokenizer.encode(body["prompt"])
        made = unmask.sample(
            model, Canvas.prompt(ids, len(ids) + body["max_tokens"]) if ids else Canvas.blank(body["max_tokens"]),
            temperature=body["temperature"], top_p=body["top_p"], seed=body["seed"],
        )  # fmt: skip
        new = made.tokens[0].tolist()[len(ids) :]
        if model.tokenizer.eos_id in new:
            new = new[: new.index(model.tokenizer.eos_id)]
        for count in range(1, len(new) + 1):
            before, after = model.tokenizer.decode(new[: count - 1]), model.tokenizer.decode(new[:count])
            yield {"object": "text_completion", "choices": [{"index": 0, "text": after[len(before) :]}]}
            time.sleep(made.seconds / made.steps)
        yield {"object": "text_completion", "choices": [], "usage": {"completion_tokens": len(new)}}


def chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def standing(votes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wins of the first model of MODELS against the second, with Wilson's interval at 95 %."""
    winners = [MODELS.index(vote[vote["winner"]]["model"]) for vote in votes if vote["winner"] != "tie"]
    if not votes:
        return []
    n, wins, z = len(winners), winners.count(0), 1.96
    if not n:
        return [{"models": list(MODELS), "wins": [0, 0], "ties": len(votes), "rate": None, "interval": [0, 1]}]
    middle = (wins / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((wins / n * (1 - wins / n) / n + z * z / (4 * n * n)) ** 0.5)
    return [
        {
            "models": list(MODELS), "wins": [wins, n - wins], "ties": len(votes) - n, "rate": wins / n,
            "interval": [middle - half, middle + half],
        }
    ]  # fmt: skip


if __name__ == "__main__":
    server = Pretend(pause=0.02)
    print(server.url, flush=True)
    server.serve_forever()
