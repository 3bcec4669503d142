"""The means of drawing: colours for page and print, one figure as SVG and PNG, ticks, labels that keep apart."""

import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from unmask.report.digits import number
from unmask.report.figures import (
    AUTOREGRESSIVE,
    DIFFUSION,
    GRID,
    INK,
    MUTED,
    PAPER,
    STYLE,
    WIDTH,
    inline,
    require,
)
from unmask.report.html import Html
from unmask.report.paper.content import Family, Point, Series

SIZE = 10.2  # of text, in points of the figure
DPI = 200


@dataclasses.dataclass(frozen=True)
class Paint:
    """The colours of a figure."""

    ink: str
    muted: str
    grid: str
    paper: str
    families: Mapping[Family, str]

    @property
    def style(self) -> dict[str, object]:
        """The style of the reports' figures in these colours."""
        new = {INK: self.ink, MUTED: self.muted, GRID: self.grid, PAPER: self.paper}
        return {key: new.get(value, value) if isinstance(value, str) else value for key, value in STYLE.items()}


DATA, THEORY = "#070707", "#080808"
# What an inline figure is drawn in, and the page reads as variables; and the same in print.
MARKS = Paint(
    INK, MUTED, GRID, PAPER,
    {"diffusion": DIFFUSION, "autoregressive": AUTOREGRESSIVE, "data": DATA, "theory": THEORY},
)  # fmt: skip
PRINT = Paint(
    "#1d1c1a", "#66625b", "#e7e3da", "#ffffff",
    {"diffusion": "#11696f", "autoregressive": "#a8491b", "data": "#5c5850", "theory": "#6b4aa8"},
)  # fmt: skip


Draw = Callable[[Any, Paint], None]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure: for the page, as a file of its own, and, drawn when it is asked for, as pixels."""

    inline: Html
    svg: str
    height: float
    draw: Draw = dataclasses.field(repr=False, compare=False)

    @cached_property
    def png(self) -> bytes:
        """The figure in print."""
        return _save(self.height, self.draw, PRINT, "png")


def picture(name: str, alt: str, height: float, draw: Draw) -> Picture:
    """Draw a figure of `height` inches, in the page's colours and in those of print."""
    text = _save(height, draw, MARKS, "svg").decode()
    element = str(inline(text, name, alt))
    for mark, variable in ((DATA, "var(--data)"), (THEORY, "var(--theory)")):
        element = element.replace(mark, variable)
    for mark, colour in _pairs(MARKS, PRINT):
        text = text.replace(mark, colour)
    ground = f'<rect width="100%" height="100%" fill="{PRINT.paper}"/>'
    cut = text.index(">", text.index("<svg")) + 1
    title = f"<title>{Html.escape(alt)}</title>"
    return Picture(Html(element), text[:cut] + title + ground + text[cut:], height, draw)


def _pairs(old: Paint, new: Paint) -> Iterator[tuple[str, str]]:
    yield from ((old.ink, new.ink), (old.muted, new.muted), (old.grid, new.grid), (old.paper, new.paper))
    yield from ((colour, new.families[family]) for family, colour in old.families.items())


def _save(height: float, draw: Draw, paint: Paint, form: str) -> bytes:
    matplotlib = require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(paint.style):
        figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.04, hspace=0.04))
        FigureCanvasAgg(figure)
        draw(figure, paint)
        out = io.BytesIO()
        if form == "svg":
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(out, format="png", dpi=DPI, facecolor=paint.paper, metadata={"Software": None})
    return out.getvalue()


def line_style(index: int, several: int, colour: str, paint: Paint) -> dict[str, object]:
    """How the `index`-th of `several` curves of one family is told from the others: line, mark, filled or hollow.

    Where there are more than four, they are in order, and grow from faint to full.
    """
    mark = "os^Dv"[index % 5]
    if several > 4:
        share = 0.35 + 0.65 * index / (several - 1)
        return {"color": colour, "linestyle": "-", "marker": mark, "markerfacecolor": colour, "alpha": share}
    line = ("-", (0, (4, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)))[index]
    hollow = index % 2 == 1
    return {"color": colour, "linestyle": line, "marker": mark, "markerfacecolor": paint.paper if hollow else colour}


def shown(series: Series, *, x_log: bool = False, y_log: bool = False) -> list[Point]:
    """The points that can be drawn on these axes."""
    return [
        point
        for point in series.points
        if math.isfinite(point.y)
        and (point.y > 0 or not y_log)
        and math.isfinite(point.x)
        and (point.x > 0 or not x_log)
    ]


def bar_of(point: Point, y_log: bool) -> tuple[float, float]:
    """Two standard errors down and up; on a logarithmic axis never down to nothing."""
    reach = 2 * point.error if point.error is not None and math.isfinite(point.error) else 0.0
    return (min(reach, 0.9 * point.y) if y_log else reach), reach


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Three to `most` round numbers on a logarithmic axis from `low` to `high`."""
    found: list[float] = []
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / most)]
    step = 10.0 ** math.floor(math.log10(high - low))  # less than a doubling: as on a linear axis
    step = next((step * m for m in (1, 0.5, 0.2) if (high - low) / (step * m) >= 2), step * 0.1)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def set_log(axis: Any, low: float, high: float, most: int = 6) -> None:
    """Make an axis logarithmic, with plain numbers at round places and no others."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ticks = log_ticks(low, high, most)
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def tick_label(value: float) -> str:
    """`0.05`, `2.5`, `1,000`, `20 k`."""
    return f"{value / 1000:g} k" if value >= 10_000 else number(value) if value >= 1000 else f"{value:.3g}"


def room(values: Iterable[float], share: float = 0.08) -> tuple[float, float]:
    """Limits of a logarithmic axis with a margin on both sides."""
    known = list(values)
    low, high = min(known), max(known)
    wide = max(math.log(high / low), 0.5) * share
    return low / math.exp(wide), high * math.exp(wide)


@dataclasses.dataclass(frozen=True)
class Label:
    """A few letters beside a point, or on a level line, whose two ends are then in `ends`."""

    x: float
    y: float
    text: str
    colour: str
    ends: tuple[float, ...] = ()

    def places(self) -> list[tuple[float, float, float, str, str]]:
        """Where it may stand, best first: x, points to the right, points up, alignments."""
        if self.ends:
            sides = (("right", -2.0), ("left", 2.0))
            spots = list(zip(self.ends[::-1], sides, strict=True))
            return [(x, dx, 2.5 * up, ha, va) for up, va in ((1, "bottom"), (-1, "top")) for x, (ha, dx) in spots]
        return [(self.x, *place) for place in PLACES]


PLACES = (
    (0, 7, "center", "bottom"), (0, -7, "center", "top"), (7, 0, "left", "center"), (-7, 0, "right", "center"),
    (5, 6, "left", "bottom"), (-5, 6, "right", "bottom"), (5, -6, "left", "top"), (-5, -6, "right", "top"),
    (0, 15, "center", "bottom"), (0, -15, "center", "top"), (14, 4, "left", "bottom"), (-14, -4, "right", "top"),
    (14, -4, "left", "top"), (-14, 4, "right", "bottom"), (8, 15, "left", "bottom"), (-8, 15, "right", "bottom"),
)  # fmt: skip


def put_labels(axes: Any, labels: Sequence[Label], lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Write labels beside their points, each at the first place where it meets no line, mark or other label.

    lines: what is drawn, as points joined by straight lines on the axes. Where no place is free, the least crowded.
    The figure must have been laid out (`draw_without_rendering`), so that it is known what is how far from what.
    """
    from matplotlib.transforms import Bbox

    canvas = axes.figure.figure.canvas
    renderer = canvas.get_renderer()
    dot = canvas.figure.dpi / 72
    taken = [Bbox.from_bounds(x - 1.5 * dot, y - 1.5 * dot, 3 * dot, 3 * dot) for x, y in _along(axes, lines, 4 * dot)]
    taken += [Bbox.from_bounds(x - 4 * dot, y - 4 * dot, 8 * dot, 8 * dot) for x, y in _corners(axes, lines)]
    inside = axes.get_window_extent(renderer)
    for label in sorted(labels, key=lambda label: not label.ends):
        best: tuple[float, Any, Any] | None = None
        for x, dx, dy, ha, va in label.places():
            note = axes.annotate(
                label.text, (x, label.y), xytext=(dx, dy), textcoords="offset points", ha=ha, va=va,
                fontsize=0.88 * SIZE, color=label.colour, in_layout=False,
            )  # fmt: skip
            box = note.get_window_extent(renderer)
            cost = sum(_overlap(box, other) for other in taken) + 3 * (_area(box) - _overlap(box, inside))
            if best is None or cost < best[0] - 1e-6:
                if best is not None:
                    best[1].remove()
                best = (cost, note, box)
            else:
                note.remove()
            if cost <= 1e-6:
                break
        if best is not None:
            taken.append(best[2].padded(2 * dot, 0))  # two numbers side by side are not read as one


def _corners(axes: Any, lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Where points are on the screen."""
    return [tuple(axes.transData.transform(point)) for line in lines for point in line]


def _along(axes: Any, lines: Sequence[Sequence[tuple[float, float]]], step: float) -> Iterator[tuple[float, float]]:
    """Places on the screen along lines, `step` pixels apart."""
    for line in lines:
        ends = [tuple(axes.transData.transform(point)) for point in line]
        for (x0, y0), (x1, y1) in pairwise(ends):
            count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / step))
            yield from ((x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1))


def _overlap(one: Any, other: Any) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(wide * high) if wide > 0 and high > 0 else 0.0


def _area(box: Any) -> float:
    return float(box.width * box.height)
