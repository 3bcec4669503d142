"""`unmask fill`: a template, or a prefix and a suffix, on the command line; or a file of them."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.show import progress, say
from unmask.cli.watch import Wanted, watched

if TYPE_CHECKING:
    from unmask.evaluation.infill import Infill, Plan, Search
    from unmask.model import LanguageModel
    from unmask.sampling import template as templates

BATCH = 16  # samples at a time

Template = Annotated[
    str | None,
    typer.Argument(
        help="Text with gaps: [MASK] is one token, [MASK:12] twelve, [MASK:4-16] as many as fit; \\[MASK] is text.",
        show_default=False,
    ),
]
Prefix = Annotated[str | None, typer.Option(help="Text before the gap, in place of a template.")]
Suffix = Annotated[str | None, typer.Option(help="Text behind the gap.")]
Length = Annotated[
    str | None,
    typer.Option(
        help="With --prefix or --suffix: the gap's tokens, 8 or 4-16. With a template: write on, behind it, up to this "
        "many tokens in all."
    ),
]
Source = Annotated[
    Path | None,
    typer.Option(
        "--in",
        help="JSONL: template, or prefix, suffix and length, a line; other fields pass through. - reads stdin.",
    ),
]
Filled = Annotated[
    Path | None, typer.Option("--out", help="With --in: keep the lines here; go on with it after a kill.")
]
Force = Annotated[bool, typer.Option("--force", help="Write over an --out that is there.")]
LinesAtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="With --in: samples at a time, of lines as long as each other with fixed gaps. Default: 8.",
        show_default=False,
    ),
]
Prior = Annotated[str, typer.Option(help="Of a flexible gap's length: flat, or geometric:MEAN.")]
Candidates = Annotated[int, typer.Option(help="Combinations of lengths that are tried at most.")]
Repeats = Annotated[int, typer.Option(help="Times that a combination's bound is measured.")]


@dataclasses.dataclass(frozen=True)
class Asked:
    """Where templates come from, as they were given."""

    template: str | None
    prefix: str | None
    suffix: str | None
    length: str | None
    source: Path | None
    out: Path | None
    force: bool
    batch_size: int | None

    def check(self) -> None:
        """ConfigError unless there is one kind of template, with what belongs to it."""
        from unmask.errors import ConfigError

        sides = self.prefix is not None or self.suffix is not None
        kinds = [self.template is not None, sides, self.source is not None]
        if sum(kinds) != 1:
            raise ConfigError(
                "nothing to fill" if not any(kinds) else "several things to fill at once",
                "give a template, or --prefix and --suffix with --length, or --in FILE",
            )
        if sides and self.length is None:
            raise ConfigError("--prefix or --suffix without --length", "say how long the gap is: --length 8, or 4-16")
        if self.source is None and self.batch_size is not None:
            raise ConfigError("--batch-size without --in", "it is for a file of templates")
        if self.source is None and (self.out is not None or self.force):
            raise ConfigError(
                f"--{'force' if self.out is None else 'out'} without --in", "it is for a file of templates"
            )
        if self.source is not None and self.length is not None:
            raise ConfigError("--length with --in", "each line of the file says its own")

    def one(self, lm: "LanguageModel") -> "templates.Template":
        """The template on the command line. With --length it goes on behind its end, up to so many tokens."""
        from unmask.errors import ConfigError
        from unmask.sampling.template import Gap, Template

        if self.template is None:
            assert self.length is not None  # checked
            return Template.between(self.prefix or "", self.suffix or "", self.length)
        found = Template.parse(self.template)
        if self.length is None:
            return found
        if not found.fixed:
            raise ConfigError("--length with a gap of several lengths", "end the template with a gap of its own")
        assert lm.tokenizer is not None
        wanted, had = Gap.read(self.length), found.tokens(lm.tokenizer)
        if not wanted.fixed or wanted.least < had:
            raise ConfigError(
                f"the template has {had} tokens, more than --length {self.length}", "give a larger number"
            )
        if wanted.least == had:
            return found
        return found.extended(wanted.least + 1 - found.extended(1).tokens(lm.tokenizer))


def fill_gaps(
    lm: "LanguageModel", asked: Asked, by: dict[str, Any], search: "Search", options: dict[str, Any], seed: int | None,
    number: int, as_json: bool, seen: Wanted,
) -> None:  # fmt: skip
    """Fill and print, or write a file. by: the model's name, and in what numbers it computes."""
    if asked.source is not None:
        _file(lm, asked, by, search, options, seed, number, as_json)
        return
    from unmask.evaluation.infill import infills, plan
    from unmask.random import fold

    job, told = plan(lm, asked.one(lm), search), Told()
    seed = fold("seed", time.time_ns()) if seed is None else seed
    if seen:
        for each in _watched(lm, job, by["model"], options, seed, seen):
            _show(each, by, told, as_json)
        return
    for first in range(0, number, BATCH):
        size = min(BATCH, number - first)
        words = "filling" if len(job.lengths) == 1 else f"filling {len(job.lengths)} combinations of lengths"
        with progress(words) as update:
            made = infills(
                lm, job, size, search=search, seed=seed, first_sample=first, progress=update, **options
            )  # fmt: skip
        for each in made:
            _show(each, by, told, as_json)


def _watched(
    lm: "LanguageModel", job: "Plan", name: str, options: dict[str, Any], seed: int, seen: Wanted
) -> Iterator["Infill"]:
    """The samples one by one, drawn on the terminal or kept as a replay. ConfigError for gaps of several lengths."""
    from unmask.errors import ConfigError
    from unmask.evaluation.infill import from_sample
    from unmask.model import AutoregressiveLM
    from unmask.sampling import Canvas

    if len(job.lengths) > 1:
        raise ConfigError(
            f"{seen.mine} with gaps of {len(job.lengths)} combinations of lengths",
            "give each gap one length, such as those that a call without it chooses",
        )
    assert not isinstance(lm, AutoregressiveLM)  # of a plan
    canvas = Canvas.laid(job.given, job.lengths[0])
    for i, made in enumerate(watched(lm, canvas, name, options, seed, seen)):
        yield from_sample(lm, job, made, i, seed)


def _show(each: "Infill", by: dict[str, Any], told: "Told", as_json: bool) -> None:
    told(each.notices)
    if len(each.candidates) > 1:
        say(f"note: {_choice(each)}")
    if as_json:
        print(json.dumps({"text": each.text, "tokens": each.tokens} | by | each.as_json()))
    else:
        print(("---\n" if each.sample else "") + each.text)


class Told:
    """Says each notice once, on stderr."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, notices: Iterable[str]) -> None:
        """Those that were not said yet."""
        for notice in notices:
            if notice not in self.said:
                say(f"note: {notice}")
                self.said.add(notice)


def _choice(made: "Infill") -> str:
    """Which lengths were taken, and why."""
    chosen, tried = made.candidates[made.chosen], made.candidates
    tied = sum(each.tied for each in tried)
    lengths = ", ".join(map(str, chosen.lengths))
    among = f"; the shortest of {tied} within the standard error of the best" if tied > 1 else ""
    return (
        f"lengths {lengths} of {len(tried)} combinations: at most {chosen.bound:.3f} +- {chosen.stderr:.3f} nats per "
        f"token of the whole text{among}"
    )


def _stdin() -> bytes:
    """All that is piped in. ConfigError for a terminal, where nobody knows that they are waited for."""
    from unmask.errors import ConfigError

    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError("--in - with nothing piped in", "pipe templates in: unmask fill --in - < gaps.jsonl")
    return sys.stdin.buffer.read()


def _file(
    lm: "LanguageModel", asked: Asked, by: dict[str, Any], search: "Search", options: dict[str, Any], seed: int | None,
    number: int, as_json: bool,
) -> None:  # fmt: skip
    """Fill every line of --in: to --out, or to stdout as they are made."""
    from unmask.evaluation import infill_lines

    assert asked.source is not None
    seed = infill_lines.fresh_seed(asked.out) if seed is None else seed
    source = infill_lines.Piped(_stdin()) if str(asked.source) == "-" else asked.source
    batch = {} if asked.batch_size is None else {"batch_size": asked.batch_size}
    job = infill_lines.Job(source, by["model"], number, search, seed, options, by, **batch)
    if asked.out is None:
        infill_lines.checked(lm, job)
        told = Told()
        for lines in infill_lines.filled(lm, job):
            for line in lines:
                told(line["infill"]["notices"])
                print(json.dumps(line), flush=True)
        return
    with progress("templates") as update:
        made = infill_lines.write_filled(asked.out, lm, job, overwrite=asked.force, progress=update)
    for notice, count in made["notices"].items():
        say(f"note: {notice} ({count} of {made['lines']} lines)")
    words = f"{asked.out}: {made['lines']} lines of {made['templates']} templates, {made['seconds']:.1f} s"
    if made["resumed"]:
        words += f", {made['resumed']} were there"
    print(json.dumps(made) if as_json else words)
