"""Sentences made from numbers. Nothing here is typed in by hand: other rows give other sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.evaluation.results import Row
from unmask.report.content import Report
from unmask.report.digits import number, with_error

SURE = 2.0  # standard errors beyond which a difference counts as one


def verdict(report: Report) -> str:
    """Which model gives the held-out text the higher probability, by the full bound, and how sure that is."""
    bound, exact = (report.find("nats_per_token", m) for m in (report.diffusion, report.autoregressive))
    gap = report.find("nats_difference", difference_name(report))
    if bound is None or exact is None or gap is None:
        return "The two models were not measured on the same rows, so there is no verdict."
    opening = (
        f"{report.diffusion} needs at most {_pm(bound)} nats per token for the held-out text, "
        f"{report.autoregressive} exactly {_pm(exact)}."
    )
    return " ".join(part for part in (opening, _standing(report, gap), _paper(report, gap)) if part)


def difference_name(report: Report) -> str:
    """The `model` of rows that hold a difference of the two."""
    return f"{report.diffusion} − {report.autoregressive}"


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


def lede(cards: Sequence[Mapping[str, Any]], sizes: Sequence[int], names: Sequence[str], rows: int, length: int) -> str:
    """What is compared, in plain words. cards and sizes: of the diffusion model, then of the autoregressive one.

    It says `the same` only of what the cards show to be the same.
    """
    first, second = cards
    size = f"{_millions(sizes[0])} and {_millions(sizes[1])} million parameters"
    data = first.get("data") is not None and first.get("data") == second.get("data")
    fed = data and first.get("batch_size") == second.get("batch_size") and _last(first) == _last(second)
    if fed and _last(first):
        taught = f"trained on the same {number(_last(first) / 1e6, 0.5)} million tokens"
    elif data:
        taught = "trained on the same corpus"
    else:
        taught = "trained apart: their cards do not say that they saw the same text"
    return (
        f"Two language models of {size} were {taught}. {names[1]} writes from left to right, one token at a time. "
        f"{names[0]}, a diffusion model, starts from {length} hidden tokens and uncovers them in any order, many at a "
        f"time, in as many steps as one likes; so it can also fill gaps in the middle of a text. This page asks both "
        f"the same question, how probable they find {rows} rows of text that neither was trained on, shows what they "
        f"write, and says how long it takes."
    )


def _last(card: Mapping[str, Any]) -> float:
    """Tokens seen at the end of training, 0 where the card does not say."""
    return float(max((point.get("tokens", 0) for point in card.get("curves", [])), default=0))


def _millions(count: int) -> str:
    return number(count / 1e6, 0.5 if count >= 1e7 else 0.05)


def _pm(row: Row) -> str:
    return with_error(row.value, row.stderr)


def _percent(nats: float) -> str:
    """How much higher a perplexity is, for so many nats."""
    factor = math.exp(min(nats, 700.0))
    return f"{number(factor)} times" if factor >= 3 else f"{100 * (factor - 1):.{0 if factor > 1.095 else 1}f} %"


def _rows(gap: Row) -> str:
    return "one row" if gap.n == 1 else f"{gap.n} rows"
