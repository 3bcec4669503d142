"""What it costs to start: imports, --help, and the first sample of a fresh process."""

import json
import statistics
import subprocess
import sys
import time

PYTHON = sys.executable
DOOR = "import unmask; unmask.load, unmask.sample, unmask.denoise, unmask.Canvas, unmask.evaluate"


def once(*command: str) -> float:
    """Wall time of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def interleaved(commands: dict[str, tuple[str, ...]], repeats: int) -> dict[str, list[float]]:
    """Wall times of each command, one after the other in turns; a first turn warms up and does not count."""
    turns = [{name: once(*command) for name, command in commands.items()} for _ in range(repeats + 1)]
    return {name: [turn[name] for turn in turns[1:]] for name in commands}


def main() -> None:
    verb = (PYTHON, "-m", "unmask.cli.main")
    imports = interleaved({"torch": (PYTHON, "-c", "import torch"), "door": (PYTHON, "-c", DOOR)}, repeats=9)
    torch, ours = statistics.median(imports["torch"]), statistics.median(imports["door"])
    added = statistics.median(b - a for a, b in zip(imports["torch"], imports["door"], strict=True))
    help_ = statistics.median(interleaved({"help": (*verb, "--help")}, repeats=7)["help"])
    sample = statistics.median(interleaved({"sample": (*verb, "sample", "--seed", "1")}, repeats=3)["sample"])
    rows = [
        {"what": "`import torch`", "value": f"{torch:.2f} s"},
        {
            "what": "the door of `unmask`, all names",
            "value": f"{ours:.2f} s",
            "floor": f"{added:+.2f} s over torch, pairwise (goal 0.3)",
        },
        {"what": "`unmask --help`", "value": f"{help_:.2f} s", "floor": "goal 0.3 s"},
        {"what": "`unmask sample`, fresh process, 64 steps", "value": f"{sample:.2f} s", "floor": "goal 6 s"},
    ]
    print(
        json.dumps(
            {"import_torch_s": torch, "import_unmask_s": ours, "help_s": help_, "sample_s": sample, "table": rows}
        )
    )


if __name__ == "__main__":
    main()
