"""The main job: a diffusion model and its autoregressive twin, measured on the same rows, on one page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.errors import ConfigError, unknown
from unmask.evaluation.likelihood import Bound, Progress, exact_nll, nelbo
from unmask.evaluation.results import provenance
from unmask.evaluation.timing import time_calls
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.recipes.data import Say
from unmask.report import figures, words
from unmask.report.bounds import bound_rows, difference_row
from unmask.report.cards import card, short_name, training_curve
from unmask.report.content import Fill, Report, Span, Timed, Written
from unmask.report.words import difference_name
from unmask.report.write import check_target, write
from unmask.sampling import Canvas, sample
from unmask.text.tokenizers import Tokenizer

TITLE = "Diffusion and autoregression on the same text"
TEMPLATES = (
    "Hi, my name is [MASK:12] and that's why I'm late.",
    "Fellow citizens: [MASK:24] the people of the United States [MASK:24] with foreign nations.",
)
SHORTEST = "The [MASK:4] of the [MASK:4]."  # for models whose context holds none of the others
TOP_P = 0.95


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured. rows: held-out rows at most. batch: texts for each way of writing. repeats: of a timing."""

    rows: int
    times: int
    steps: tuple[int, ...]
    batch: int
    fills: int
    fill_steps: int
    repeats: int


SCALES = {
    "demo": Scale(rows=128, times=8, steps=(16, 64, 256), batch=2, fills=4, fill_steps=64, repeats=3),
    "smoke": Scale(rows=6, times=2, steps=(2, 8), batch=1, fills=2, fill_steps=4, repeats=2),
}


def make_report(
    diffusion: LanguageModel,
    autoregressive: LanguageModel,
    heldout_rows: Any,
    out: Path,
    *,
    scale: str = "demo",
    seed: int = 0,
    title: str = TITLE,
    templates: Sequence[str] = TEMPLATES,
    unigram: Tensor | None = None,
    protocol: Mapping[str, Any] | None = None,
    say: Say = lambda words: None,
    progress: Progress | None = None,
) -> Path:
    """Measure both models and write out/report.json and out/index.html, both or neither; returns the page's path.

    heldout_rows: [N, L] token ids that neither model was trained on; `demo` reads 128 of them, spread evenly.
    unigram [V]: the law of a token for the prior of the bound, uniform if None. protocol: how the rows were made, as
    `heldout_rows` of `unmask.recipes.heldout` says it. say: hears what is being done. progress: hears (done, total),
    in about equal amounts of work.
    Raises ConfigError for an unknown scale, a model of the other kind, rows that are not [N, L], models with different
    tokenizers, a template without a gap, an `out` that holds other files, and where matplotlib is missing. All of it
    before measuring.
    """
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    size = SCALES[scale]
    rows = _spread(heldout_rows, size.rows)
    models = _kinds(diffusion, autoregressive)
    tokenizer = _shared_tokenizer(*models)
    check_target(out)
    figures.require()
    canvases, omitted = _canvases(templates, tokenizer, diffusion.length, size.fills)
    job = _Job(models, tokenizer, size, seed, rows, dict(protocol or {}), say, progress)
    report = job.measure(unigram, canvases, title)
    job.advance(job.total)
    made = provenance(scale=scale, **job.settings())
    say("drawing the page")
    return write(dataclasses.replace(report, provenance=made, omitted=tuple(omitted)), out)


@dataclasses.dataclass
class _Job:
    """What the measurements share: the diffusion model, then the autoregressive one. Work: sequences read."""

    models: tuple[DiffusionLM, AutoregressiveLM]
    tokenizer: Tokenizer
    size: Scale
    seed: int
    rows: Any
    protocol: dict[str, Any]
    say: Say
    progress: Progress | None
    done: int = 0

    def __post_init__(self) -> None:
        self.names = short_name(self.models[0]), short_name(self.models[1])
        self.length = min(model.length for model in self.models)
        size, writing = self.size, self.length // 8  # with a cache, a token costs far less than a sequence
        self.total = len(self.rows) * (size.times + 2) + size.repeats * (sum(size.steps) + writing)
        self.total += size.batch * (sum(size.steps) + 2 * writing)

    @property
    def text(self) -> str:
        """What the rows are of."""
        name = str(self.protocol.get("corpus", ""))
        where = f" from {Path(name).name if Path(name).exists() else name.replace('+', ', ')}" if name else ""
        note = self.protocol.get("note")
        return f"held-out rows{where}" + (f" (which {note})" if note else "")

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, for their provenance."""
        size, rows = self.size, self.rows
        return {
            "seed": self.seed, "heldout_rows": len(rows), "row_length": rows.shape[1], "times_per_row": size.times,
            "sampling_steps": ", ".join(map(str, size.steps)), "texts_each": size.batch,
            "fill_steps": size.fill_steps, "timing_repeats": size.repeats,
            "heldout_text": self.text.removeprefix("held-out rows from ") if self.protocol else "",
        }  # fmt: skip

    def measure(self, unigram: Tensor | None, canvases: Sequence[tuple[str, Canvas]], title: str) -> Report:
        """Everything measured, in the order of the page."""
        models, names, text = self.models, self.names, self.text
        bounds = self.likelihoods(unigram)
        measured = [row for i in (0, 1) for row in bound_rows(bounds[i], names[i], text)]
        gap = difference_row(*bounds, difference_name(*names), text)
        sizes = [model.net.num_parameters for model in models]
        shown = f"{len(self.rows)} rows of {self.rows.shape[1]} tokens of held-out text"
        return Report(
            title=title,
            summary=words.lede([model.card for model in models], sizes, names, shown, self.length),
            diffusion=names[0],
            autoregressive=names[1],
            rows=tuple(measured) + ((gap,) if gap else ()),
            samples=tuple(self.samples()),
            fills=tuple(fill for template, canvas in canvases for fill in self.fills(template, canvas)),
            timings=tuple(self.timings()),
            curves={names[i]: training_curve(models[i]) for i in (0, 1)},
            cards=tuple(card(models[i], names[i]) for i in (0, 1)),
            provenance={},
        )

    def advance(self, work: int) -> None:
        """So much more is done."""
        self.done = min(self.total, self.done + work)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def counted(self, work_per_row: int) -> Progress:
        """A progress of rows, as work."""
        seen = 0

        def tell(done: int, total: int) -> None:
            nonlocal seen
            self.advance((done - seen) * work_per_row)
            seen = done

        return tell

    def likelihoods(self, unigram: Tensor | None) -> tuple[Bound, Bound]:
        """The bound of the one, the exact value of the other, on the same rows."""
        rows, models = self.rows, self.models
        self.say(f"how probable {self.names[0]} finds {len(rows)} rows of {rows.shape[1]} tokens")
        bound = nelbo(
            models[0], rows, times_per_row=self.size.times, seed=self.seed, unigram=unigram,
            progress=self.counted(self.size.times + 1),
        )  # fmt: skip
        self.say(f"how probable {self.names[1]} finds them")
        return bound, exact_nll(models[1], rows, progress=self.counted(1))

    def samples(self) -> list[Written]:
        """Texts from nothing: by number of steps, then from left to right, plain and with top-p."""
        texts: list[Written] = []
        for steps in self.size.steps:
            self.say(f"{self.names[0]} writes {self.size.batch} texts in {steps} steps")
            texts += self._write(0, steps=steps)
            self.advance(self.size.batch * steps)
        for top_p in (1.0, TOP_P):
            how = f" with top-p {top_p:g}" if top_p < 1 else ""
            self.say(f"{self.names[1]} writes {self.size.batch} texts{how}")
            texts += self._write(1, top_p=top_p)
            self.advance(self.size.batch * self.length // 8)
        return texts

    def _write(self, which: int, *, steps: int | None = None, top_p: float = 1.0) -> list[Written]:
        options = {} if steps is None else {"steps": steps}
        made = sample(
            self.models[which], Canvas.blank(self.length, self.size.batch), top_p=top_p, seed=self.seed, **options
        )
        return [
            Written(
                model=self.names[which], text=self.tokenizer.decode(row, keep_special=True), seconds=made.seconds,
                nfe=made.nfe, batch=self.size.batch, seed=made.seed, steps=steps, rule=made.rule, reads=made.reads,
                top_p=top_p,
            )
            for row in made.tokens.cpu()
        ]  # fmt: skip

    def timings(self) -> list[Timed]:
        """Seconds for one sequence of both, alone."""
        blank, brief = Canvas.blank(self.length), Canvas.blank(min(8, self.length))
        first = sample(self.models[0], brief, steps=2, seed=self.seed)
        how = words.how_sampled(first.rule, first.reads)
        self.say(f"timing {self.names[1]}")
        timed = [self._time(1, "from left to right with a key-value cache", blank, {}, brief, {})]
        self.advance(self.size.repeats * self.length // 8)
        for steps in self.size.steps:
            self.say(f"timing {self.names[0]} with {steps} steps")
            timed.append(self._time(0, how, blank, {"steps": steps}, blank, {"steps": 2}))
            self.advance(self.size.repeats * steps)
        return timed

    def _time(
        self, which: int, how: str, canvas: Canvas, options: dict[str, Any], warm: Canvas, warm_options: dict[str, Any]
    ) -> Timed:
        model, steps = self.models[which], options.get("steps")
        timing = time_calls(
            lambda: sample(model, canvas, seed=self.seed, **options),
            warm_up=lambda: sample(model, warm, seed=self.seed, **warm_options),
            repeats=self.size.repeats,
            device=model.device,
        )
        protocol = (
            f"wall-clock time of one sequence of {self.length} tokens, batch 1, {how}; mean and standard error over "
            "repeats, after a warm-up"
        )
        name = "seconds_per_sequence" + ("" if steps is None else f"_{steps}_steps")
        return Timed(timing.row(self.names[which], protocol=protocol, name=name, seed=self.seed), steps)

    def fills(self, template: str, canvas: Canvas) -> list[Fill]:
        """Fillings of one template, a canvas row each."""
        self.say(f"{self.names[0]} fills the gaps of {template!r}")
        size, frozen = self.size, canvas.frozen[0]
        made = sample(self.models[0], canvas, steps=size.fill_steps, seed=self.seed)
        return [
            Fill(
                model=self.names[0], template=template, spans=spans(row, frozen, self.tokenizer),
                steps=size.fill_steps, nfe=made.nfe, seed=made.seed, rule=made.rule, reads=made.reads,
            )
            for row in made.tokens.cpu()
        ]  # fmt: skip


def _spread(heldout_rows: Any, count: int) -> Any:
    """At most `count` rows, spread evenly."""
    rows = heldout_rows if isinstance(heldout_rows, Tensor) else np.asarray(heldout_rows)
    if rows.ndim != 2 or not len(rows):
        raise ConfigError(f"held-out rows must be [N, L] with N >= 1, got {list(rows.shape)}")
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def _kinds(diffusion: LanguageModel, autoregressive: LanguageModel) -> tuple[DiffusionLM, AutoregressiveLM]:
    """Both models, each of the kind that its place asks for."""
    if isinstance(diffusion, DiffusionLM) and isinstance(autoregressive, AutoregressiveLM):
        return diffusion, autoregressive
    raise ConfigError(
        f"a report compares a diffusion and an autoregressive model, got {diffusion.kind} and {autoregressive.kind}",
        "give a diffusion model, then an autoregressive one",
    )


def _shared_tokenizer(diffusion: LanguageModel, autoregressive: LanguageModel) -> Tokenizer:
    """The tokenizer of both: nats per token can only be compared where tokens are the same."""
    ours, theirs = diffusion.tokenizer, autoregressive.tokenizer
    if ours is None or theirs is None:
        raise ConfigError("a report needs models with a tokenizer", "give the model one before saving it")
    sizes = ours.vocab_size, theirs.vocab_size
    probe = "The people of the United States, in 1790."
    if sizes[0] != sizes[1] or ours.encode(probe) != theirs.encode(probe):
        raise ConfigError(
            f"the two models have different tokenizers, of {sizes[0]} and {sizes[1]} tokens",
            "nats per token cannot be compared then: take two models that were trained with the same one",
        )
    return ours


def _canvases(
    templates: Sequence[str], tokenizer: Tokenizer, length: int, batch: int
) -> tuple[list[tuple[str, Canvas]], list[str]]:
    """The templates that fit into the context, with their canvases, and a line for each that does not."""
    found = [(template, Canvas.parse(template, tokenizer, batch=batch)) for template in templates]
    omitted = [
        f"The template “{template}”: it has {canvas.length} tokens, the context holds {length}."
        for template, canvas in found
        if canvas.length > length
    ]
    kept = [(template, canvas) for template, canvas in found if canvas.length <= length]
    shortest = Canvas.parse(SHORTEST, tokenizer, batch=batch)
    if not kept and shortest.length <= length:
        kept = [(SHORTEST, shortest)]
    return kept, omitted


def spans(row: Tensor, frozen: Tensor, tokenizer: Tokenizer) -> tuple[Span, ...]:
    """Runs of given and of written tokens of a row [L], as text. frozen [L]: True where a token was given."""
    values, counts = torch.unique_consecutive(frozen.cpu(), return_counts=True)
    texts = [tokenizer.decode(part, keep_special=True) for part in row.split(counts.tolist())]
    return tuple(Span(text, not given) for text, given in zip(texts, values.tolist(), strict=True))
