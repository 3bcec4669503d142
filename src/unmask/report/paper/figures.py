"""The figures of the page, each from the series that name it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unmask.report.digits import number, seconds, with_error
from unmask.report.paper import bars, curves
from unmask.report.paper.content import PaperReport, Series
from unmask.report.paper.draw import Paint, Picture, picture, shown
from unmask.report.paper.layout import Section, pending, slug

TWO = "Bars are two standard errors."


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a figure is drawn. x and y: what its axes show by default."""

    title: str
    x: str
    y: str
    caption: str
    draw: Callable[[Any, Paint, Sequence[Series], "Kind"], None]
    height: Callable[[Sequence[Series]], float]
    x_log: bool = False
    y_log: bool = False


FIGURES: Mapping[str, Kind] = {
    "variance": Kind(
        "What the choice of noise levels costs", "", "variance of the estimate",
        "Variance of the estimated bound at the same number of evaluations: shorter is better. In brackets, how many "
        "times the smallest.", bars.ranked, bars.height,
    ),
    "quality_per_second": Kind(
        "Quality per second", "seconds for one sequence", "judge perplexity",
        "Down and to the left is better, as far as the judge can tell. The small numbers are sampling steps. " + TWO,
        curves.lines, curves.height, x_log=True, y_log=True,
    ),
    "entropy_per_second": Kind(
        "Diversity per second", "seconds for one sequence", "unigram entropy (nats)",
        "The same sets of samples: a low perplexity counts only where the entropy stays near that of real text. " + TWO,
        curves.lines, curves.height, x_log=True,
    ),
    "arithmetic": Kind(
        "Exact draws and the float32 race", "sampling steps", "judge perplexity",
        "Each number of steps twice, and what the closed form predicts. " + TWO, curves.lines, curves.height,
        x_log=True, y_log=True,
    ),
    "diversity": Kind(
        "Diversity by steps", "sampling steps", "unigram entropy (nats)",
        "Level lines do not depend on the steps. " + TWO, curves.lines, curves.height, x_log=True,
    ),
    "figure1": Kind(
        "Figure 1. Latency", "", "seconds for one sequence",
        "Seconds for one sequence, batch of 1: shorter is faster. Full bars were measured; hatched ones were "
        "extrapolated from the time of a step. In brackets, how many times faster than the key-value cache. Lines "
        "are two standard errors.", bars.latencies, bars.height,
    ),
    "throughput": Kind(
        "Tokens per second by batch", "batch", "tokens per second",
        "Up is faster. A ring marks a break-even: from there on the other side writes more tokens per second. " + TWO,
        curves.lines, curves.height, x_log=True, y_log=True,
    ),
    "mauve": Kind(
        "MAUVE and continuation perplexity", "continuation perplexity", "MAUVE",
        "Above: MAUVE of each row, the lines one standard deviation over seeds. Below: the same against the perplexity "
        "of the continuation.", bars.mauve, bars.mauve_height,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure that could be drawn."""

    name: str
    title: str
    caption: str
    alt: str
    picture: Picture


def figure(report: PaperReport, name: str) -> Figure | None:
    """The figure of a name; None where no series of it has a point."""
    series = tuple(s for s in report.series if s.figure == name and any(math.isfinite(p.y) for p in s.points))
    return _figure(name, series) if series else None


def absent(report: PaperReport, section: Section, name: str) -> str:
    """Why there is no figure of a name."""
    reason = pending(report, (name,)) or pending(report, section.tables)
    return f"{kind(name).title}: no figure yet, {reason or 'nothing was measured for it'}."


def kind(name: str) -> Kind:
    """How a figure is drawn; plain lines for one that is not known."""
    title = name.replace("_", " ").capitalize()
    return FIGURES.get(name) or Kind(title, "", "", TWO, curves.lines, curves.height)


@functools.lru_cache(maxsize=64)
def _figure(name: str, series: tuple[Series, ...]) -> Figure | None:
    how = kind(name)
    if not any(shown(s, x_log=how.x_log, y_log=how.y_log) for s in series) and name != "mauve":
        return None
    alt = f"{how.title}. {'. '.join(_said(s, how) for s in series)}."
    caption = " ".join([how.caption, *(f"{s.name}: {s.note.rstrip('.')}." for s in series if s.note)])
    made = picture(slug(name), alt, how.height(series), lambda canvas, paint: how.draw(canvas, paint, series, how))
    return Figure(name, how.title, caption, alt, made)


def _said(series: Series, how: Kind) -> str:
    """A curve in words, for those who cannot see it."""
    show = seconds if (series.y or how.y).startswith("seconds") else number
    points = []
    for point in (p for p in series.points if math.isfinite(p.y)):
        value = show(point.y) if show is seconds else with_error(point.y, point.error)
        place = point.label or (f"{point.x:.4g}" if math.isfinite(point.x) else "")
        points.append(f"{place}: {value}" + ("" if point.measured else ", extrapolated"))
    name = f"{series.panel}, {series.name}" if series.panel else series.name
    return f"{name}: {'; '.join(points)}"
