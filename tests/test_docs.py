"""The pictures of the documentation: all are shown somewhere, none is large."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_pictures_are_shown_and_small():
    kept = {path.name: path.stat().st_size for path in (DOCS / "images").glob("*")}
    shown = {
        name
        for page in DOCS.glob("**/*.md")
        for name in re.findall(r"!\[[^\]]+\]\([./]*images/([\w.-]+)\)", page.read_text(encoding="utf-8"))
    }
    stems = {name.partition(".")[0] for name in shown}  # a drawing may stand beside its picture, to be scaled
    assert shown <= set(kept) and {name.partition(".")[0] for name in kept} == stems and len(kept) >= 5
    assert all(size < 200_000 for size in kept.values()), kept
