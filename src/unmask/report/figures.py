"""Figures as inline SVG. Their colours are the page's own variables, so that they follow light and dark."""

import contextlib
import importlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from unmask.errors import ConfigError
from unmask.report.content import Report, Timed
from unmask.report.digits import number, seconds, with_error
from unmask.report.html import Html

# Colours that matplotlib writes and the page reads as variables. None of them is ever seen.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
DIFFUSION, AUTOREGRESSIVE = "#050505", "#060606"
VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--card)",
    DIFFUSION: "var(--diffusion)", AUTOREGRESSIVE: "var(--autoregressive)",
}  # fmt: skip
WIDTH = 4.7  # inches: 338 units of the SVG, which the page shows between 300 and 520 pixels wide
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "unmask", "font.family": "sans-serif", "font.size": 10.2,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "axes.linewidth": 0.8,
    "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.7, "axes.labelsize": 10.2,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 10.2, "ytick.labelsize": 10.2,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "lines.linewidth": 1.8, "legend.frameon": False, "figure.facecolor": "none", "axes.unicode_minus": True,
}  # fmt: skip


def require() -> Any:
    """The matplotlib module. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise ConfigError(
            f"the figures of a report need matplotlib, which cannot be imported: {error}",
            "pip install 'unmask[figures]'",
        ) from None


@contextlib.contextmanager
def _figure(height: float, made: list[Html], name: str, alt: str) -> Iterator[Any]:
    """Axes to draw on, `height` inches high; when the block ends, `made` gets the SVG."""
    matplotlib = require()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot()
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    made.append(inline(text.getvalue(), name, alt))


def inline(svg: str, name: str, alt: str) -> Html:
    """An SVG document as an element of a page: named, with the page's colours, no metadata and no id used twice."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", body, flags=re.DOTALL)
    body = (
        re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", body[: body.index(">")])
        + body[body.index(">") :]
    )
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    label = Html.escape(alt)
    return Html(body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def likelihood(report: Report) -> Html | None:
    """Nats per token of both models, with bars of two standard errors, the papers' quantity hollow below them."""
    ours, theirs = report.diffusion, report.autoregressive
    lines = [
        (f"{theirs}\nexact", report.find("nats_per_token", theirs), AUTOREGRESSIVE, True),
        (f"{ours}\nfull bound", report.find("nats_per_token", ours), DIFFUSION, True),
        (f"{ours}\npapers' quantity", report.find("paper_nats_per_token", ours), DIFFUSION, False),
    ]
    shown = [(label, row, colour, solid) for label, row, colour, solid in lines if row and math.isfinite(row.value)]
    if not shown:
        return None
    said = "; ".join(
        f"{label.replace(chr(10), ', ')}: {with_error(row.value, row.stderr)}" for label, row, _, _ in shown
    )
    made: list[Html] = []
    with _figure(0.62 + 0.52 * len(shown), made, "likelihood", f"Nats per token, lower is better. {said}.") as axes:
        for place, (_, row, colour, solid) in enumerate(shown):
            axes.errorbar(
                row.value, place, xerr=2 * (row.stderr or 0), fmt="o", markersize=7, color=colour, elinewidth=2,
                capsize=4, capthick=2, markerfacecolor=colour if solid else PAPER, markeredgecolor=colour,
                markeredgewidth=1.8,
            )  # fmt: skip
            axes.annotate(
                number(row.value, row.stderr), (row.value, place), xytext=(0, 8), textcoords="offset points",
                ha="center", fontweight="bold",
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [label for label, _, _, _ in shown], color=INK)
        axes.set_ylim(len(shown) - 0.5, -0.65)
        axes.margins(x=0.14)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("nats per token (lower is better)")
    return made[0]


def curves(report: Report) -> Html | None:
    """Nats per token against tokens seen: the training loss thin, what is held out as points."""
    drawn = {name: list(points) for name, points in report.curves.items() if points}
    if not drawn:
        return None
    last = [
        f"{name}: {number(_last_heldout(points))} after {points[-1]['tokens'] / 1e6:.3g} million"
        for name, points in drawn.items()
    ]
    made: list[Html] = []
    alt = f"Nats per token against tokens seen in training. Last held-out values. {'; '.join(last)}."
    with _figure(2.8, made, "curves", alt) as axes:
        for name, points in drawn.items():
            colour = DIFFUSION if name == report.diffusion else AUTOREGRESSIVE
            _curve(axes, points, colour)
            held = _series(points, "heldout_nats")
            axes.plot(*held, "o-", color=colour, markersize=4, label=name)
        _clip_start(axes, drawn.values())
        axes.set_xlabel("million tokens seen")
        axes.set_title("nats per token", loc="left", fontsize=10.2, color=MUTED)
        axes.legend(loc="upper right", handlelength=1.4)
        axes.set_xlim(left=0)
    return made[0]


def _curve(axes: Any, points: Sequence[Mapping[str, float]], colour: str) -> None:
    axes.plot(*_series(points, "loss"), color=colour, linewidth=0.9, alpha=0.45)


def _clip_start(axes: Any, every: Iterable[Sequence[Mapping[str, float]]]) -> None:
    """Let the first twentieth of the losses leave the figure at its top, so that the rest can be seen."""
    values: list[float] = []
    for points in every:
        losses = _series(points, "loss")[1]
        values += losses[len(losses) // 20 :] + _series(points, "heldout_nats")[1]
    if values:
        room = 0.06 * (max(values) - min(values)) or 0.1
        axes.set_ylim(min(values) - room, max(values) + room)


def _series(points: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Million tokens and values of the points that hold a finite value under `key`."""
    kept = [p for p in points if p.get(key) is not None and math.isfinite(p[key])]
    return [p["tokens"] / 1e6 for p in kept], [p[key] for p in kept]


def _last_heldout(points: Sequence[Mapping[str, float]]) -> float:
    values = _series(points, "heldout_nats")[1] or _series(points, "loss")[1]
    return values[-1] if values else math.nan


def timing(report: Report) -> Html | None:
    """Seconds for one sequence: a bar for each number of steps and one for the autoregressive model."""
    rows = [(timing_label(t), t) for t in report.timings if math.isfinite(t.row.value)]
    if not rows:
        return None
    said = "; ".join(f"{label}: {seconds(t.row.value)}" for label, t in rows)
    longest = max(t.row.value + 2 * (t.row.stderr or 0) for _, t in rows)
    made: list[Html] = []
    with _figure(0.62 + 0.36 * len(rows), made, "timing", f"Seconds for one sequence. {said}.") as axes:
        for place, (_, timed) in enumerate(rows):
            row = timed.row
            colour = DIFFUSION if row.model == report.diffusion else AUTOREGRESSIVE
            axes.barh(place, row.value, 0.56, color=colour)
            axes.errorbar(
                row.value, place, xerr=2 * (row.stderr or 0), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3
            )
            axes.annotate(
                seconds(row.value), (row.value + 2 * (row.stderr or 0), place), xytext=(5, 0),
                textcoords="offset points", va="center",
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], color=INK)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1.22 * longest)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds for one sequence (shorter is faster)")
    return made[0]


def timing_label(timed: Timed) -> str:
    """`SEDD, 64 steps`, or `AR, key-value cache`."""
    return f"{timed.row.model}, " + (f"{timed.steps} steps" if timed.steps is not None else "key-value cache")
