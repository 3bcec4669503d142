import pytest
import torch

from unmask import compat
from unmask.sampling import Canvas, batching


@pytest.fixture(params=["sedd", "ar"])
def model(request, small_models):
    return compat.load(small_models / request.param)


SPEEDS = {1: 10.0, 2: 19.0, 4: 30.0, 8: 32.0, 16: 64.0}


def chosen(monkeypatch, model, most=99, room=1e12):
    monkeypatch.setattr(batching, "_pace", lambda model, canvas, size, options: size / SPEEDS[size])
    return batching.calibrate(model, Canvas.blank(8), most=most, room=room)


def test_it_grows_while_it_gains(monkeypatch, model):
    found = chosen(monkeypatch, model)
    assert found.batch == 4 and [size for size, _ in found.trials] == [1, 2, 4, 8]
    assert "batches of 4" in found.words() and "8: 3.20x" in found.words()


@pytest.mark.parametrize(("most", "batch"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4)])
def test_no_more_than_there_are_samples(monkeypatch, model, most, batch):
    assert chosen(monkeypatch, model, most=most).batch == batch


def test_memory_bounds_it(monkeypatch, model):
    row = batching.row_bytes(model, 8)
    assert chosen(monkeypatch, model, room=2 * 3 * row).batch == 2
    assert chosen(monkeypatch, model, room=0).batch == 1

    def full(model, canvas, size, options):
        if size > 2:
            raise torch.OutOfMemoryError
        return 1.0

    monkeypatch.setattr(batching, "_pace", full)
    found = batching.calibrate(model, Canvas.blank(8), most=99, room=1e12)
    assert (found.batch, found.reason) == (2, "memory")


def test_a_trial_takes_a_few_moves_of_the_real_thing(model):
    options = {} if model.kind == "autoregressive" else {"steps": 9}
    calls, hidden = [], model.net.hidden
    model.net.hidden = lambda x, *a, **k: calls.append(len(x)) or hidden(x, *a, **k)
    prompt = Canvas.prompt([1, 2, 3], 32)
    found = batching.calibrate(model, prompt, most=2, room=1e12, seed=0, temperature=0.7, **options)
    assert set(calls) == {1, 2} and len(calls) <= 2 * batching.NEW_TOKENS and found.batch in (1, 2)
    assert all(speed > 0 for _, speed in found.trials)


def test_one_step_and_one_token_are_enough(model):
    options = {} if model.kind == "autoregressive" else {"steps": 1}
    assert batching.calibrate(model, Canvas.blank(1), most=4, room=1e12, **options).batch >= 1


def test_free_memory_is_some():
    assert 2**20 < batching.free_memory(torch.device("cpu")) < 2**50


def test_a_longer_row_and_a_wider_type_take_more(small_models, model):
    wide = compat.load(small_models / "sedd", dtype=torch.float64)
    assert batching.row_bytes(model, 16) > batching.row_bytes(model, 8)
    assert batching.row_bytes(wide, 8) > batching.row_bytes(compat.load(small_models / "sedd"), 8)
