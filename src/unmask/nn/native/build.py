"""A file of C++ as functions of this process, built by the machine's own compiler for its own processor.

Nothing built is kept: a library found in a cache would be code that somebody else may have put there, or built for
another processor, and building takes about three seconds.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from unmask.errors import ConfigError, UnmaskError

COMPILERS = ("g++", "c++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC")


@functools.cache
def build(source: Path) -> ctypes.CDLL:
    """The functions of a source file; built on the first call in a process.

    Raises ConfigError where there is no compiler, UnmaskError where it fails, with what it said.
    """
    asked = os.environ.get("CXX")
    compiler = next((path for name in ([asked] if asked else COMPILERS) if (path := shutil.which(name))), None)
    if compiler is None:
        raise ConfigError(
            f"compiling needs a C++ compiler, and there is none by the name of {asked or ', '.join(COMPILERS)}",
            "install one (Debian and Ubuntu: apt-get install g++), or leave compiling out",
        )
    with tempfile.TemporaryDirectory(prefix="unmask-") as work:  # what is loaded stays when the file is gone
        made, library = f"{work}/code.o", f"{work}/code.so"
        _run([compiler, *FLAGS, "-c", str(source), "-o", made])
        _run([compiler, "-shared", made, *_threads(), "-o", library])
        return ctypes.CDLL(library)


def _threads() -> list[str]:
    """torch's own OpenMP runtime: with another one beside it, two teams of threads would fight for the cores."""
    own = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    return [str(own[0])] if own else ["-fopenmp"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = "\n".join((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-5:])
        raise UnmaskError(f"{command[0]} could not build our kernel:\n{said}", "set CXX to another compiler")
