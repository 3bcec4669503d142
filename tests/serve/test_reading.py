"""Where a text ends, and how much of it may be sent before it has ended."""

import itertools

import pytest

from unmask.serve.reading import read
from unmask.text.tokenizers import gpt2

tok = gpt2()


def prefixes(text, stops=(), end=False):
    """Readings as the ids come in, one by one."""
    ids = tok.encode(text) + ([tok.eos_id] if end else [])
    for k in range(len(ids) + 1):
        reading = read(tok, ids[:k], whole=k == len(ids), stops=stops)
        yield reading
        if reading.reason is not None:
            return


@pytest.mark.parametrize(
    "text", ["plain words", "a \N{FIRE} face 😀 and 🧑‍🚀, ends in é", "é" * 9, "\ufffd real \ufffd"]
)
def test_text_is_only_ever_added_to_and_adds_up(text):
    readings = list(prefixes(text))
    for before, after in itertools.pairwise(readings):
        assert after.text.startswith(before.text)
    assert readings[-1].text == text and readings[-1].reason == "length"
    assert readings[-1].tokens == len(tok.encode(text))


def test_bytes_that_are_no_character_yet_are_held_back():
    ids = tok.encode("😀")
    assert len(ids) > 1
    assert read(tok, ids[:-1], whole=False).text == ""
    assert read(tok, ids[:-1], whole=True).text == "\ufffd"


def test_the_end_of_text_ends_it_and_is_not_in_it():
    ids = [*tok.encode("one two"), tok.eos_id, *tok.encode(" three")]
    reading = read(tok, ids, whole=False)
    assert (reading.text, reading.tokens, reading.reason) == ("one two", 2, "stop")
    assert read(tok, ids[:2], whole=False).reason is None


@pytest.mark.parametrize("stops", [(" three",), ("three", "e four"), ("nothing", " three fo"), ("our five", " t")])
def test_the_first_stop_ends_it_and_nothing_of_it_is_ever_sent(stops):
    text = "one two three four five"
    want = text[: min(text.find(s) for s in stops if s in text)]
    readings = list(prefixes(text, stops))
    assert readings[-1].reason == "stop" and readings[-1].text == want
    for reading in readings:
        assert want.startswith(reading.text)
    count = readings[-1].tokens
    assert tok.decode(tok.encode(text)[:count]).startswith(want)
    assert count == 0 or len(tok.decode(tok.encode(text)[: count - 1])) < len(want)


def test_what_could_become_a_stop_is_held_back_and_sent_when_it_does_not():
    readings = [r.text for r in prefixes("ab ab ac", stops=("ab ad",))]
    assert readings[-1] == "ab ab ac" and "ab ab a" not in readings
    assert read(tok, tok.encode("ab ab"), whole=False, stops=("ab ad",)).text == "ab "
