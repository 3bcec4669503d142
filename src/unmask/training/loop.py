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
from unmask.devices import wide
from unmask.errors import CheckpointError, ConfigError, TrainingError
from unmask.model import LanguageModel
from unmask.nn.ema import EMA
from unmask.nn.quantized import is_quantized
from unmask.text.loader import Loader
from unmask.training import adapters, state
from unmask.training.log import Board, Reporter
from unmask.training.objectives import Batch, Objective, objective
from unmask.training.optim import optimizers, rate_factor, set_rate
from unmask.training.settings import TrainSettings
from unmask.training.watch import Heldout, Look, Watch

if TYPE_CHECKING:
    from accelerate import Accelerator

Evaluate = Callable[[LanguageModel], Heldout]
WriteSample = Callable[[LanguageModel], str]


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
    watch: Watch = dataclasses.field(default_factory=Watch)
    records: tuple[Record, ...] = ()  # of the main rank
    samples: Record | None = None

    @property
    def over(self) -> bool:
        """Whether all steps are done, or the held-out bound has risen for too long."""
        patience = self.settings.patience
        return self.done >= self.settings.steps or 0 < patience <= self.watch.worse

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
    write_sample: WriteSample | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Train `model` in place on the rows of `loader`; returns RUN/model. At the end both are the averaged weights.

    With `patience` they are those of the checkpoint whose held-out bound was lowest, else the last. evaluate: called
    with the averaged weights in place every `eval_every` steps and after the last; write_sample too, for a text that
    is shown and kept in RUN/samples.jsonl. config: what RUN/config.json is to hold, written when all is known to fit.

    Resuming continues from the newest whole checkpoint in `out`, to the bit on the same machine, threads and
    ranks. Raises TrainingError for a loss that is not a number or a full disk, CheckpointError for the checkpoint
    of another model, ConfigError for settings that do not go together.
    """
    if is_quantized(model.net):
        raise ConfigError("a quantized model cannot be trained", "load it again, and quantize it after training")
    if not resume and state.checkpoints(out):
        raise CheckpointError(f"{out} holds a run already", "resume it, or choose another folder")
    run = _begin(model, loader, settings, out)
    main = run.accelerator.is_main_process
    if resume:
        _restore(run)
    try:
        if main:
            run.records = _open(run, config)
            run.samples = _open_samples(run) if write_sample is not None else None
        with Reporter(start=run.done, steps=settings.steps, show=main) as reporter:
            _steps(run, reporter, evaluate, write_sample)
    finally:
        for record in (*run.records, *([] if run.samples is None else [run.samples])):
            record.close()
    run.accelerator.wait_for_everyone()
    _finish(run)
    return out / "model"


def seconds_per_step(model: LanguageModel, loader: Loader, settings: TrainSettings, *, count: int = 3) -> float:
    """What a step takes, the fastest of `count` after a first one; the slowest rank's. Trains the model by them.

    The fastest, since a moment of somebody else's work on the same cores makes a step ten times as long.
    """
    run, fastest = _begin(model, loader, settings, Path()), math.inf
    for number in range(count + 1):
        clock = time.monotonic()
        norm = float(_step(run, _share(run))[1])  # which waits for the device
        run.done += 1
        if number:
            fastest = min(fastest, time.monotonic() - clock)
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient's norm is {norm} at step {run.done} of a trial", "give a smaller lr")
    took = torch.tensor(fastest, device=run.accelerator.device)
    return float(run.accelerator.gather(took).max())


def _begin(model: LanguageModel, loader: Loader, settings: TrainSettings, out: Path) -> _Run:
    """A run at its first step."""
    ranks = accelerator()
    if loader.global_batch % ranks.num_processes:
        raise ConfigError(f"a batch of {loader.global_batch} rows does not split over {ranks.num_processes} ranks")
    if settings.lora:
        adapters.add(model, settings.lora, seed=settings.seed)
    model.net.train().to(ranks.device)
    goal = objective(model, seed=settings.seed, t_min=settings.t_min, t_power=settings.t_power)
    return _Run(
        accelerator=ranks,
        wrapped=ranks.prepare_model(goal),
        goal=goal,
        ema=EMA(model.net, settings.optim.ema),
        optims=optimizers(model.net, settings.optim),
        loader=loader,
        settings=settings,
        out=out,
    )


def _share(run: _Run) -> int:
    """Rows of a batch that are this rank's."""
    return run.loader.global_batch // run.accelerator.num_processes


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


def _open_samples(run: _Run) -> Record:
    with state.writing("the samples", run.out):
        return state.Metrics(run.out / "samples.jsonl", after=run.done)


def _steps(run: _Run, reporter: Reporter, evaluate: Evaluate | None, write_sample: WriteSample | None) -> None:
    s, share = run.settings, _share(run)
    batch_tokens = run.loader.global_batch * run.loader.rows.shape[1]
    since: list[tuple[Tensor, Tensor]] = []  # of every step since the last line: this rank's loss, the norm
    clock = time.monotonic()
    while not run.over:
        since.append(_step(run, share))
        run.done += 1
        reporter.tick(run.done)
        last = run.done == s.steps
        looking = evaluate is not None and bool(s.eval_every) and (last or run.done % s.eval_every == 0)
        saving = last or run.done % s.save_every == 0 or (looking and s.patience > 0)  # the best look has a checkpoint
        if saving or run.done % s.log_every == 0:
            mean, norm = _means(run, since)
            now = time.monotonic()
            speed = len(since) * batch_tokens / (now - clock)
            line = {"loss": mean, "lr": run.optims[0].param_groups[0]["lr"], "grad_norm": norm}
            run.write(line | {"tokens": run.done * batch_tokens, "tokens_per_second": round(speed, 1)})
            reporter.step(run.done, mean, speed)
            since, clock = [], now
        if evaluate is not None and looking:
            _evaluate(run, evaluate, write_sample, reporter)
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


def _evaluate(run: _Run, evaluate: Evaluate, write_sample: WriteSample | None, reporter: Reporter) -> None:
    """Measure the averaged weights on the main rank, in evaluation mode; every rank hears what became of the watch."""
    worse = torch.zeros((), device=run.accelerator.device)
    if run.accelerator.is_main_process:
        net = run.goal.net
        with run.ema.applied(net):
            net.eval()
            found = evaluate(run.goal.model)
            text = None if write_sample is None else write_sample(run.goal.model)
            net.train()
        look = Look(run.done, found.nats_per_token, found.stderr, found.rows)
        run.watch = run.watch.seen(look)
        worse += run.watch.worse
        run.write({"heldout_nats": look.nats, "heldout_stderr": look.stderr})
        words = f"step {run.done}  held out {look.nats:.4f} +- {look.stderr:.4f} nats/token"
        reporter.say(f"{words}  {run.watch.verdict(look)}" if run.settings.patience else words)
        if text is not None and run.samples is not None:
            with state.writing("the samples", run.out):
                run.samples.write({"step": run.done, "text": text})
            reporter.say(f"  sample: {' '.join(text.split())}")
    run.watch = dataclasses.replace(run.watch, worse=int(run.accelerator.reduce(worse, "sum")))


def _save(run: _Run) -> None:
    """Checkpoint, then the averaged weights as a model folder."""
    if run.accelerator.is_main_process:
        with state.writing("the metrics", run.out):
            for record in (*run.records, *([] if run.samples is None else [run.samples])):
                record.flush()
        tensors, numbers = state.pack_state(run.goal.net, run.ema, run.optims)
        if run.settings.patience:
            numbers["watch"] = run.watch.as_json()
        state.save(run.out, run.done, tensors, numbers, keep=run.settings.keep, best=_best_step(run))
        _save_model(run, run.done)
    run.accelerator.wait_for_everyone()


def _best_step(run: _Run) -> int | None:
    """The step of the checkpoint that is kept because its look was best."""
    return run.watch.best.step if run.settings.patience and run.watch.best is not None else None


def _save_model(run: _Run, step: int) -> None:
    """The averaged weights as a model folder, whose card says how many steps they had."""
    model = run.goal.model
    model.card = model.card | {"step": step}
    with state.writing("the model", run.out), run.ema.applied(run.goal.net):
        checkpoint.save(adapters.merged(model), run.out / "model")


def _finish(run: _Run) -> None:
    """Give the model its final weights: the averages of the best checkpoint, or of the last step."""
    step, model = _best_step(run), run.goal.model
    if step is not None and step != run.done:
        found = state.at_step(run.out, step)
        tensors, _ = state.load(found)
        for name, shadow in run.ema.shadow.items():
            shadow.copy_(tensors[f"ema.{name}"])
        if run.accelerator.is_main_process:
            _save_model(run, step)
        model.card = model.card | {"step": step}
    run.ema.copy_to(model.net)
    model.net = adapters.merged(model).net
    model.net.eval()
    run.accelerator.wait_for_everyone()


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
    run.watch = Watch.from_json(numbers.get("watch"))
    if run.done > run.settings.steps:
        raise ConfigError(
            f"the run in {run.out} has done {run.done} steps already, more than steps={run.settings.steps}",
            f"set steps to {run.done} or more",
        )
    if main:
        state.prune(run.out, run.settings.keep, _best_step(run))
        _save_model(run, run.done)
