"""Run the benchmarks, keep their JSON in benchmarks/results, and write the table of docs/results.md from it.

python benchmarks/run.py [NAME ...]     all, or the named ones: startup, sampling, serving, training_step, figure1
python benchmarks/run.py figure1_gpu    figure 1 at the paper's size, on an accelerator
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

from unmask.evaluation.results import provenance

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TABLE = HERE.parent / "docs" / "results.md"
NAMES = ("startup", "sampling", "serving", "training_step", "figure1")
GPU = {"figure1_gpu": ("figure1.py", "--size", "xl")}


def run(name: str) -> dict:
    """Run one benchmark in a process of its own; its last line is one JSON object."""
    print(f"== {name}", file=sys.stderr, flush=True)
    script, *arguments = GPU.get(name, (f"{name}.py",))
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"provenance": provenance(benchmark=name, cpu=cpu())}


def cpu() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def table(results: list[dict]) -> str:
    """The Markdown page, from the kept JSON."""
    lines = [
        "# Measured\n",
        "Written by `make bench` from `benchmarks/results/*.json`; do not edit. Timings are medians of interleaved",
        "repeats in one process; a ratio is to the floor that its line names.\n",
        "| what | value | floor or goal | ratio | where |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        where = f"{result['provenance']['settings']['cpu']}, {result['provenance']['date'][:10]}"
        for row in result["table"]:
            lines.append(
                f"| {row['what']} | {row['value']} | {row.get('floor', '')} | {row.get('ratio', '')} | {where} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    names = sys.argv[1:] or list(NAMES)
    wrong = [name for name in names if name not in (*NAMES, *GPU)]
    if wrong:
        sys.exit(f"unknown benchmark {wrong[0]!r}; known: {', '.join((*NAMES, *GPU))}")
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        result = run(name)
        (RESULTS / f"{result.pop('file', name)}.json").write_text(json.dumps(result, indent=1) + "\n")
    kept = [json.loads(path.read_text()) for name in NAMES for path in sorted(RESULTS.glob(f"{name}*.json"))]
    TABLE.write_text(table(kept))
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
