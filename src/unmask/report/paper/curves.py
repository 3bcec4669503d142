"""Curves on two axes: one panel for each thing that is measured."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from unmask.report.paper.content import Family, Point, Series
from unmask.report.paper.draw import SIZE, Label, Paint, bar_of, line_style, put_labels, room, set_log, shown

if TYPE_CHECKING:
    from unmask.report.paper.figures import Kind

BATCH = re.compile(r"batch (?:of )?(\d+(?:\.\d+)?)")
PANEL = 2.75  # inches
LEGEND = 46  # letters of two names beside each other


def panels(series: Sequence[Series], y: str) -> dict[tuple[str, str], list[Series]]:
    """Series by panel and by what they measure, in order of appearance."""
    found: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        found.setdefault((one.panel, one.y or y), []).append(one)
    return found


def height(series: Sequence[Series]) -> float:
    """Inches for the panels and the legend above them."""
    names = list(dict.fromkeys(s.name for s in series))
    return 0.25 + PANEL * len(panels(series, "")) + 0.2 * math.ceil(len(names) / _columns(names))


def _columns(names: Sequence[str]) -> int:
    """Two columns of the legend, or one where two are too wide."""
    half = math.ceil(len(names) / 2)
    return 2 if sum(max(map(len, part), default=0) for part in (names[:half], names[half:])) <= LEGEND else 1


def lines(figure: Any, paint: Paint, series: Sequence[Series], how: "Kind") -> None:
    """A panel below the other, one legend above all."""
    groups = panels(series, how.y)
    every = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    styles = _styles(series, paint)
    handles: dict[str, Any] = {}
    todo = []
    for axes, ((panel, y), own) in zip(every, groups.items(), strict=True):
        log = how.y_log and _can_be_log(own, y == how.y)
        axes.set_title(f"{panel}: {y}" if panel and y else panel or y, loc="left", fontsize=SIZE, color=paint.muted)
        _scales(axes, own, how, log)
        todo.append((axes, _panel(axes, paint, own, styles, (how.x_log, log), handles)))
    every[-1].set_xlabel(how.x)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper left", ncols=_columns(list(handles)),
            handlelength=2.2, columnspacing=1.4, borderaxespad=0.1, fontsize=0.94 * SIZE, labelspacing=0.3,
        )  # fmt: skip
    figure.draw_without_rendering()
    for axes, (labels, drawn) in todo:
        put_labels(axes, labels, drawn)


def _can_be_log(own: Sequence[Series], by_default: bool) -> bool:
    """Whether a logarithmic axis can show these, and, for what the figure does not show by default, need it."""
    values = [p.y for s in own for p in s.points if math.isfinite(p.y)]
    return bool(values) and min(values) > 0 and (by_default or max(values) > 10 * min(values))


def _styles(series: Sequence[Series], paint: Paint) -> Mapping[tuple[str, Family], dict[str, object]]:
    """A style for each name of a family, the same in all panels."""
    found = {}
    for family, colour in paint.families.items():
        names = list(dict.fromkeys(s.name for s in series if s.family == family and not _level(s)))
        for index, name in enumerate(names):
            found[name, family] = line_style(index, len(names), colour, paint)
            if family == "theory":
                found[name, family] |= {"marker": None, "linestyle": ((0, (5, 1.5)), ":")[index % 2]}
    return found


def _level(series: Series) -> bool:
    """Whether a series is drawn as a level line: one point of something that has no place on the x axis."""
    return len(series.points) == 1 and (series.family == "data" or not series.points[0].x > 0)


def _panel(
    axes: Any,
    paint: Paint,
    own: Sequence[Series],
    styles: Mapping[tuple[str, Family], dict[str, object]],
    logs: tuple[bool, bool],
    handles: dict[str, Any],
) -> tuple[list[Label], list[list[tuple[float, float]]]]:
    """Draw the series of a panel; what is to be labelled, and where lines are."""
    labels: list[Label] = []
    drawn: list[list[tuple[float, float]]] = []
    for series in own:
        colour = paint.families[series.family]
        if _level(series):
            value, ends = series.points[0].y, axes.get_xlim()
            if math.isfinite(value):
                axes.axhline(value, color=colour, linewidth=1.3, linestyle=(0, (6, 2)))
                labels.append(Label(0, value, series.name, colour, ends))
                drawn.append([(x, value) for x in ends])
            continue
        points = shown(series, x_log=logs[0], y_log=logs[1])
        if not points:
            continue
        handles.setdefault(series.name, _draw_curve(axes, paint, points, styles[series.name, series.family], logs[1]))
        drawn.append([(p.x, p.y) for p in points])
        for point, (down, up) in ((p, bar_of(p, logs[1])) for p in points):
            drawn.append([(point.x, point.y - down), (point.x, point.y + up)])
        labels += [Label(p.x, p.y, p.label, colour) for p in points if p.label]
        ring = _break_even(series, points)
        if ring is not None:
            axes.plot(*ring, "o", markersize=12, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.3)
    return labels, drawn


def _draw_curve(axes: Any, paint: Paint, points: Sequence[Point], style: Mapping[str, object], log: bool) -> Any:
    x, y = [p.x for p in points], [p.y for p in points]
    reach = [bar_of(p, log) for p in points]
    if any(up for _, up in reach):
        axes.errorbar(
            x, y, yerr=[[down for down, _ in reach], [up for _, up in reach]], fmt="none", ecolor=style["color"],
            elinewidth=1.2, capsize=2.5, alpha=style.get("alpha"),
        )  # fmt: skip
    size = 6.5 if len(points) == 1 else 5
    whole = dict(style) | ({"linestyle": "none"} if len(points) == 1 else {})
    (line,) = axes.plot(x, y, markersize=size, markeredgewidth=1.4, linewidth=1.6, **whole)
    guessed = [p for p in points if not p.measured]
    if guessed:
        axes.plot(
            [p.x for p in guessed], [p.y for p in guessed], "o", markersize=size, markerfacecolor=paint.paper,
            markeredgecolor=style["color"], markeredgewidth=1.2, zorder=3,
        )  # fmt: skip
    return line


def _break_even(series: Series, points: Sequence[Point]) -> tuple[float, float] | None:
    """The place on a curve of the batch that its note names, between two points by a straight line in logarithms."""
    found = BATCH.search(series.note) if "break-even" in series.note else None
    if found is None:
        return None
    batch = float(found[1])
    ordered = sorted(points, key=lambda p: p.x)
    for left, right in pairwise(ordered):
        if left.x <= batch <= right.x and left.x < right.x and min(left.x, left.y, right.y) > 0:
            share = math.log(batch / left.x) / math.log(right.x / left.x)
            return batch, math.exp((1 - share) * math.log(left.y) + share * math.log(right.y))
    return None


def _scales(axes: Any, own: Sequence[Series], how: "Kind", log: bool) -> None:
    """Limits and ticks from the points that are there."""
    points = [p for s in own if not _level(s) for p in shown(s, x_log=how.x_log, y_log=log)]
    heights = [p.y for s in own for p in s.points if math.isfinite(p.y) and (p.y > 0 or not log)]
    reach = [(p.y - down, p.y + up) for p in points for down, up in [bar_of(p, log)]]
    heights += [value for pair in reach for value in pair if value > 0 or not log]
    if log and heights:
        set_log(axes.yaxis, *room(heights, 0.1))
    elif heights:
        axes.margins(y=0.14)
        low, high = min(heights), max(heights)
        gap = 0.14 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - gap, high + gap)
    if how.x_log and points:
        set_log(axes.xaxis, *room([p.x for p in points], 0.1))
        _whole_ticks(axes, how, [p.x for p in points])


def _whole_ticks(axes: Any, how: "Kind", values: Sequence[float]) -> None:
    """Steps and batches are marked where they were measured, as far as there is room for the numbers."""
    if how.x.startswith("seconds"):
        return
    from matplotlib.ticker import FixedLocator

    low, high = axes.get_xlim()
    kept: list[float] = []
    for value in sorted(set(values)):
        if not kept or math.log(value / kept[-1]) > 0.085 * math.log(high / low):
            kept.append(value)
    axes.xaxis.set_major_locator(FixedLocator(kept))
