"""Small JavaScript modules into one script that a page can hold, and pages that may run it and nothing else.

The modules are plain ES modules that import only each other, one line an import, and export only declarations. Put one
after the other, without the words import and export, they are one script. Nothing is written to disk.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any

_IMPORT = re.compile(r"^import [^\n]*\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|class|function\*?)\s+(\w+))", re.MULTILINE)
_PLACE = re.compile(r"%%([A-Z]+)%%")


def exported(folder: Traversable, modules: Iterable[str]) -> list[str]:
    """What the modules export."""
    return [name for module in modules for name in _EXPORT.findall(_read(folder, module))]


def bundle(folder: Traversable, modules: Sequence[str], *, name: str | None = None, prelude: str = "") -> str:
    """The modules, in an order in which what is used stands first, as one script with a scope of its own.

    name: what the script calls the object that holds what the modules export. prelude: what comes before them, such as
    where they find what other scripts export.
    """
    body = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(folder, module))) for module in modules)
    body = f'"use strict";\n{prelude}\n{body}'
    if name is None:
        return f"(() => {{\n{body}}})();\n"
    return f"const {name} = (() => {{\n{body}return {{ {', '.join(exported(folder, modules))} }};\n}})();\n"


def _read(folder: Traversable, module: str) -> str:
    return folder.joinpath(f"{module}.js").read_text(encoding="utf-8")


def digest(text: str) -> str:
    """A source of a Content-Security-Policy: this very text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def fill(shell: str, parts: Mapping[str, str]) -> str:
    """The shell with its places, %%NAME%%, filled; what is put in is not read again, other places stay."""
    return _PLACE.sub(lambda found: parts.get(found[1], found[0]), shell)


def as_data(value: Any) -> str:
    """JSON that can stand in a script element, whatever it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
