"""What a person sees of a run: a progress bar on a terminal, a line now and then elsewhere. All on stderr."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """Loss, tokens per second and time left. A context manager; silent where `show` is False (other ranks)."""

    def __init__(self, *, start: int, steps: int, show: bool = True, every_seconds: float = 30.0) -> None:
        self.start, self.steps, self.show, self.every = start, steps, show, every_seconds
        self.console = Console(stderr=True)
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

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        """`done` steps are done; `loss` in nats per token."""
        words = f"loss {loss:.4f} nats/token  {tokens_per_second:,.0f} tokens/s"
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, description=words)
            return
        now = time.monotonic()
        if self.show and (now - self.told >= self.every or done == self.steps):
            self.told = now
            pace = (now - self.began) / max(1, done - self.start)
            left = time.strftime("%H:%M:%S", time.gmtime(pace * (self.steps - done)))
            print(f"step {done}/{self.steps}  {words}  left {left}", file=sys.stderr, flush=True)

    def say(self, words: str) -> None:
        """A line of its own."""
        if self.progress is not None:
            self.progress.console.print(words, highlight=False)
        elif self.show:
            print(words, file=sys.stderr, flush=True)
