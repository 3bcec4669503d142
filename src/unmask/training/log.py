"""What a person sees of a run: a progress bar on a terminal, a line now and then elsewhere, on stderr; TensorBoard."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask.errors import ConfigError


class Reporter:
    """Loss, tokens per second and time left. A context manager; silent where `show` is False (other ranks)."""

    def __init__(
        self,
        *,
        start: int,
        steps: int,
        show: bool = True,
        every_seconds: float = 30.0,
        console: Console | None = None,
    ) -> None:
        """start: steps done before; every_seconds: between lines where there is no terminal."""
        self.start, self.steps, self.show, self.every = start, steps, show, every_seconds
        self.console = console or Console(stderr=True)
        self.began = self.told = time.monotonic()
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> "Reporter":
        if self.show and self.console.is_terminal:
            self.progress = Progress(
                TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self.task = self.progress.add_task("", total=self.steps, completed=self.start)
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.progress is not None:
            self.progress.stop()

    def tick(self, done: int) -> None:
        """`done` steps are done: the bar moves, and nothing is measured."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done)

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        """`done` steps are done; `loss` in nats per token."""
        words = f"loss {loss:.4f} nats/token  {tokens_per_second:,.0f} tokens/s"
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, description=words)
            return
        now = time.monotonic()
        if self.show and (now - self.told >= self.every or done == self.steps):
            self.told = now
            left = (now - self.began) / max(1, done - self.start) * (self.steps - done)
            print(f"step {done}/{self.steps}  {words}  left {duration(left)}", file=sys.stderr, flush=True)

    def say(self, words: str) -> None:
        """A line of its own."""
        if self.progress is not None:
            self.progress.console.print(words, highlight=False, markup=False)
        elif self.show:
            print(words, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, with days before them where there are any: 3d 04:05:06."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hour:02d}:{minute:02d}:{second:02d}"


class Board:
    """The numbers of metrics.jsonl for TensorBoard. Raises ConfigError where TensorBoard is not installed."""

    def __init__(self, folder: Path, *, after: int) -> None:
        """after: what an earlier process wrote beyond that step is taken back."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "log_tensorboard is set, but TensorBoard is not installed", "pip install 'unmask[tensorboard]'"
            ) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=after + 1)

    def write(self, line: dict[str, Any]) -> None:
        """A point in each curve; the line's "step" is where."""
        for name, value in line.items():
            if name != "step":
                self._writer.add_scalar(name, value, line["step"])

    def flush(self) -> None:
        """Bring it to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
