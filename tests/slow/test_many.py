"""Many samples across kills and processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
HERE = Path(__file__).parent
EVEN = "def even(text):\n    return len(text) % 2 == 0\n"


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def words(model: Path, out: Path, *options: object, n: int = 24) -> list[str]:
    given = ["sample", "--model", model, "-n", n, "--seed", 5, "--out", out, "--json", *options]
    return [str(word) for word in given]


def run(model: Path, out: Path, *options: object, ranks: int = 1, n: int = 24, by: str = "torchrun") -> dict:
    """`unmask sample` in that many processes over gloo; what it says it made."""
    command = [sys.executable, "-m", "unmask.cli.main"]
    if ranks > 1:
        command = [*(launch(ranks) if by == "torchrun" else accelerate(ranks)), "-m", "unmask.cli.main"]
    done = subprocess.run(
        [*command, *words(model, out, *options, n=n)], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def launch(ranks: int) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks)]
    return [*command, "--master_addr", "127.0.0.1", "--master_port", str(free_port())]


def accelerate(ranks: int) -> list[str]:
    """As the README has it. `--cpu` in place of `--multi_gpu` would start one process, unless mpirun is there."""
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes"]
    return [*command, str(ranks), "--main_process_port", str(free_port())]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def killed(model: Path, out: Path, *options: object, after: int, part: str = "0-of-1", n: int = 24) -> int:
    """Start a run and kill -9 it once its part holds `after` batches; how many lines it left."""
    command = [sys.executable, "-m", "unmask.cli.main", *words(model, out, *options, n=n)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    left, until = out.with_name(f"{out.name}.{part}.part"), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if left.exists() and left.read_bytes().count(b'{"batch"') >= after:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    return left.read_bytes().count(b"\n")


@pytest.mark.parametrize("kind", ["sedd", "ar"])
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path, small_models, kind):
    options = ("--batch-size", 2) + (("--steps", 64) if kind == "sedd" else ())
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(small_models / kind, whole, *options, n=160)
    lines = [killed(small_models / kind, out, *options, after=after, n=160) for after in (3, 20)]
    assert lines[0] < lines[1] < 160 * 1.5 and not out.exists()
    found = run(small_models / kind, out, *options, n=160)
    assert out.read_bytes() == whole.read_bytes() and found["made"] == 160
    assert sorted(p.name for p in tmp_path.glob("killed*")) == ["killed.jsonl", "killed.jsonl.facts"]


@pytest.mark.parametrize("kind, by", [("sedd", "torchrun"), ("ar", "torchrun"), ("sedd", "accelerate launch")])
def test_two_processes_make_the_set_of_one(tmp_path, small_models, kind, by):
    options = ("--dtype", "float64") + (() if kind == "ar" else ("--steps", 8))
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    run(small_models / kind, one, *options, "--batch-size", 5)
    found = run(small_models / kind, two, *options, "--batch-size", 3, ranks=2, by=by)
    assert found["processes"] == 2 and found["made"] == 24
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("two*")) == ["two.jsonl", "two.jsonl.facts"]


def test_two_processes_stop_at_the_same_accepted_samples(tmp_path, small_models):
    (tmp_path / "verify.py").write_text(EVEN)
    options = ("--dtype", "float64", "--steps", 4, "--verifier", f"{tmp_path / 'verify.py'}:even", "--until", 7)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    alone = run(small_models / "sedd", one, *options, "--batch-size", 1, n=60)
    together = run(small_models / "sedd", two, *options, "--batch-size", "auto", ranks=2, n=60)
    assert one.read_bytes() == two.read_bytes() and alone["tried"] == together["tried"] < 60


def test_two_processes_that_are_killed_go_on(tmp_path, small_models):
    options = ("--dtype", "float64", "--steps", 8, "--batch-size", 2)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(small_models / "sedd", whole, *options)
    command = [*launch(2), str(HERE / "mortal.py"), "11", *words(small_models / "sedd", out, *options)]
    assert subprocess.run(command, env=environment(), capture_output=True, timeout=300).returncode != 0
    assert not out.exists() and len(list(tmp_path.glob("killed.jsonl.*.part"))) == 2
    command = [sys.executable, "-m", "unmask.cli.main", *words(small_models / "sedd", out, *options)]
    refused = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "begun by 2 processes" in refused.stderr
    run(small_models / "sedd", out, *options, ranks=2)
    assert out.read_bytes() == whole.read_bytes()
