"""Likelihoods as rows: what was measured once, in every unit in which people ask for it."""

import math

from unmask.evaluation.likelihood import T_MIN, Bound
from unmask.evaluation.results import Row


def bound_rows(bound: Bound, model: str, text: str = "held-out rows") -> list[Row]:
    """The rows of a likelihood: nats, two perplexities, bits per byte; for a bound its parts and the papers' quantity.

    text: what the rows are of. The error of a perplexity is that of its nats, carried over to first order.
    """
    seed = None if bound.exact else bound.seed
    protocol = exact_protocol(bound, text) if bound.exact else bound_protocol(bound, text)

    def row(name: str, value: float, unit: str, stderr: float | None, said: str = protocol, note: str = "") -> Row:
        usable = stderr if stderr is not None and math.isfinite(stderr) else None
        return Row(name, model, value, unit, said, stderr=usable, n=bound.n, seed=seed, note=note)

    rows = [
        row("nats_per_token", bound.nats_per_token, "nats/token", bound.stderr),
        row("perplexity", bound.perplexity, "perplexity", bound.perplexity * bound.stderr),
        row("perplexity_mean_exp", bound.perplexity_mean_exp, "perplexity", _stderr_of_exp(bound.rows)),
    ]
    if bound.bits_per_byte is not None:
        scale = bound.bits_per_byte / bound.nats_per_token
        rows.append(row("bits_per_byte", bound.bits_per_byte, "bits/byte", scale * bound.stderr))
    if bound.exact:
        return rows
    ratio = bound.paper_perplexity
    paper = paper_protocol(bound, text)
    return [
        *rows,
        *(
            row(f"bound_{part}", value, "nats/token", bound.parts_stderr.get(part))
            for part, value in bound.parts.items()
        ),
        row("paper_nats_per_token", bound.paper, "nats/token", bound.paper_stderr, paper),
        row("paper_perplexity", ratio, "perplexity", ratio * bound.paper_stderr, paper),
        row(
            "paper_perplexity_mean_exp",
            bound.paper_perplexity_mean_exp,
            "perplexity",
            bound.paper_perplexity_mean_exp_stderr,
            paper,
        ),
    ]


def difference_row(diffusion: Bound, autoregressive: Bound, model: str, text: str = "held-out rows") -> Row | None:
    """The mean difference of two likelihoods of the same rows, bound minus exact, its error from the pairs."""
    if len(diffusion.rows) != len(autoregressive.rows) or not diffusion.rows:
        return None
    gaps = [a - b for a, b in zip(diffusion.rows, autoregressive.rows, strict=True)]
    mean = math.fsum(gaps) / len(gaps)
    return Row(
        "nats_difference", model, mean, "nats/token",
        f"the full bound of the one ({_times(diffusion)}) minus the exact value of the other, row by row on the same "
        f"{diffusion.n} {text} of {diffusion.tokens // diffusion.n} tokens, one standard error over the pairs",
        stderr=_stderr(gaps), n=len(gaps), seed=diffusion.seed,
    )  # fmt: skip


def exact_protocol(bound: Bound, text: str) -> str:
    """How an exact likelihood was measured."""
    return f"-log p by the chain rule, the first token given the end-of-document token; {_rows(bound, text)}"


def bound_protocol(bound: Bound, text: str) -> str:
    """How a full bound was measured."""
    return (
        f"upper bound on -log p: the weighted loss on t in [{T_MIN:g}, 1] with {_times(bound)}, plus the "
        f"reconstruction at t = {T_MIN:g}, plus the prior at t = 1; {_rows(bound, text)}"
    )


def paper_protocol(bound: Bound, text: str) -> str:
    """How the papers' quantity was measured."""
    return (
        f"the papers' quantity (Lou et al. 2024; Deschenaux and Gulcehre 2024): the mean of the weighted loss over t "
        f"uniform on [{T_MIN:g}, 1], {_times(bound)}, without reconstruction and prior, so not a bound; "
        f"{_rows(bound, text)}"
    )


def _rows(bound: Bound, text: str) -> str:
    return f"{bound.n} {text} of {bound.tokens // bound.n} tokens, one standard error over rows"


def _times(bound: Bound) -> str:
    if bound.estimator not in ("", "stratified"):
        return f"{bound.times_per_row} evaluations a row by the estimator {bound.estimator}"
    return f"{bound.times_per_row} stratified times a row"


def _stderr_of_exp(rows: tuple[float, ...]) -> float | None:
    return _stderr([math.exp(min(value, 700.0)) for value in rows])


def _stderr(values: list[float]) -> float | None:
    """The standard error of a mean; None for fewer than two values, or where they are not finite."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    if not math.isfinite(mean):
        return None
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
