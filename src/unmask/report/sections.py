"""The sections of the page, each a function of the report."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from unmask.evaluation.results import Row
from unmask.report import figures, words
from unmask.report.content import Fill, Report, Written
from unmask.report.digits import ABSENT, large, number, row_value, seconds, with_error
from unmask.report.html import Html, join, table, tag
from unmask.text.tokenizers import EOS

BLANKS = re.compile(r"\s*\n\s*\n\s*")
GAP = re.compile(r"\[MASK(?::(\d+))?\]")
QUANTITIES = (
    ("nats_per_token", "Nats per token"),
    ("perplexity", "Perplexity, exp of the mean"),
    ("perplexity_mean_exp", "Perplexity, mean of the exp"),
    ("bits_per_byte", "Bits per byte"),
)
PAPER = (
    ("paper_nats_per_token", "Nats per token"),
    ("paper_perplexity", "Perplexity, exp of the mean"),
    ("paper_perplexity_mean_exp", "Perplexity, mean of the exp"),
)
PARTS = (
    ("bound_diffusion", "Diffusion: uncovering, from all hidden to almost none"),
    ("bound_reconstruction", "Reconstruction: the last step to clean text"),
    ("bound_prior", "Prior: what the start already knows"),
)


def likelihood(report: Report) -> Html:
    """Figure, the full table, the parts of the bound, and the papers' quantity beside it."""
    ours, theirs = report.diffusion, report.autoregressive
    wide = table(
        "Held-out text, lower is better. ≤ marks an upper bound; ± is one standard error over rows.",
        ["Quantity", f"{ours}, full bound", f"{theirs}, exact"],
        [(label, _cell(report, name, ours, "≤ "), _cell(report, name, theirs)) for name, label in QUANTITIES],
        numeric=(1, 2),
    )
    narrow = []
    if report.find("paper_nats_per_token", ours):
        narrow.append(
            table(
                f"What the papers report for {ours}: not a bound, so not to be compared with an exact value.",
                ["Quantity", f"{ours}, papers' quantity"],
                [(label, _cell(report, name, ours)) for name, label in PAPER],
                numeric=(1,),
            )
        )
    parts = [(label, _part(report, name)) for name, label in PARTS if report.find(name, ours)]
    if parts:
        parts.append(("Sum", _part(report, "nats_per_token", "≤ ")))
        caption = f"Parts of {ours}'s bound, nats per token."
        narrow.append(table(caption, ["Part", "Nats per token"], parts, numeric=(1,)))
    figure = _figure(
        figures.likelihood(report),
        "Nats per token on held-out rows; bars are two standard errors. Filled: what may be compared. Hollow: the "
        "papers' quantity, which leaves out the reconstruction and the prior.",
    )
    return join(_pair(figure, wide), _pair(*narrow))


def _pair(*parts: Html | None) -> Html:
    """Parts side by side where there is room."""
    return tag("div", parts, class_="pair")


def _part(report: Report, name: str, mark: str = "") -> Html:
    """A part of the bound: all parts to the same four decimals, so that they can be seen to add up."""
    row = report.find(name, report.diffusion)
    return join(ABSENT) if row is None else join(mark, number(row.value, 1e-3), _letter(report, row))


def _cell(report: Report, name: str, model: str, mark: str = "") -> Html:
    """Value, error and the letter of the protocol."""
    row = report.find(name, model)
    if row is None:
        return join(ABSENT)
    return join(mark, value(row, _letter(report, row)))


def value(row: Row, after: Html | None = None) -> Html:
    """The value of a row, its error in a quieter tone, `after` not to be parted from them."""
    rounded, _, error = row_value(row).partition(" ± ")
    return join(rounded, tag("span", f" ± {error}", after, class_="pm") if error else after)


def _letter(report: Report, row: Row) -> Html:
    letter = report.protocols()[row.protocol]
    link = tag("a", letter, href=f"#protocol-{letter}", aria_label=f"protocol {letter}", title=row.protocol)
    return tag("sup", link)


def _figure(svg: Html | None, caption: str) -> Html | None:
    return None if svg is None else tag("figure", svg, tag("figcaption", caption))


def samples(report: Report) -> Html:
    """A card for each way of writing; where there are several texts, the others fold away."""

    def key(text: Written) -> tuple[Any, ...]:
        return text.model, text.steps, text.top_p, text.temperature

    columns = [
        tag("div", [_sample_card(report, list(texts)) for _, texts in groupby(own, key)], class_="column")
        for _, own in groupby(report.samples, lambda text: text.model)
    ]
    if not columns:
        return tag("p", "No samples were drawn.", class_="absent")
    return join(
        tag(
            "p",
            "Written from nothing: no prompt, no choosing among several, the first that came out on top. "
            "A grey mark stands where a model ended one document and began the next.",
            class_="note",
        ),
        tag("div", columns, class_="cards"),
    )


def _sample_card(report: Report, texts: Sequence[Written]) -> Html:
    first = texts[0]
    ours = first.model == report.diffusion
    how = [f"{first.steps} steps"] if first.steps is not None else []
    how += ["plain" if first.top_p == 1 and first.temperature == 1 and not ours else ""]
    how += [f"top-p {first.top_p:g}" if first.top_p < 1 else ""]
    how += [f"temperature {first.temperature:g}" if first.temperature != 1 else ""]
    batch = f"a batch of {first.batch}" if first.batch > 1 else "one text"
    evaluations = f"{first.nfe:,} evaluations of the network"
    how_made = words.how_sampled(first.rule, first.reads)
    facts = ", ".join(part for part in (evaluations, f"{seconds(first.seconds)} for {batch}", how_made) if part)
    more = None
    if len(texts) > 1:
        inner = [tag("blockquote", _text(text.text)) for text in texts[1:]]
        label = "One more" if len(inner) == 1 else f"{len(inner)} more"
        more = tag("details", tag("summary", label), inner)
    return tag(
        "article",
        tag("h3", tag("span", first.model, class_="name"), " ", ", ".join(h for h in how if h)),
        tag("p", facts, class_="facts"),
        tag("blockquote", _text(first.text)),
        more,
        class_=f"card {'diffusion' if ours else 'autoregressive'}",
    )


def _text(text: str) -> Html:
    """Text with a visible mark where a document ends."""
    pieces: list[Html] = []
    for piece in text.split(EOS):
        if pieces:
            pieces.append(tag("span", "end of document", class_="end"))
        pieces.append(join(BLANKS.sub("\n\n", piece.strip())))
    return join(pieces)


def fills(report: Report) -> Html:
    """Each template with its gaps, then the fillings with what was written marked."""
    groups = [_template(template, list(found)) for template, found in groupby(report.fills, lambda fill: fill.template)]
    if not groups:
        return tag("p", "No template fits the length of these models.", class_="absent")
    return join(
        tag(
            "p",
            f"What stands on both sides of a gap is given and stays as it is; {report.diffusion} writes the marked "
            "words to fit both. A model that writes from left to right has no direct way to do this.",
            class_="note",
        ),
        groups,
    )


def _template(template: str, found: Sequence[Fill]) -> Html:
    pieces: list[str] = []
    place = 0
    for match in GAP.finditer(template):
        count = int(match[1] or 1)
        pieces += [template[place : match.start()], tag("span", f"{count} token{'s' * (count > 1)}", class_="gap")]
        place = match.end()
    first = found[0]
    facts = [f"{first.steps} steps", f"{first.nfe} evaluations of the network"]
    facts += [words.how_sampled(first.rule, first.reads), f"seed {first.seed}"]
    return tag(
        "div",
        tag("p", join(pieces, template[place:]), class_="template"),
        tag("ol", [tag("li", _spans(fill)) for fill in found]),
        tag("p", ", ".join(part for part in facts if part), class_="facts"),
        class_="fill",
    )


def _spans(fill: Fill) -> Html:
    return join([tag("mark", _piece(s.text)) if s.filled else _piece(s.text) for s in fill.spans])


def _piece(text: str) -> Html:
    """A part of a line: ends of documents marked, line breaks as spaces."""
    end = tag("span", "end of document", class_="end")
    return join([join(end if i else None, part.replace("\n", " ")) for i, part in enumerate(text.split(EOS))])


def curves(report: Report) -> Html:
    """The figure and where each curve ends."""
    figure = figures.curves(report)
    if figure is None:
        return tag("p", "The model cards hold no training curves.", class_="absent")
    names = [name for name, points in report.curves.items() if points]
    ends = [_end(report.curves[name]) for name in names]
    body = [(label, *(end[label] for end in ends)) for label in ends[0]]
    caption = (
        f"Thin: the training loss. Points: held-out rows, averaged weights. {report.autoregressive}'s is exact; "
        f"{report.diffusion}'s is a noisy estimate of its bound while training and the full bound at the points. The "
        f"first steps leave the figure at the top."
    )
    ending = table("Where the curves end; losses in nats per token.", ["", *names], body, numeric=(1, 2))
    return _pair(_figure(figure, caption), ending)


def _end(points: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """The last values of a curve, by label."""
    held = [p for p in points if p.get("heldout_nats") is not None]
    losses = [p["loss"] for p in points if p.get("loss") is not None]
    return {
        "Steps": number(points[-1].get("step")),
        "Tokens seen": large(points[-1]["tokens"]),
        "Last training loss": number(losses[-1], 0.05) if losses else ABSENT,
        "Last held-out value": with_error(held[-1]["heldout_nats"], held[-1].get("heldout_stderr")) if held else ABSENT,
    }


def timing(report: Report) -> Html:
    """The figure and the table of seconds for one sequence."""
    body = [
        (figures.timing_label(timed), value(timed.row, _letter(report, timed.row)), number(timed.row.n))
        for timed in report.timings
    ]
    if not body:
        return tag("p", "Nothing was timed.", class_="absent")
    caption = (
        f"Wall-clock seconds for one sequence, batch of 1, on the machine named below; lines are two standard errors. "
        f"{report.diffusion}'s time grows with the steps, {report.autoregressive}'s with the length of the text."
    )
    head = ["Model", "Seconds", "Repeats"]
    means = table("Seconds for one sequence, mean of the repeats.", head, body, numeric=(1, 2))
    return _pair(_figure(figures.timing(report), caption), means)


def models(report: Report) -> Html:
    """Key facts: where the two differ, and what they share."""
    labels = list(dict.fromkeys(label for card in report.cards for label in card.facts))
    rows = {label: [card.facts.get(label, ABSENT) for card in report.cards] for label in labels}
    shared = [(label, texts[0]) for label, texts in rows.items() if len(set(texts)) == 1]
    apart = [(label, *texts) for label, texts in rows.items() if len(set(texts)) > 1]
    head = ["", *(f"{card.model} ({card.kind})" for card in report.cards)]
    return tag(
        "div",
        _pair(
            table("Where they differ.", head, apart) if apart else None,
            table("What they share.", ["", "Both"], shared) if shared else None,
        ),
        class_="wordy",
    )


def provenance(report: Report) -> Html:
    """Version, machine and seed; what each protocol is; every row with its letter; what was left out."""
    said = report.provenance
    labels = {
        "unmask": "Version", "commit": "Commit", "machine": "Machine", "python": "Python",
        "torch": "PyTorch", "settings_hash": "Settings hash",
    }  # fmt: skip
    facts = [(label, str(said.get(key) or ABSENT)) for key, label in labels.items()]
    facts.insert(2, ("Date", str(said.get("date", ABSENT)).replace("T", " ").replace("+00:00", " UTC")))
    facts += [(_label(key), str(value)) for key, value in said.get("settings", {}).items() if value not in ("", None)]
    protocols = [
        tag("div", tag("dt", letter), tag("dd", protocol), id=f"protocol-{letter}")
        for protocol, letter in report.protocols().items()
    ]
    left_out = [tag("h3", "What is not here"), tag("ul", [tag("li", text) for text in report.omitted])]
    return join(
        _definitions(facts),
        tag("h3", "Protocols"),
        tag("p", "Two numbers may be compared where quantity, unit and protocol agree.", class_="note"),
        tag("dl", protocols, class_="protocols"),
        left_out if report.omitted else None,
        tag("details", tag("summary", "Every row"), _every_row(report)),
    )


def _label(key: str) -> str:
    return key.replace("_", " ").replace("heldout", "held-out").capitalize()


def _definitions(facts: Iterable[tuple[str, str]]) -> Html:
    return tag("dl", [tag("div", tag("dt", label), tag("dd", value)) for label, value in facts], class_="facts-list")


def _every_row(report: Report) -> Html:
    letters = report.protocols()
    body = [
        (
            row.model, _label(row.name), value(row), row.unit, number(row.n),
            ABSENT if row.seed is None else str(row.seed), letters[row.protocol],
        )
        for row in report.all_rows()
    ]  # fmt: skip
    head = ["Model", "Quantity", "Value", "Unit", "n", "Seed", "Protocol"]
    return table("Every row of this report.", head, body, numeric=(2, 4, 5))
