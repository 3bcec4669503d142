"""The training loop: steps, accumulation, averages, evaluation, checkpoints. Many processes are Accelerate's work."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unmask import checkpoint
from unmask.errors import CheckpointError, ConfigError, TrainingError
from unmask.model import LanguageModel
from unmask.nn.ema import EMA
from unmask.text.loader import Loader
from unmask.training import state
from unmask.training.log import Reporter
from unmask.training.objectives import Batch, Objective, objective
from unmask.training.optim import OptimSettings, optimizers, rate_factor, set_rate

if TYPE_CHECKING:
    from accelerate import Accelerator

Evaluate = Callable[[LanguageModel], dict[str, float]]
PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long, how, and how often to look. `micro_batch`: rows a rank reads at once (default: all of its share)."""

    steps: int
    optim: OptimSettings = OptimSettings()
    micro_batch: int | None = None
    precision: str = "bfloat16"
    seed: int = 0
    t_min: float = 1e-3
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if min(self.log_every, self.save_every, self.keep) < 1 or (self.micro_batch or 1) < 1:
            raise ConfigError("log_every, save_every, keep and micro_batch must be at least 1")


@dataclasses.dataclass
class _Run:
    """What the functions below share: everything that changes from step to step."""

    accelerator: "Accelerator"
    wrapped: torch.nn.Module
    goal: Objective
    ema: EMA
    optims: list[torch.optim.Optimizer]
    loader: Loader
    settings: TrainSettings
    out: Path
    done: int = 0


def train(
    model: LanguageModel,
    loader: Loader,
    settings: TrainSettings,
    out: Path,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train `model` in place on the rows of `loader`; returns RUN/model, the averaged weights.

    Resuming continues from the newest whole checkpoint in `out`, to the bit on the same machine, threads and
    ranks. Raises TrainingError for a loss that is not a number or a full disk, CheckpointError for the checkpoint
    of another model.
    """
    accelerator = _accelerator(settings)
    model.net.train().to(accelerator.device)
    goal = objective(model, seed=settings.seed, t_min=settings.t_min)
    run = _Run(
        accelerator=accelerator, wrapped=accelerator.prepare_model(goal), goal=goal,
        ema=EMA(model.net, settings.optim.ema), optims=optimizers(model.net, settings.optim),
        loader=loader, settings=settings, out=out,
    )  # fmt: skip
    share, rest = divmod(loader.global_batch, accelerator.num_processes)
    if rest:
        raise ConfigError(
            f"a batch of {loader.global_batch} rows does not split over {accelerator.num_processes} ranks"
        )
    if resume:
        _restore(run)
    elif state.checkpoints(out):
        raise CheckpointError(f"{out} holds a run already", "resume it, or choose another folder")
    main = accelerator.is_main_process
    metrics = state.Metrics(out / "metrics.jsonl", after=run.done) if main else None
    try:
        with Reporter(start=run.done, steps=settings.steps, show=main) as reporter:
            _steps(run, share, reporter, metrics, evaluate)
    finally:
        if metrics is not None:
            metrics.close()
    accelerator.wait_for_everyone()
    model.net.eval()
    return out / "model"


def _accelerator(settings: TrainSettings) -> "Accelerator":
    from accelerate import Accelerator

    bf16 = settings.precision == "bfloat16"
    return Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=not torch.accelerator.is_available())


def _steps(run: _Run, share: int, reporter: Reporter, metrics: state.Metrics | None, evaluate: Evaluate | None) -> None:
    s, length = run.settings, run.loader.rows.shape[1]
    total = torch.zeros((), dtype=torch.float64)
    counted, clock = 0, time.monotonic()
    while run.done < s.steps:
        loss, norm = _step(run, share)
        run.done += 1
        total, counted = total.to(loss.device) + loss, counted + 1
        last = run.done == s.steps
        saving = last or run.done % s.save_every == 0
        if saving or run.done % s.log_every == 0:
            mean = float(run.accelerator.reduce(total, "sum")) / counted
            if not math.isfinite(mean):
                raise TrainingError(
                    f"the loss is {mean} within the {counted} steps before step {run.done}",
                    "resume from the last checkpoint with a smaller lr, or with precision=float32",
                )
            now = time.monotonic()
            speed = counted * run.loader.global_batch * length / (now - clock)
            line = {
                "step": run.done, "loss": mean, "lr": run.optims[0].param_groups[0]["lr"], "grad_norm": float(norm),
                "tokens": run.done * run.loader.global_batch * length, "tokens_per_second": round(speed, 1),
            }  # fmt: skip
            if metrics is not None:
                metrics.write(line)
            reporter.step(run.done, mean, speed)
            total, counted, clock = torch.zeros((), dtype=torch.float64), 0, now
        if evaluate is not None and s.eval_every and (last or run.done % s.eval_every == 0):
            _evaluate(run, evaluate, reporter, metrics)
            clock = time.monotonic()
        if saving:
            _save(run)
            clock = time.monotonic()


def _step(run: _Run, share: int) -> tuple[Tensor, Tensor]:
    """One optimizer step. Returns this rank's part of the mean loss (nats per token, float64) and the norm."""
    accelerator, s = run.accelerator, run.settings
    whole = run.loader.batch(run.done)
    tokens = whole.rows.numel()
    world, first = accelerator.num_processes, accelerator.process_index * share
    size = min(s.micro_batch or share, share)
    loss = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for start in range(0, share, size):
        count = min(size, share - start)
        batch = Batch.cut(whole, run.done, first + start, count, accelerator.device)
        last = start + count >= share
        with contextlib.nullcontext() if last else accelerator.no_sync(run.wrapped):
            with accelerator.autocast():
                part = run.wrapped(batch) / tokens
            accelerator.backward(part * world)  # data parallelism averages over ranks; the loss is a sum
        loss += part.detach()
    parameters = list(run.goal.net.parameters())
    limit = s.optim.clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    set_rate(run.optims, rate_factor(s.optim, run.done, s.steps))
    for optimizer in run.optims:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.ema.update(run.goal.net)
    return loss, norm


def _evaluate(run: _Run, evaluate: Evaluate, reporter: Reporter, metrics: state.Metrics | None) -> None:
    """Measure the averaged weights on the main rank, in evaluation mode."""
    if run.accelerator.is_main_process:
        net = run.goal.net
        with run.ema.applied(net):
            net.eval()
            values = evaluate(run.goal.model)
            net.train()
        if metrics is not None:
            metrics.write({"step": run.done} | values)
        reporter.say("  ".join([f"step {run.done}", *(f"{k} {v:.4f}" for k, v in values.items())]))
    run.accelerator.wait_for_everyone()


def _save(run: _Run) -> None:
    """Checkpoint, then the averaged weights as a model folder."""
    if run.accelerator.is_main_process:
        net = run.goal.net
        tensors, numbers = state.pack_state(net, run.ema, run.optims)
        state.save(run.out, run.done, tensors, numbers, keep=run.settings.keep)
        with run.ema.applied(net):
            checkpoint.save(run.goal.model, run.out / "model")
    run.accelerator.wait_for_everyone()


def _restore(run: _Run) -> None:
    """Go back to the newest whole checkpoint of the run; a run that has none yet starts at its beginning."""
    if run.accelerator.is_main_process:
        state.sweep(run.out)
    run.accelerator.wait_for_everyone()
    found = state.checkpoints(run.out)
    if not found:
        return
    tensors, numbers = state.load(found[-1])
    state.unpack_state(run.goal.net, run.ema, run.optims, tensors, numbers, found[-1])
    run.done = int(numbers["step"])
