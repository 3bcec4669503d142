"""A report made by hand, for tests of words, tables and the page."""

import dataclasses
from typing import Any

from unmask.evaluation.results import Row
from unmask.report.content import Card, Fill, Report, Span, Timed, Written

BOUND, EXACT, PAPER, PAIRS, CLOCK = "the full bound", "the chain rule", "the papers' quantity", "the pairs", "a clock"


def row(name: str, model: str, value: float, protocol: str, stderr: float | None = None, **more: Any) -> Row:
    return Row(name, model, value, more.pop("unit", "nats/token"), protocol, stderr=stderr, n=more.pop("n", 64), **more)


def likelihood_rows(
    bound: float, exact: float, gap_error: float | None = 0.01, paper: float | None = None
) -> list[Row]:
    return [
        row("nats_per_token", "SEDD", bound, BOUND, 0.02, seed=3),
        row("perplexity", "SEDD", 123.4, BOUND, 2.5, unit="perplexity"),
        row("bound_diffusion", "SEDD", bound - 0.0151, BOUND),
        row("bound_reconstruction", "SEDD", 0.0068, BOUND),
        row("bound_prior", "SEDD", 0.0083, BOUND),
        row("paper_nats_per_token", "SEDD", bound - 0.01 if paper is None else paper, PAPER, 0.02),
        row("nats_per_token", "AR", exact, EXACT, 0.03),
        row("perplexity", "AR", 98.7, EXACT, 1.5, unit="perplexity"),
        row("nats_difference", "SEDD − AR", bound - exact, PAIRS, gap_error, n=1 if gap_error is None else 64),
    ]


def report(**changes: Any) -> Report:
    """A whole report, any field replaced."""
    curve = [
        {"step": 100.0 * i, "tokens": 3e5 * i, "loss": 6 - 0.1 * i, "heldout_nats": 6.1 - 0.1 * i} for i in range(1, 9)
    ]
    whole = Report(
        title="Two models",
        summary="What is compared.",
        diffusion="SEDD",
        autoregressive="AR",
        rows=tuple(likelihood_rows(4.8, 4.5)),
        samples=(
            Written("SEDD", "one text", 1.5, 17, 2, 0, steps=16, rule="tweedie", reads="score"),
            Written("SEDD", "another text", 1.5, 17, 2, 0, steps=16, rule="tweedie", reads="score"),
            Written("AR", "left to<|endoftext|>right", 2.5, 32, 1, 0, top_p=0.95, rule="autoregressive", reads="next"),
        ),
        fills=(
            Fill(
                "SEDD",
                "I am [MASK:3] late.",
                (Span("I am", False), Span(" very", True), Span(" late.", False)),
                8,
                9,
                0,
            ),
        ),
        curves={"SEDD": curve, "AR": curve},
        timings=(
            Timed(row("seconds_per_sequence", "AR", 0.75, CLOCK, 0.01, unit="s", n=3), None),
            Timed(row("seconds_per_sequence_16_steps", "SEDD", 1.25, CLOCK, 0.02, unit="s", n=3), 16),
        ),
        cards=(Card("SEDD", "diffusion", {"Parameters": "81"}), Card("AR", "autoregressive", {"Parameters": "68"})),
        provenance={
            "unmask": "9.8.7",
            "commit": "abc123",
            "date": "2026-01-02T03:04:05+00:00",
            "settings": {"seed": 7},
        },
    )
    return dataclasses.replace(whole, **changes)
