"""Votes are kept one a line, and counted with an interval."""

import json

import pytest
from starlette.testclient import TestClient
from tests.serve.test_routes import refused

from unmask.errors import DataError
from unmask.serve.app import build
from unmask.serve.settings import Settings
from unmask.serve.votes import Votes, wilson


def vote(left, right, winner, **more):
    sides = {"left": {"model": left, "text": "l"}, "right": {"model": right, "text": "r"}}
    return {"prompt": "p", **sides, "winner": winner, "seed": 1} | more


def test_votes_are_kept_and_counted_by_pair(served, tmp_path):
    path = tmp_path / "deep" / "votes.jsonl"
    with TestClient(build(served, Settings(votes=path))) as client:
        assert client.get("/v1/votes").json() == {"object": "votes", "pairs": [], "unreadable": 0}
        for cast in [("b", "a", "left"), ("a", "b", "right"), ("a", "b", "left"), ("b", "a", "tie"), ("a", "c", "tie")]:
            assert client.post("/v1/votes", json=vote(*cast)).json() == {"object": "vote", "kept": True}
        first, second = client.get("/v1/votes").json()["pairs"]
    assert (first["a"], first["b"], first["a_wins"], first["b_wins"], first["ties"]) == ("a", "b", 1, 2, 1)
    assert first["votes"] == 4 and first["win_rate"] == pytest.approx(1 / 3)
    assert first["interval"] == pytest.approx(wilson(1, 3))
    assert (second["votes"], second["win_rate"], second["interval"]) == (1, None, None)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 5 and lines[0].items() >= vote("b", "a", "left").items() and "time" in lines[0]


def test_a_line_cut_short_by_a_crash_spoils_no_other(served, tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_bytes(b'{"left": {"mod')
    with TestClient(build(served, Settings(votes=path))) as client:
        client.post("/v1/votes", json=vote("a", "b", "left"))
        found = client.get("/v1/votes").json()
    assert found["unreadable"] == 1 and found["pairs"][0]["a_wins"] == 1


def test_votes_that_say_nothing_are_refused(client, served, tmp_path):
    refused(client.post("/v1/votes", json=vote("a", "b", "left")), 404, "--votes", code="no_votes")
    refused(client.get("/v1/votes"), 404, "--votes")
    with TestClient(build(served, Settings(votes=tmp_path / "v"))) as other:
        refused(other.post("/v1/votes", json=vote("a", "a", "left")), 400, "both texts are of one model")
        refused(other.post("/v1/votes", json=vote("a", "b", "both")), 400, "winner", param="winner")
        refused(other.post("/v1/votes", json=vote("a", "b", "tie", colour=1)), 400, "unknown field 'colour'")
    assert (tmp_path / "v").read_bytes() == b""


def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match="votes cannot be written"):
        Votes(tmp_path)


def test_wilsons_interval():
    low, high = wilson(5, 10)  # 0.5 +- 1.96 sqrt(.25/10 + z^2/400) / (1 + z^2/10), as tables have it
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
