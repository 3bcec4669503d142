"""What a verifier lets through, a second, by the number of steps: fewer steps make more samples, and worse ones.

python yield_by_steps.py [--steps 8 16 32 64] [--until 10] [--most 400] [--length 128] [--model sedd-twin]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def measure(model: str, steps: int, until: int, most: int, length: int) -> dict:
    """`unmask sample` with the verifier; its totals."""
    command = [sys.executable, "-m", "unmask.cli.main", "sample", "--model", model, "--steps", steps, "--seed", 1]
    command += [
        "-n",
        most,
        "--length",
        length,
        "--verifier",
        f"{HERE / 'verify.py'}:accept",
        "--until",
        until,
        "--json",
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stderr.splitlines()[-1])


def main() -> None:
    """Print a row of the table for each number of steps."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="sedd-twin")
    words.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32, 64])
    words.add_argument("--until", type=int, default=10)
    words.add_argument("--most", type=int, default=400)
    words.add_argument("--length", type=int, default=128)
    given = words.parse_args()
    print("| steps | tried | accepted | seconds | samples a second | accepted a second |\n|---|---|---|---|---|---|")
    for steps in given.steps:
        found = measure(given.model, steps, given.until, given.most, given.length)
        rate = found["made"] / found["seconds"]
        print(
            f"| {steps} | {found['tried']} | {found['accepted']} | {found['seconds']:.1f} | {rate:.2f} "
            f"| {found['samples_per_second']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
