"""Run a `Run`: data, model, training, and a model folder with its card."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from unmask.checkpoint import read_json, write_json
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import PROCESSES
from unmask.diffusion.schedules import SCHEDULES
from unmask.errors import ConfigError, unknown
from unmask.evaluation.likelihood import log_likelihood
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.random import fold
from unmask.recipes.data import Prepared, Say, prepare
from unmask.recipes.run import ModelShape, Run, from_json
from unmask.text.loader import Loader
from unmask.text.tokenizers import Tokenizer
from unmask.training.loop import train

KINDS = ("sedd", "mdlm", "ar")


def build_model(shape: ModelShape, tokenizer: Tokenizer, *, seed: int = 0) -> LanguageModel:
    """A fresh model; its weights are a function of the seed. Raises ConfigError for an unknown name."""
    if shape.kind not in KINDS:
        raise unknown("kind of model", shape.kind, KINDS)
    vocab = tokenizer.vocab_size
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
            return AutoregressiveLM(Transformer(config), bos_id=tokenizer.eos_id, tokenizer=tokenizer)
        if shape.process not in PROCESSES:
            raise unknown("process", shape.process, PROCESSES)
        if shape.schedule not in SCHEDULES:
            raise unknown("noise schedule", shape.schedule, SCHEDULES)
        process = PROCESSES[shape.process](vocab_size=vocab, schedule=SCHEDULES[shape.schedule]())
        sedd = shape.kind == "sedd"
        if not sedd and not process.commits:
            raise ConfigError(f"kind 'mdlm' needs the absorbing process, got {shape.process!r}", "use kind=sedd")
        config = TransformerConfig(
            num_inputs=process.num_states, num_outputs=process.num_states,
            cond_dim=shape.cond_dim if sedd else None, **body,  # type: ignore[arg-type]
        )  # fmt: skip
        parametrization = RawScore(scale_by_sigma=process.commits) if sedd else CleanLogits()
        return DiffusionLM(
            Transformer(config), process, parametrization,
            conditioning="sigma" if sedd else None, tokenizer=tokenizer,
        )  # fmt: skip


def start(
    run: Run,
    out: Path,
    *,
    say: Say = lambda words: None,
) -> LanguageModel:
    """Begin a run in `out`, which must be new or empty. Returns the trained model, averaged weights in place."""
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"the output folder {out} is not empty", "give --resume to go on with it, or another folder")
    data = prepare(run.data, run.model.length, say=say)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", run.as_json())
    return _go(run, data, out, resume=False, say=say)


def resume(
    out: Path, *, change: Callable[[Run], Run] = lambda run: run, say: Say = lambda words: None
) -> LanguageModel:
    """Go on with the run in `out`; `change` may alter its settings first, the number of steps for one."""
    if not (out / "config.json").exists():
        raise ConfigError(f"{out} holds no run to resume: no config.json in it", "start one without --resume")
    run = change(from_json(read_json(out / "config.json")))
    data = prepare(run.data, run.model.length, say=say)
    write_json(out / "config.json", run.as_json())
    return _go(run, data, out, resume=True, say=say)


def _go(run: Run, data: Prepared, out: Path, *, resume: bool, say: Say) -> LanguageModel:
    model = build_model(run.model, data.tokenizer, seed=run.train.seed)
    model.card = {"recipe": run.name, "data": data.info, "batch_size": run.batch_size}
    say(f"{run.name}: {model.net.num_parameters:,} parameters, {run.train.steps:,} steps of {run.batch_size} rows")
    loader = Loader(data.train, global_batch=run.batch_size, seed=run.train.seed)
    held = data.spread_heldout(run.data.heldout_rows)
    unigram = data.unigram()

    def evaluate(current: LanguageModel) -> dict[str, float]:
        bound = log_likelihood(current, held, times_per_row=4, seed=run.train.seed, unigram=unigram)
        return {"heldout_nats": bound.nats_per_token, "heldout_stderr": bound.stderr}

    train(model, loader, run.train, out, resume=resume, evaluate=evaluate if run.train.eval_every else None)
    return model


def replace_steps(run: Run, steps: int | None) -> Run:
    """The run with another number of steps, or as it is."""
    return run if steps is None else dataclasses.replace(run, train=dataclasses.replace(run.train, steps=steps))
