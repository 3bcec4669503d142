"""The tutorial, docs/guides/train.md, from nothing to a served model: its commands in order, with fewer minutes."""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from unmask.checkpoint import read_json
from unmask.training.state import read_metrics

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "train.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
SMALLER = {  # what makes the same commands cheap
    r"--minutes [\d.]+": "--minutes 0.02 --set batch_size=2 --set heldout_rows=2",
    r"--rows \d+": "--rows 2 --times 2",
    r"--steps 32": "--steps 4",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def environment(folder: Path) -> dict[str, str]:
    """`unmask` and `python` mean this interpreter's."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, words in (("unmask", f"{sys.executable} -m unmask.cli.main"), ("python", sys.executable)):
        (tools / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return os.environ | {"HF_HUB_OFFLINE": "1", "PATH": path, "UNMASK_CACHE": str(folder / "cache")}


def run(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-euc", block], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600
    )


def served(line: str, folder: Path) -> int:
    """Start the server, wait until it answers, stop it; the status of its health page."""
    words = [*shlex.split(line), "--port", "8321"]
    server = subprocess.Popen(words, cwd=folder, env=environment(folder), executable=str(folder / "bin" / "unmask"))
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen("http://127.0.0.1:8321/healthz", timeout=1) as answer:
                    return int(answer.status)
            except (urllib.error.URLError, TimeoutError):
                assert server.poll() is None, "the server ended by itself"
                time.sleep(0.2)
        return 0
    finally:
        server.terminate()
        server.wait(60)


def test_the_tutorial_from_nothing_to_a_model(tmp_path: Path):
    there = "serve" in run("unmask --help", tmp_path).stdout
    trained, made = 0, ""
    for block in BLOCKS:
        if block.startswith("unmask serve"):
            assert not there or served(block.strip(), tmp_path) == 200
            continue
        for pattern, words in SMALLER.items():
            block = re.sub(pattern, words, block)
        done = run(block, tmp_path)
        assert done.returncode == 0, (block, done.stderr)
        trained, made = trained + block.count("unmask train"), made + done.stdout
    assert trained >= 5 and "perplexity" in made and "Return the" in made
    assert len(list((tmp_path / "my_texts").glob("*.txt"))) > 100
    for name in ("mine", "wide", "tuned", "adapted", "blocks"):
        folder = tmp_path / "runs" / name
        config, last = read_json(folder / "config.json"), read_metrics(folder / "metrics.jsonl")[-1]
        assert last["heldout_nats"] > 0 and read_metrics(folder / "samples.jsonl"), name
        assert config["init"] == ("sedd-twin" if name in ("tuned", "adapted") else None)


def test_the_tutorial_promises_less_than_a_quarter_of_an_hour():
    given = [float(number) for block in BLOCKS for number in re.findall(r"--minutes ([\d.]+)", block)]
    assert len(given) >= 4 and sum(given) < 11
