"""Paragraphs of the page, made from the numbers: other numbers give other words."""

import math
from collections.abc import Mapping
from typing import Any

from unmask.recipes.paper.claims import SURE, Absent, Evidence, gap
from unmask.recipes.paper.numbers import tables
from unmask.report.digits import number, with_error


def notes(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """Paragraphs by section; a paragraph whose numbers are missing is left out."""
    found: dict[str, tuple[str, ...]] = {}
    for section, makers in PARAGRAPHS.items():
        made = []
        for make in makers:
            try:
                made.append(make(evidence))
            except Absent:
                continue
        if made:
            found[section] = tuple(made)
    return found


def _stand_ins(evidence: Evidence) -> str:
    if evidence.scale.name == "paper":
        return "The published checkpoints on the paper's sets: the numbers of both columns are of one protocol."
    sedd, ar = evidence.scale.diffusion[0], evidence.scale.autoregressive[0]
    return (
        f"The paper's models are not at hand here: {sedd.label} ({sedd.parameters / 1e6:.1f} M parameters) stands in "
        f"for SEDD small and {ar.label} ({ar.parameters / 1e6:.1f} M) for GPT-2, so that the paper's numbers show what "
        "was asked and not what should come out; they are grey and marked. What can be compared is the diffusion "
        "model with its twin: same text, same tokens, same body, same steps."
    )


def _bound(evidence: Evidence) -> str:
    return (
        "The first row of a diffusion model is the paper's quantity, an average over t in [0.001, 1]; it leaves out "
        "the reconstruction and the prior. The row “full bound” adds them and is what verdicts use."
    )


def _variance(evidence: Evidence) -> str:
    values = evidence.values("table1/variance")
    best = values["mask-count"]["variance"]
    ratios = {name: each["variance"] / best for name, each in values.items()}
    return (
        "With 16 evaluations a row, the exact mask counts used here have a Monte Carlo variance "
        f"{number(ratios['independent'], 0.1)} times below independent uniform t and "
        f"{number(ratios['low-discrepancy'], 0.1)} times below one low-discrepancy grid across rows."
    )


def _erratum(evidence: Evidence) -> str:
    return f"Erratum of the source: {tables()['table_1_zero_shot_perplexity']['erratum']}."


def _repetition(evidence: Evidence) -> str:
    row = evidence.row("table4/text", 2)
    paper = tables()["table_4_diversity"]["rows"]["OpenWebText"][2][0]
    return (
        "The paper defines the repetition rate as the fraction of tokens that appear among the 100 before. On real "
        f"text this definition gives {with_error(row.value, row.stderr)} here, while the paper prints {paper}: its "
        "column must be another quantity. We compute the printed definition; the trend with the number of steps is "
        "what can be compared."
    )


def _lost(evidence: Evidence) -> str:
    steps = max(evidence.scale.sampling.raced)
    exact, raced = evidence.values(f"table3/sedd-{steps}"), evidence.values(f"table3/sedd-{steps}-raced")
    difference = raced["nats_per_token"] - exact["nats_per_token"]
    error = math.hypot(raced["nats_per_token_stderr"], exact["nats_per_token_stderr"])
    return (
        f"On the twin, with its small vocabulary, the published arithmetic moves the judge at {steps:,} steps by "
        f"{with_error(difference, error)} nats per token against exact draws of the same law."
    )


def _closed_form(evidence: Evidence) -> str:
    values = evidence.values("arithmetic/closed-form")
    first, last = values["paper_steps"]
    share = with_error(100 * values["share"], 100 * values["share_stderr"])
    return (
        "The published samplers of SEDD draw by racing float32 exponentials, whose smallest value is about 2^-24: in "
        "each step rare tokens win too seldom, and the more steps there are, the more of them are lost (Zheng et al. "
        "2024, arXiv 2409.02908). In closed form, applied to the judge's own conditionals (vocabulary "
        f"{values['vocab']:,}, {values['n']:,} contexts of real text), going from {first} to {last:,} steps multiplies "
        f"the perplexity by {with_error(values['ratio'], values['ratio_stderr'])} by arithmetic alone, where the "
        f"paper's table 3 falls by a factor of {number(values['paper_ratio'], 0.01)}: {share} % of its fall, in nats, "
        "would be a lower temperature that nobody asked for." + _weaker(values)
    )


def _weaker(values: Mapping[str, Any]) -> str:
    """The same for a sampler as weak as the paper's."""
    warmer = values["warmer"]
    if warmer is None:
        return ""
    share = with_error(100 * warmer["share"], 100 * warmer["share_stderr"])
    return (
        f" A good model's conditionals are sharp, which hides the effect: warmed to temperature "
        f"{number(warmer['temperature'], 0.01)}, where its raced samples score as SEDD's do in the paper, the share is "
        f"{share} %. Both are first-order estimates: contexts that were themselves raced are not in them."
    )


def _mirage(evidence: Evidence) -> str:
    steps = evidence.scale.sampling.steps
    first, last = (evidence.row(f"table3/sedd-{n}") for n in (steps[0], steps[-1]))
    return (
        f"With exact draws the judge's perplexity goes from {with_error(first.value, first.stderr)} at {steps[0]} "
        f"steps to {with_error(last.value, last.stderr)} at {steps[-1]:,}."
    )


def _matched(evidence: Evidence) -> str:
    whole, short, matched = (evidence.row(f"table5/sedd-{way}") for way in ("scratchpad", "short", "matched"))
    (first, first_error), (second, second_error) = gap(whole, short), gap(matched, short)
    conditional = evidence.scale.conditional
    told = "" if conditional is None else f" at {conditional.steps} steps"
    closes = second > SURE * second_error
    return (
        "The paper finds that SEDD continues a prompt worse when only the tokens that are needed are generated, and "
        f"leaves the reason to future work. Here{told} the whole context is worth {with_error(first, first_error)} of "
        "MAUVE over prompt and continuation alone. One suspect is the noise level: with a prompt given, sigma says "
        "that all is masked while half is clean. Told the share that is masked instead, the network "
        + (
            f"gains {with_error(second, second_error)}."
            if closes
            else f"gains nothing that can be seen ({with_error(second, second_error)})."
        )
    )


def _extrapolated(evidence: Evidence) -> str:
    return (
        "No latency stands without throughput: at batch 1 an autoregressive model waits for its weights to be read "
        "once a token and gains from batching, while a diffusion step is limited by arithmetic from the start. Hollow "
        "bars are extrapolated from the time of a step."
    )


PARAGRAPHS = {
    "table1": (_stand_ins, _bound, _variance, _erratum),
    "table4": (_repetition,),
    "table5": (_matched,),
    "arithmetic": (_closed_form, _mirage, _lost),
    "figure1": (_extrapolated,),
}
