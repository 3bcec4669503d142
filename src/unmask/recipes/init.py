"""A run that begins with a model's weights: which models can be trained further, and what a run must not contradict."""

import dataclasses

from unmask.checkpoint import name_of
from unmask.compat import load
from unmask.diffusion import PROCESSES
from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.schedules import SCHEDULES
from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.nn.transformer import Transformer
from unmask.recipes.data import tokenizer_of
from unmask.recipes.run import ModelShape, Run
from unmask.text.tokenizers import Tokenizer

_FREE = ("dropout", "start", "block_size")  # what a run may choose whatever it begins with


def shape_of(model: LanguageModel) -> ModelShape:
    """A loaded model as a run's shape. ConfigError for a kind of model that no objective here trains."""
    c = model.net.config
    sizes = {"width": c.width, "depth": c.depth, "heads": c.heads, "length": c.length, "dropout": c.dropout}
    cond = c.cond_dim or ModelShape.cond_dim
    if isinstance(model, AutoregressiveLM):
        return ModelShape("ar", cond_dim=cond, **sizes)  # type: ignore[arg-type]
    kinds = {RawScore: "sedd", CleanLogits: "mdlm"}
    if type(model.parametrization) not in kinds:
        what = type(model.parametrization).__name__
        raise ConfigError(
            f"a model of this kind ({what}) is not trained here", "begin with a SEDD, MDLM, BD3-LM or GPT-2 model"
        )
    return ModelShape(
        kinds[type(model.parametrization)], cond_dim=cond, process=name_of(PROCESSES, model.process),
        schedule=name_of(SCHEDULES, model.process.schedule), block_size=c.block_size, **sizes,  # type: ignore[arg-type]
    )  # fmt: skip


def first_model(run: Run) -> LanguageModel:
    """The model that `run.init` names, to be trained on: float32, its card forgotten, the run's dropout and blocks.

    A model of whole texts may go on with blocks, and the other way round: the weights are the same.

    ConfigError where the run's shape or tokenizer is not the model's; CheckpointError or AssetError where it cannot be
    loaded.
    """
    assert run.init is not None
    model = load(run.init)
    check_shape(run, shape_of(model))
    own_tokenizer(run, model)
    config = dataclasses.replace(model.net.config, dropout=run.model.dropout)
    if isinstance(model, DiffusionLM):
        config = dataclasses.replace(config, block_size=run.model.block_size)
    if config != model.net.config:
        net = Transformer(config)
        net.load_state_dict(model.net.state_dict())
        model.net = net
    return model


def check_shape(run: Run, shape: ModelShape) -> None:
    """ConfigError where the run asks for another shape than that of the model it begins with."""
    if ("ar" in (run.model.kind, shape.kind)) and run.model.kind != shape.kind:
        names = {"ar": "an autoregressive", "sedd": "a diffusion", "mdlm": "a diffusion"}
        raise ConfigError(
            f"{run.init} is {names[shape.kind]} model and cannot begin {names[run.model.kind]} run (kind "
            f"{run.model.kind!r})",
            f"begin with another model, or leave the kind to it (it is {shape.kind!r})",
        )
    wanted, found = dataclasses.asdict(run.model), dataclasses.asdict(shape)
    if wrong := [name for name in found if name not in _FREE and wanted[name] != found[name]]:
        differs = ", ".join(f"{name}={found[name]}, not {wanted[name]}" for name in wrong)
        raise ConfigError(f"the model {run.init} has {differs}", "leave its shape to it, or train a fresh model")


def own_tokenizer(run: Run, model: LanguageModel) -> Tokenizer:
    """The tokenizer of the model that a run begins with. ConfigError where it has none, or the run names another."""
    hint = "ids mean other texts with another tokenizer: leave it to the model, or train a fresh one"
    if model.tokenizer is None:
        raise ConfigError(f"the model {run.init} has no tokenizer", "put its tokenizer.json in its folder")
    name = run.data.tokenizer
    if name.startswith("bpe:"):
        raise ConfigError(f"{run.init} has a tokenizer of its own, and the run asks for {name!r}", hint)
    if name != "model" and tokenizer_of(name).fingerprint != model.tokenizer.fingerprint:
        raise ConfigError(f"the tokenizer {name!r} is not that of {run.init}", hint)
    return model.tokenizer
