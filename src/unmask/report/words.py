"""Sentences made from numbers. Nothing here is typed in by hand: other rows give other sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.evaluation.results import Row
from unmask.report.content import Report
from unmask.report.digits import large, with_error

SURE = 2.0  # standard errors beyond which a difference counts as one


def verdict(report: Report) -> str:
    """Which model gives the held-out text the higher probability, by the full bound, and how sure that is."""
    bound, exact = (report.find("nats_per_token", m) for m in (report.diffusion, report.autoregressive))
    gap = report.find("nats_difference", difference_name(report.diffusion, report.autoregressive))
    if bound is None or exact is None or gap is None:
        return "The two models were not measured on the same rows, so there is no verdict."
    opening = (
        f"{report.diffusion} needs at most {_pm(bound)} nats per token for the held-out text, "
        f"{report.autoregressive} exactly {_pm(exact)}."
    )
    return " ".join(part for part in (opening, _standing(report, gap), _paper(report, gap)) if part)


def difference_name(diffusion: str, autoregressive: str) -> str:
    """The `model` of rows that hold a difference of the two."""
    return f"{diffusion} − {autoregressive}"


def _standing(report: Report, gap: Row) -> str:
    ours, theirs = report.diffusion, report.autoregressive
    size, ratio = f"{with_error(abs(gap.value), gap.stderr)} nats per token", _percent(abs(gap.value))
    side = direction(gap)
    if side is None:
        return f"From {_rows(gap)} alone no error can be stated, so this is no verdict."
    if side > 0:
        return (
            f"{theirs} is ahead by {size} (a perplexity {ratio} higher for {ours}), measured row by row on the same "
            f"{_rows(gap)}; {ours}'s number is an upper bound, so the true gap may be smaller."
        )
    if side < 0:
        return (
            f"{ours} is ahead by at least {size} (a perplexity {ratio} higher for {theirs}), measured row by row on "
            f"the same {_rows(gap)}: its number is an upper bound, so the true gap can only be larger."
        )
    return (
        f"The difference of {with_error(gap.value, gap.stderr)} nats per token, measured row by row on the same "
        f"{_rows(gap)}, is within {SURE:g} standard errors: by the full bound the two cannot be told apart."
    )


def direction(gap: Row) -> int | None:
    """1 where the first of a difference is larger beyond doubt, -1 smaller, 0 unclear; None without an error."""
    if gap.stderr is None or not (math.isfinite(gap.stderr) and math.isfinite(gap.value)):
        return None
    if abs(gap.value) <= SURE * gap.stderr:
        return 0
    return 1 if gap.value > 0 else -1


def _paper(report: Report, gap: Row) -> str:
    """What the paper's quantity would have said, and whether that is another order."""
    paper = report.find("paper_nats_per_token", report.diffusion)
    exact = report.find("nats_per_token", report.autoregressive)
    if paper is None or exact is None:
        return ""
    said = (
        f"The quantity the papers report would be {_pm(paper)}; it leaves out parts of the bound and is not used here"
    )
    flipped = (paper.value < exact.value) != (gap.value < 0)
    return f"{said}, and it would put the two in the other order." if flipped else f"{said}."


READS = {"score": "raw scores", "p0": "normalized p(x0)", "next": "the next token"}


def how_sampled(rule: str, reads: str) -> str:
    """`tweedie rule, raw scores`; nothing for a model that writes from left to right."""
    return f"{rule} rule, {READS.get(reads, reads)}" if rule and reads != "next" else ""


def lede(cards: Sequence[Mapping[str, Any]], sizes: Sequence[int], names: Sequence[str], text: str, length: int) -> str:
    """What is compared, in plain words; it says `the same` only of what the cards show to be the same.

    cards and sizes: of the diffusion model, then of the autoregressive one. text: what is measured on. length: of a
    canvas, in tokens.
    """
    first, second = cards
    size = f"{large(sizes[0])} and {large(sizes[1])} parameters"
    data = first.get("data") is not None and first.get("data") == second.get("data")
    fed = data and first.get("batch_size") == second.get("batch_size") and _last(first) == _last(second)
    if fed and _last(first):
        taught = f"trained on the same {large(_last(first))} tokens"
    elif data:
        taught = "trained on the same corpus"
    else:
        taught = "trained apart: their cards do not say that they saw the same text"
    return (
        f"Two language models of {size} were {taught}. {names[1]}, an autoregressive model, writes from left to right, "
        f"one token at a time. {names[0]}, a diffusion model, starts from {length} hidden tokens and uncovers them in "
        f"any order, many at a time, in as many steps as one likes; so it can also fill gaps in the middle of a text. "
        f"This page asks both the same question, how probable they find {text}, shows what they write, and says "
        f"how long it takes."
    )


def _last(card: Mapping[str, Any]) -> float:
    """Tokens seen at the end of training, 0 where the card does not say."""
    return float(max((point.get("tokens", 0) for point in card.get("curves", [])), default=0))


def _pm(row: Row) -> str:
    return with_error(row.value, row.stderr)


def _percent(nats: float) -> str:
    """How much higher a perplexity is, for so many nats."""
    factor = math.exp(min(nats, 700.0))
    return f"{factor:.3g} times" if factor >= 3 else f"{100 * (factor - 1):.{0 if factor > 1.095 else 1}f} %"


def _rows(gap: Row) -> str:
    return "one row" if gap.n == 1 else f"{gap.n} rows"
