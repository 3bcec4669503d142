"""Verbs that run networks, in a process that is theirs.

Sharp attention makes weights below 1e-38, which float32 holds as denormal numbers. A processor takes a hundred cycles
or more for each: training on two cores fell to a third of its speed within seconds (LOG.md). In a process of our own
they count as zero. The mode belongs to a thread, and the threads of PyTorch's pool take it from the one that makes
them, so that it is set before anything is computed. From Python it is the caller's choice:
`torch.set_flush_denormal(True)`, first thing.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec

Given = ParamSpec("Given")
_ours: list[bool] = []


def this_process_is_ours() -> None:
    """No code of others runs here: said by the entry point, and by nobody else."""
    _ours.append(True)


def computing(verb: Callable[Given, None]) -> Callable[Given, None]:
    """The verb, which counts denormal numbers as zero where the process is ours."""

    @functools.wraps(verb)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        if _ours:
            import torch

            torch.set_flush_denormal(True)
        verb(*args, **kwargs)

    return run
