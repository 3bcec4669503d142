"""Gaps of several lengths: what `unmask.infill` chooses, within a request's limits, beside other requests."""

import copy
import dataclasses
import functools
import itertools
import threading

import pytest
import torch
from starlette.testclient import TestClient
from tests.sampling.nets import diffusion
from tests.serve.rows import Told, alone

from unmask.evaluation.infill import APPROXIMATE, Search, bounds, infills
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.sampling import Canvas
from unmask.serve import lengths
from unmask.serve.app import build
from unmask.serve.engine import Engine, FullError, Lane
from unmask.serve.settings import Settings


def post(client, **body):
    return client.post("/v1/infill", json=body)


@pytest.mark.parametrize("name", ["sedd", "mdlm"])
def test_what_is_chosen_is_what_infill_chooses(served, name):
    """Text, lengths and every number of the bound; float64, so that the batch does not decide."""
    model = copy.deepcopy(served[name]).to(dtype=torch.float64)
    template = "The [MASK:1-3] of \N{FIRE} [MASK:2] [MASK:1-2]."
    asked = {"template": template, "n": 2, "seed": 5, "steps": 4, "prior": "geometric:2", "repeats": 3}
    with TestClient(build({name: model}, Settings(slots=3))) as client:
        answer = post(client, **asked).json()
    search = Search(prior="geometric:2", repeats=3)
    made = infills(model, template, 2, search=search, seed=5, steps=4)
    assert len(answer["choices"]) == 2 and len(made[0].candidates) == 6
    for i, (choice, one) in enumerate(zip(answer["choices"], made, strict=True)):
        assert choice["index"] == i and choice["text"] == one.text and choice["lengths"] == list(one.lengths)
        assert choice["gaps"] == [gap.text for gap in one.gaps] and choice["chosen"] == one.chosen
        want = [dataclasses.asdict(each) | {"lengths": list(each.lengths)} for each in one.candidates]
        assert choice["candidates"] == want
        assert all(each["bound"] > 0 for each in want) and choice["notices"] == list(one.notices)
    given = len(made[0].tokens) - sum(made[0].lengths)
    written = sum(sum(one.lengths) for one in made)
    assert answer["usage"] == {
        "prompt_tokens": given, "completion_tokens": written, "total_tokens": given + written,
    }  # fmt: skip
    assert answer["rule"] == made[0].rule and answer["seed"] == 5 and answer["seconds"] > 0
    assert answer["notices"] == [] and answer["object"] == "infill"


def test_a_request_tries_as_many_combinations_as_it_may_have_samples(client):
    answer = post(client, template="[MASK:1-30]", steps=2, seed=1, repeats=2).json()
    assert len(answer["choices"][0]["candidates"]) == 16
    assert "of 30 combinations of lengths a grid is tried: 1, " in answer["notices"][0]
    answer = post(client, template="[MASK:1-30]", n=4, steps=2, seed=1, repeats=2).json()
    assert [len(choice["candidates"]) for choice in answer["choices"]] == [4] * 4
    answer = post(client, template="[MASK:1-30]", candidates=2, steps=2, seed=1, repeats=2).json()
    assert [each["lengths"] for each in answer["choices"][0]["candidates"]] == [[1], [30]]


def test_the_only_length_that_fits_is_not_measured(client):
    answer = post(client, template="[MASK:32-40]", steps=2, seed=1).json()
    [choice] = answer["choices"]
    assert choice["lengths"] == [32] and [each["bound"] for each in choice["candidates"]] == [None]
    assert "more than the context of 32 tokens are left out" in answer["notices"][0]


def test_noise_that_does_not_commit_is_labelled(small_tokenizer):
    shape = ModelShape("sedd", process="uniform", width=32, depth=1, heads=2, length=32, cond_dim=16)
    model = build_model(shape, small_tokenizer)
    with TestClient(build({"uniform": model}, Settings())) as client:
        answer = post(client, template="[MASK:1-2]", steps=2, repeats=2).json()
    assert answer["choices"][0]["notices"][-1] == APPROXIMATE and answer["notices"] == []


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({"stream": True}, "a stream of gaps of several lengths", "stream"),
        ({"stream": True, "diffusing": True, "alternatives": 2}, "a stream of gaps of several lengths", "stream"),
        ({"n": 9}, "n is 9 with gaps of several lengths", "n"),
        ({"candidates": 17}, "17 candidates of lengths with n 1, at most 16 here", "candidates"),
        ({"candidates": 9, "n": 2}, "9 candidates of lengths with n 2, at most 8 here", "candidates"),
        ({"candidates": 0}, "greater than or equal to 1", "candidates"),
        ({"candidates": 1}, "at most 1 are tried", None),
        ({"template": "[MASK:1-2]a" * 5}, "5 flexible gaps", None),
        ({"template": "a [MASK:40-50]"}, "context is 32", None),
        ({"template": "a [MASK:4-x]"}, "a gap that cannot be read", None),
        ({"repeats": 1}, "greater than or equal to 2", "repeats"),
        ({"repeats": 33}, "less than or equal to 32", "repeats"),
        ({"prior": "normal"}, "geometric:MEAN", None),
        ({"prior": "geometric:1"}, "above 1", None),
        ({"model": "ar"}, "left to right", None),
        ({"rule": "best"}, "unknown rule", None),
    ],
)
def test_what_cannot_be_tried_is_refused(client, body, words, param):
    answer = post(client, **({"template": "the [MASK:1-2] of"} | body))
    error = answer.json()["error"]
    assert answer.status_code == 400 and words in error["message"] and error["param"] == param, error


def test_the_schema_names_the_fields(client):
    fields = client.get("/openapi.json").json()["components"]["schemas"]["InfillRequest"]["properties"]
    assert {"prior", "candidates", "repeats"} <= set(fields) and "[MASK:4-16]" in fields["template"]["description"]


def test_a_request_that_runs_out_of_time_measures_no_more(served, monkeypatch):
    """The first measurement lasts until the answer is there; without the end of the rows there would be two more."""
    measured, answered = [], threading.Event()

    def slow(*given):
        measured.append(given)
        assert answered.wait(60)
        return bounds(*given)

    monkeypatch.setattr(lengths, "bounds", slow)
    with TestClient(build({"sedd": served["sedd"]}, Settings(timeout=1.0))) as client:
        answer = post(client, template="the [MASK:1-3] of", steps=1, repeats=2)
        answered.set()
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
        assert client.post("/v1/completions", json={"prompt": "x", "max_tokens": 2, "steps": 1}).status_code == 200
    assert len(measured) <= 1


def test_an_error_in_a_measurement_is_that_requests_alone(served, monkeypatch):
    def broken(*given):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(lengths, "bounds", broken)
    with TestClient(build({"sedd": served["sedd"]}, Settings())) as client:
        assert post(client, template="the [MASK:1-3] of", steps=1).status_code == 503
        assert post(client, template="the [MASK:3] of", steps=1).status_code == 200


def double():
    return diffusion().to(dtype=torch.float64)


def test_work_behind_a_row_leaves_moves_to_the_others():
    """Pieces that each take as long as several moves: the other row is moved between any two of them."""
    model, done = double(), []
    other = Told(Canvas.blank(12), seed=9, rule="random-order", steps=12)
    quick = [Told(Canvas.blank(3), seed=i, rule="random-order", steps=1) for i in range(3)]
    pause = threading.Event()
    for told in quick:
        told.row.behind = lambda look: (pause.wait(0.02), done.append((look.step, len(other.looks))))
    engine = Engine({"m": model}, slots=8, queue=8)
    for told in (other, *quick):
        engine.submit([told.row])
    engine.start()
    assert other.wait() == alone(model, other)
    engine.close(60)
    moves = [at for _, at in done]
    assert len(done) == 3 and all(step == 1 for step, _ in done)
    assert all(later > before or before == len(other.looks) for before, later in itertools.pairwise(moves))
    assert engine.lanes["m"].finished == 4


def test_rows_with_work_behind_them_move_length_by_length_and_let_others_pass():
    model, order = double(), []
    tries = [Told(Canvas.blank(3 + i // 2), seed=i, rule="random-order", steps=3) for i in range(6)]
    other = Told(Canvas.blank(12), seed=9, rule="random-order", steps=4)

    def noting(place, look):
        order.append((place, look.step))
        return False

    for place, told in enumerate((*tries, other)):
        told.then = functools.partial(noting, place)
    for told in tries:
        told.row.behind = lambda look: None
    engine = Engine({"m": model}, slots=4, queue=8)
    for told in (*tries, other):
        engine.submit([told.row])
    engine.start()
    assert [told.wait() for told in (*tries, other)] == [alone(model, told) for told in (*tries, other)]
    engine.close(60)
    assert order[:3] == [(0, 0), (1, 0), (6, 0)]  # two of one length, and what came last
    first, last = ([order.index((i, step)) for i in range(6)] for step in (0, 3))
    assert max(last[:2]) < min(first[2:]) and max(last[2:4]) < min(first[4:])
    assert order.index((6, 4)) < min(last[2:])


def test_a_length_that_waits_is_not_overtaken_by_its_own_sort():
    """A steady flow of one length would keep another from ever moving."""
    lane = Lane(double(), slots=8)
    rows = [Told(Canvas.blank(length), seed=i).row for i, length in enumerate((3, 4, 3, 3, 5))]
    for row in rows[:4]:
        row.behind = lambda look: None
    lane.waiting.extend(rows)
    taken = []
    while (row := lane.take()) is not None:
        lane.joining.append(row)
        taken.append(row.seed)
    assert taken == [0, 4] and [row.seed for row in lane.waiting] == [1, 2, 3]
    lane.joining = [rows[4]]  # the first one has left
    assert lane.take() is rows[1]


def test_work_behind_rows_that_nobody_waits_for_is_not_done():
    model, done, ended = double(), [], threading.Event()
    rows = [Told(Canvas.blank(3), seed=i, rule="random-order", steps=1) for i in range(4)]
    engine = Engine({"m": model}, slots=8, queue=0)

    def first(look):
        done.append(0)
        with pytest.raises(FullError):  # what is left to do still counts
            engine.submit([Told(Canvas.blank(3)).row for _ in range(6)])
        engine.cancel([told.row for told in rows[1:3]])

    def other(look):
        done.append(1)
        if look.tokens.tolist() == rows[3].looks[-1].tokens.tolist():
            ended.set()

    rows[0].row.behind = first
    for told in rows[1:]:
        told.row.behind = other
    for told in rows:
        engine.submit([told.row])
    engine.start()
    assert ended.wait(60)
    engine.close(60)
    assert done == [0, 1] and not any(told.error for told in rows)
