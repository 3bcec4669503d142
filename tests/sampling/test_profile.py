import time

import pytest

from unmask import compat
from unmask.sampling import Canvas, sample
from unmask.sampling.draws import Draws
from unmask.sampling.profile import profiled


@pytest.fixture(params=["sedd", "mdlm", "ar"])
def model(request, small_models):
    return compat.load(small_models / request.param)


def run(model, batch=2):
    options = {} if model.kind == "autoregressive" else {"steps": 6}
    return sample(model, Canvas.blank(16, batch=batch), seed=1, **options)


def test_the_parts_make_the_whole_and_the_samples_are_the_same(model):
    plain = run(model)
    with profiled(model) as found:
        made = run(model)
    assert made.tokens.equal(plain.tokens)
    assert (found.evaluations, found.rows) == (made.nfe, 2 * made.nfe)
    assert found.draws == 2 * 16 and found.logits >= 2 * 16
    assert sum(found.seconds.values()) == pytest.approx(found.total) and min(found.seconds.values()) >= 0
    assert found.as_json(32)["tokens_per_evaluation"] == pytest.approx(32 / found.rows)


def test_what_native_code_does_is_seen_too(small_models):
    model = compat.load(small_models / "ar")
    with profiled(model) as found:
        made = sample(model, Canvas.blank(16, batch=2), seed=1, compile=True)
    assert (found.evaluations, found.rows, found.logits, found.draws) == (made.nfe, 2 * made.nfe, 2 * made.nfe, 32)
    assert min(found.seconds.values()) > 0


def test_time_is_put_where_it_is_spent(model):
    body = model.net.hidden

    def late(*given, **options):
        time.sleep(0.02)
        return body(*given, **options)

    model.net.hidden = late
    with profiled(model) as found:
        run(model)
    assert found.seconds["body"] >= 0.02 * found.evaluations
    assert model.net.hidden is late  # what was hung there stays


def test_nothing_is_left_behind(model):
    before = dict(model.net.__dict__), Draws.choose
    with pytest.raises(ZeroDivisionError), profiled(model):
        raise ZeroDivisionError
    assert (dict(model.net.__dict__), Draws.choose) == before


def test_a_profile_of_nothing(model):
    with profiled(model) as found:
        pass
    assert found.as_json(0)["tokens_per_evaluation"] is None and "0 evaluations" in found.table(0)
