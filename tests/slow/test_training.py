"""Training across processes, kills and minutes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from training.markov import Chain, learn
from unmask.checkpoint import read_tensors
from unmask.training import state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HERE = Path(__file__).parent


def environment(folder: Path) -> dict[str, str]:
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "UNMASK_CACHE": str(folder / "cache"),
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def launch(folder: Path, ranks: int, out: Path, kind: str, *, micro: int = 0, die_at: int = 0) -> int:
    """ranks.py in that many processes over gloo; the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks)]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    words = [HERE / "ranks.py", out, kind, micro, die_at]
    done = subprocess.run(
        [*command, *map(str, words)], env=environment(folder), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 or die_at, done.stderr[-3000:]
    return done.returncode


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in state.read_metrics(out / "metrics.jsonl")]


def seen(out: Path) -> dict[str, torch.Tensor]:
    return {k: v for path in sorted(out.glob("seen-*")) for k, v in read_tensors(path).items()}


def newest(out: Path) -> dict[str, torch.Tensor]:
    return read_tensors(state.checkpoints(out)[-1] / "state.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.mark.parametrize(("kind", "micro"), [("sedd", 0), ("uniform", 3), ("ar", 0)])
def test_two_ranks_see_the_same_noise_and_the_same_loss_as_one(folder, kind, micro):
    one, two = folder / f"{kind}-1", folder / f"{kind}-2"
    launch(folder, 1, one, kind)
    launch(folder, 2, two, kind, micro=micro)
    a, b = losses(one), losses(two)
    assert len(a) == 20 and b == pytest.approx(a, rel=1e-5)
    assert len(set(a)) == 20  # and it is not one number twenty times
    assert len(list(two.glob("seen-*"))) == 2
    if kind != "ar":
        alone, together = seen(one), seen(two)
        assert len(alone) == 20 * 8 * 2 and alone.keys() == together.keys()
        assert all(torch.equal(alone[k], together[k]) for k in alone)


def test_two_ranks_that_are_killed_resume_to_the_bit(folder):
    whole, killed = folder / "ranks-whole", folder / "ranks-killed"
    launch(folder, 2, whole, "sedd")
    assert launch(folder, 2, killed, "sedd", die_at=15) != 0
    assert [path.name for path in state.checkpoints(killed)] == ["step-00000006", "step-00000012"]
    launch(folder, 2, killed, "sedd")
    a, b = newest(whole), newest(killed)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert losses(whole) == losses(killed)
    assert (whole / "model" / "model.safetensors").read_bytes() == (killed / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("precision", "offset"), [("float32", 0), ("bfloat16", 1)])
def test_a_run_killed_anywhere_it_touches_the_disk_resumes_to_the_bit(tmp_path, precision, offset):
    words = [sys.executable, HERE / "killing.py", tmp_path, precision, offset, 2]
    done = subprocess.run([*map(str, words)], env=environment(tmp_path), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["places"] > 100 and len(found["tried"]) > 50
    assert {"os.rename", "open"} <= {name.split()[0] for name in found["tried"]}


def train(folder: Path, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unmask.cli.main", "train", *map(str, words)]
    return subprocess.Popen(command, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_command_killed_at_any_time_resumes_to_the_bit(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the people of the united states are free and strong. " * 400)
    given = [
        "--data",
        text,
        "--set",
        "tokenizer=bpe:280",
        "--set",
        "width=32",
        "--set",
        "depth=2",
        "--set",
        "length=32",
    ]
    for change in ("steps=120", "save_every=15", "log_every=5", "eval_every=50", "heldout_rows=4", "dropout=0.1"):
        given += ["--set", change]
    assert train(tmp_path, *given, "--out", tmp_path / "whole").wait(200) == 0
    out, kills = tmp_path / "killed", 0
    process = train(tmp_path, *given, "--out", out)
    for lines, delay in ((2, 0.03), (9, 0.0), (17, 0.11)):
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            path = out / "metrics.jsonl"
            if path.exists() and len(path.read_text().splitlines()) >= lines:
                break
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process = train(tmp_path, "--resume", out)
    assert process.wait(200) == 0 and kills >= 2
    a, b = newest(tmp_path / "whole"), newest(out)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for name in ("model.safetensors", "unigram.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "whole" / "model" / name).read_bytes() == (out / "model" / name).read_bytes()
    lines_of = [state.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path / "whole", out)]
    plain = [[{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines] for lines in lines_of]
    assert plain[0] == plain[1] and len(plain[0]) > 24


def test_the_command_in_two_processes_prepares_once_and_trains_as_in_one(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the people of the united states are free and strong. " * 400)
    given = [
        "--data",
        text,
        "--set",
        "tokenizer=bpe:280",
        "--set",
        "width=32",
        "--set",
        "depth=1",
        "--set",
        "length=32",
    ]
    for change in ("steps=8", "log_every=1", "heldout_rows=4", "dropout=0.1", "precision=float32"):
        given += ["--set", change]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    launcher += ["--master_port", str(free_port()), "-m", "unmask.cli.main", "train"]
    two = [sys.executable, *launcher, *map(str, given), "--out", str(tmp_path / "two")]
    done = subprocess.run(two, env=environment(tmp_path), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("learning a vocabulary") == 1  # the other rank found it in the cache
    assert train(tmp_path, *given, "--out", tmp_path / "one").wait(200) == 0
    lines = [state.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for key in ("loss", "heldout_nats"):
        one, other = ([line[key] for line in some if key in line] for some in lines)
        assert len(one) > 0 and other == pytest.approx(one, rel=1e-5)


def test_two_processes_choose_the_same_sizes_by_time_and_stop_together(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"the people of state {i} are free and strong." for i in range(2000)))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    launcher += ["--master_port", str(free_port()), "-m", "unmask.cli.main", "train", "--data", str(text)]
    words = [*launcher, "--minutes", "0.03", "--set", "patience=1", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, *words], env=environment(tmp_path), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("chosen for") == 1 and "2 processes of" in done.stderr
    last = state.read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["heldout_stderr"] > 0 and (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_sedd_model_learns_a_markov_chain_to_within_three_percent_of_its_entropy_rate(tmp_path):
    chain = Chain.make()
    before, after = learn(chain, tmp_path, steps=1200)
    assert before.nats_per_token > 1.5 * chain.entropy
    assert abs(after.nats_per_token - chain.entropy) <= 0.03 * chain.rate
    assert chain.rate <= 0.5 * torch.tensor(chain.size).log().item()
