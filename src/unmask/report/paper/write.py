"""The report of the paper on disk. Other files of its folder, such as results and samples, are left alone."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from unmask.errors import ConfigError
from unmask.report.html import GENERATOR
from unmask.report.paper import figures, layout
from unmask.report.paper.content import KIND, PaperReport
from unmask.report.paper.markdown import markdown
from unmask.report.paper.page import page

PAGE, DATA, WORDS, FOLDER = "index.html", "report.json", "report.md", "figures"


def write_paper(report: PaperReport, out: Path) -> Path:
    """Write or replace index.html, report.json, report.md and figures/ in `out`; returns the page.

    Everything is made before anything is written, and each file appears whole, the page last: a failure leaves the
    older report. Raises ConfigError where `out` holds files of these names that are not a report of the paper, and
    where matplotlib, which draws the figures, is not installed.
    """
    check_paper_target(out)
    files = contents(report)
    out.mkdir(parents=True, exist_ok=True)
    _replace(out, files)
    for path in (out / FOLDER).glob("*.*") if (out / FOLDER).is_dir() else ():
        known = path.stem in figures.FIGURES and path.suffix in (".svg", ".png")
        if known and f"{FOLDER}/{path.name}" not in files:
            path.unlink()
    return out / PAGE


def contents(report: PaperReport) -> dict[str, bytes]:
    """The files of a report by their names within its folder, the page last."""
    files: dict[str, bytes] = {}
    for section in layout.sections(report):
        for name in section.figures:
            made = figures.figure(report, name)
            if made is not None:
                files[f"{FOLDER}/{layout.slug(name)}.svg"] = made.picture.svg.encode()
                files[f"{FOLDER}/{layout.slug(name)}.png"] = made.picture.png
    text = json.dumps(report.as_json(), indent=1, ensure_ascii=False, allow_nan=False, default=str)
    files[DATA] = f"{text}\n".encode()
    files[WORDS] = markdown(report).encode()
    files[PAGE] = page(report).encode()
    return files


def check_paper_target(out: Path) -> None:
    """Raises ConfigError where writing a report to `out` would replace something that is not one."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: a report is written as a folder", "choose another name")
    marks = ((PAGE, f'name="generator" content="{GENERATOR}'), (DATA, KIND))
    for name, mark in marks:
        path = out / name
        if path.exists() and mark not in path.read_text(encoding="utf-8", errors="replace"):
            raise ConfigError(f"{path} is not a report of the paper; it would be replaced", "choose another folder")


def _replace(out: Path, files: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then put each in its place."""
    temporary = {name: out / f"{name}.{os.getpid()}.new" for name in files}
    try:
        for name, content in files.items():
            path = temporary[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in temporary.items():
            os.replace(path, out / name)
    except BaseException:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (out / FOLDER).rmdir()
        raise
