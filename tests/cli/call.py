"""Call the command line in this process, as its entry point does, and keep what it printed."""

import contextlib
import dataclasses
import io
import json
import sys
from typing import Any
from unittest import mock

from unmask.cli.main import run


@dataclasses.dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, Any]]:
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def call(*arguments: object, stdin: bytes | None = b"") -> Done:
    """`unmask ARGUMENTS` with `stdin` piped in, None for a terminal: exit code, stdout, stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    piped = _Terminal(io.BytesIO()) if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
    with mock.patch.object(sys, "argv", ["unmask", *map(str, arguments)]), mock.patch.object(sys, "stdin", piped):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run()
            except SystemExit as stop:
                code = int(stop.code or 0) if not isinstance(stop.code, str) else 1
    return Done(code, out.getvalue(), err.getvalue())
