"""A verdict follows from the numbers: other numbers, another verdict."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from unmask.evaluation.results import Row
from unmask.recipes.paper.claims import Evidence, claims
from unmask.recipes.paper.notes import notes
from unmask.recipes.paper.scales import TINY
from unmask.recipes.paper.series import series
from unmask.recipes.paper.store import Record
from unmask.recipes.paper.task import Outcome
from unmask.report.paper.content import Claim

SMALL = dataclasses.replace(TINY, sampling=dataclasses.replace(TINY.sampling, steps=(16, 1024), raced=(1024,)))


def row(value: float, stderr: float | None = 0.1, name: str = "value") -> Row:
    return Row(name, "m", value, "u", "p", stderr=stderr, n=10)


def record(*values: float | Row, **others: Any) -> Record:
    rows = tuple(v if isinstance(v, Row) else row(v) for v in values)
    return Record("id", Outcome(rows=rows, values=others), 1.0, {})


def verdict(quote: str, records: Mapping[str, Record], scale: Any = SMALL) -> Claim:
    return next(claim for claim in claims(Evidence(scale, records, {})) if quote in claim.quote)


@pytest.mark.parametrize("ours, expected", [(10.0, "holds"), (19.9, "fails"), (25.0, "fails")])
def test_fewer_steps_must_be_better_beyond_doubt(ours: float, expected: str) -> None:
    found = verdict("32 sampling steps", {"table3/sedd-32": record(ours), "table3/ar": record(20.0)})
    assert found.verdict == expected
    assert f"{ours:.2f} ± 0.10 against 20.00 ± 0.10" == found.number


@pytest.mark.parametrize("ours, expected", [(19.0, "holds"), (20.2, "holds"), (21.0, "fails")])
def test_similar_means_not_worse_beyond_doubt(ours: float, expected: str) -> None:
    found = verdict("annealed sampling", {"table3/sedd-1024": record(ours), "table3/ar-top-p": record(20.0)})
    assert found.verdict == expected


@pytest.mark.parametrize("last, expected", [(4.0, "holds"), (5.0, "fails"), (6.0, "fails")])
def test_the_trend_of_entropy_needs_a_fall(last: float, expected: str) -> None:
    records = {"table4/sedd-16": record(0.5, 5.0, 0.3), "table4/sedd-1024": record(0.4, last, 0.3)}
    assert verdict("unigram entropy negatively", records).verdict == expected
    assert verdict("repetition rate", records).verdict == "fails"


def test_less_diverse_than_both_is_asked() -> None:
    records = {
        "table4/sedd-1024": record(0.3, 4.0), "table4/ar": record(0.6, 5.0), "table4/ar-top-p": record(0.5, 4.9)
    }  # fmt: skip
    records = {key: record(*(dataclasses.replace(r, stderr=0.01) for r in each.outcome.rows if r))
               for key, each in records.items()}  # fmt: skip
    assert verdict("less diverse", records).verdict == "holds"
    records["table4/ar-top-p"] = record(row(0.5, 0.01), row(4.0, 0.01))
    assert verdict("less diverse", records).verdict == "fails"


def likelihoods(ours: float, theirs: float) -> dict[str, Record]:
    columns = [column.lower().replace(" ", "-") for column in SMALL.sets]
    return {
        key: made
        for column in columns
        for key, made in (
            (f"table1/{column}-sedd-twin", record(ours - 1, ours, ours + 1)),
            (f"table1/{column}-ar-twin", record(theirs, theirs + 1)),
        )
    }  # fmt: skip


@pytest.mark.parametrize("ours, theirs, expected", [(30.0, 40.0, "holds"), (100.0, 40.0, "fails")])
def test_the_bound_decides_over_the_sets(ours: float, theirs: float, expected: str) -> None:
    found = verdict("matches or exceeds", likelihoods(ours, theirs))
    assert found.verdict == expected and found.number == ("3 of 3 sets" if ours < theirs else "0 of 3 sets")
    assert verdict("both orders", likelihoods(ours, theirs)).verdict == "holds"


def test_a_missing_set_leaves_the_claim_untested() -> None:
    records = likelihoods(30.0, 40.0)
    del records["table1/lambada-ar-twin"]
    found = verdict("matches or exceeds", records)
    assert found.verdict == "cannot be tested here" and "table1/lambada-ar-twin" in found.because


@pytest.mark.parametrize("steps64, expected", [(10.0, "holds"), (50.0, "fails")])
def test_latency_is_judged_at_the_largest_size(steps64: float, expected: str) -> None:
    def timed(seconds: float) -> Record:
        return record(
            words="SEDD 1,453 M, GPT-2 1,316 M", ar_seconds=20.0, hf_seconds=30.0,
            sedd_seconds={"16": seconds / 4, "64": seconds},
        )  # fmt: skip

    records = {"figure1/latency-small": timed(1.0), "figure1/latency-xl": timed(steps64)}
    assert verdict("with 64 steps is faster", records).verdict == expected
    assert verdict("4.5x", records).verdict == expected


def test_the_scratchpad_needs_a_higher_mauve() -> None:
    better = {"table5/sedd-scratchpad": record(0.9, 1, 1, per_seed=[0.88, 0.92]), "table5/sedd-short": record(0.5)}
    assert verdict("retaining the first 100", better).verdict == "holds"
    level = better | {"table5/sedd-short": record(0.8)}
    assert verdict("retaining the first 100", level).verdict == "fails"
    assert verdict("random seed", better).verdict == "holds"


def test_curves_join_tables_and_times() -> None:
    records = {
        "figure1/quality": record(
            **{"sedd-16": {"alone": 1.0, "best": 0.5, "measured": True},
               "sedd-1024": {"alone": 64.0, "best": 32.0, "measured": False},
               "ar": {"alone": 2.0, "best": 0.1, "measured": True}},
        ),
        "table3/sedd-16": record(80.0, entropy=5.0, entropy_stderr=0.1),
        "table3/sedd-1024": record(40.0, entropy=4.5, entropy_stderr=0.1),
        "table3/ar": record(30.0, entropy=5.1, entropy_stderr=0.1),
    }  # fmt: skip
    found = {(s.figure, s.name): s for s in series(Evidence(SMALL, records, {}))}
    alone = found["quality_per_second", "SEDD twin, batch 1"].points
    assert [(p.x, p.y, p.label, p.measured) for p in alone] == [(1.0, 80.0, "16", True), (64.0, 40.0, "1024", False)]
    assert found["entropy_per_second", "AR twin, best batch"].points[0].x == 0.1
    assert [p.y for p in found["arithmetic", "SEDD twin, exact draws"].points] == [80.0, 40.0]


def test_the_paragraph_on_arithmetic_says_the_share() -> None:
    values = {
        "vocab": 49152, "n": 512, "ratio": 0.877, "ratio_stderr": 0.007, "paper_ratio": 0.482, "share": 0.18,
        "share_stderr": 0.01, "paper_steps": [100, 1024], "warmer": None,
    }  # fmt: skip
    (words, *_) = notes(Evidence(SMALL, {"arithmetic/closed-form": record(**values)}, {}))["arithmetic"]
    assert "18.0 ± 1.0 %" in words and "arXiv 2409.02908" in words and "49,152" in words
