"""A report on disk: report.json and index.html, both or neither."""

from pathlib import Path

from unmask.checkpoint import whole_folder, write_json
from unmask.errors import ConfigError
from unmask.report.content import Report
from unmask.report.page import page

FILES = ("index.html", "report.json")


def check_target(out: Path) -> None:
    """Raises ConfigError where `out` is a file, or a folder that holds anything but an older report."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: a report is written as a folder", "choose another name")
    foreign = sorted(path.name for path in out.glob("*") if path.name not in FILES)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ConfigError(
            f"{out} holds {', '.join(foreign[:3])}{more}, which writing a report there would delete",
            "choose a new folder",
        )


def write(report: Report, out: Path) -> Path:
    """Write both files, replacing an older report in `out`; returns the page. Raises ConfigError as `check_target`."""
    check_target(out)
    html = page(report)
    with whole_folder(out) as temporary:
        write_json(temporary / "report.json", report.as_json())
        (temporary / "index.html").write_text(html, encoding="utf-8")
    return out / "index.html"
