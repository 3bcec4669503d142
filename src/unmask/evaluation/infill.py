"""Filling templates with gaps anywhere, and choosing the lengths of those that are flexible.

Every combination of lengths that is tried (`unmask.sampling.lengths` says which) is filled, and the bound on -log p of
the whole text, given tokens included, decides: in nats per token of that text, plus what the prior of the lengths
takes off, in nats, per token too. It is measured on the same text `repeats` times over, with the same random numbers
for every combination, so that two are compared by the mean of their differences and its standard error. Those that are
behind the best by no more than that error are tied with it, and of them the shortest text is taken; of equally short
ones, the best. Shapes: n samples, C combinations, R repeats, L tokens of a text.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.processes import Absorbing
from unmask.errors import ConfigError, unknown
from unmask.evaluation.likelihood import nelbo
from unmask.evaluation.rows import Progress
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.random import fold
from unmask.sampling import Canvas, Sample, sample
from unmask.sampling.lengths import Lengths, lengths
from unmask.sampling.template import Template

MOST = 4096  # combinations, whatever is asked for
APPROXIMATE = (
    "approximate: tokens of this model's noise change until the end, so that holding the given ones fixed is not the "
    "model's own law given them"
)


def length_prior(name: str) -> Callable[[int], float]:
    """log p(length) but for a constant, by name: flat, or geometric:MEAN, (1 - 1 / MEAN)^length on 1, 2, ….

    ConfigError for another name, and for a mean that is not above 1.
    """
    kind, _, value = name.partition(":")
    if kind not in ("flat", "geometric"):
        raise unknown("length prior", name, ("flat", "geometric:MEAN"))
    if kind == "flat" and not value:
        return lambda length: 0.0
    try:
        mean = float(value)
    except ValueError:
        mean = math.nan
    if kind == "flat" or not 1 < mean < math.inf:
        raise ConfigError(f"the length prior {name!r}", "flat takes no number; geometric:8 has a mean of 8, above 1")
    return lambda length: length * math.log1p(-1 / mean)


@dataclasses.dataclass(frozen=True)
class Search:
    """How lengths are chosen. prior: flat, or geometric:MEAN. candidates: combinations tried at most.

    repeats: times that the bound of a text is measured, times_per_row evaluations each. ConfigError out of range.
    """

    prior: str = "flat"
    candidates: int = 64
    repeats: int = 8
    times_per_row: int = 8

    def __post_init__(self) -> None:
        length_prior(self.prior)
        if not 1 <= self.candidates <= MOST:
            raise ConfigError(f"{self.candidates} combinations of lengths are tried", f"from 1 to {MOST}")
        if self.repeats < 2 or self.times_per_row < 1:
            raise ConfigError(
                f"{self.repeats} repeats of {self.times_per_row} evaluations", "2 repeats of 1 evaluation at least"
            )


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A combination of lengths and how the text with it fares.

    tokens: of the whole text. bound: nats per token of it, with its standard error; None where there was nothing to
    choose. prior: nats that the prior of the lengths takes off, 0 for the likeliest that was tried. score: bound plus
    prior per token. behind: how far the score is from the best one, and the standard error of that difference.
    """

    lengths: Lengths
    tokens: int
    text: str
    bound: float | None = None
    stderr: float | None = None
    prior: float = 0.0
    score: float | None = None
    behind: float | None = None
    behind_stderr: float | None = None

    @property
    def tied(self) -> bool:
        """Whether it is behind the best by no more than the standard error of that; False where none was measured."""
        return self.behind is not None and self.behind_stderr is not None and self.behind <= self.behind_stderr


@dataclasses.dataclass(frozen=True)
class Filled:
    """A gap that was filled. text: as it stands in the whole. tokens: what the model wrote.

    replaced: characters U+FFFD in the text: bytes that are no whole character, unless the model wrote that character.
    ends: tokens of it that end a document, and have no text.
    """

    text: str
    tokens: tuple[int, ...]
    replaced: int
    ends: int


@dataclasses.dataclass(frozen=True)
class Infill:
    """A filled template: text is the given pieces and the gaps' texts, one after the other, as they are.

    tokens: of the whole, as the model saw them. candidates[chosen] is what was taken. approximate: the noise does not
    commit, see APPROXIMATE. sample, seed: repeat it. steps: of the filling that was taken. nfe: the evaluations that
    its row was part of. seconds: wall time, of all samples that were made together.
    """

    text: str
    given: tuple[str, ...]
    gaps: tuple[Filled, ...]
    tokens: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    chosen: int
    approximate: bool
    seed: int
    sample: int
    rule: str
    reads: str
    steps: int
    nfe: int
    draws: str
    seconds: float
    notices: tuple[str, ...] = ()

    @property
    def lengths(self) -> Lengths:
        """The tokens of each gap."""
        return self.candidates[self.chosen].lengths

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"lengths": list(self.lengths), "seconds": round(self.seconds, 4)}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be tried for a template: the tokens of the given pieces, and the combinations of lengths."""

    template: Template
    given: tuple[list[int], ...]
    lengths: list[Lengths]
    notices: tuple[str, ...]


def plan(model: LanguageModel, template: Template | str, search: Search = Search(), context: int | None = None) -> Plan:
    """The plan for a template; raises ConfigError (DataError for what is not text) for all that cannot be filled.

    context: tokens of the longest text; default: the model's.
    """
    if isinstance(model, AutoregressiveLM):
        raise ConfigError(
            "an autoregressive model writes from left to right, it does not fill gaps",
            "use a diffusion model; what follows a prompt is written by `unmask sample --prompt`",
        )
    if model.tokenizer is None:
        raise ConfigError("the model has no tokenizer, so its tokens are not text", "use unmask.sample on a Canvas")
    found = Template.parse(template) if isinstance(template, str) else template
    given = found.ids(model.tokenizer)
    longest = model.length if context is None else context
    tried, notices = lengths(found.gaps, sum(map(len, given)), longest, search.candidates)
    return Plan(found, given, tried, notices)


def infill(model: LanguageModel, template: Template | str | Plan, **options: Any) -> Infill:
    """Fill the gaps of a template such as "The state of the [MASK:2-6] is strong."; see `infills` for the options."""
    return infills(model, template, 1, **options)[0]


def infills(
    model: LanguageModel,
    template: Template | str | Plan,
    number: int,
    *,
    search: Search = Search(),
    seed: int | None = None,
    first_sample: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> list[Infill]:
    """Fill a template `number` times, each with lengths of its own choice: samples first_sample and on.

    The given text comes out byte for byte. search: how lengths are chosen. seed: sample i, its lengths too, is what
    (seed, i) decides; without one a seed is drawn. progress: told the combinations that are done, and all (the moves,
    where there is one only). options: those of `unmask.sample`. Raises ConfigError as `plan`, and for `generator`,
    which cannot repeat its numbers.
    """
    if number < 1:
        raise ConfigError(f"{number} samples", "ask for at least 1")
    if "generator" in options:
        raise ConfigError("a generator cannot give every combination the same numbers", "give a seed")
    begun, job = time.perf_counter(), template if isinstance(template, Plan) else plan(model, template, search)
    assert not isinstance(model, AutoregressiveLM)  # of a plan
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    made: list[Sample] = []
    values: list[Tensor] = []
    several = len(job.lengths) > 1
    for done, each in enumerate(job.lengths):
        canvas, told = Canvas.laid(job.given, each, batch=number), None if several else progress
        made.append(sample(model, canvas, seed=seed, first_sample=first_sample, progress=told, **options))
        if several:
            values.append(bounds(model, made[-1].tokens, search, seed, first_sample))
        if several and progress is not None:
            progress(done + 1, len(job.lengths))
    seconds = time.perf_counter() - begun
    return [
        _infill(model, job, made, [v[i] for v in values], search.prior, i, first_sample + i, seed, seconds)
        for i in range(number)
    ]


def from_sample(model: DiffusionLM, job: Plan, made: Sample, number: int, seed: int, row: int = 0) -> Infill:
    """The filled template of row `row` of a sample, of its only lengths; sample `number` of the seed."""
    return _infill(model, job, [made], [], "flat", row, number, seed, made.seconds)


def _penalties(tried: list[Lengths], prior: str) -> list[float]:
    """Nats that the prior takes off each combination; the gaps are independent, the likeliest one pays nothing."""
    log_p = length_prior(prior)
    found = [sum(map(log_p, each)) for each in tried]
    return [max(found) - each for each in found]


def bounds(model: DiffusionLM, tokens: Tensor, search: Search, seed: int, first: int) -> Tensor:
    """The bound of texts [n, L], samples `first` and on, measured `repeats` times: [n, R], nats per token.

    A sample has the same numbers whatever the batch: what is drawn is keyed by the seed, the sample and the repeat.
    """
    estimator = "mask-count" if isinstance(model.process, Absorbing) else "stratified"
    found = []
    for i, text in enumerate(tokens.cpu()):
        rows = text.expand(search.repeats, -1)
        bound = nelbo(
            model, rows, times_per_row=search.times_per_row, seed=fold(seed, "lengths", first + i),
            batch_size=max(1, min(search.repeats, 4096 // len(text))), estimator=estimator,
        )  # fmt: skip
        found.append(torch.tensor(bound.rows, dtype=torch.float64))
    return torch.stack(found)


def decide(values: Tensor, tokens: list[int]) -> tuple[int, Tensor, Tensor]:
    """The combination that is taken, how far each is behind the best, and the error of that, [C] each.

    values: the scores, [C, R], column by column of the same random numbers. tokens: of the whole texts.
    """
    mean = values.mean(1)
    apart = values - values[mean.argmin()]
    behind, error = apart.mean(1), apart.std(1) / math.sqrt(values.shape[1])
    tied = [i for i in range(len(values)) if float(behind[i]) <= float(error[i])]
    return min(tied, key=lambda i: (tokens[i], float(behind[i]), i)), behind, error


@dataclasses.dataclass(frozen=True)
class Choice:
    """candidates[chosen] was taken; what is in its gaps. notices: what the text does not show."""

    candidates: tuple[Candidate, ...]
    chosen: int
    gaps: tuple[Filled, ...]
    notices: tuple[str, ...]


def choose(model: DiffusionLM, job: Plan, texts: list[list[int]], values: list[Tensor], prior: str) -> Choice:
    """The choice among the filled texts, the ids of one for each combination of the plan.

    values: what `bounds` says of each, [R]; empty where there is one only. prior: of the lengths, by name.
    """
    candidates, gaps = [], []
    for each, ids in zip(job.lengths, texts, strict=True):
        gaps.append(_gaps(model, job, each, ids))
        candidates.append(Candidate(each, len(ids), job.template.filled([gap.text for gap in gaps[-1]])))
    chosen = 0
    if values:
        sizes, prices = [each.tokens for each in candidates], _penalties(job.lengths, prior)
        bound = torch.stack(values)  # [C, R]
        scores = bound + (torch.tensor(prices).double() / torch.tensor(sizes))[:, None]
        chosen, behind, apart = decide(scores, sizes)
        candidates = [
            dataclasses.replace(
                each, bound=float(bound[i].mean()), stderr=float(bound[i].std() / math.sqrt(bound.shape[1])),
                prior=prices[i], score=float(scores[i].mean()), behind=float(behind[i]), behind_stderr=float(apart[i]),
            )
            for i, each in enumerate(candidates)
        ]  # fmt: skip
    notices = (*_said(gaps[chosen]), *([] if model.process.commits else [APPROXIMATE]))
    return Choice(tuple(candidates), chosen, tuple(gaps[chosen]), notices)


def _infill(
    model: DiffusionLM, job: Plan, made: list[Sample], values: list[Tensor], prior: str, row: int, number: int,
    seed: int, seconds: float,
) -> Infill:  # fmt: skip
    """Sample `number`, row `row` of every filling; values: its bounds, [R] a combination."""
    choice = choose(model, job, [done.tokens[row].tolist() for done in made], values, prior)
    taken = made[choice.chosen]
    nfe = taken.nfe if taken.row_nfe is None else int(taken.row_nfe[row])
    return Infill(
        text=choice.candidates[choice.chosen].text, given=job.template.given, gaps=choice.gaps,
        tokens=tuple(taken.tokens[row].tolist()), candidates=choice.candidates, chosen=choice.chosen,
        approximate=not model.process.commits, seed=seed, sample=number, rule=taken.rule, reads=taken.reads,
        steps=taken.steps, nfe=nfe, draws=taken.draws, seconds=seconds,
        notices=(*job.notices, *taken.notices, *choice.notices),
    )  # fmt: skip


def _gaps(model: DiffusionLM, job: Plan, each: Lengths, ids: list[int]) -> list[Filled]:
    """What was written into each gap."""
    assert model.tokenizer is not None  # of a plan
    found, at = [], 0
    for i, count in enumerate(each):
        at += len(job.given[i])
        some = tuple(ids[at : at + count])
        text = job.template.own_text(i, model.tokenizer.decode(some))
        found.append(Filled(text, some, text.count("\ufffd"), some.count(model.tokenizer.eos_id)))
        at += count
    return found


def _said(gaps: list[Filled]) -> list[str]:
    """What a reader of the text would not see in it."""
    said = []
    for i, gap in enumerate(gaps, 1):
        if gap.replaced:
            said.append(f"gap {i} holds {gap.replaced} x U+FFFD: bytes that are no whole character")
        if gap.ends:
            said.append(f"gap {i} holds {gap.ends} end-of-text tokens, which have no text")
    return said
