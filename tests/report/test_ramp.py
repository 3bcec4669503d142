"""The ramp of settling: even to the eye, ordered for colour-blind eyes, readable under text."""

import itertools
import math

import pytest

from unmask.report.ramp import DARK, LIGHT, STOPS, css, oklab, ramp, stop

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLIND = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
each_theme = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def linear(color: str) -> list[float]:
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def seen(color: str, matrix) -> str:
    light = [sum(w * c for w, c in zip(row, linear(color), strict=True)) for row in matrix]
    values = [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in (max(c, 0.0) for c in light)]
    return "#" + "".join(f"{round(255 * min(v, 1.0)):02x}" for v in values)


def luminance(color: str) -> float:
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))


@each_theme
def test_steps_are_even_and_lightness_rises(theme):
    labs = [oklab(color) for color in ramp(theme)]
    steps = [math.dist(a, b) for a, b in itertools.pairwise(labs)]
    assert len(labs) == STOPS and max(steps) < 1.35 * min(steps)  # colours of 8 bits a channel
    assert all(a[0] < b[0] for a, b in itertools.pairwise(labs))


@each_theme
@pytest.mark.parametrize("kind", BLIND)
def test_colour_blind_eyes_see_the_order_and_the_steps(theme, kind):
    labs = [oklab(seen(color, BLIND[kind])) for color in ramp(theme)]
    assert all(a[0] < b[0] for a, b in itertools.pairwise(labs))
    fours = [math.dist(a, b) for a, b in zip(labs, labs[4:], strict=False)]
    assert min(fours) > 0.04  # about twice what side by side is just seen


@each_theme
def test_text_is_readable_on_every_stop(theme):
    """WCAG 2's contrast: at least 4.5."""
    for color in (*ramp(theme), theme.page):
        light, dark = sorted((luminance(color), luminance(theme.ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, color


def test_shares_of_a_run_have_stops():
    assert [stop(share) for share in (-0.1, 0, 0.06, 0.07, 0.5, 0.99, 1, 2)] == [0, 0, 0, 1, 8, 15, 15, 15]
    assert all(color in css() for color in (*ramp(LIGHT), *ramp(DARK)))
