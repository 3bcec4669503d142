"""`--watch` and `--export`: a run of a diffusion model, shown on the terminal while it goes, and kept as a file.

The terminal is that of stderr, as for progress bars: what is drawn there is taken away again, and the text goes to
stdout as without `--watch`. Where stderr is no terminal, `--watch` is an error.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from unmask.model import DiffusionLM, LanguageModel
    from unmask.sampling import Canvas, Denoising, Sample
    from unmask.sampling.blocks import Blocks
    from unmask.sampling.recording import Moment, Recorder

MASKED = "░░"
IN_ALL, LONGEST = 6.0, 0.1  # seconds: a watched run is slowed down to about so long, by at most so much a frame
LAST = 0.7  # seconds for which the whole text stands before it is taken away

Watch = Annotated[bool, typer.Option("--watch", help="Show on the terminal how the text emerges (diffusion).")]
Export = Annotated[
    Path | None,
    typer.Option(help="Keep the run as a replay: a .html to watch again, or a .gif (diffusion).", show_default=False),
]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What was asked for. number: how many samples."""

    watch: bool
    export: Path | None
    number: int

    def __bool__(self) -> bool:
        return self.watch or self.export is not None

    @property
    def mine(self) -> str:
        """The option that was given."""
        return "--watch" if self.watch else "--export"

    def check(self, **others: Any) -> None:
        """ConfigError for what cannot be done, before a model is loaded. others: options that do not go with these."""
        from unmask.errors import ConfigError

        if not self:
            return
        for name, value in others.items():
            if value:
                raise ConfigError(
                    f"{self.mine} with --{name.replace('_', '-')}", "a run is watched one sample at a time"
                )
        if self.watch and not _terminal():
            raise ConfigError(
                "--watch draws on a terminal, and stderr is none", "leave it out, or keep the run: --export run.html"
            )
        if self.export is not None:
            from unmask.report import replay

            if self.number > 1:
                raise ConfigError(f"--export of {self.number} samples", "a replay is of one: leave out -n")
            replay.check_target(self.export)

    def check_model(self, lm: "LanguageModel", name: str) -> None:
        """ConfigError for an autoregressive model."""
        from unmask.errors import ConfigError
        from unmask.model import AutoregressiveLM

        if self and isinstance(lm, AutoregressiveLM):
            raise ConfigError(f"{name} is autoregressive: {self.mine} is for diffusion models", "leave it out")


def _terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def watched(
    lm: "DiffusionLM", canvas: "Canvas", name: str, options: dict[str, Any], seed: int, wanted: Wanted
) -> Iterator["Sample"]:
    """The samples one by one: those that come out unwatched. canvas: one row."""
    from unmask.report import replay
    from unmask.sampling import denoise
    from unmask.sampling.loop import outcome
    from unmask.sampling.recording import TOP, Recorder

    assert lm.tokenizer is not None
    for i in range(wanted.number):
        running = denoise(lm, canvas, seed=seed, first_sample=i, top=TOP, **options)
        recorder = Recorder(lm.tokenizer, running)
        if wanted.watch:
            _draw(recorder, expected(running, options.get("steps")))
        else:
            for _ in recorder:
                pass
        yield outcome(running, recorder.frames[-1].seconds)
        if wanted.export is not None:
            facts = {"model": name, "rule": running.rule.name, "seed": seed}
            facts |= {key: options[key] for key in ("steps", "temperature", "top_p", "top_k") if options.get(key)}
            path = replay.write(wanted.export, recorder.recording(facts), f"{name}, seed {seed}")
            print(f"replay: {path}", file=sys.stderr)


def expected(running: "Denoising | Blocks", steps: int | None) -> int:
    """About how many frames a run will have."""
    from unmask.sampling.named import STEPS

    return min(int((~running.run.canvas.frozen).sum()), STEPS) if steps is None else steps


def _draw(recorder: "Recorder", frames: int) -> None:
    pace = min(LONGEST, IN_ALL / max(frames, 1))
    with _live() as show:
        shown = time.monotonic()
        for moment in recorder:
            show(picture(recorder, moment))
            time.sleep(max(0.0, shown + pace - time.monotonic()))
            shown = time.monotonic()
        time.sleep(LAST)


@contextmanager
def _live() -> Iterator[Any]:
    """Yields what draws a text in place of the one before; in the end all of it is taken away."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        yield lambda text: live.update(text, refresh=True)


def picture(recorder: "Recorder", moment: "Moment") -> "Text":
    """The canvas after a frame, each token in the colour of when it settled, and a line about the frame."""
    from rich.style import Style
    from rich.text import Text

    from unmask.report.ramp import LIGHT, ramp, stop
    from unmask.text.tokenizers import EOS

    colors = [Style(color=LIGHT.ink, bgcolor=color) for color in ramp(LIGHT)]
    times = {frame.step: frame.t for frame in recorder.frames}
    text, ended, written = Text(), False, 0
    for token, piece in zip(recorder.tokens, recorder.texts, strict=True):
        written += token.committed_at is not None
        if piece is None:
            text.append(" ").append(MASKED, Style(dim=True))
            continue
        lead, body = piece[: len(piece) - len(piece.lstrip())], piece.lstrip()
        if body == EOS and not token.given:
            ended = True
            text.append(" [end of text]", Style(dim=True))
            continue
        style = Style()
        if not token.given:
            settled = token.committed_at
            style = Style(dim=True) if settled is None else colors[stop(1 - times[settled])]
            style += Style(bold=settled == moment.step, dim=ended or None)
        text.append(lead).append(body, style)
    open_ = sum(not token.given for token in recorder.tokens)
    text.append(f"\n\nstep {moment.step}, {written} of {open_} tokens, {moment.seconds:.1f} s   ", Style(dim=True))
    text.append("settled first ", Style(dim=True))
    for color in ramp(LIGHT):
        text.append(" ", Style(bgcolor=color))
    return text.append(" last", Style(dim=True))
