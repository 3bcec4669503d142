"""`unmask sample` where there are many: batch sizes, files, verifiers, several processes, profiles."""

import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.cli.show import say

if TYPE_CHECKING:
    from unmask.evaluation.many import Made
    from unmask.evaluation.processes import Ranks
    from unmask.model import LanguageModel
    from unmask.sampling import Canvas

DEFAULT_STEPS = 64
OWN = ("steps", "rule", "draws", "temperature", "top_p", "top_k", "min_p")  # what SampleSettings has a field for


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The options of `unmask sample` that are read here."""

    number: int
    out: Path | None
    batch_size: str | None
    verifier: str | None
    until: int | None
    timeout: float
    force: bool
    profile: bool
    as_json: bool

    @property
    def kept(self) -> bool:
        """Whether samples go through a file."""
        return self.out is not None or self.verifier is not None

    def ranks(self, device: str | None) -> "Ranks":
        """This process among those launched; ConfigError where they have no file to share."""
        from unmask.errors import ConfigError
        from unmask.evaluation.processes import launched

        found = launched(cpu=None if device is None else device.startswith("cpu"))
        if self.until is not None and self.verifier is None:
            raise ConfigError("--until without --verifier", "a verifier says what is accepted; -n is how many are made")
        if found.count > 1 and self.out is None:
            raise ConfigError(f"{found.count} processes and no --out", "give them a file to write together")
        return found

    def batch(self, lm: "LanguageModel", canvas: "Canvas", options: dict[str, Any], most: int | None = None) -> int:
        """Samples at a time: as asked for, or tried; at most `most` (default: all of them)."""
        from unmask.sampling.batching import calibrate, free_memory

        most, asked = self.number if most is None else most, self.fixed()
        if self.batch_size != "auto":
            return min(16 if asked is None else asked, most)
        found = calibrate(lm, canvas, most=most, room=free_memory(lm.device), **options)
        say(found.words())
        return found.batch

    def fixed(self) -> int | None:
        """The batch as a number, None where there is none; ConfigError for anything but a number or auto."""
        from unmask.errors import ConfigError

        if self.batch_size in (None, "auto"):
            return None
        try:
            size = int(str(self.batch_size))
        except ValueError:
            size = 0
        if size < 1:
            raise ConfigError(f"--batch-size {self.batch_size}", "give a number of samples from 1 on, or auto")
        return size


class Pace:
    """Says on stderr how far it is, tokens a second and the time left: a line that moves, or a line at times."""

    def __init__(self, new_tokens: int, every: float = 30.0) -> None:
        self.new_tokens, self.terminal = new_tokens, sys.stderr.isatty()
        self.every, self.began, self.said = (0.2 if self.terminal else every), time.monotonic(), time.monotonic()
        self.start: float | None = None

    def __call__(self, done: float, total: int) -> None:
        """done of total samples are made. The first call says where this run took over."""
        now = time.monotonic()
        if self.start is None:
            self.start, self.began = done, now
        if now - self.said < self.every or done <= self.start:
            return
        self.said, speed = now, (done - self.start) / (now - self.began)
        left = duration((total - done) / speed)
        words = f"sample {int(done)} of {total}, {speed * self.new_tokens:,.0f} tokens/s, {left} left"
        print(
            f"\r{words:<78}" if self.terminal else words, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def end(self) -> None:
        """Leave the line."""
        if self.terminal and self.said > self.began:
            print(file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def write(
    lm: "LanguageModel",
    canvas: "Canvas",
    name: str,
    options: dict[str, Any],
    seed: int | None,
    arithmetic: dict[str, Any],
    wanted: Wanted,
    ranks: "Ranks",
    batch_made: Callable[[int], None],
) -> None:
    """Make the samples into the file (or one that vanishes, whose samples are printed) and say what it took.

    batch_made: told the size of each batch that this process made.
    """
    from unmask.evaluation.many import earlier_seed, write_many
    from unmask.evaluation.samples import SampleSettings, fingerprint
    from unmask.evaluation.verifier import Verifier
    from unmask.model import DiffusionLM
    from unmask.sampling import denoise

    counted = isinstance(lm, DiffusionLM) and lm.block_size is None and "rule" not in options
    values = {"steps": DEFAULT_STEPS} | options if counted else options
    if isinstance(lm, DiffusionLM):
        for notice in denoise(lm, canvas, seed=0, **options).notices if ranks.index == 0 else ():
            say(f"note: {notice}")
    extra: dict[str, Any] = arithmetic | {"given": canvas.tokens[canvas.frozen].tolist()}
    if others := {key: value for key, value in values.items() if key not in OWN}:
        extra["options"] = others
    settings = SampleSettings(
        name=Path(name).name, model=name, weights=fingerprint(lm), n=wanted.number, length=canvas.length, seed=seed,
        extra=extra, **{key: value for key, value in values.items() if key in OWN},
    )  # fmt: skip
    pace = Pace(int((~canvas.frozen).sum()))
    with contextlib.ExitStack() as stack:
        verifier: Verifier | None = None
        if wanted.verifier is not None:
            verifier = stack.enter_context(Verifier(wanted.verifier, timeout=wanted.timeout))
        folder = None if wanted.out is not None else stack.enter_context(tempfile.TemporaryDirectory())
        path = wanted.out or Path(str(folder)) / "samples.jsonl"
        if seed is None and (kept := earlier_seed(path)) is not None and not wanted.force and ranks.index == 0:
            say(f"seed {kept}, as {path} has it")
        made = write_many(
            path, lm, settings, canvas, batch=wanted.fixed(),
            choose_batch=lambda most: wanted.batch(lm, canvas, options, most),
            ranks=ranks, verifier=verifier, until=wanted.until, overwrite=wanted.force,
            told=pace if ranks.index == 0 else None, batch_made=batch_made,
        )  # fmt: skip
        pace.end()
        ranks.close()
        if made is not None:
            tell(made, wanted)


def tell(made: "Made", wanted: Wanted) -> None:
    """The samples where no file was asked for; then the totals: on stdout with --out, else on stderr."""
    facts = made.as_json() | {"verifier": wanted.verifier, "until": wanted.until}
    if wanted.verifier is not None:
        facts["accepted"] = made.samples
    words = f"{made.samples} samples"
    if wanted.verifier is not None:
        words = f"{made.samples} of {made.tried} samples accepted"
        if wanted.until is not None and made.samples < wanted.until:
            words += f", not {wanted.until}: raise -n"
    words += (
        f"; {facts['tokens_per_second']:,.0f} tokens/s, {duration(made.seconds)}, {facts['samples_per_second']:.3g} "
        f"{'accepted ' if wanted.verifier is not None else ''}samples a second, batches of {made.batch}"
    )
    if wanted.out is not None:
        print(json.dumps(facts) if wanted.as_json else f"{made.path}: {words}")
        return
    with made.path.open(encoding="utf-8") as lines:
        next(lines)
        for number, line in enumerate(lines):
            if wanted.as_json:
                print(line, end="")
            else:
                print(("---\n" if number else "") + json.loads(line)["text"])
    say(json.dumps(facts | {"path": None}) if wanted.as_json else words)


@contextlib.contextmanager
def profiling(lm: "LanguageModel", wanted: Wanted, *, new_tokens: int) -> Iterator[Callable[[int], None]]:
    """Yields what is told of samples that were made; with --profile a table follows on stderr (of each process)."""
    made = [0]

    def told(samples: int) -> None:
        made[0] += samples

    if not wanted.profile:
        yield told
        return
    from unmask.sampling.profile import profiled

    with profiled(lm) as found:
        yield told
    tokens = made[0] * new_tokens
    say(json.dumps(found.as_json(tokens)) if wanted.as_json else found.table(tokens))
