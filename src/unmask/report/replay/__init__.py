"""A replay: a run that can be watched again, in one HTML file that asks for nothing else. `write` makes .html and .gif.

Its viewer, film.js to replay.js, is also the one of the page that `unmask serve` shows.
"""

import os
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from unmask.errors import ConfigError
from unmask.report import ramp
from unmask.report.html import Html, head, tag
from unmask.report.replay.scripts import as_data, bundle, digest, exported, fill
from unmask.sampling.recording import Recording

HERE = files("unmask.report.replay")
MODULES = ("dom", "film", "timeline", "stage", "player", "replay")
VIEWER = "unmaskViewer"  # the name under which a page finds what the modules export
SUFFIXES = (".html", ".gif")


@cache
def script() -> str:
    """The viewer's script."""
    return bundle(HERE, MODULES, name=VIEWER)


def prelude() -> str:
    """The line by which another script of the same page finds what the viewer exports."""
    return f"const {{ {', '.join(exported(HERE, MODULES))} }} = {VIEWER};"


@cache
def style() -> str:
    """The viewer's style, with the colours of both themes."""
    return ramp.css() + HERE.joinpath("viewer.css").read_text(encoding="utf-8")


def shell() -> str:
    """The frame of a replay, with the places TITLE, STYLE, SCRIPT and DATA to fill. It may run its own script only."""
    policy = f"default-src 'none'; style-src {digest(style())}; script-src {digest(script())}; img-src data:"
    top = head("%%TITLE%%", policy, tag("style", Html("%%STYLE%%")))
    return fill(HERE.joinpath("shell.html").read_text(encoding="utf-8"), {"HEAD": top})


def html(recordings: Sequence[Recording], title: str) -> str:
    """A replay of one run, or of two side by side on one clock.

    ConfigError for another number of them, and for one without frames.
    """
    if len(recordings) not in (1, 2) or not all(recording.frames for recording in recordings):
        raise ConfigError(f"a replay of {len(recordings)} recordings", "give one or two, each with its frames")
    data = as_data([recording.as_json() for recording in recordings])
    return fill(shell(), {"TITLE": escape(title), "STYLE": style(), "SCRIPT": script(), "DATA": data})


def check_target(path: Path) -> None:
    """ConfigError for a name that `write` has no format for, for a folder, and where there is no folder to write to."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'!r}", "a replay is a .html or a .gif")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", "give the name of a file in it")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.absolute().parent}", "make it first")
    if path.suffix.lower() == ".gif":
        from unmask.report.replay import gif

        gif.require()


def write(path: Path, recording: Recording, title: str) -> Path:
    """The replay as a file, whole or not at all; its suffix says the format. ConfigError as `check_target`."""
    check_target(path)
    if path.suffix.lower() == ".gif":
        from unmask.report.replay import gif

        content = gif.draw(recording)
    else:
        content = html([recording], title).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
