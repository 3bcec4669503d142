"""The sections of the page, each a function of the report."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from unmask.evaluation.results import Row
from unmask.report import figures
from unmask.report.content import Card, Fill, Report, Written
from unmask.report.digits import ABSENT, number, row_value, seconds, with_error
from unmask.report.html import Html, join, table, tag
from unmask.text.tokenizers import EOS

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
    parts = [(label, _cell(report, name, ours)) for name, label in PARTS if report.find(name, ours)]
    if parts:
        parts.append(("Sum", _cell(report, "nats_per_token", ours, "≤ ")))
        caption = f"Parts of {ours}'s bound, nats per token."
        narrow.append(table(caption, ["Part", "Nats per token"], parts, numeric=(1,)))
    return join(
        _figure(
            figures.likelihood(report),
            "Nats per token on held-out rows; bars are two standard errors. Filled: what may be compared. Hollow: the "
            "papers' quantity, which leaves out the reconstruction and the prior.",
        ),
        wide,
        tag("div", narrow, class_="pair"),
    )


def _cell(report: Report, name: str, model: str, mark: str = "") -> Html:
    """Value, error and the letter of the protocol."""
    row = report.find(name, model)
    if row is None:
        return join(ABSENT)
    return join(mark, _value(row), _letter(report, row))


def _value(row: Row) -> Html:
    value, _, error = row_value(row).partition(" ± ")
    return join(value, tag("span", f" ± {error}", class_="pm") if error else None)


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

    cards = [_sample_card(report, list(texts)) for _, texts in groupby(report.samples, key)]
    if not cards:
        return tag("p", "No samples were drawn.", class_="absent")
    return join(
        tag(
            "p",
            "Written from nothing: no prompt, no choosing among several, the first that came out on top. "
            "A grey mark stands where a model ended one document and began the next.",
            class_="note",
        ),
        tag("div", cards, class_="cards"),
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
    facts = f"{evaluations}, {seconds(first.seconds)} for {batch}" + (f", {first.rule}" if ours and first.rule else "")
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
        pieces.append(join(piece.strip("\n")))
    return join(pieces)


def fills(report: Report) -> Html:
    """Each template with its gaps, then the fillings with what was written marked."""
    groups = [_template(template, list(found)) for template, found in groupby(report.fills, lambda fill: fill.template)]
    if not groups:
        return tag("p", "No template fits the length of these models.", class_="absent")
    return join(
        tag(
            "p",
            f"What stands on both sides of a gap is given and stays as it is; {report.diffusion} writes the marked words "
            "to fit both. A model that writes from left to right has no direct way to do this.",
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
    return tag(
        "div",
        tag("p", join(pieces, template[place:]), class_="template"),
        tag("ol", [tag("li", _spans(fill)) for fill in found]),
        tag("p", f"{first.steps} steps, {first.nfe} evaluations of the network, seed {first.seed}.", class_="facts"),
        class_="fill",
    )


def _spans(fill: Fill) -> Html:
    return join([tag("mark", _text(s.text)) if s.filled else _text(s.text) for s in fill.spans])


def curves(report: Report) -> Html:
    """The figure and where each curve ends."""
    figure = figures.curves(report)
    if figure is None:
        return tag("p", "The model cards hold no training curves.", class_="absent")
    body = []
    for name, points in report.curves.items():
        held = [p for p in points if p.get("heldout_nats") is not None]
        if not points:
            continue
        body.append(
            (
                name, number(points[-1].get("step")), number(points[-1]["tokens"] / 1e6, 0.5),
                number(points[-1].get("loss"), 0.005),
                with_error(held[-1]["heldout_nats"], held[-1].get("heldout_stderr")) if held else ABSENT,
            )
        )  # fmt: skip
    caption = (
        f"Thin: the training loss. Points: held-out rows, averaged weights. {report.autoregressive}'s is exact; "
        f"{report.diffusion}'s is a noisy estimate of its bound while training and the full bound at the points. The "
        f"first steps leave the figure at the top."
    )
    head = ["Model", "Steps", "Million tokens seen", "Last training loss", "Last held-out value"]
    return join(
        _figure(figure, caption),
        table("Where the curves end, nats per token.", head, body, numeric=(1, 2, 3, 4)),
    )


def timing(report: Report) -> Html:
    """The figure and the table of seconds for one sequence."""
    body = [
        (
            figures.timing_label(timed, report), join(_value(timed.row), _letter(report, timed.row)),
            number(timed.row.n), timed.row.note,
        )
        for timed in report.timings
    ]  # fmt: skip
    if not body:
        return tag("p", "Nothing was timed.", class_="absent")
    caption = (
        f"Wall-clock seconds for one sequence, batch of 1, on the machine named below; lines are two standard errors. "
        f"{report.diffusion}'s time grows with the number of steps, {report.autoregressive}'s with the length of the text."
    )
    return join(
        _figure(figures.timing(report), caption),
        table(
            "Seconds for one sequence: mean of the repeats.",
            ["Model", "Seconds", "Repeats", "Fastest"],
            body,
            numeric=(1, 2),
        ),
    )


def models(report: Report) -> Html:
    """Key facts side by side."""
    labels = list(dict.fromkeys(label for card in report.cards for label in card.facts))
    body = [(label, *(card.facts.get(label, ABSENT) for card in report.cards)) for label in labels]
    head = ["", *(_heading(card) for card in report.cards)]
    return tag("div", table("Key facts of the two models, from their cards.", head, body), class_="wordy")


def _heading(card: Card) -> str:
    return f"{card.model} ({card.kind})"


def provenance(report: Report) -> Html:
    """Version, machine and seed; what each protocol is; every row with its letter; what was left out."""
    said = report.provenance
    labels = {
        "unmask": "Version", "commit": "Commit", "date": "Date", "machine": "Machine", "python": "Python",
        "torch": "PyTorch", "settings_hash": "Settings hash",
    }  # fmt: skip
    facts = [(label, str(said.get(key) or ABSENT)) for key, label in labels.items()]
    facts += [(key.replace("_", " ").capitalize(), str(value)) for key, value in said.get("settings", {}).items()]
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


def _definitions(facts: Iterable[tuple[str, str]]) -> Html:
    return tag("dl", [tag("div", tag("dt", label), tag("dd", value)) for label, value in facts], class_="facts-list")


def _every_row(report: Report) -> Html:
    letters = report.protocols()
    body = [
        (
            row.model, row.name.replace("_", " "), _value(row), row.unit, number(row.n),
            ABSENT if row.seed is None else str(row.seed), letters[row.protocol],
        )
        for row in report.all_rows()
    ]  # fmt: skip
    head = ["Model", "Quantity", "Value", "Unit", "n", "Seed", "Protocol"]
    return table("Every row of this report.", head, body, numeric=(2, 4, 5))
