"""The page that `unmask serve` shows at /: one HTML document that may run its own script and ask its own server only.

It is made of the modules beside this file and of the viewer of `unmask.report.replay`, so that the page, a replay that
it saves and one that the command line exports show a run with the same code.
"""

from functools import cache
from importlib.resources import files

from unmask.report import replay
from unmask.report.html import Html, head, tag
from unmask.report.replay.scripts import as_data, bundle, digest, fill

HERE = files("unmask.serve.page")
MODULES = ("wire", "gaps", "trial", "runs", "settings", "files", "blind", "main")


@cache
def parts() -> dict[str, str]:
    """What fills the places of index.html, and its styles."""
    style = HERE.joinpath("page.css").read_text(encoding="utf-8")
    script = bundle(HERE, MODULES, prelude=replay.prelude())
    return {
        "VIEWERSTYLE": replay.style(), "STYLE": style, "VIEWER": replay.script(), "SCRIPT": script,
        "SHELL": as_data(replay.shell()),
    }  # fmt: skip


@cache
def policy() -> str:
    """The Content-Security-Policy of the page, for its own meta element; as a header it may be sent too."""
    own = parts()
    scripts = " ".join(digest(own[name]) for name in ("VIEWER", "SCRIPT"))
    styles = " ".join(digest(own[name]) for name in ("VIEWERSTYLE", "STYLE"))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def page() -> str:
    """The whole document."""
    own = parts()
    styles = tag("style", Html(own["VIEWERSTYLE"]), id="viewer-style"), tag("style", Html(own["STYLE"]))
    top = head("unmask", policy(), *styles)
    return fill(HERE.joinpath("index.html").read_text(encoding="utf-8"), own | {"HEAD": top})
