"""The training loop: steps, accumulation, averages, evaluation, checkpoints. Many processes are Accelerate's work."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from unmask import checkpoint
from unmask.diffusion.times import wide
from unmask.errors import CheckpointError, ConfigError, TrainingError
from unmask.model import LanguageModel
from unmask.nn.ema import EMA
from unmask.nn.quantized import is_quantized
from unmask.text.loader import Loader
from unmask.training import state
from unmask.training.log import Board, Reporter
from unmask.training.objectives import Batch, Objective, objective
from unmask.training.optim import OptimSettings, optimizers, rate_factor, set_rate

if TYPE_CHECKING:
    from accelerate import Accelerator

Evaluate = Callable[[LanguageModel], dict[str, float]]
PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long, how, and how often to look.

    micro_batch: rows a rank reads at once (default: all of its share); gradients are accumulated over them.
    precision: "float32", or "bfloat16" for autocast, the weights staying float32. t_min: the earliest time of a
    diffusion model's loss. t_power: 1 draws its times uniformly, 2 draws more early ones and weighs them
    down. log_every, eval_every (0: never) and save_every: steps. keep: checkpoints.
    log_tensorboard: curves for TensorBoard in RUN/tensorboard as well.
    """

    steps: int
    optim: OptimSettings = OptimSettings()
    micro_batch: int | None = None
    precision: str = "bfloat16"
    seed: int = 0
    t_min: float = 1e-3
    t_power: float = 1.0
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 500
    keep: int = 2
    log_tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        counts = {name: getattr(self, name) for name in ("log_every", "save_every", "keep", "micro_batch")}
        if low := [f"{name}={value}" for name, value in counts.items() if value is not None and value < 1]:
            raise ConfigError(f"{', '.join(counts)} must be at least 1, got {', '.join(low)}")
        if self.eval_every < 0:
            raise ConfigError(f"eval_every must be at least 0 (never), got {self.eval_every}")
        if not 0 < self.t_min < 1:
            raise ConfigError(f"t_min must be in (0, 1), got {self.t_min}", "the paper's is 1e-3")
        if self.t_power < 1:
            raise ConfigError(f"t_power must be at least 1, got {self.t_power}", "1 draws times uniformly")


class Record(Protocol):
    """Takes the lines of metrics.jsonl, each with "step"."""

    def write(self, line: dict[str, Any]) -> None:
        """Take a line."""

    def flush(self) -> None:
        """Bring it to the disk."""

    def close(self) -> None:
        """No more lines come."""


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
    records: tuple[Record, ...] = ()  # of the main rank

    def write(self, line: dict[str, Any]) -> None:
        """A line for the step that is done."""
        with state.writing("the metrics", self.out):
            for record in self.records:
                record.write({"step": self.done} | line)


def train(
    model: LanguageModel,
    loader: Loader,
    settings: TrainSettings,
    out: Path,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Train `model` in place on the rows of `loader`; returns RUN/model. At the end both are the averaged weights.

    evaluate: called with the averaged weights in place every `eval_every` steps and after the last. config: what
    RUN/config.json is to hold, written when all is known to fit.

    Resuming continues from the newest whole checkpoint in `out`, to the bit on the same machine, threads and
    ranks. Raises TrainingError for a loss that is not a number or a full disk, CheckpointError for the checkpoint
    of another model, ConfigError for settings that do not go together.
    """
    if is_quantized(model.net):
        raise ConfigError("a quantized model cannot be trained", "load it again, and quantize it after training")
    ranks = accelerator()
    share, rest = divmod(loader.global_batch, ranks.num_processes)
    if rest:
        raise ConfigError(f"a batch of {loader.global_batch} rows does not split over {ranks.num_processes} ranks")
    if not resume and state.checkpoints(out):
        raise CheckpointError(f"{out} holds a run already", "resume it, or choose another folder")
    model.net.train().to(ranks.device)
    goal = objective(model, seed=settings.seed, t_min=settings.t_min, t_power=settings.t_power)
    run = _Run(
        accelerator=ranks,
        wrapped=ranks.prepare_model(goal),
        goal=goal,
        ema=EMA(model.net, settings.optim.ema),
        optims=optimizers(model.net, settings.optim),
        loader=loader,
        settings=settings,
        out=out,
    )
    if resume:
        _restore(run)
    try:
        if ranks.is_main_process:
            run.records = _open(run, config)
        with Reporter(start=run.done, steps=settings.steps, show=ranks.is_main_process) as reporter:
            _steps(run, share, reporter, evaluate)
    finally:
        for record in run.records:
            record.close()
    ranks.wait_for_everyone()
    run.ema.copy_to(model.net)
    model.net.eval()
    return out / "model"


def accelerator() -> "Accelerator":
    """Accelerate's view of this process and the others: on the machine's accelerator, or the CPU.

    Its own mixed precision stays off: it can be set only once a process, and autocast is all that is needed.
    """
    from accelerate import Accelerator

    return Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())


def _open(run: _Run, config: dict[str, Any] | None) -> tuple[Record, ...]:
    """The run's folder, its config and its records."""
    board = (Board(run.out / "tensorboard", after=run.done),) if run.settings.log_tensorboard else ()
    with state.writing("the run's config and metrics", run.out):
        run.out.mkdir(parents=True, exist_ok=True)
        if config is not None:
            checkpoint.write_json(run.out / "config.json", config)
        return state.Metrics(run.out / "metrics.jsonl", after=run.done), *board


def _steps(run: _Run, share: int, reporter: Reporter, evaluate: Evaluate | None) -> None:
    s = run.settings
    batch_tokens = run.loader.global_batch * run.loader.rows.shape[1]
    since: list[tuple[Tensor, Tensor]] = []  # of every step since the last line: this rank's loss, the norm
    clock = time.monotonic()
    while run.done < s.steps:
        since.append(_step(run, share))
        run.done += 1
        reporter.tick(run.done)
        last = run.done == s.steps
        saving = last or run.done % s.save_every == 0
        if saving or run.done % s.log_every == 0:
            mean, norm = _means(run, since)
            now = time.monotonic()
            speed = len(since) * batch_tokens / (now - clock)
            line = {"loss": mean, "lr": run.optims[0].param_groups[0]["lr"], "grad_norm": norm}
            run.write(line | {"tokens": run.done * batch_tokens, "tokens_per_second": round(speed, 1)})
            reporter.step(run.done, mean, speed)
            since, clock = [], now
        if evaluate is not None and s.eval_every and (last or run.done % s.eval_every == 0):
            _evaluate(run, evaluate, reporter)
            clock = time.monotonic()
        if saving:
            _save(run)
            clock = time.monotonic()


def _means(run: _Run, since: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """The mean loss of the last steps and the last gradient norm. Raises TrainingError naming the first bad step."""
    losses = run.accelerator.reduce(torch.stack([loss for loss, _ in since]), "sum").tolist()
    norms = torch.stack([norm for _, norm in since]).tolist()
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=run.done - len(since) + 1):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"the loss is {loss:.4g} and the gradient's norm {norm:.4g} at step {step}",
                "resume from the last checkpoint with a smaller lr, or with precision=float32",
            )
    return sum(losses) / len(losses), norms[-1]


def _step(run: _Run, share: int) -> tuple[Tensor, Tensor]:
    """One optimizer step. Returns this rank's part of the mean loss (nats per token) and the gradient's norm."""
    ranks, s = run.accelerator, run.settings
    whole = run.loader.batch(run.done)
    tokens = whole.rows.numel()
    first = ranks.process_index * share
    size = min(s.micro_batch or share, share)
    loss = wide(torch.zeros((), device=ranks.device))
    for start in range(0, share, size):
        count = min(size, share - start)
        batch = Batch.cut(whole, run.done, first + start, count, ranks.device)
        last = start + count >= share
        with contextlib.nullcontext() if last else ranks.no_sync(run.wrapped):
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
                part = run.wrapped(batch) / tokens
            ranks.backward(part * ranks.num_processes)  # data parallelism averages over ranks; the loss is a sum
        loss = loss + part.detach()
    norm = torch.nn.utils.clip_grad_norm_(run.goal.net.parameters(), s.optim.clip or math.inf)
    set_rate(run.optims, rate_factor(s.optim, run.done, s.steps))
    for optimizer in run.optims:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.ema.update(run.goal.net)
    return loss, norm


def _evaluate(run: _Run, evaluate: Evaluate, reporter: Reporter) -> None:
    """Measure the averaged weights on the main rank, in evaluation mode."""
    if run.accelerator.is_main_process:
        net = run.goal.net
        with run.ema.applied(net):
            net.eval()
            values = evaluate(run.goal.model)
            net.train()
        run.write(dict(values))
        reporter.say("  ".join([f"step {run.done}", *(f"{k} {v:.4f}" for k, v in values.items())]))
    run.accelerator.wait_for_everyone()


def _save(run: _Run) -> None:
    """Checkpoint, then the averaged weights as a model folder."""
    if run.accelerator.is_main_process:
        with state.writing("the metrics", run.out):
            for record in run.records:
                record.flush()
        tensors, numbers = state.pack_state(run.goal.net, run.ema, run.optims)
        state.save(run.out, run.done, tensors, numbers, keep=run.settings.keep)
        _save_model(run)
    run.accelerator.wait_for_everyone()


def _save_model(run: _Run) -> None:
    """The averaged weights as a model folder, whose card says how many steps they had."""
    model = run.goal.model
    model.card = model.card | {"step": run.done}
    with state.writing("the model", run.out), run.ema.applied(run.goal.net):
        checkpoint.save(model, run.out / "model")


def _restore(run: _Run) -> None:
    """Go back to the newest whole checkpoint of the run; a run that has none yet starts at its beginning.

    RUN/model is written anew: a kill may have fallen between the checkpoint and it, or while it was replaced.
    """
    main = run.accelerator.is_main_process
    if main:
        state.sweep(run.out)
    run.accelerator.wait_for_everyone()
    found = state.checkpoints(run.out)
    if not found:
        return
    tensors, numbers = state.load(found[-1])
    state.unpack_state(run.goal.net, run.ema, run.optims, tensors, numbers, found[-1])
    run.done = int(numbers["step"])
    if run.done > run.settings.steps:
        raise ConfigError(
            f"the run in {run.out} has done {run.done} steps already, more than steps={run.settings.steps}",
            f"set steps to {run.done} or more",
        )
    if main:
        state.prune(run.out, run.settings.keep)
        _save_model(run)
