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
        f"error over samples. Seconds: {where}, median of {len(first['seconds_rounds'])} interleaved rounds, from moves at "
        "mirrored places of a run.\n",
        "| # | rule | reads | judge's perplexity | unigram entropy, nats | repeated | evaluations | s a sequence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(found["rows"], 1):
        cost = f"{row['evaluations']:.0f} | {row['seconds']:.2f}"
        lines.append(f"| {number} | {row['name']} | {row['reads']} | {quality(row)} | {cost} |")
    lines.append(f"|  | *real text, not trained on* |  | {quality(found['text'])} |  |  |")
    return "\n".join(lines) + "\n"


def quality(row: dict[str, Any]) -> str:
    """The three cells of a judgement."""
    perplexity = f"{row['perplexity']:.0f} ± {row['perplexity_stderr']:.0f}"
    return f"{perplexity} | {row['entropy']:.2f} ± {row['entropy_stderr']:.2f} | {row['repetition']:.0%}"


def sampler_picture(found: dict[str, Any]) -> Picture:
    """Perplexity and entropy against seconds; points have the numbers of the table."""
    alt = f"The perplexity that {found['judge']} finds and the unigram entropy of samples, by seconds a sequence"
    return picture("samplers", alt, 6.6, lambda figure, paint: _draw(figure, paint, found))


def _draw(figure: Any, paint: Paint, found: dict[str, Any]) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True)
    rows, handles, todo = found["rows"], {}, []
    for axes, key, title, log in (
        (top, "perplexity", f"perplexity by {found['judge']}", True),
        (bottom, "entropy", "unigram entropy, nats", False),
    ):
        axes.set_title(title, loc="left", fontsize=SIZE, color=paint.muted)
        labels, drawn = [], []
        for number, row in enumerate(rows, 1):
            colour = paint.families["autoregressive" if row["kind"] == "autoregressive" else "diffusion"]
            x, y, error = row["seconds"], row[key], 2 * row[f"{key}_stderr"]
            mark = axes.errorbar(
                x, y, yerr=error, fmt=MARKS[row["kind"]], color=colour, markersize=5.5, elinewidth=1, capsize=2,
                markerfacecolor=colour if row["plain"] else paint.paper,
            )  # fmt: skip
            handles.setdefault(KINDS[row["kind"]], mark)
            labels.append(Label(x, y, str(number), paint.ink))
            drawn.append([(x, y)])
        level = found["text"][key]
        axes.axhline(level, color=paint.families["data"], linewidth=1.2, linestyle=(0, (6, 2)))
        set_log(axes.xaxis, *room([row["seconds"] for row in rows], 0.1))
        if log:
            set_log(axes.yaxis, *room([*(row[key] for row in rows), level], 0.12))
        ends = axes.get_xlim()
        labels.append(Label(0, level, "real text", paint.families["data"], ends))
        drawn.append([(x, level) for x in ends])
        todo.append((axes, labels, drawn))
    bottom.set_xlabel("seconds a sequence")
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=2, fontsize=0.9 * SIZE,
        borderaxespad=0.1, columnspacing=1.2, handletextpad=0.3,
    )  # fmt: skip
    figure.draw_without_rendering()
    for axes, labels, drawn in todo:
        put_labels(axes, labels, drawn)
