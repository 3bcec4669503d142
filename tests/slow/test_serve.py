"""A live server process: OpenAI's client, generated bad requests, many clients at once, leaving and stopping."""

import asyncio
import collections
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx2
import hypothesis
import openai
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HARD = {"max_tokens": 240, "steps": 1024, "seed": 0}  # half a minute and more of the twin


@contextlib.contextmanager
def serving(*words: object) -> Iterator[tuple[str, subprocess.Popen]]:
    """`unmask serve WORDS` on a free port: its address and its process, which is told to stop in the end."""
    command = [sys.executable, "-m", "unmask.cli.main", "serve", *map(str, words), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"at (http://\S+)", said)
        assert found, said + process.stderr.read()
        yield found[1], process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stderr.close()


@pytest.fixture(scope="module")
def url(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    votes = tmp_path_factory.mktemp("votes") / "votes.jsonl"
    models = [small_models / name for name in ("sedd", "mdlm", "ar")]
    with serving(*models, "--votes", votes, "--timeout", 60) as (url, _):
        yield url


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def test_openais_client_completes(url):
    with client(url) as api:
        assert [model.id for model in api.models.list()] == ["sedd", "mdlm", "ar"]
        assert api.models.retrieve("ar").owned_by == "unmask"
        for model, more in (("sedd", {"steps": 6}), ("mdlm", {"rule": "confidence", "steps": 6}), ("ar", {})):
            asked = {"model": model, "prompt": "The state", "max_tokens": 12, "seed": 3, "n": 2, "extra_body": more}
            whole = api.completions.create(**asked)
            assert len(whole.choices) == 2 and whole.usage.completion_tokens <= 24
            assert {choice.finish_reason for choice in whole.choices} <= {"stop", "length"}
            assert api.completions.create(**asked).choices == whole.choices
            texts = ["", ""]
            for chunk in api.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
                for choice in chunk.choices:
                    texts[choice.index] += choice.text
            assert texts == [choice.text for choice in whole.choices] and chunk.usage == whole.usage
        filled = api.completions.create(model="mdlm", prompt="The", suffix=" end", max_tokens=5, stop=["e", "t"])
        assert filled.choices[0].text.find("e") == filled.choices[0].text.find("t") == -1


def test_openais_client_knows_our_errors(url):
    with client(url) as api:
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-5'") as missing:
            api.completions.create(model="gpt-5", prompt="x")
        assert missing.value.code == "model_not_found" and missing.value.param == "model"
        with pytest.raises(openai.BadRequestError, match="logprobs is not supported") as refused:
            api.completions.create(model="sedd", prompt="x", logprobs=1)
        assert refused.value.type == "invalid_request_error"
        with pytest.raises(openai.BadRequestError, match="at most 32 here"):
            api.completions.create(model="sedd", prompt="x", max_tokens=500)


def test_a_key_is_wanted_live(small_models):
    with serving(small_models / "ar", "--api-key", "right") as (url, _):
        with client(url) as api, pytest.raises(openai.AuthenticationError):
            api.models.list()
        with client(url, "right") as api:
            assert api.models.list().data[0].id == "ar"


def test_five_hundred_generated_bad_requests_and_no_5xx(url):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generator, about our schema
        import schemathesis

        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: collections.Counter[int] = collections.Counter()
    quiet = hypothesis.settings(
        max_examples=140, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() != "POST":
            continue

        @quiet
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
        def bad(case):
            answer = case.call()
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (answer.status_code, case.body, answer.content)
            if answer.status_code >= 400:
                assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}

        bad()
    assert statuses.total() >= 500 and statuses[400] > 400, statuses
    assert httpx2.get(f"{url}/healthz").json()["status"] == "ok"


def test_random_bytes_and_no_5xx(url):
    @hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(body=st.binary(max_size=400), path=st.sampled_from(["completions", "fim/completions", "infill", "votes"]))
    def bad(body, path):
        answer = httpx2.post(f"{url}/v1/{path}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (body, answer.text)

    bad()


def test_ten_megabytes_are_refused_and_the_sender_hears_it(url):
    answer = httpx2.post(f"{url}/v1/completions", json={"prompt": "x" * 10_000_000})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_long"


def test_sixty_four_clients_and_no_error_but_429(small_models):
    async def ask(api, i, until, counts):
        while time.monotonic() < until:
            model = ("sedd", "ar")[i % 2]
            body = {"model": model, "prompt": "The", "max_tokens": 8 + i % 16, "stream": i % 3 == 0, "n": 1 + i % 2}
            answer = await api.post("/v1/completions", json=body | ({"steps": 16} if model == "sedd" else {}))
            counts[answer.status_code] += 1
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.1)
            elif i % 3 == 0:
                assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text

    async def load(url):
        counts: collections.Counter[int] = collections.Counter()
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=60) as api:
            await asyncio.gather(*(ask(api, i, time.monotonic() + 8, counts) for i in range(64)))
        return counts

    with serving(small_models / "sedd", small_models / "ar", "--slots", 8, "--queue", 16) as (url, process):
        counts = asyncio.run(load(url))
        assert set(counts) == {200, 429} and counts[200] > 64, counts
        rows = re.findall(r"^unmask_rows\{.*\} (.*)$", httpx2.get(f"{url}/metrics").text, re.M)
        assert rows == ["0.0"] * 6  # running, waiting, measured, of two models
        process.terminate()
        assert process.wait(60) == 0


def rows(url: str) -> float:
    found = re.findall(r"^unmask_rows\{.*\} (.*)$", httpx2.get(f"{url}/metrics").text, re.M)
    return sum(map(float, found))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_the_worker(stream):
    with serving("sedd-twin") as (url, _):
        body = json.dumps({"prompt": "The"} | HARD | {"stream": stream}).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(head.encode() + b"\r\n\r\n" + body)
            until = time.monotonic() + 60
            while rows(url) != 1:
                assert time.monotonic() < until
                time.sleep(0.02)
        while rows(url) != 0:
            assert time.monotonic() < until
            time.sleep(0.02)
        metrics = httpx2.get(f"{url}/metrics").text
        assert 'unmask_finished_rows_total{model="sedd-twin"} 0.0' in metrics
        evaluations = float(re.findall(r"^unmask_evaluations_total\{.*\} (.*)$", metrics, re.M)[0])
        assert evaluations < 1000


def test_sigterm_finishes_what_is_under_way_and_refuses_the_rest():
    with serving("sedd-twin") as (url, process):
        asked = {"prompt": "The", "max_tokens": 240, "steps": 48, "seed": 0, "stream": True, "diffusing": True}
        with httpx2.stream("POST", f"{url}/v1/completions", json=asked, timeout=120) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            while httpx2.get(f"{url}/healthz").status_code == 200:
                time.sleep(0.01)
            late = httpx2.post(f"{url}/v1/completions", json={"prompt": "x"})
            assert late.status_code == 503 and late.json()["error"]["code"] == "draining"
            assert int(late.headers["retry-after"]) >= 1
            rest = [line for line in lines if line]
        assert first.startswith("data: ") and rest[-1] == "data: [DONE]" and len(rest) > 40
        assert process.wait(60) == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/healthz")


GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serve.md").read_text(encoding="utf-8")
LOCAL = "http://127.0.0.1:8000"


def test_the_guides_commands_and_its_python(tmp_path):
    serve, *asked = [block.strip() for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.S)]
    assert serve.startswith("unmask serve ") and len(asked) == 7
    words = serve.removeprefix("unmask serve ").replace("votes.jsonl", str(tmp_path / "votes.jsonl"))
    with serving(*words.split()) as (url, _):
        for block in asked:
            shell = ["bash", "-euc", block.replace(LOCAL, url).replace("curl ", "curl --fail-with-body ")]
            done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and done.stdout.strip(), (block, done.stdout, done.stderr)
        (code,) = re.findall(r"```py\n(.*?)```", GUIDE, re.S)
        done = subprocess.run(
            [sys.executable, "-c", code.replace(LOCAL, url)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0 and "length" in done.stdout, done.stderr
