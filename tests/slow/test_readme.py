"""The README's commands and its Python, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.startswith("unmask ")]

pytestmark = pytest.mark.slow


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line, comments=True)
    assert words[0] == "unmask"
    return subprocess.run(
        [sys.executable, "-m", "unmask.cli.main", *words[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


def test_there_are_commands_to_test():
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("line", [c for c in COMMANDS if "train" not in c and "runs/" not in c])
def test_command(line: str, tmp_path: Path):
    measured = line.startswith("unmask report")  # for an hour: test_paper_report measures, here the page is drawn
    done = shell(line.partition("#")[0] + (" --draw" if measured else ""), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_training_commands_in_their_order(tmp_path: Path):
    """As the README has them, but for the number of steps and the size."""
    texts = tmp_path / "my_texts"
    texts.mkdir()
    for i in range(30):
        (texts / f"{i}.txt").write_text(f"Text number {i} tells of the fox and the dog and of {i} things. " * 60)
    sizes = " --set depth=1 --set heads=2 --set length=32 --set warmup=2 --set tokenizer=bpe:300"
    for line in [c for c in COMMANDS if "runs/mine" in c]:
        short = re.sub(r"--steps \d+", "--steps 4" if "--out" in line else "--steps 6", line)
        done = shell(short + (sizes if "--out" in line else ""), tmp_path)
        assert done.returncode == 0, (line, done.stderr)


def test_python():
    (code,) = [block for kind, block in BLOCKS if kind == "python"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Fellow citizens of the Senate" in done.stdout
