"""The table and the picture of docs/guides/choose-a-sampler.md, from benchmarks/results/samplers.json."""

from typing import Any

from unmask.report.paper.draw import SIZE, Label, Paint, Picture, picture, put_labels, room, set_log

BEGIN, END = "<!-- samplers: written by make bench-samplers -->", "<!-- samplers: end -->"
MARKS = {"grid": "o", "truncated": "v", "order": "s", "adaptive": "D", "autoregressive": "^"}
KINDS = {
    "grid": "a grid of times",
    "truncated": "the same, reshaped",
    "order": "an order",
    "adaptive": "as many moves as it needs",
    "autoregressive": "the autoregressive twin",
}


def with_table(text: str, found: dict[str, Any]) -> str:
    """The page with the table between its two marks replaced."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:start] + "\n" + table(found) + text[end:]


def table(found: dict[str, Any]) -> str:
    """A row a rule, ± one standard error over samples."""
    first, where = found["rows"][0], f"{found['threads']} threads of {found['cpu']}, {found['provenance']['date'][:10]}"
    lines = [
        f"{first['n']} samples of {found['length']} tokens a rule, seed {found['seed']}, batch {found['batch']}, "
        f"{found['dtype']}, {found['steps']} steps where a rule takes them; judge {found['judge']}; ± one standard "
        f"error over samples. Seconds: {where}, median of {len(first['seconds_rounds'])} interleaved rounds, "
        "from moves at mirrored places of a run.\n",
        "| # | rule | reads | judge's perplexity | unigram entropy, nats | repeated | evaluations | s a sequence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(found["rows"], 1):
        cost = f"{row['evaluations']:.0f} | {row['seconds']:.2f}"
        lines.append(f"| {number} | {row['name']} | {row['reads']} | {quality(row)} | {cost} |")
    lines.append(f"|  | *real text: the package's excerpt* |  | {quality(found['text'])} |  |  |")
    return "\n".join(lines) + "\n"


def quality(row: dict[str, Any]) -> str:
    """The three cells of a judgement."""
    perplexity = f"{row['perplexity']:.0f} ± {row['perplexity_stderr']:.0f}"
    return f"{perplexity} | {row['entropy']:.2f} ± {row['entropy_stderr']:.2f} | {row['repetition']:.0%}"


def sampler_picture(found: dict[str, Any]) -> Picture:
    """Perplexity and entropy against seconds, and against each other; points have the numbers of the table."""
    alt = (
        f"The perplexity that {found['judge']} finds and the unigram entropy of the samples of each rule, against the "
        "seconds that a sequence takes and against each other"
    )
    return picture("samplers", alt, 9.6, lambda figure, paint: _draw(figure, paint, found))


PANELS = (("seconds", "perplexity"), ("seconds", "entropy"), ("entropy", "perplexity"))
WORDS = {"seconds": "seconds a sequence", "entropy": "unigram entropy, nats", "perplexity": "perplexity by the judge"}
LOG = ("seconds", "perplexity")


def _draw(figure: Any, paint: Paint, found: dict[str, Any]) -> None:
    handles: dict[str, Any] = {}
    todo = []
    for axes, (x, y) in zip(figure.subplots(3, 1), PANELS, strict=True):
        axes.set_title(f"{WORDS[y]}, against {WORDS[x]}", loc="left", fontsize=SIZE, color=paint.muted)
        _scales(axes, found, x, y)
        todo.append((axes, *_points(axes, paint, found, (x, y), handles)))
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=2, fontsize=0.9 * SIZE,
        borderaxespad=0.1, columnspacing=1.2, handletextpad=0.3,
    )  # fmt: skip
    figure.draw_without_rendering()
    for axes, labels, drawn in todo:
        put_labels(axes, labels, drawn)


def _scales(axes: Any, found: dict[str, Any], *keys: str) -> None:
    for axis, key in zip((axes.xaxis, axes.yaxis), keys, strict=True):
        values = [row[key] for row in found["rows"]] + ([] if key == "seconds" else [found["text"][key]])
        if key in LOG:
            set_log(axis, *room(values, 0.12))
        else:
            bars = [row[key] + side * 2 * row[f"{key}_stderr"] for row in found["rows"] for side in (-1, 1)]
            values, gap = [*values, *bars], 0.05 * (max(bars) - min(bars))
            getattr(axes, f"set_{axis.axis_name}lim")(min(values) - gap, max(values) + gap)


def _points(
    axes: Any, paint: Paint, found: dict[str, Any], keys: tuple[str, str], handles: dict[str, Any]
) -> tuple[list[Label], list[list[tuple[float, float]]]]:
    """Draw the rules with bars of two standard errors; what is to be labelled, and where lines are."""
    labels, drawn = [], []
    for number, row in enumerate(found["rows"], 1):
        colour = paint.families["autoregressive" if row["kind"] == "autoregressive" else "diffusion"]
        (x, y), bars = (row[key] for key in keys), [2 * row.get(f"{key}_stderr", 0.0) for key in keys]
        mark = axes.errorbar(
            x, y, xerr=bars[0] or None, yerr=bars[1], fmt=MARKS[row["kind"]], color=colour, markersize=5,
            elinewidth=0.9, markerfacecolor=colour if row["plain"] else paint.paper,
        )  # fmt: skip
        handles.setdefault(KINDS[row["kind"]], mark)
        labels.append(Label(x, y, str(number), paint.ink))
        drawn += [[(x, y - bars[1]), (x, y), (x, y + bars[1])], [(x - bars[0], y), (x + bars[0], y)]]
    text, colour = found["text"], paint.families["data"]
    if keys[0] == "seconds":
        ends = axes.get_xlim()
        axes.axhline(text[keys[1]], color=colour, linewidth=1.2, linestyle=(0, (6, 2)))
        labels.append(Label(0, text[keys[1]], "real text", colour, ends))
        drawn.append([(x, text[keys[1]]) for x in ends])
    else:
        axes.plot(text[keys[0]], text[keys[1]], "*", color=colour, markersize=9)
        labels.append(Label(text[keys[0]], text[keys[1]], "real text", colour))
    return labels, drawn
