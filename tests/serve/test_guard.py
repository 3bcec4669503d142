"""Who may ask, how much, how many at once, and for how long."""

import asyncio
import json
import threading
import time

import pytest
from starlette.testclient import TestClient
from tests.serve.test_routes import post, refused

from unmask.errors import ConfigError
from unmask.serve import guard
from unmask.serve.app import build
from unmask.serve.settings import Settings, is_loopback

LONG = {"prompt": "x", "max_tokens": 24, "rule": "ancestral", "steps": 1024, "seed": 0}


def slowed(served, monkeypatch, seconds=0.01):
    """The sedd model, each evaluation of which takes at least so long."""
    predict = served["sedd"].predict

    def later(xt, t):
        time.sleep(seconds)
        return predict(xt, t)

    monkeypatch.setattr(served["sedd"], "predict", later, raising=False)


def until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it does not come true")


def test_a_key_is_wanted_for_the_api_and_its_numbers(served):
    with TestClient(build(served, Settings(api_key="sécret"))) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "sécret".encode()}):
            answer = client.get("/v1/models", headers=headers)
            refused(answer, 401, "API key", type="authentication_error", code="invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        right = {"Authorization": "Bearer sécret".encode()}
        assert client.get("/v1/models", headers=right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200


def test_anything_but_this_machine_wants_a_key():
    assert [is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(h) for h in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5
    with pytest.raises(ConfigError, match=r"host 0\.0\.0\.0 without an API key"):
        Settings(host="0.0.0.0")
    assert Settings(host="0.0.0.0", api_key="k").api_key == "k"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"api_key": " "}, "empty API key"), ({"slots": 0}, "slots is 0"), ({"timeout": 0.0}, "timeout 0"),
        ({"port": 70000}, "port 70000"), ({"max_n": 99}, "max_n 99"), ({"body": 0}, "body is 0"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        Settings(**wrong)


def test_a_body_is_bounded_before_it_is_read(served):
    with TestClient(build(served, Settings(body=1000))) as client:
        refused(post(client, prompt="x" * 2000), 413, "longer than 1000 bytes", code="body_too_long")
        parts = iter([b'{"prompt": "', b"x" * 900, b"y" * 900, b'"}'])
        answer = client.post("/v1/completions", content=parts, headers={"Content-Type": "application/json"})
        refused(answer, 413, "longer than 1000 bytes")
        refused(post(client, prompt="x" * 100_000), 413, "longer than 1000 bytes")
        assert post(client, prompt="x", max_tokens=2, steps=1).status_code == 200


def scope(path="/v1/completions", method="POST", **headers):
    given = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *given], "client": ("test", 1), "server": ("test", 2),
    }  # fmt: skip


async def asked(app, messages, then=None):
    """Call the app as a server does; after the given messages the client does what `then` says."""
    sent, left = [], iter(messages)

    async def receive():
        for message in left:
            return message
        if then is not None:
            await then()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope(), receive, send)
    return sent


def body(**fields):
    return {"type": "http.request", "body": json.dumps(fields).encode(), "more_body": False}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_cancels_its_work(served, monkeypatch, stream):
    slowed(served, monkeypatch)
    app = build(served, Settings())

    async def run():
        async with app.router.lifespan_context(app):
            lane = app.state.service.engine.lanes["sedd"]

            async def leave():
                while lane.evaluations < 3:
                    await asyncio.sleep(0.005)

            await asked(app, [body(**LONG, stream=stream)], leave)
            for _ in range(400):
                if not lane.busy:
                    break
                await asyncio.sleep(0.005)
            return lane.evaluations, lane.finished, lane.busy

    evaluations, finished, busy = asyncio.run(run())
    assert 3 <= evaluations < 100 and finished == 0 and not busy


def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    app = build(served, Settings())

    async def run():
        begun = {"type": "http.request", "body": b"{", "more_body": True}
        return await asked(app, [begun], lambda: asyncio.sleep(60))

    sent = asyncio.run(run())
    assert sent[0]["status"] == 408 and json.loads(sent[1]["body"])["error"]["type"] == "timeout_error"


def test_a_request_that_takes_too_long_is_given_up(served, monkeypatch):
    slowed(served, monkeypatch)
    app = build(served, Settings(timeout=0.2))
    with TestClient(app) as client:
        refused(post(client, **LONG), 504, "not finished within 0.2 s", type="timeout_error", code="timeout")
        lane = app.state.service.engine.lanes["sedd"]
        until(lambda: not lane.busy)
        assert lane.finished == 0
        with client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert json.loads(lines[-1][6:])["error"]["code"] == "timeout"


def test_a_full_queue_says_when_to_come_again(served, monkeypatch):
    slowed(served, monkeypatch)
    app = build(served, Settings(slots=1, queue=1, max_n=2))
    with TestClient(app) as client:
        lane, answers = app.state.service.engine.lanes["sedd"], []
        threads = [threading.Thread(target=lambda: answers.append(post(client, **LONG | {"steps": 60}))) for _ in "ab"]
        for count, thread in enumerate(threads, 1):
            thread.start()
            until(lambda count=count: lane.active + len(lane.waiting) == count)
        answer = post(client, **LONG)
        refused(answer, 429, "try again in", type="rate_limit_error", code="queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        for thread in threads:
            thread.join()
        assert [a.status_code for a in answers] == [200, 200]


def test_a_server_that_is_about_to_stop_finishes_and_refuses(served, monkeypatch):
    slowed(served, monkeypatch)
    app = build(served, Settings())
    service = app.state.service
    with TestClient(app) as client:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(post(client, **LONG | {"steps": 40})))
        thread.start()
        until(lambda: service.busy == 1)
        service.closing = True
        refused(post(client, prompt="x"), 503, "about to stop", type="server_error", code="draining")
        assert client.get("/healthz").json()["status"] == "draining" and client.get("/healthz").status_code == 503
        assert client.get("/metrics").status_code == 200
        thread.join()
        assert answers[0].status_code == 200 and service.busy == 0


def test_a_mistake_of_ours_is_a_500_without_its_insides(served, monkeypatch, capsys):
    monkeypatch.setattr(served["sedd"], "predict", lambda xt, t: {}["secret"], raising=False)
    with TestClient(build(served, Settings())) as client:
        error = refused(post(client, prompt="x"), 500, "the server failed", type="server_error", code="internal_error")
        assert "secret" not in json.dumps(error)
    assert "KeyError" in capsys.readouterr().err
