"""Figures whose rows are named: latencies, variances, and MAUVE of each way of writing."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unmask.report.digits import seconds
from unmask.report.paper.content import Point, Series
from unmask.report.paper.curves import panels
from unmask.report.paper.draw import SIZE, Label, Paint, bar_of, put_labels, room, set_log

if TYPE_CHECKING:
    from unmask.report.paper.figures import Kind

ROW = 0.3  # inches
LINE = 0.5  # of a row, that another line of its name takes
NAME = 18  # letters of a name on a line
WIDE = 12.0  # a ratio of longest to shortest beyond which the axis is logarithmic
Named = tuple[str, Series, Point]


def height(series: Sequence[Series]) -> float:
    """Inches for all rows of all panels."""
    groups = panels(series, "")
    return sum(0.5 + ROW * _places(_rows(own))[1] for own in groups.values()) + 0.25


def latencies(figure: Any, paint: Paint, series: Sequence[Series], how: "Kind") -> None:
    """A panel for each size: the autoregressive model, then diffusion by steps; what was extrapolated is hollow."""
    _panels(figure, paint, series, how, _against_cache)


def ranked(figure: Any, paint: Paint, series: Sequence[Series], how: "Kind") -> None:
    """Bars with their value and how many times the smallest it is."""
    _panels(figure, paint, series, how, _against_least)


def _rows(own: Sequence[Series]) -> list[Named]:
    """A row for each point, autoregressive first, with its name."""
    ordered = sorted(own, key=lambda s: s.family != "autoregressive")
    found = []
    for series in ordered:
        points = [p for p in series.points if math.isfinite(p.y)]
        for point in sorted(points, key=lambda p: p.x) if all(math.isfinite(p.x) for p in points) else points:
            found.append((_name(series, point), series, point))
    return found


def _places(rows: Sequence[Named]) -> tuple[list[float], float]:
    """Where the rows are, from above, those with names of several lines farther apart; and how much they take."""
    places, end = [], 0.0
    for name, _, _ in rows:
        room = 1 + LINE * name.count("\n")
        places.append(end + room / 2 - 0.5)
        end += room
    return places, end


def _name(series: Series, point: Point) -> str:
    label = f"{point.label} steps" if point.label.isdigit() else point.label
    if len(series.points) == 1:
        return textwrap.fill(series.name, NAME)
    own = label or f"{point.x:g} steps"
    return textwrap.fill(own if series.panel and point.label else f"{series.name}, {own}", NAME)


def _panels(figure: Any, paint: Paint, series: Sequence[Series], how: "Kind", say: Any) -> None:
    groups = panels(series, how.y)
    rows = [_rows(own) for own in groups.values()]
    every = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[_places(r)[1] + 0.9 for r in rows])[:, 0]
    values = [p.y for own in rows for _, _, p in own if p.y > 0]
    log = bool(values) and max(values) > WIDE * min(values)
    for axes, (panel, y), own in zip(every, groups, rows, strict=True):
        axes.set_xlabel(y + (", logarithmic" if log else "") if axes is every[-1] else "")
        if panel:
            axes.set_title(panel, loc="left", fontsize=SIZE, fontweight="bold", color=paint.ink)
        places, end = _places(own)
        axes.set_yticks(places, [name for name, _, _ in own], color=paint.ink)
        axes.set_ylim(end - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
    figure.draw_without_rendering()
    for axes, own in zip(every, rows, strict=True):
        _bars(axes, paint, own, log, say(own))


def _bars(axes: Any, paint: Paint, rows: Sequence[Named], log: bool, words: Sequence[str]) -> None:
    ends = [p.y + bar_of(p, log)[1] for _, _, p in rows]
    notes = []
    for place, (_, series, point), end, said in zip(_places(rows)[0], rows, ends, words, strict=True):
        colour = paint.families[series.family]
        look: dict[str, Any] = {"color": colour}
        if not point.measured:
            look = {"facecolor": "none", "edgecolor": colour, "hatch": "//////", "linewidth": 1.1}
        axes.barh(place, point.y, 0.6, **look)
        down, up = bar_of(point, log)
        if up:
            axes.errorbar(
                point.y, place, xerr=[[down], [up]], fmt="none", ecolor=paint.ink, elinewidth=1.1, capsize=2.5
            )
        notes.append(
            axes.annotate(
                said, (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=0.94 * SIZE,
                in_layout=False, annotation_clip=False,
            )
        )  # fmt: skip
    _widen(axes, rows, ends, notes, log)


def _widen(axes: Any, rows: Sequence[Named], ends: Sequence[float], notes: Sequence[Any], log: bool) -> None:
    """Set the limits so that what stands beside the bars is inside; where logarithmic, bars start below the least."""
    canvas = axes.figure.canvas
    renderer = canvas.get_renderer()
    width = axes.get_window_extent(renderer).width
    shares = [
        min(0.85, (note.get_window_extent(renderer).width + 8 * canvas.figure.dpi / 72) / width) for note in notes
    ]
    if log:
        low = min(p.y for _, _, p in rows if p.y > 0) / 2
        high = max(low * (end / low) ** (1 / (1 - share)) for end, share in zip(ends, shares, strict=True) if end > low)
        set_log(axes.xaxis, low, high, most=4)
        axes.xaxis.set_ticks([tick for tick in axes.xaxis.get_majorticklocs() if tick <= max(ends)])
    else:
        axes.set_xlim(0, max(end / (1 - share) for end, share in zip(ends, shares, strict=True)) or 1.0)
        axes.locator_params(axis="x", nbins=4)


def _against_cache(rows: Sequence[Named]) -> list[str]:
    """Seconds, and how many times faster than the fastest autoregressive row of the panel."""
    cache = min((p.y for _, s, p in rows if s.family == "autoregressive"), default=None)
    words = []
    for _, series, point in rows:
        said = ("" if point.measured else "≈ ") + brief(point.y)
        compare = cache is not None and series.family == "diffusion" and point.y > 0
        words.append(f"{said} ({_times((cache or 0.0) / point.y)})" if compare else said)
    return words


def _against_least(rows: Sequence[Named]) -> list[str]:
    least = min((p.y for _, _, p in rows if p.y > 0), default=0.0)
    return [f"{p.y:.3g}" + (f" ({_times(p.y / least)})" if least and p.y > least else "") for _, _, p in rows]


def brief(value: float) -> str:
    """A duration in one unit: `850 ms`, `3.4 s`, `39.2 min`."""
    return seconds(value) if value < 99.5 else f"{value / 60:.1f} min"


def _times(ratio: float) -> str:
    return (
        f"{ratio:.{2 if ratio >= 0.1 else 3}f}×" if ratio < 1 else f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"
    )


def mauve_height(series: Sequence[Series]) -> float:
    """Inches for the rows, and for the scatter below where there is one."""
    rows = _mauve_rows(series)
    return 0.85 + 0.27 * len(rows) + (2.7 if len(_placed(rows)) > 1 else 0)


def mauve(figure: Any, paint: Paint, series: Sequence[Series], how: "Kind") -> None:
    """MAUVE of each row with its spread over seeds; below, against the perplexity of the continuations."""
    rows = _mauve_rows(series)
    placed = _placed(rows)
    two = len(placed) > 1
    above = 0.6 + 0.27 * len(rows)
    parts = figure.subfigures(2, 1, height_ratios=[above, 2.7]) if two else [figure]
    axes = parts[0].subplots()
    for place, (_, own, point) in enumerate(rows):
        axes.errorbar(
            point.y, place, xerr=point.error or 0, fmt="o", markersize=5.5, color=paint.families[own.family],
            elinewidth=1.6, capsize=3,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=paint.ink)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel(how.y)
    if two:
        _scatter(parts[1].subplots(), paint, placed, how)


def _scatter(axes: Any, paint: Paint, rows: Sequence[Named], how: "Kind") -> None:
    for _, series, point in rows:
        axes.errorbar(
            point.x, point.y, yerr=point.error or 0, fmt="o", markersize=5, color=paint.families[series.family],
            elinewidth=1.1, capsize=2,
        )  # fmt: skip
    low, high = room([p.x for _, _, p in rows], 0.22)
    set_log(axes.xaxis, low, high)
    axes.margins(y=0.18)
    axes.set_title(how.y, loc="left", fontsize=SIZE, color=paint.muted)
    axes.set_xlabel(how.x)
    labels = [Label(p.x, p.y, name, paint.families[s.family]) for name, s, p in rows]
    spreads = [(p, p.error or 0.0) for _, _, p in rows]
    axes.figure.figure.draw_without_rendering()
    put_labels(axes, labels, [[(p.x, p.y - e), (p.x, p.y), (p.x, p.y + e)] for p, e in spreads])


def _mauve_rows(series: Sequence[Series]) -> list[Named]:
    return [(p.label or s.name, s, p) for s in series for p in s.points if math.isfinite(p.y)]


def _placed(rows: Sequence[Named]) -> list[Named]:
    return [row for row in rows if math.isfinite(row[2].x) and row[2].x > 0]
