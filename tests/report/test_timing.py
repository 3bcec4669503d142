import time

import pytest

from unmask.errors import ConfigError
from unmask.evaluation.timing import Timing, time_calls


def test_every_repeat_is_timed_and_the_warm_up_is_not():
    calls = []
    timing = time_calls(
        lambda: calls.append("call"), repeats=3, warm_up=lambda: (calls.append("warm"), time.sleep(0.2))
    )
    assert calls == ["warm", "call", "call", "call"]
    assert len(timing.seconds) == 3 and max(timing.seconds) < 0.2


def test_the_call_warms_itself_up_where_nothing_else_is_given():
    calls = []
    time_calls(lambda: calls.append(1), repeats=1)
    assert len(calls) == 2


def test_seconds_are_seconds():
    assert 0.05 <= time_calls(lambda: time.sleep(0.05), repeats=1).seconds[0] < 1


def test_a_row_holds_the_mean_its_error_and_the_fastest():
    row = Timing((1.0, 2.0, 3.0)).row("SEDD", protocol="a clock", seed=4)
    assert (row.name, row.model, row.unit, row.protocol) == ("seconds_per_sequence", "SEDD", "s", "a clock")
    assert (row.value, row.stderr, row.n, row.seed) == (2.0, pytest.approx(1 / 3**0.5), 3, 4)
    assert row.note == "fastest of 3: 1 s"


def test_one_repeat_has_no_error():
    assert Timing((1.0,)).stderr is None


def test_less_than_one_repeat_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        time_calls(lambda: None, repeats=0)
