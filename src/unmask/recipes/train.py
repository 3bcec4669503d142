"""Run a `Run`: data, model, training, and a model folder with its card."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from unmask.checkpoint import read_json
from unmask.diffusion import PROCESSES
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.schedules import SCHEDULES
from unmask.errors import ConfigError
from unmask.evaluation.likelihood import Bound, log_likelihood
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.starts import look_around
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.random import fold
from unmask.recipes.data import Prepared, Say, prepare
from unmask.recipes.init import first_model
from unmask.recipes.run import ModelShape, Run, from_json
from unmask.sampling import Canvas, sample
from unmask.sampling.autoregressive import generate
from unmask.text.loader import Loader
from unmask.text.tokenizers import Tokenizer
from unmask.training.loop import accelerator, train

LOOKS = 4  # evaluations a row at every look at held-out text
SAMPLE_STEPS = 32  # of the samples that a run shows


def build_model(shape: ModelShape, tokenizer: Tokenizer, *, seed: int = 0) -> LanguageModel:
    """A fresh model; its weights are a function of the seed. Raises ConfigError for sizes that do not fit."""
    model = fresh(shape, tokenizer.vocab_size, eos_id=tokenizer.eos_id, seed=seed)
    model.tokenizer = tokenizer
    return model


def fresh(shape: ModelShape, vocab: int, *, eos_id: int, seed: int = 0) -> LanguageModel:
    """`build_model` for a vocabulary of which no more is known than its size."""
    body = {
        "width": shape.width,
        "depth": shape.depth,
        "heads": shape.heads,
        "length": shape.length,
        "dropout": shape.dropout,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "weights"))
        if shape.kind == "ar":
            config = TransformerConfig(num_inputs=vocab, num_outputs=vocab, block_size=1, **body)  # type: ignore[arg-type]
            return AutoregressiveLM(Transformer(config), bos_id=eos_id)
        process = PROCESSES[shape.process](vocab_size=vocab, schedule=SCHEDULES[shape.schedule]())
        sedd = shape.kind == "sedd"
        config = TransformerConfig(
            num_inputs=process.num_states, num_outputs=process.num_states,
            cond_dim=shape.cond_dim if sedd else None, block_size=shape.block_size, **body,  # type: ignore[arg-type]
        )  # fmt: skip
        net = Transformer(config)
        if shape.start == "neighbors":
            look_around(net)
        parametrization = RawScore(scale_by_sigma=process.commits) if sedd else CleanLogits()
        return DiffusionLM(net, process, parametrization, conditioning="sigma" if sedd else None)


def start(
    run: Run,
    out: Path,
    *,
    say: Say = lambda words: None,
) -> LanguageModel:
    """Begin a run in `out`, which must be new or empty. Returns the trained model, averaged weights in place.

    Many processes may call it at once, as `accelerate launch` or `torchrun` starts them: the first prepares the
    data and writes. Raises ConfigError, DataError or AssetError before anything is written.
    """
    check_new(out)
    ranks = accelerator()
    first = None if run.init is None else first_model(run)
    with ranks.main_process_first():
        data = _prepared(run, first, say if ranks.is_main_process else _silent)
    return _go(run, first, data, out, resume=False, say=say if ranks.is_main_process else _silent)


def resume(
    out: Path, *, change: Callable[[Run], Run] = lambda run: run, say: Say = lambda words: None
) -> LanguageModel:
    """Go on with the run in `out`; `change` may alter its settings first, the number of steps for one.

    Settings that do not fit the run's checkpoints raise CheckpointError, and are not written down.
    """
    if not (out / "config.json").exists():
        raise ConfigError(f"{out} holds no run to resume: no config.json in it", "start one without --resume")
    run = change(from_json(read_json(out / "config.json")))
    ranks = accelerator()
    first = None if run.init is None else first_model(run)
    with ranks.main_process_first():
        data = _prepared(run, first, say if ranks.is_main_process else _silent)
    return _go(run, first, data, out, resume=True, say=say if ranks.is_main_process else _silent)


def _silent(words: str) -> None:
    """What the other ranks say."""


def _prepared(run: Run, first: LanguageModel | None, say: Say) -> Prepared:
    return prepare(run.data, run.model.length, own=None if first is None else first.tokenizer, say=say)


def check_new(out: Path) -> None:
    """ConfigError unless a run can begin in `out`: it is not there, or empty. Only the main process looks."""
    if not accelerator().is_main_process:
        return  # the main one may have begun to write already
    if out.exists() and not out.is_dir():
        raise ConfigError(f"the output {out} is a file", "name a new or empty folder")
    # a process killed while it wrote its first file leaves that file's temporary name, and no run
    if out.exists() and any(not path.name.startswith(".config.json.") for path in out.iterdir()):
        raise ConfigError(f"the output folder {out} is not empty", "give --resume to go on with it, or another folder")


def _go(run: Run, first: LanguageModel | None, data: Prepared, out: Path, *, resume: bool, say: Say) -> LanguageModel:
    model = build_model(run.model, data.tokenizer, seed=run.train.seed) if first is None else first
    model.card = {"recipe": run.name, "data": data.info, "batch_size": run.batch_size}
    if run.init is not None:
        model.card["init"] = run.init
    if isinstance(model, DiffusionLM):
        model.unigram = data.unigram(model.process.vocab_size)
    say(f"{run.name}: {model.net.num_parameters:,} parameters, {run.train.steps:,} steps of {run.batch_size} rows")
    loader = Loader(data.train, global_batch=run.batch_size, seed=run.train.seed)
    held = data.spread_heldout(run.data.heldout_rows)

    def evaluate(current: LanguageModel) -> Bound:
        return log_likelihood(current, held, times_per_row=LOOKS, seed=run.train.seed)

    writer = (lambda current: sample_text(current, run)) if run.sample_tokens else None
    config = run.as_json()
    train(model, loader, run.train, out, resume=resume, evaluate=evaluate, write_sample=writer, config=config)
    return model


def sample_text(model: LanguageModel, run: Run) -> str:
    """A text of `sample_tokens` tokens: the same draws at every look, so that one sees the same text become better."""
    assert model.tokenizer is not None
    canvas = Canvas.blank(min(run.sample_tokens, model.length))
    if isinstance(model, AutoregressiveLM):
        made = generate(model, canvas, seed=run.train.seed).tokens
    else:
        steps = SAMPLE_STEPS if model.block_size is None else None  # blocks have their own, as many as they need
        made = sample(model, canvas, steps=steps, seed=run.train.seed).tokens
    return model.tokenizer.decode(made[0])


def replace_steps(run: Run, steps: int | None) -> Run:
    """The run with another number of steps, or as it is."""
    return run if steps is None else dataclasses.replace(run, train=dataclasses.replace(run.train, steps=steps))
