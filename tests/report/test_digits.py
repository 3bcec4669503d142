import math

import pytest

from unmask.report.digits import large, number, seconds, with_error


@pytest.mark.parametrize(
    ("value", "stderr", "words"),
    [
        (4.81234, 0.02345, "4.812 ± 0.023"),
        (4.81234, 0.2345, "4.81 ± 0.23"),
        (733.4, 26.1, "733 ± 26"),
        (12345.6, 321.0, "12,346 ± 321"),
        (82.2, 2.4, "82.2 ± 2.4"),
        (4.0, 0.02, "4.000 ± 0.020"),
        (-0.5, 0.1, "-0.50 ± 0.10"),
        (4.81234, None, "4.812"),
        (4.81234, 0.0, "4.812"),
        (4.81234, math.nan, "4.812"),
        (0.00681, None, "0.006810"),
        (12.0, None, "12"),
        (2048.0, None, "2,048"),
        (0.0, None, "0"),
        (math.inf, 1.0, "∞"),
        (-math.inf, None, "-∞"),
        (math.nan, 1.0, "–"),
        (None, None, "–"),
    ],
)
def test_a_value_is_rounded_to_two_digits_of_its_error(value, stderr, words):
    assert with_error(value, stderr) == words


def test_number_takes_the_decimals_of_the_error_without_showing_it():
    assert (number(4.81234, 0.02345), number(12.0, 0.5)) == ("4.812", "12.00")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0123, "12.3 ms"), (0.9996, "1 s"), (3.4321, "3.43 s"), (99.4, "99.4 s"), (125.3, "2 min 05 s")],
)
def test_seconds(value, words):
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(999_949, "999,949"), (8_135_681, "8.1 million"), (424e6, "424 million"), (1.3e9, "1.3 billion")],
)
def test_large(value, words):
    assert large(value) == words
