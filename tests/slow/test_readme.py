"""The commands and the Python of the README and the guides, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands(page: Path) -> list[str]:
    """Lines to type, one command each; what a page shows as `text` is not run."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("unmask ")]


COMMANDS = commands(ROOT / "README.md")
ALL = sorted({line.partition("#")[0].rstrip() for page in PAGES for line in commands(page)})
SNIPPETS = [pytest.param(code, id=page.name) for page in PAGES for code in blocks(page, "python")]

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


@pytest.mark.parametrize("line", [c for c in ALL if "train" not in c and "runs/" not in c])
def test_command(line: str, tmp_path: Path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    measured = line.startswith("unmask report")  # for an hour: test_paper_report measures, here the page is drawn
    done = shell(line + (" --draw" if measured else ""), tmp_path)
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
        short = re.sub(r"--steps \d+", "--steps 6", line).replace("--minutes 10", "--minutes 0.02 --steps 4")
        done = shell(short + (sizes if "--out" in line else ""), tmp_path)
        assert done.returncode == 0, (line, done.stderr)


def test_commands_of_what_the_paper_asks_for(tmp_path: Path):
    lines = commands(ROOT / "docs" / "concepts" / "challenges.md")
    assert len(lines) >= 3
    for line in lines:
        done = shell(line, tmp_path)
        assert done.returncode == 0 and done.stdout.strip(), (line, done.stderr)


@pytest.mark.parametrize("code", SNIPPETS)
def test_python(code: str):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "citizens of the Senate" in done.stdout or "citizens of the Senate" not in code
