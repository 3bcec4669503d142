"""`unmask report` at the smallest scale, as a user calls it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TABLES = {f"table{n}" for n in range(1, 8)} | {"figure1"}


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "unmask.cli.main", *words], capture_output=True, text=True)


def test_the_smallest_scale_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "report"
    began = time.monotonic()
    done = call("report", "--scale", "smoke", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 120  # the goal is 60 s on two quiet cores
    assert done.stdout.strip() == str(out / "index.html")
    made = json.loads((out / "report.json").read_text())
    assert {entry["table"] for entry in made["entries"]} >= TABLES
    for entry in made["entries"]:
        assert entry["measured"] or entry["reason"]
    measured = [entry for entry in made["entries"] if entry["measured"]]
    assert len(measured) > 60 and len(made["claims"]) == 14
    assert {path.name for path in (out / "samples").glob("*.jsonl")} >= {"text.jsonl", "ar.jsonl", "sedd-4.jsonl"}

    written = {path: path.stat().st_mtime_ns for path in out.glob("rows/**/*.json")}
    again = call("report", "--scale", "smoke", "--out", str(out))
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("rows/**/*.json")} == written


def test_mistakes_have_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("words")
    for words, message in (
        (["--scale", "huge"], "unknown scale 'huge'"),
        (["--scale", "smoke", "--only", "tabel3", "--out", str(tmp_path / "a")], "did you mean 'table3'?"),
        (["--scale", "smoke", "--out", str(tmp_path)], "holds other files"),
        (["--scale", "paper", "--model", "gpt3=there"], "has no model gpt3"),
        (["--model", "there"], "--model 'there'"),
    ):
        done = call("report", *words)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
