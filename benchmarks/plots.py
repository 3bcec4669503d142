"""The pictures of docs/results.md, as SVG and PNG, from the kept JSON, in the style of the reports' figures."""

import math
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unmask.report.paper.draw import SIZE, Paint, Picture, picture, room, set_log


def pictures(kept: Mapping[str, dict], folder: Path) -> dict[str, str]:
    """Draw what there is JSON for; what each picture shows, by its path from docs/."""
    found = {}
    for name, result in kept.items():
        parts = result.get("parts", {})
        for kind, (alt, draw) in KINDS.items():
            chosen = {key.split(", ", 1)[1]: part for key, part in parts.items() if key.startswith(f"{kind}, ")}
            if chosen:
                stem = f"{name}_{kind}"
                save(folder, stem, picture(stem, alt, 3.0, lambda figure, paint, d=draw, c=chosen: d(figure, paint, c)))
                found[f"images/{stem}.png"] = alt
    return found


def save(folder: Path, stem: str, made: Picture) -> None:
    """Both forms."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.svg").write_text(made.svg)
    (folder / f"{stem}.png").write_bytes(made.png)


def lengths(figure: Any, paint: Paint, parts: Mapping[str, dict]) -> None:
    """Seconds a step and of `hidden` against the length."""
    axes, every = figure.subplots(), []
    for index, (variant, part) in enumerate(parts.items()):
        for what, line in (("step", "-"), ("hidden", (0, (1.2, 1.4)))):
            found = {int(k.split()[1]): v for k, v in part["seconds"].items() if k.startswith(what)}
            y = [statistics.median(times) for times in found.values()]
            label = f"{variant}, {'a step' if what == 'step' else 'hidden alone'}"
            _curve(axes, paint, list(found), y, index, line, label)
            every += y
    set_log(axes.xaxis, *room(found))
    _only(axes.xaxis, list(found))
    set_log(axes.yaxis, *room(every, 0.12))
    _words(axes, paint, "tokens", "seconds")


def batches(figure: Any, paint: Paint, parts: Mapping[str, dict]) -> None:
    """Tokens a second by batch: 16, 32, 64 steps, and our own engine with its cache."""
    axes, every, sizes = figure.subplots(), [], []
    variant, part = next(((k, v) for k, v in parts.items() if k == "float32"), next(iter(parts.items())))
    sides: dict[str, list[dict]] = {}
    for one in part["latency"]:
        sides.setdefault("AR with cache" if one["side"] == "ar" else f"{one['steps']} steps", []).append(one)
    for index, (label, found) in enumerate(sorted(sides.items(), key=lambda item: _first_number(item[0]))):
        sizes, y = [x["batch"] for x in found], [x["throughput"] for x in found]
        colour = paint.families["autoregressive" if label.startswith("AR") else "diffusion"]
        line = ("-", (0, (4, 2)), (0, (1, 1.6)))[index % 3]
        axes.plot(sizes, y, marker="os^D"[index % 4], color=colour, linestyle=line, label=label, markersize=5)
        every += y
    set_log(axes.xaxis, *room(sizes))
    _only(axes.xaxis, sizes)
    set_log(axes.yaxis, *room(every, 0.12))
    _words(axes, paint, f"sequences at once ({variant})", "tokens a second")


def _first_number(label: str) -> float:
    found = re.search(r"\d+", label)
    return float(found[0]) if found else math.inf


def _curve(axes: Any, paint: Paint, x: list, y: list, index: int, line: object, label: str) -> None:
    colour = [paint.families[family] for family in ("diffusion", "autoregressive", "theory", "data")][index % 4]
    axes.plot(x, y, marker="o", color=colour, linestyle=line, label=label, markersize=5)


def _only(axis: Any, values: list) -> None:
    from matplotlib.ticker import FixedLocator

    axis.set_major_locator(FixedLocator(values))


def _words(axes: Any, paint: Paint, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_title(y, loc="left", fontsize=SIZE, color=paint.muted)
    axes.legend(fontsize=0.9 * SIZE, handlelength=2.4)


KINDS: dict[str, tuple[str, Callable[[Any, Paint, Mapping[str, dict]], None]]] = {
    "lengths": ("Seconds a step and of the network's body alone, by the length of the text", lengths),
    "batches": ("Tokens a second by batch: 16, 32 and 64 steps, and our own autoregressive engine", batches),
}
