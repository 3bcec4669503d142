"""Run the benchmarks, keep their JSON in benchmarks/results, and write docs/results.md and its pictures from it.

python benchmarks/run.py [NAME ...]     all of NAMES, or the named ones
python benchmarks/run.py samplers       every rule's samples, judged: an hour, so that it is asked for by name
python benchmarks/run.py figure1_gpu engine_gpu    at the paper's size, on an accelerator
python benchmarks/run.py --draw         measure nothing: the page and the pictures from what is kept
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from machine import processor
from page import page
from plots import pictures, save
from sampler_page import sampler_picture, with_table

from unmask.evaluation.results import provenance

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
GUIDE = DOCS / "guides" / "choose-a-sampler.md"
ENGINE = ("engine", "ar_engine", "faster", "precision", "batch_invariance")
NAMES = ("startup", "sampling", "serving", "training_step", "figure1", *ENGINE)
ASKED = ("samplers",)
GPU = {"figure1_gpu": ("figure1.py", "--size", "xl"), "engine_gpu": ("engine.py", "--size", "xl")}


def run(name: str) -> dict:
    """Run one benchmark in a process of its own; its last line is one JSON object."""
    print(f"== {name}", file=sys.stderr, flush=True)
    script, *arguments = GPU.get(name, (f"{name}.py",))
    command = [sys.executable, HERE / script, *arguments]
    # A thread that sleeps between two products, as is best beside other work, wakes up late: here nothing else runs.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1]) | {"provenance": provenance(benchmark=name, cpu=processor())}


def main() -> None:
    names = sys.argv[1:] or list(NAMES)
    names = [] if names == ["--draw"] else names
    wrong = [name for name in names if name not in (*NAMES, *ASKED, *GPU)]
    if wrong:
        sys.exit(f"unknown benchmark {wrong[0]!r}; known: {', '.join((*NAMES, *ASKED, *GPU))}")
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        result = run(name)
        (RESULTS / f"{result.pop('file', name)}.json").write_text(json.dumps(result, indent=1) + "\n")
    kept = {path.stem: json.loads(path.read_text()) for name in NAMES for path in sorted(RESULTS.glob(f"{name}*.json"))}
    if (RESULTS / "samplers.json").exists():
        samplers = json.loads((RESULTS / "samplers.json").read_text())
        save(DOCS / "images", "samplers", sampler_picture(samplers))
        GUIDE.write_text(with_table(GUIDE.read_text(), samplers))
    drawn = pictures(kept, DOCS / "images")
    (DOCS / "results.md").write_text(page(list(kept.values()), drawn))
    print((DOCS / "results.md").read_text())


if __name__ == "__main__":
    main()
