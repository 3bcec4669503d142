"""Server-sent events: text that is only ever added to, and frames that take the place of the one before."""

import json

import pytest
import torch

from unmask.sampling import Canvas, denoise
from unmask.sampling.loop import default_rule
from unmask.text.pieces import byte_table, pieces


def events(client, path, **body):
    with client.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


@pytest.mark.parametrize("model", ["sedd", "mdlm", "ar"])
def test_a_stream_adds_up_to_the_answer(client, model):
    asked = {"model": model, "prompt": "The", "max_tokens": 16, "seed": 4, "n": 2}
    asked |= {} if model == "ar" else {"steps": 6}
    whole = client.post("/v1/completions", json=asked).json()
    chunks = events(client, "/v1/completions", **asked, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [part["finish_reason"] for part in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
    assert len({chunk["id"] for chunk in chunks}) == 1 and chunks[0]["object"] == "text_completion"


def test_an_autoregressive_stream_is_a_chunk_a_token(client):
    chunks = events(client, "/v1/completions", model="ar", prompt="The", max_tokens=12, seed=1)
    assert 1 < len(chunks) <= 12


def test_mistrals_stream_has_deltas(client):
    asked = {"prompt": "The", "suffix": " end", "max_tokens": 8, "seed": 4, "steps": 5}
    whole = client.post("/v1/fim/completions", json=asked).json()["choices"][0]
    chunks = events(client, "/v1/fim/completions", **asked)
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == whole["message"]["content"]
    assert chunks[0]["object"] == "chat.completion.chunk"


def test_diffusing_completions_stream_whole_frames(client):
    asked = {"prompt": "The", "max_tokens": 8, "seed": 4, "rule": "left-to-right", "steps": 4}
    whole = client.post("/v1/completions", json=asked).json()["choices"][0]
    *frames, last = events(client, "/v1/completions", **asked, diffusing=True)
    assert last["object"] == "text_completion" and last["choices"][0]["text"] == whole["text"]
    assert [frame["object"] for frame in frames] == ["text_completion.frame"] * len(frames)
    masks = [frame["choices"][0]["text"].count("░") for frame in frames]
    assert (
        masks[0] == 8 and masks == sorted(masks, reverse=True) and [f["step"] for f in frames] == [*range(len(frames))]
    )


@pytest.mark.parametrize("model", ["sedd", "mdlm"])
def test_frames_of_a_template_are_those_of_the_run(client, served, model):
    template = "The [MASK:5] of \N{FIRE} [MASK:2]"
    asked = {"template": template, "model": model, "steps": 6, "seed": 3, "top_p": 0.9}
    *frames, done = events(client, "/v1/infill", **asked, diffusing=True, alternatives=2)
    lm = served[model]
    canvas, table = Canvas.parse(template, lm.tokenizer), byte_table(lm.tokenizer)
    want = [frame for frame in denoise(lm, canvas, steps=6, seed=3, top_p=0.9, top=2)]
    settled = next(i for i, frame in enumerate(want) if frame.committed.all())
    assert len(frames) == settled + 1
    given = canvas.frozen[0].tolist()
    for step, (frame, run) in enumerate(zip(frames, want, strict=False)):
        assert list(frame) == ["object", "step", "t", "nfe", "seconds", "rule", "tokens"]
        assert frame["rule"] == done["rule"] == default_rule(lm)
        assert (frame["object"], frame["step"], frame["t"], frame["nfe"]) == ("infill.frame", step, run.t, run.nfe)
        ids = [
            None if bool(m) else int(i) for i, m in zip(run.tokens[0], lm.process.is_mask(run.tokens)[0], strict=True)
        ]
        assert [token["id"] for token in frame["tokens"]] == ids
        assert [token["text"] for token in frame["tokens"]] == [text or "" for text in pieces(table, ids)]
        assert [token["given"] for token in frame["tokens"]] == given
        sure = {p: i for i, p in enumerate(run.top.at[0].nonzero()[:, 0].tolist())}
        for position, token in enumerate(frame["tokens"]):
            assert list(token) == ["id", "text", "given", "committed_at", "p", "alternatives"]
            assert (token["p"] is not None) == (position in sure)
            if position in sure:
                row = sure[position]
                assert token["committed_at"] == step
                assert token["p"] == pytest.approx(float(run.top.p[row]), abs=1e-6)
                assert [p for _, p in token["alternatives"]] == pytest.approx(run.top.other_p[row].tolist(), abs=1e-6)
            assert (token["committed_at"] is None) == (token["id"] is None)
    assert done["object"] == "infill.done" and done["seed"] == 3
    assert done["text"] == client.post("/v1/infill", json=asked).json()["choices"][0]["text"]
    assert done["usage"] == {"prompt_tokens": sum(given), "completion_tokens": 7, "total_tokens": len(given)}
    assert done["seconds"] >= frames[-1]["seconds"] >= frames[0]["seconds"] >= 0


def test_a_whole_canvas_is_a_template_too_also_for_an_autoregressive_model(client):
    for model in ("sedd", "ar"):
        *frames, done = events(client, "/v1/infill", template="[MASK:16]", model=model, diffusing=True, seed=1)
        assert all(len(frame["tokens"]) == 16 for frame in frames)
        assert all(token["id"] is not None for token in frames[-1]["tokens"])
        assert done["usage"]["completion_tokens"] == 16
    written = [sum(token["id"] is not None for token in frame["tokens"]) for frame in frames]
    assert written == list(range(1, 17))


def test_an_autoregressive_models_frames_name_what_else_it_thought_of(client, served):
    asked = {"template": "The state[MASK:8]", "model": "ar", "seed": 3, "temperature": 0.7}
    *frames, done = events(client, "/v1/infill", **asked, diffusing=True, alternatives=3)
    assert done["text"] == client.post("/v1/infill", json=asked).json()["choices"][0]["text"]
    given = len(served["ar"].tokenizer.encode("The state"))
    for k, frame in enumerate(frames):
        [i] = [i for i, token in enumerate(frame["tokens"]) if token["p"] is not None]
        token = frame["tokens"][i]
        assert i == given + k and token["committed_at"] == frame["step"] == k + 1
        others = [p for _, p in token["alternatives"]]
        assert len(others) == 3 and others == sorted(others, reverse=True) and sum(others) + token["p"] <= 1 + 4e-6
    assert len(frames) == 8 and {frame["rule"] for frame in frames} == {done["rule"]} == {"autoregressive"}


def test_a_template_streams_its_text_from_the_left(client):
    asked = {"template": "The [MASK:6] end", "seed": 2, "steps": 5}
    whole = client.post("/v1/infill", json=asked).json()["choices"][0]["text"]
    *chunks, done = events(client, "/v1/infill", **asked)
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole == done["text"]
    assert chunks[0]["choices"][0]["text"].startswith("The") and chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_what_goes_wrong_in_a_stream_is_an_event(client, served, monkeypatch):
    def broken(xt, t):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(served["sedd"], "predict", broken, raising=False)
    with client.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert json.loads(lines[-1][6:])["error"]["code"] == "out_of_memory"
    assert client.post("/v1/completions", json={"prompt": "x"}).status_code == 503
