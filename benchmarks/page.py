"""docs/results.md from the kept JSON: what is held to a goal first, then what is held to a floor."""

import math
from collections.abc import Mapping, Sequence

HEAD = """# Measured

Written by `make bench` from `benchmarks/results/*.json`; do not edit. Timings are medians of interleaved repeats in
one process.
"""
REST = "Against other floors"
TABLE = (
    "A ratio is to the floor that its line names.\n",
    "| what | value | floor or goal | ratio | where |",
    "|---|---|---|---|---|",
)


def page(results: Sequence[dict], pictures: Mapping[str, str]) -> str:
    """The Markdown page. pictures: what a picture shows, by its path from docs/."""
    parts = [HEAD]
    for result in results:
        if "goals" in result:
            parts.append(goals(result))
    parts += [f"![{shows}]({path})\n" for path, shows in pictures.items()]
    tables: dict[str, list[str]] = {}
    for result in results:
        tables.setdefault(result.get("title", REST), []).extend(floors(result))
    for title in sorted(tables, key=REST.__eq__):  # the rest comes last
        if tables[title]:
            parts.append("\n".join([f"## {title}\n", *TABLE, *tables[title]]) + "\n")
    return "\n".join(parts)


def where(result: dict) -> str:
    """Machine and day."""
    return f"{result['provenance']['settings']['cpu']}, {result['provenance']['date'][:10]}"


def floors(result: dict) -> list[str]:
    """Rows of a value, a floor and their ratio."""
    return [
        f"| {row['what']} | {row['value']} | {row.get('floor', '')} | {row.get('ratio', '')} | {where(result)} |"
        for row in result.get("table", ())
    ]


def goals(result: dict) -> str:
    """A section of values and goals, those that were missed included."""
    held = [row for row in result["goals"] if row["reached"] is not None]
    met = sum(row["reached"] for row in held)
    lines = [
        f"## {result['title']}\n",
        f"{result['words']}. {where(result)}. {met} of {len(held)} values reach their goal.\n",
        "| what | dtype | value | goal | reached | least to most of the rounds; how |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["goals"]:
        reached = {True: "yes", False: "**no**", None: ""}[row["reached"]]
        how = "; ".join(part for part in (spread(row), row["note"]) if part)
        lines.append(f"| {row['what']} | {row['variant']} | {value(row)} | {row['goal']} | {reached} | {how} |")
    return "\n".join(lines) + "\n"


def value(row: dict) -> str:
    """A value with its unit."""
    return row["value"] if isinstance(row["value"], str) else f"{digits(row['value'])} {row['unit']}".strip()


def spread(row: dict) -> str:
    """`1.02 to 1.07`."""
    return " to ".join(digits(end) for end in row["spread"]) if row["spread"] else ""


def digits(number: float) -> str:
    """Three digits, at least."""
    if not number or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:.{max(0, 2 - math.floor(math.log10(abs(number))))}f}"
