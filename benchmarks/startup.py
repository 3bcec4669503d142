"""What it costs to start: imports, --help, and the first sample of a fresh process."""

import json
import statistics
import subprocess
import sys
import time

PYTHON = sys.executable
DOOR = "import unmask; unmask.load, unmask.sample, unmask.denoise, unmask.Canvas, unmask.evaluate"


def seconds(*command: str, repeats: int) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    torch = seconds(PYTHON, "-c", "import torch", repeats=5)
    ours = seconds(PYTHON, "-c", DOOR, repeats=5)
    help_ = seconds(PYTHON, "-m", "unmask.cli.main", "--help", repeats=7)
    sample = seconds(PYTHON, "-m", "unmask.cli.main", "sample", "--seed", "1", repeats=3)
    rows = [
        {"what": "`import torch`", "value": f"{torch:.2f} s"},
        {
            "what": "the door of `unmask`, all names",
            "value": f"{ours:.2f} s",
            "floor": f"+ {ours - torch:.2f} s (goal 0.3)",
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
