"""Kill a training run at every place where it touches the disk, resume it, and see that nothing shows.

Run as a script, it loads the package once and forks a process for each life of a run. Arguments: a folder to work
in, the precision, and which of the places to try: OFFSET and STRIDE. The last line on stdout is JSON.
"""

import dataclasses
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # optimizers import it at first use: once here is enough

from unmask import checkpoint
from unmask.recipes.data import prepare
from unmask.recipes.run import DataSettings, ModelShape, Run
from unmask.recipes.train import resume, start
from unmask.training import state
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

WATCHED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree"}


def a_run(folder: Path, precision: str) -> Run:
    words = "the state of the union is strong and its people are free ".split()
    text = folder / "text.txt"
    if not text.exists():
        pick = random.Random(1)
        text.write_text(" ".join(pick.choice(words) for _ in range(800)))
    optim = OptimSettings(optimizer="muon", lr=1e-2, warmup=3, schedule="cooldown", ema=0.9)
    train = TrainSettings(steps=8, optim=optim, precision=precision, log_every=2, eval_every=4, save_every=3, keep=1)
    train = dataclasses.replace(train, patience=2)  # so that looks decide what is kept
    shape = ModelShape(width=16, depth=1, heads=2, length=16, cond_dim=8, dropout=0.1)
    return Run("killed", shape, DataSettings(str(text), "bpe:260", heldout_rows=2), train, 4, sample_tokens=4)


class Places:
    """Counts where this process touches the files of a run, and dies at one of the places."""

    def __init__(self, out: Path, die_at: int | None) -> None:
        self.out, self.die_at, self.names = str(out), die_at, []
        sys.addaudithook(self.hook)
        checkpoint.save_file = state.save_file = self.half(checkpoint.save_file)
        write = state.Metrics.write

        def torn(metrics: state.Metrics, line: dict) -> None:
            if self.at("half a line"):
                metrics._file.write(json.dumps(line).encode()[:9])
                self.die()
            write(metrics, line)
            if self.at("a line"):
                self.die()

        state.Metrics.write = torn

    def hook(self, event: str, arguments: tuple) -> None:
        if event in WATCHED and str(arguments[0]).startswith(self.out):
            if self.at(f"{event} {Path(str(arguments[0])).name.split('.')[0]}"):
                self.die()

    def half(self, save: Callable) -> Callable:
        def half_written(tensors: dict, path: Path, *rest: dict) -> None:
            save(tensors, path, *rest)
            if self.at("half a file"):
                os.truncate(path, path.stat().st_size // 2)
                self.die()

        return half_written

    def at(self, name: str) -> bool:
        self.names.append(name)
        return self.die_at == len(self.names) - 1

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def life(out: Path, run: Run, die_at: int | None = None) -> tuple[bool, list[str]]:
    """One process that starts or resumes the run. Whether it came to its end, and the places it passed."""
    passed = out.with_suffix(".places")
    child = os.fork()
    if child == 0:
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            places = Places(out, die_at)
            if (out / "config.json").exists():
                resume(out)
            else:
                start(run, out)
            passed.write_text(json.dumps(places.names))
            os._exit(0)
        except BaseException as error:
            out.with_suffix(".error").write_text(repr(error))
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"died at {die_at}: {out.with_suffix('.error').read_text()}")
    ended = not os.WIFSIGNALED(status)
    return ended, json.loads(passed.read_text()) if ended else []


def result(out: Path) -> dict[str, object]:
    """All that is to be equal: every byte but the speed."""
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    lines = state.read_metrics(out / "metrics.jsonl")
    found: dict[str, object] = {"files": files}
    found["metrics"] = [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]
    return found | {name: (out / name).read_bytes() for name in files if name != "metrics.jsonl"}


def main(folder: Path, precision: str, offset: int, stride: int) -> None:
    torch.set_num_threads(1)
    run = a_run(folder, precision)
    prepare(run.data, run.model.length)
    whole = folder / "whole"
    names = life(whole, run)[1]
    wanted, pick, wrong = result(whole), random.Random(offset), []
    tried = range(offset, len(names), stride)
    for place in tried:
        out = folder / f"killed-{place}"
        ended, _ = life(out, run, die_at=place)
        if ended:
            wrong.append(f"{names[place]}: it was not killed")
        life(out, run, die_at=pick.randrange(len(names)))  # and, mostly, again
        if not life(out, run)[0] or (found := result(out)) != wanted:
            bad = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
            wrong.append(f"{place} {names[place]}: {bad}")
    print(json.dumps({"places": len(names), "tried": [names[p] for p in tried], "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
