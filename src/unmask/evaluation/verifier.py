"""Verifiers: a Python function or a command that says which samples are kept, asked in processes of their own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from unmask.errors import ConfigError, UnmaskError

WORKERS = 4  # at most
TIMEOUT = 60.0  # seconds a text
_START = 60.0  # seconds for a worker to import what it needs


def split(verifier: str) -> tuple[str, str] | None:
    """(module or file, function) of a verifier written so; None for a command."""
    where, colon, name = verifier.rpartition(":")
    module = all(part.isidentifier() for part in where.split("."))
    return (where, name) if colon and name.isidentifier() and (module or where.endswith(".py")) else None


class Verifier:
    """Asks `module:function` or `file.py:function` (true: accept), or a command (text on stdin, exit code 0: accept).

    A context manager: leaving it ends its processes. timeout: seconds a text. Raises ConfigError at once where there
    is no such function or command.
    """

    def __init__(self, verifier: str, *, timeout: float = TIMEOUT, workers: int | None = None) -> None:
        if timeout <= 0:
            raise ConfigError(f"a verifier's timeout of {timeout} seconds", "give it more than none")
        self.name, self.timeout = verifier, timeout
        self.function, self.command = split(verifier), _words(verifier)
        self.workers = workers or max(1, min(WORKERS, os.cpu_count() or 1))
        self._pool: ThreadPoolExecutor | None = None
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._started: list[_Worker] = []
        if self.function is not None:
            self._idle.put(self._worker())  # says at once what is missing
        elif not self.command or shutil.which(self.command[0]) is None:
            raise ConfigError(
                f"the verifier {verifier!r} is no command that can be run",
                "give a command on the PATH, module:function or file.py:function",
            )

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._started:
            worker.stop()

    def __call__(self, texts: Sequence[str], first: int = 0) -> list[bool]:
        """Which texts are accepted. first: the number of the first one, for messages. UnmaskError where it fails."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers)
        ask = self._run if self.function is None else self._ask
        return list(self._pool.map(ask, texts, range(first, first + len(texts))))

    def _run(self, text: str, number: int) -> bool:
        try:
            done = subprocess.run(
                self.command, input=text.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                timeout=self.timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise self._slow(number) from None
        except OSError as error:
            raise UnmaskError(f"the verifier {self.name!r} cannot be run: {error}") from None
        if done.returncode < 0 or done.returncode in (126, 127):
            what = f"was ended by signal {-done.returncode}" if done.returncode < 0 else "could not be run"
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
            raise UnmaskError(
                f"the verifier {self.name!r} {what} at sample {number}: {last[0]}",
                "exit code 0 accepts, 1 to 125 reject; the samples so far are kept, so mend it and run again",
            )
        return done.returncode == 0

    def _ask(self, text: str, number: int) -> bool:
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = self._worker()
        try:
            answer = worker.ask(text, self.timeout)
        except TimeoutError:
            raise self._slow(number) from None
        self._idle.put(worker)
        if "accepted" in answer:
            return bool(answer["accepted"])
        raise UnmaskError(
            f"the verifier {self.name} failed at sample {number}: {answer['error']}",
            "the samples so far are kept: mend it and run again",
        )

    def _slow(self, number: int) -> UnmaskError:
        return UnmaskError(
            f"the verifier {self.name!r} took longer than {self.timeout:g} seconds at sample {number}",
            "the samples so far are kept: give it more time with --verifier-timeout, or make it faster",
        )

    def _worker(self) -> "_Worker":
        assert self.function is not None
        worker = _Worker(*self.function)
        self._started.append(worker)
        try:
            answer = worker.hear(_START)
        except TimeoutError:
            answer = {"error": f"it was not ready after {_START:g} seconds"}
        if "ready" not in answer:
            worker.stop()
            raise ConfigError(
                f"the verifier {self.name} cannot be used: {answer['error']}",
                "give module:function or file.py:function, a function of a text",
            )
        return worker


class _Worker:
    """One process that calls the function."""

    def __init__(self, where: str, name: str) -> None:
        script = Path(__file__).with_name("verify_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), where, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, text: str, timeout: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(text).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, which its silence says
        return self.hear(timeout)

    def hear(self, timeout: float) -> dict[str, Any]:
        """Its next line; TimeoutError where it takes longer and was killed for it."""
        assert self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(timeout, kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if late.is_set():
            raise TimeoutError
        if not line:
            return {"error": f"its process died (exit code {self.process.wait()})"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                pass


def _words(verifier: str) -> list[str]:
    try:
        return shlex.split(verifier)
    except ValueError as error:
        raise ConfigError(f"the verifier {verifier!r} cannot be read: {error}", "check its quotes") from None
