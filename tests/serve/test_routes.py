"""What is answered, and what is refused, how."""

import copy
import json

import pytest
import torch
from starlette.testclient import TestClient

import unmask
from unmask.sampling import Canvas, denoise, generate
from unmask.serve.app import build
from unmask.serve.settings import Settings


def post(client, path="/v1/completions", **body):
    return client.post(path, json=body)


def refused(answer, status, words, **facts):
    error = answer.json()["error"]
    assert answer.status_code == status, answer.text
    assert set(error) == {"message", "type", "param", "code"} and words in error["message"], error
    assert {k: error[k] for k in facts} == facts
    return error


def test_a_completion_is_the_sample_of_its_seed(served):
    """n choices are the first n samples of the seed; float64, so that the batch does not decide."""
    model = copy.deepcopy(served["mdlm"]).to(dtype=torch.float64)
    tok = model.tokenizer
    with TestClient(build({"mdlm": model}, Settings(slots=2))) as client:
        answer = post(client, prompt="The", max_tokens=9, n=3, seed=7, steps=5).json()
    ids = tok.encode("The")
    canvas = Canvas.template(ids, 9, 32 - len(ids) - 9, batch=3)
    frames = list(denoise(model, canvas, seed=7, steps=5))
    rows = [row[len(ids) : len(ids) + 9] for row in frames[-1].tokens.tolist()]
    texts = [tok.decode(row[: row.index(tok.eos_id)] if tok.eos_id in row else row) for row in rows]
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2] and answer["seed"] == 7
    assert answer["object"] == "text_completion" and answer["model"] == "mdlm" and answer["id"].startswith("cmpl-")
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert answer["usage"]["total_tokens"] == len(ids) + answer["usage"]["completion_tokens"]


def test_an_autoregressive_model_completes(client, served):
    model, tok = served["ar"], served["ar"].tokenizer
    answer = post(client, model="ar", prompt="The state", max_tokens=8, seed=3).json()
    ids = tok.encode("The state")
    row = generate(model, ids, length=len(ids) + 8, seed=3).tokens[0].tolist()[len(ids) :]
    want = row[: row.index(tok.eos_id)] if tok.eos_id in row else row
    assert answer["choices"][0]["text"] == tok.decode(want)
    assert answer["choices"][0]["finish_reason"] == ("length" if len(want) == 8 else "stop")


def test_without_a_seed_the_answer_names_one_that_repeats_it(client):
    first = post(client, prompt="A", max_tokens=12, steps=4).json()
    again = post(client, prompt="A", max_tokens=12, steps=4, seed=first["seed"]).json()
    other = post(client, prompt="A", max_tokens=12, steps=4).json()
    assert first["choices"] == again["choices"] and first["seed"] != other["seed"]


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"model": "sedd"}, "tweedie"),
        ({"model": "mdlm"}, "ancestral"),
        ({"model": "ar"}, "autoregressive"),
        ({"model": "sedd", "rule": "ddpm"}, "ancestral"),  # another code base's name
        ({"model": "sedd", "rule": "margin"}, "margin"),
    ],
)
def test_answers_name_the_rule_that_was_used(client, asked, rule):
    assert post(client, prompt="The", max_tokens=4, **asked).json()["rule"] == rule
    assert post(client, "/v1/infill", template="The[MASK:4]", **asked).json()["rule"] == rule
    body = {"prompt": "The", "suffix": "", "max_tokens": 4}
    assert post(client, "/v1/fim/completions", **body, **asked).json()["rule"] == rule


def test_prompts_come_as_texts_or_ids_and_make_a_batch(client, served):
    tok = served["sedd"].tokenizer
    ids = tok.encode("The state")
    one = post(client, prompt="The state", seed=1, steps=4, n=2).json()["choices"]
    assert post(client, prompt=ids, seed=1, steps=4, n=2).json()["choices"] == one
    batch = post(client, prompt=["The state", "It is"], seed=1, steps=4, n=2).json()
    assert [c["index"] for c in batch["choices"]] == [0, 1, 2, 3] and batch["choices"][:2] == one
    assert post(client, prompt=[ids, tok.encode("It is")], seed=1, steps=4, n=2).json()["choices"] == batch["choices"]
    assert batch["usage"]["prompt_tokens"] == len(ids) + len(tok.encode("It is"))


def test_a_suffix_is_filled_before_and_not_returned(client, served):
    answer = post(client, prompt="The", suffix=" end", max_tokens=6, seed=2, rule="ancestral", steps=4).json()
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    assert answer["usage"]["prompt_tokens"] == len(served["sedd"].tokenizer.encode("The")) + len(
        served["sedd"].tokenizer.encode(" end")
    )
    mistral = post(
        client, "/v1/fim/completions", prompt="The", suffix=" end", max_tokens=6, random_seed=2, rule="ancestral",
        steps=4,
    ).json()  # fmt: skip
    assert mistral["choices"][0]["message"]["content"] == answer["choices"][0]["text"]
    assert mistral["object"] == "chat.completion" and mistral["choices"][0]["message"]["role"] == "assistant"
    assert mistral["usage"] == answer["usage"] and mistral["seed"] == 2


def test_a_stop_ends_the_text(client):
    whole = post(client, prompt="The", max_tokens=20, seed=5, steps=8).json()["choices"][0]["text"]
    stop = whole[3:5]
    answer = post(client, prompt="The", max_tokens=20, seed=5, steps=8, stop=[stop, "never there"]).json()
    assert answer["choices"][0]["text"] == whole[: whole.find(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop" and answer["usage"]["completion_tokens"] <= 20


def test_an_end_of_text_ends_it(served, small_tokenizer):
    """A network whose every token is the end of a text."""
    model = copy.deepcopy(served["mdlm"])
    with torch.no_grad():
        model.net.output_layer.linear.bias[small_tokenizer.eos_id] = 1e4
    with TestClient(build({"end": model}, Settings())) as client:
        answer = post(client, prompt="The", max_tokens=9, steps=3).json()
    assert answer["choices"][0] | {"logprobs": None} == {
        "index": 0, "text": "", "finish_reason": "stop", "logprobs": None,
    }  # fmt: skip
    assert answer["usage"]["completion_tokens"] == 0


def test_infill_keeps_the_given_text_and_lists_the_gaps(client):
    template = "The [MASK:3] of the [MASK] \N{FIRE}."
    answer = post(client, "/v1/infill", template=template, seed=1, steps=4, n=2).json()
    for choice in answer["choices"]:
        first, second = choice["gaps"]
        assert choice["text"] == f"The {first} of the {second} \N{FIRE}."
    assert answer["usage"]["completion_tokens"] == 8 and answer["seconds"] > 0


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({"prompt": "x", "max_tokens": -1}, "greater than or equal to 1", "max_tokens"),
        ({"prompt": "x", "max_tokens": 0}, "greater than or equal to 1", "max_tokens"),
        ({"prompt": "x", "max_tokens": "5"}, "valid integer", "max_tokens"),
        ({"prompt": "x", "max_tokens": 32}, "at most 32 here", "max_tokens"),
        ({"prompt": "word " * 20}, "at most 32 here", "max_tokens"),
        ({"prompt": "word " * 2000}, "a text of 10000 bytes has more than 32 tokens", "prompt"),
        ({"prompt": "x", "suffix": "word " * 2000}, "a text of 10000 bytes", "suffix"),
        ({"prompt": {"a": 1}}, "a text, a list of texts", "prompt"),
        ({"prompt": []}, "empty list", "prompt"),
        ({"prompt": [320]}, "token 320", "prompt"),
        ({"prompt": [-1]}, "a text, a list of texts", "prompt"),
        ({"prompt": "x", "n": 17}, "at most 16", "n"),
        ({"prompt": ["x"] * 17}, "at most 16", "n"),
        ({"prompt": "x", "steps": 0}, "greater than or equal to 1", "steps"),
        ({"prompt": "x", "steps": 1025}, "at most 1024", "steps"),
        ({"prompt": "x", "temperature": -0.1}, "greater than or equal to 0", "temperature"),
        ({"prompt": "x", "top_p": 0}, "greater than 0", "top_p"),
        ({"prompt": "x", "top_k": 0}, "greater than or equal to 1", "top_k"),
        ({"prompt": "x", "stop": ["a"] * 5}, "up to 4", "stop"),
        ({"prompt": "x", "stop": ""}, "at least 1 character", "stop"),
        ({"prompt": "x", "rule": "best"}, "unknown rule 'best'", None),
        ({"prompt": "x", "tau": 0.5}, "tau with the rule tweedie", None),
        ({"prompt": "x", "rule": "threshold", "tau": 2.0}, "tau is 2.0", None),
        ({"prompt": "x", "grid": "round"}, "unknown grid", None),
        ({"prompt": "x", "diffusing": True}, "needs stream", "diffusing"),
        ({"prompt": "x", "stream_options": {}}, "for streams", "stream_options"),
        ({"prompt": "x", "colour": 1}, "unknown field 'colour'", "colour"),
        ({"prompt": "x", "logprobs": 1}, "logprobs is not supported", "logprobs"),
        ({"prompt": "x", "echo": True}, "echo is not supported", "echo"),
        ({"prompt": "x", "best_of": 2}, "best_of is not supported", "best_of"),
        ({"prompt": "x", "logit_bias": {"5": 1}}, "logit_bias is not supported", "logit_bias"),
        ({"prompt": "x", "presence_penalty": 0.5}, "presence_penalty is not supported", "presence_penalty"),
        ({"prompt": "x", "tools": [{}]}, "tools is not supported", "tools"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages is not supported", "messages"),
        ({"prompt": "x", "model": "ar", "steps": 3}, "steps with an autoregressive model", None),
        ({"prompt": "x", "model": "ar", "rule": "euler"}, "rule with an autoregressive model", None),
        ({"prompt": "x", "model": "ar", "suffix": " y"}, "autoregressive", "suffix"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, body, words, param):
    refused(post(client, **body), 400, words, param=param, type="invalid_request_error")


def test_fields_that_ask_for_nothing_are_taken(client):
    nothing = {"logprobs": None, "echo": False, "best_of": 1, "logit_bias": {}, "presence_penalty": 0, "user": "me"}
    answer = post(client, prompt="x", max_tokens=2, steps=1, frequency_penalty=0.0, suffix=None, **nothing)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "body"),
        (b"no json", "not JSON"),
        (b'{"prompt": "x"', "not JSON"),
        (b'{"prompt": "\xff\xfe"}', "JSON in UTF-8"),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        (b'{"model": "\\ud800"}', "model"),
        (b"[1, 2]", "JSON object"),
        (b'{"temperature": NaN}', "temperature"),
        (b'{"temperature": 1e999}', "temperature"),
        (b'{"seed": 1' + b"0" * 5000 + b"}", "JSON"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(client, content, words):
    answer = client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
    refused(answer, 400, words, type="invalid_request_error")


def test_only_json_is_read_so_that_a_foreign_page_cannot_post(client):
    answer = client.post("/v1/completions", content=b'{"prompt": "x"}', headers={"Content-Type": "text/plain"})
    refused(answer, 400, "Content-Type: application/json")
    answer = client.options(
        "/v1/completions", headers={"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    )
    refused(answer, 405, "OPTIONS")
    assert "access-control-allow-origin" not in {name.lower() for name in answer.headers}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"template": "no gap"}, "no gap"),
        ({"template": "[MASK:0]"}, "a gap of no tokens"),
        ({"template": "[MASK:4-2]"}, "a gap of 4 to 2 tokens"),
        ({"template": "[MASK:-3]"}, "a gap that cannot be read"),
        ({"template": "[MASK]" * 1000}, "a text of 6000 bytes"),
        ({"template": "[MASK:33]"}, "the model's context is 32"),
        ({"template": "[MASK:99999999999]"}, "the model's context is 32"),
        ({"template": "[MASK:2]", "alternatives": 2}, "need diffusing"),
        ({"template": "[MASK:2]", "alternatives": 6, "stream": True, "diffusing": True}, "less than or equal to 5"),
        ({"template": "[MASK:2]", "n": 2, "stream": True}, "n is 1"),
        ({"template": "[MASK:2] x", "model": "ar"}, "after a gap"),
        ({}, "template"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(client, body, words):
    refused(post(client, "/v1/infill", **body), 400, words)


def test_models_are_listed_and_unknown_ones_are_not_found(client):
    listed = client.get("/v1/models").json()
    assert [m["id"] for m in listed["data"]] == ["sedd", "mdlm", "ar"]
    assert [m["kind"] for m in listed["data"]] == ["diffusion", "diffusion", "autoregressive"]
    assert client.get("/v1/models/ar").json() == listed["data"][2]
    assert listed["data"][2]["rules"] == [] and "confidence" in listed["data"][0]["rules"]
    assert [m["context"] for m in listed["data"]] == [32, 32, 32]
    refused(client.get("/v1/models/gpt-5"), 404, "no model 'gpt-5'", code="model_not_found")
    refused(post(client, prompt="x", model="gpt-5"), 404, "sedd, mdlm, ar", code="model_not_found", param="model")


def test_other_paths_and_methods_are_refused(client):
    refused(client.get("/v1/chat/completions"), 404, "/openapi.json")
    refused(client.get("/v1/completions"), 405, "GET")


def test_health_and_metrics(client):
    assert client.get("/healthz").json() == {"status": "ok", "version": unmask.__version__}
    post(client, prompt="x", max_tokens=4, steps=2)
    post(client, prompt="x", max_tokens=-4)
    text = client.get("/metrics").text
    for line in (
        'unmask_requests_total{route="/v1/completions",status="200"}', 'unmask_evaluations_total{model="sedd"}',
        'unmask_requests_total{route="/v1/completions",status="400"}',
        'unmask_tokens_total{kind="written",model="sedd"}',
        'unmask_rows{model="sedd",state="waiting"} 0.0', 'unmask_request_seconds_bucket{le="+Inf",route="/healthz"}',
    ):  # fmt: skip
        assert line in text, line


def test_the_schema_says_what_is_there(client):
    schema = client.get("/openapi.json").json()
    assert {"/v1/completions", "/v1/fim/completions", "/v1/infill", "/v1/models", "/v1/votes"} <= set(schema["paths"])
    assert json.dumps(schema).count("ErrorAnswer") > 5
    refused(client.get("/docs"), 404, "/docs")
