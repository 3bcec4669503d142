"""The claims of the paper, quoted, and what the measured numbers say of each.

A verdict is about the models that were measured. A difference counts where it is beyond two standard errors.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from unmask.evaluation.results import Row
from unmask.recipes.paper.numbers import slug
from unmask.recipes.paper.scales import Scale
from unmask.recipes.paper.store import Record
from unmask.report.digits import number, with_error
from unmask.report.paper.content import Claim, Verdict

SURE = 2.0
Found = tuple[Verdict, str, str]  # verdict, number, because
UNTESTED: Verdict = "cannot be tested here"


class Absent(Exception):
    """A number that a claim needs and that was not measured."""


class Evidence:
    """What was measured, by task; asking for what is not there raises Absent with the reason."""

    def __init__(self, scale: Scale, records: Mapping[str, Record], reasons: Mapping[str, str]) -> None:
        self.scale, self.records, self.reasons = scale, records, reasons

    def record(self, key: str) -> Record:
        """The outcome of a task."""
        if key not in self.records:
            raise Absent(f"{key}: {self.reasons.get(key, 'not measured at this scale')}")
        return self.records[key]

    def row(self, key: str, index: int = 0) -> Row:
        """A row of a task, by its place among the cells."""
        row = self.record(key).outcome.rows[index]
        if row is None:
            raise Absent(f"{key}: no value")
        return row

    def values(self, key: str) -> Mapping[str, Any]:
        """The other numbers of a task."""
        return self.record(key).outcome.values

    def keys(self, prefix: str) -> list[str]:
        """The finished tasks whose key begins so."""
        return [key for key in self.records if key.startswith(prefix)]


def gap(first: Row, second: Row) -> tuple[float, float]:
    """first - second with its standard error, of independent rows."""
    return first.value - second.value, math.hypot(first.stderr or 0.0, second.stderr or 0.0)


def below(first: Row, second: Row) -> Verdict:
    """Does the claim hold that the first is lower? It fails only where it is higher beyond doubt or level."""
    difference, error = gap(first, second)
    return "holds" if difference < -SURE * error else "fails"


def claims(evidence: Evidence) -> tuple[Claim, ...]:
    """Every claim of the table, in its order."""
    made = []
    for quote, where, judge in CLAIMS:
        try:
            verdict, value, because = judge(evidence)
        except Absent as error:
            verdict, value, because = UNTESTED, "", str(error)
        made.append(Claim(quote, where, verdict, value, because))
    return tuple(made)


def _shown(row: Row) -> str:
    return with_error(row.value, row.stderr)


def _likelihood(evidence: Evidence, index: dict[bool, int], what: str) -> Found:
    """Both models on the same rows of each set: the first of the diffusion models against the first of the others."""
    scale = evidence.scale
    sedd, ar = scale.diffusion[0].label, scale.autoregressive[0].label
    wins, said = 0, []
    for column in scale.sets:
        ours, theirs = (
            evidence.row(f"table1/{slug(column)}-{slug(label)}", index[label == sedd]) for label in (sedd, ar)
        )
        difference, error = gap(ours, theirs)
        wins += difference <= SURE * error
        said.append(f"{column} {_shown(ours)} against {_shown(theirs)}")
    verdict: Verdict = "holds" if 2 * wins >= len(said) else "fails"
    return verdict, f"{wins} of {len(said)} sets", f"{what} of {sedd} against {ar}: {'; '.join(said)}"


def _matches_likelihood(evidence: Evidence) -> Found:
    return _likelihood(evidence, {True: 1, False: 0}, "perplexity by the full bound")


def _both_orders(evidence: Evidence) -> Found:
    first = _likelihood(evidence, {True: 0, False: 0}, "")
    second = _likelihood(evidence, {True: 2, False: 1}, "")
    verdict: Verdict = "holds" if first[0] == second[0] else "fails"
    return (
        verdict,
        f"exp of the mean: {first[1]}, mean of the exp: {second[1]}",
        f"by the paper's quantity, {evidence.scale.diffusion[0].label} is level or ahead on as many sets in either "
        "order, so that both lead to the same conclusion" if verdict == "holds" else "the orders disagree",
    )  # fmt: skip


def _benchmarks(evidence: Evidence) -> Found:
    sedd, ar = evidence.scale.diffusion[0].label, evidence.scale.autoregressive[0].label
    level, said = 0, []
    for name in ("hellaswag", "arc_easy", "arc_challenge", "winogrande"):
        ours, theirs = (evidence.row(f"table2/{name}-{slug(who)}") for who in (sedd, ar))
        difference, error = gap(ours, theirs)
        level += difference >= -SURE * error
        said.append(f"{name} {_shown(ours)} % against {_shown(theirs)} %")
    verdict: Verdict = "holds" if level == len(said) else "fails"
    return verdict, f"{level} of {len(said)} level or ahead", "; ".join(said)


def _few_steps(evidence: Evidence) -> Found:
    ours, theirs = evidence.row("table3/sedd-32"), evidence.row("table3/ar")
    return (
        below(ours, theirs), f"{_shown(ours)} against {_shown(theirs)}",
        "the judge's perplexity of samples in 32 steps, and of plain autoregressive ones",
    )  # fmt: skip


def _nucleus(evidence: Evidence) -> Found:
    ours, theirs = evidence.row("table3/sedd-1024"), evidence.row("table3/ar-top-p")
    difference, error = gap(ours, theirs)
    verdict: Verdict = "holds" if difference <= SURE * error else "fails"
    because = "the judge's perplexity of samples in 1,024 steps, and of nucleus sampling with p = 0.95; exact draws"
    if "table3/sedd-1024-raced" in evidence.records:
        because += f" (with the published arithmetic {_shown(evidence.row('table3/sedd-1024-raced'))})"
    return verdict, f"{_shown(ours)} against {_shown(theirs)}", because


def _diversity(evidence: Evidence) -> Found:
    most = max(evidence.scale.sampling.steps)
    said, lower = [], True
    for index, name in ((0, "unique"), (1, "entropy")):
        ours = evidence.row(f"table4/sedd-{most}", index)
        for against, label in (("ar", "plain"), ("ar-top-p", "top-p")):
            theirs = evidence.row(f"table4/{against}", index)
            lower = lower and below(ours, theirs) == "holds"
            said.append(f"{name} {_shown(ours)} against {_shown(theirs)} ({label})")
    return ("holds" if lower else "fails"), f"at {most:,} steps", "; ".join(said)


def _trend(evidence: Evidence, index: int, sign: int, what: str) -> Found:
    """Does a statistic move with the number of steps, first to last, with exact draws and with the published ones?"""
    steps = evidence.scale.sampling.steps
    first, last = (evidence.row(f"table4/sedd-{n}", index) for n in (steps[0], steps[-1]))
    difference, error = gap(last, first)
    verdict: Verdict = "holds" if sign * difference > SURE * error else "fails"
    because = f"{what} from {_shown(first)} at {steps[0]} steps to {_shown(last)} at {steps[-1]:,}, exact draws"
    raced = f"table4/sedd-{steps[-1]}-raced"
    if raced in evidence.records:
        because += f"; {_shown(evidence.row(raced, index))} at {steps[-1]:,} with the published arithmetic"
    return verdict, with_error(difference, error), because


def _entropy_falls(evidence: Evidence) -> Found:
    return _trend(evidence, 1, -1, "unigram entropy (nats)")


def _repetition_rises(evidence: Evidence) -> Found:
    return _trend(evidence, 2, 1, "repetition rate")


def _scratchpad(evidence: Evidence) -> Found:
    whole, short = evidence.row("table5/sedd-scratchpad"), evidence.row("table5/sedd-short")
    difference, error = gap(whole, short)
    verdict: Verdict = "holds" if difference > SURE * error else "fails"
    because = f"MAUVE {_shown(whole)} with the whole context, {_shown(short)} with the prompt and continuation only"
    if "table5/sedd-matched" in evidence.records:
        because += f", {_shown(evidence.row('table5/sedd-matched'))} when told the share of tokens that is masked"
    return verdict, with_error(difference, error), because


def _conditional(evidence: Evidence) -> Found:
    ours, theirs = evidence.row("table5/sedd-scratchpad"), evidence.row("table5/ar")
    difference, error = gap(theirs, ours)
    verdict: Verdict = "holds" if difference > SURE * error else "fails"
    return verdict, with_error(difference, error), f"MAUVE {_shown(ours)} against {_shown(theirs)}, both plain"


def _seed_spread(evidence: Evidence) -> Found:
    values = evidence.values("table5/sedd-scratchpad")["per_seed"]
    spread = max(values) - min(values)
    verdict: Verdict = "holds" if spread >= 0.01 else "fails"
    return (
        verdict,
        f"{number(min(values), 1e-3)} to {number(max(values), 1e-3)}",
        (f"MAUVE of one set of texts under {len(values)} seeds of its clustering"),
    )


def _latency(evidence: Evidence) -> Mapping[str, Any]:
    """The largest size that was measured."""
    keys = evidence.keys("figure1/latency-")
    if not keys:
        raise Absent("no latency was measured")
    values = evidence.values(keys[-1])
    if "64" not in values["sedd_seconds"] or not values["hf_seconds"]:
        raise Absent("64 steps and Hugging Face's generate were not timed")
    return values


def _faster(evidence: Evidence) -> Found:
    values = _latency(evidence)
    ratio = values["ar_seconds"] / values["sedd_seconds"]["64"]
    against = values["hf_seconds"] / values["sedd_seconds"]["64"]
    return (
        ("holds" if ratio > 1 else "fails"), f"{number(ratio, 0.01)} times",
        f"{values['words']}: {number(values['sedd_seconds']['64'], 0.1)} s in 64 steps, "
        f"{number(values['ar_seconds'], 0.1)} s for our autoregressive engine with a key-value cache "
        f"({number(against, 0.01)} times against Hugging Face's generate); batch 1",
    )  # fmt: skip


def _four_and_a_half(evidence: Evidence) -> Found:
    values = _latency(evidence)
    steps, fastest = min(values["sedd_seconds"].items(), key=lambda pair: pair[1])
    ratio = values["hf_seconds"] / fastest
    return (
        ("holds" if ratio >= 4.5 else "fails"), f"{number(ratio, 0.01)} times",
        f"{values['words']}: {steps} steps against Hugging Face's generate with its cache, batch 1; "
        f"{number(values['ar_seconds'] / fastest, 0.01)} times against our own engine",
    )  # fmt: skip


def _correlation(evidence: Evidence) -> Found:
    values = evidence.values("table5/correlation")
    without = values["without_top_k"]
    verdict: Verdict = "holds" if without["rho"] > 0 and without["p"] < 0.05 else "fails"
    return (
        verdict,
        f"rank correlation {number(without['rho'], 0.01)}, p = {number(without['p'], 0.01)}",
        (f"over {without['n']} ways of generating; with top-k {number(values['with_top_k']['rho'], 0.01)}"),
    )


CLAIMS: tuple[tuple[str, str, Callable[[Evidence], Found]], ...] = (
    (
        "When evaluated on test datasets, SEDD matches or exceeds the likelihood of GPT-2",
        "section 3, table 1", _matches_likelihood,
    ),
    (
        "the conclusions remain the same, as SEDD achieves better perplexity for the same datasets with both orders",
        "appendix A.1", _both_orders,
    ),
    (
        "SEDD generally matches autoregressive models [...] on benchmarks such as HellaSwag, Arc or WinoGrande",
        "abstract, table 2", _benchmarks,
    ),
    (
        "better perplexity than sampling from GPT-2 without annealing with 32 sampling steps",
        "section 3, table 3", _few_steps,
    ),
    (
        "When sampling with 1024 steps, SEDD produces text of similar likelihood as annealed sampling from GPT-2",
        "section 5.1, table 3", _nucleus,
    ),
    ("SEDD appears less diverse than GPT-2 with and without annealing", "section 5.2, table 4", _diversity),
    (
        "the unigram entropy negatively correlates with the number of sampling steps",
        "section 5.2, table 4", _entropy_falls,
    ),
    (
        "the repetition rate of SEDD increases as the number of sampling steps increases",
        "section 5.2, table 4", _repetition_rises,
    ),
    (
        "when sampling 1024 tokens and retaining the first 100, we obtain better MAUVE scores than when sampling 100 "
        "only", "appendix A.4, table 5", _scratchpad,
    ),
    ("GPT-2 outperforms SEDD in conditional generation", "appendix A.4, table 5", _conditional),
    (
        "simply changing the random seed could cause the score for the same text to fluctuate between 0.89 and 0.93",
        "appendix A.4", _seed_spread,
    ),
    ("MAUVE seems to correlate positively with the perplexity of the generated text", "appendix A.4", _correlation),
    (
        "sampling from a SEDD model of 1.45B parameters with 64 steps is faster than sampling from a GPT-2 model of "
        "1.3B parameters with KV-caching", "appendix A.3, figure 1", _faster,
    ),
    ("SEDD can be up to 4.5x more efficient than GPT-2", "abstract, figure 1", _four_and_a_half),
)  # fmt: skip
