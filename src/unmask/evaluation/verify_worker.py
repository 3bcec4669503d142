"""The process that calls a verifier's function: texts in, verdicts out, a line of JSON each. Run by its path.

It imports nothing of ours, so that it starts at once. What the function prints goes to stderr.
"""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path


def find(where: str, name: str) -> Callable[[str], object]:
    """The function `name` of a file or of a module, which may lie in the working directory."""
    if where.endswith(".py"):
        sys.path.insert(0, str(Path(where).resolve().parent))
        spec = importlib.util.spec_from_file_location("verifier", where)
        if spec is None or spec.loader is None or not Path(where).is_file():
            raise FileNotFoundError(f"there is no file {where}")
        module = importlib.util.module_from_spec(spec)
        sys.modules["verifier"] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(where)
    found = getattr(module, name)
    if not callable(found):
        raise TypeError(f"{name} is not a function")
    function: Callable[[str], object] = found
    return function


def main(where: str, name: str) -> None:
    """Answer `{"ready": true}` or an error, then a verdict a text until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(words: dict[str, object]) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    try:
        function = find(where, name)
    except BaseException as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"ready": True})
    for line in sys.stdin:
        try:
            answer({"accepted": bool(function(json.loads(line)))})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file: its neighbours are not modules of the verifier's
    main(sys.argv[1], sys.argv[2])
