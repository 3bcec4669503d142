"""The curves of the figures: those that tasks left, and those that join several tasks."""

import itertools
from collections.abc import Iterator

from unmask.recipes.paper.claims import Absent, Evidence
from unmask.report.paper.content import Family, Point, Series


def series(evidence: Evidence) -> tuple[Series, ...]:
    """Every curve that there are numbers for."""
    left = [found for record in evidence.records.values() for found in record.outcome.series]
    joined = itertools.chain(_per_second(evidence), _arithmetic(evidence), _diversity(evidence), _mauve(evidence))
    return (*left, *joined)


def _steps(evidence: Evidence, part: str, ending: str = "") -> list[int]:
    """Numbers of steps of finished tasks of a part."""
    return [n for n in evidence.scale.sampling.steps if f"{part}/sedd-{n}{ending}" in evidence.records]


def _per_second(evidence: Evidence) -> Iterator[Series]:
    """Judge perplexity and entropy against seconds a sequence, alone and in the best batch."""
    try:
        speed = evidence.values("figure1/quality")
    except Absent:
        return
    for figure, entropy in (("quality_per_second", False), ("entropy_per_second", True)):
        for way, words in (("alone", "batch 1"), ("best", "best batch")):
            diffusion = [
                _timed(evidence, f"table3/sedd-{n}", speed[f"sedd-{n}"], way, entropy, f"{n}")
                for n in _steps(evidence, "table3")
                if f"sedd-{n}" in speed
            ]
            label = evidence.scale.diffusion[0].label
            yield Series(figure, f"{label}, {words}", "diffusion", tuple(diffusion))
            points = [
                _timed(evidence, f"table3/{name}", speed["ar"], way, entropy, what)
                for name, what in (("ar", "plain"), ("ar-top-p", "top-p"))
                if f"table3/{name}" in evidence.records
            ]
            label = evidence.scale.autoregressive[0].label
            yield Series(figure, f"{label}, {words}", "autoregressive", tuple(points))


def _timed(evidence: Evidence, key: str, timing: dict[str, object], way: str, entropy: bool, label: str) -> Point:
    values, row = evidence.values(key), evidence.row(key)
    seconds, measured = float(timing[way]), bool(timing["measured"])  # type: ignore[arg-type]
    if entropy:
        return Point(seconds, values["entropy"], values["entropy_stderr"], label, measured)
    return Point(seconds, row.value, row.stderr, label, measured)


def _arithmetic(evidence: Evidence) -> Iterator[Series]:
    """The judge's perplexity against steps, with exact draws and with the published arithmetic."""
    label = evidence.scale.diffusion[0].label
    for ending, words in (("", "exact draws"), ("-raced", "published float32 draws")):
        points = []
        for n in _steps(evidence, "table3", ending):
            row = evidence.row(f"table3/sedd-{n}{ending}")
            points.append(Point(float(n), row.value, row.stderr, str(n)))
        if points:
            yield Series("arithmetic", f"{label}, {words}", "diffusion", tuple(points))


def _diversity(evidence: Evidence) -> Iterator[Series]:
    """Unigram entropy against steps; a point of data or of the other model stands for a level."""
    points = []
    for n in _steps(evidence, "table4"):
        row = evidence.row(f"table4/sedd-{n}", 1)
        points.append(Point(float(n), row.value, row.stderr, str(n)))
    if points:
        yield Series("diversity", evidence.scale.diffusion[0].label, "diffusion", tuple(points))
    others: tuple[tuple[str, Family, str], ...] = (
        ("text", "data", "Real text"),
        ("ar", "autoregressive", f"{evidence.scale.autoregressive[0].label}, plain"),
        ("ar-top-p", "autoregressive", f"{evidence.scale.autoregressive[0].label}, top-p"),
    )
    for name, family, words in others:
        if f"table4/{name}" in evidence.records:
            row = evidence.row(f"table4/{name}", 1)
            yield Series("diversity", words, family, (Point(0.0, row.value, row.stderr, words),))


def _mauve(evidence: Evidence) -> Iterator[Series]:
    """MAUVE against the perplexity of the continuation, a point for each way of generating."""
    found: dict[Family, list[Point]] = {"diffusion": [], "autoregressive": []}
    for key in evidence.keys("table5/"):
        rows = evidence.records[key].outcome.rows
        if len(rows) < 2 or rows[0] is None or rows[1] is None or rows[0].name != "mauve":
            continue
        family: Family = "diffusion" if "/sedd-" in key else "autoregressive"
        label = key.partition("/")[2].replace("sedd-", "SEDD, ").replace("ar-", "AR, ").replace("ar", "AR")
        found[family].append(Point(rows[1].value, rows[0].value, evidence.values(key)["std"], label))
    names = {"diffusion": evidence.scale.diffusion[0].label, "autoregressive": evidence.scale.autoregressive[0].label}
    for family, points in found.items():
        if points:
            yield Series("mauve", names[family], family, tuple(points))
