"""The colours for when a token became final: a ramp that is even to the eye, and that colour-blind eyes can order.

It runs through OKLab (Ottosson 2020) from blue over green to yellow, lightness rising all the way, and its stops lie at
equal distances along the path. It is a tint behind text: the text's own ink stays readable on every stop.
"""

import dataclasses
import itertools
import math
from functools import cache

STOPS = 16
_POINTS = 2048  # of the path, to measure its length

Lab = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Theme:
    """ink and page, as hex; lightness, chroma and hue (degrees) of OKLCH at the two ends of the ramp."""

    ink: str
    page: str
    muted: str
    mask: str
    first: Lab
    last: Lab


LIGHT = Theme("#1d1c1a", "#faf9f6", "#66625b", "#dcd8cf", first=(0.745, 0.075, 262.0), last=(0.955, 0.085, 98.0))
DARK = Theme("#eae8e3", "#161716", "#a5a19a", "#3a3a37", first=(0.295, 0.055, 265.0), last=(0.51, 0.075, 95.0))


def _lab(lch: Lab) -> Lab:
    lightness, chroma, hue = lch
    return lightness, chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))


def oklab(color: str) -> Lab:
    """OKLab of a hex colour."""
    r, g, b = (_linear(int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))
    l, m, s = (
        math.cbrt(sum(w * c for w, c in zip(row, (r, g, b), strict=True)))
        for row in (
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        )
    )
    return (
        0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
        1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
        0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
    )


def _linear(value: float) -> float:
    """sRGB to light."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _hex(lab: Lab) -> str:
    """The colour as sRGB; what sRGB cannot show is cut off."""
    L, a, b = lab
    l, m, s = (
        (L + ka * a + kb * b) ** 3
        for ka, kb in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    light = (
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    )
    values = (12.92 * c if c <= 0.0031308 else 1.055 * max(c, 0.0) ** (1 / 2.4) - 0.055 for c in light)
    return "#" + "".join(f"{round(255 * min(max(v, 0.0), 1.0)):02x}" for v in values)


@cache
def ramp(theme: Theme) -> tuple[str, ...]:
    """STOPS hex colours, first to last, at equal distances."""
    path = [
        _lab(tuple(a + (b - a) * i / _POINTS for a, b in zip(theme.first, theme.last, strict=True)))  # type: ignore[arg-type]
        for i in range(_POINTS + 1)
    ]
    along = [0.0]
    for before, after in itertools.pairwise(path):
        along.append(along[-1] + math.dist(before, after))
    out, at = [], 0
    for stop in range(STOPS):
        while along[at] < along[-1] * stop / (STOPS - 1) - 1e-12:
            at += 1
        out.append(_hex(path[at]))
    return tuple(out)


def stop(share: float) -> int:
    """The stop for a share of the run, 0 at its start and 1 at its end."""
    return min(STOPS - 1, max(0, int(share * STOPS)))


def css() -> str:
    """The ramp of both themes as custom properties, and a rule a stop: `[data-stop="3"]` has that colour."""

    def properties(theme: Theme) -> str:
        return "".join(f"--ramp-{i}:{color};" for i, color in enumerate(ramp(theme)))

    rules = "".join(f'[data-stop="{i}"]{{--tint:var(--ramp-{i})}}' for i in range(STOPS))
    dark = f"@media (prefers-color-scheme:dark){{:root{{{properties(DARK)}}}}}"
    return f":root{{{properties(LIGHT)}}}\n{dark}\n{rules}\n"
