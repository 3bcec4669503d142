"""Which lengths of a template's gaps are tried.

All combinations, where there are no more than `most` of them. Else a grid: m lengths of each gap (all, where it has no
more), evenly spaced with both ends among them, with the largest m that makes no more than `most` combinations.
Combinations beyond the context are left out, and lengths that no combination within it has, before any counting.
"""

import itertools
import math
from collections.abc import Sequence

from unmask.errors import ConfigError
from unmask.sampling.template import Gap

Lengths = tuple[int, ...]


def lengths(gaps: Sequence[Gap], given: int, context: int, most: int) -> tuple[list[Lengths], tuple[str, ...]]:
    """The combinations that are tried, the shortest lengths first, and what is to be said of them.

    given: tokens beside the gaps. Raises ConfigError where not even the shortest gaps fit the context, and where the
    ends of the flexible gaps alone are more than `most` combinations.
    """
    if most < 1:
        raise ConfigError(f"{most} combinations of lengths are tried", "at least 1")
    room = context - given - sum(gap.least for gap in gaps)
    if room < 0:
        least = sum(gap.least for gap in gaps)
        raise ConfigError(
            f"the text and its gaps make {given + least} tokens (given {given}, gaps {least}{_at_least(gaps)}), "
            f"the model's context is {context}",
            "shorten the text or its gaps",
        )
    notices = []
    spans = [range(gap.least, min(gap.most, gap.least + room) + 1) for gap in gaps]
    if given + sum(gap.most for gap in gaps) > context:
        notices.append(f"gaps that make more than the context of {context} tokens are left out (given {given})")
    count = math.prod(len(span) for span in spans)
    choices: list[Sequence[int]] = list(spans)
    if count > most:
        flexible = [len(span) for span in spans if len(span) > 1]
        if 2 ** len(flexible) > most:
            raise ConfigError(
                f"{len(flexible)} flexible gaps: their shortest and longest lengths alone are {2 ** len(flexible):,} "
                f"combinations, at most {most} are tried",
                "give some gaps one length, or raise the number of candidates",
            )
        points = max(m for m in range(2, max(flexible) + 1) if math.prod(min(m, size) for size in flexible) <= most)
        choices = [_spread(span, points) for span in spans]
        shown = "; ".join(", ".join(map(str, each)) for each in choices if len(each) > 1)
        notices.append(f"of {count:,} combinations of lengths a grid is tried: {shown}")
    found = [each for each in itertools.product(*choices) if given + sum(each) <= context]
    return found, tuple(notices)


def _spread(span: range, points: int) -> list[int]:
    """At most `points` of the lengths, both ends among them."""
    if len(span) <= points:
        return list(span)
    return [span[round(i * (len(span) - 1) / (points - 1))] for i in range(points)]


def _at_least(gaps: Sequence[Gap]) -> str:
    return "" if all(gap.fixed for gap in gaps) else " at the least"
