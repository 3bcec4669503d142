"""What a reader should know of a model: from the model itself and from its card."""

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.checkpoint import describe
from unmask.diffusion.parametrizations import RawScore
from unmask.model import DiffusionLM, LanguageModel
from unmask.report.content import Card
from unmask.report.digits import large, number
from unmask.text.corpora import corpus_licence

PREDICTS = {
    "RawScore": "raw scores, the ratios p(y) / p(x)",
    "CleanLogits": "the clean token, p(x0 | xt)",
    "LeaveOneOut": "the clean token given the others",
}
_POINT = ("step", "tokens", "loss", "heldout_nats", "heldout_stderr")
_USED = {"data", "batch_size", "recipe", "name", "parameters", "curves", "licence", "license", "licences"}


def short_name(model: LanguageModel) -> str:
    """`SEDD`, `MDLM`, the layout it came in, or `AR`; the process is named where it is not the absorbing one."""
    if not isinstance(model, DiffusionLM):
        return "AR"
    name = "SEDD" if isinstance(model.parametrization, RawScore) else str(model.card.get("layout", "MDLM"))
    return name if model.process.commits else f"{name} ({describe(model)['process']['name']})"


def card(model: LanguageModel, name: str) -> Card:
    """Key facts of a model. What its card does not say is left out."""
    return Card(name, model.kind, {label: text for label, text in _facts(model).items() if text})


def training_curve(model: LanguageModel) -> list[dict[str, float]]:
    """The points of the card's curve that say how many tokens had been seen, in order of it."""
    points = [
        {key: float(point[key]) for key in _POINT if isinstance(point.get(key), int | float)}
        for point in model.card.get("curves", [])
    ]
    return sorted((point for point in points if "tokens" in point), key=lambda point: point["tokens"])


def _facts(model: LanguageModel) -> dict[str, str]:
    config = model.net.config
    facts = {
        "Parameters": f"{model.net.num_parameters:,}",
        "Network": f"{config.depth} layers of width {config.width}, {config.heads} heads",
        "Context": f"{config.length:,} tokens",
        "Attends to": _sight(config.block_size),
    }
    if isinstance(model, DiffusionLM):
        config_file = describe(model)
        facts["Noise"] = f"{config_file['process']['name']}, {config_file['schedule']['name']} schedule"
        facts["Predicts"] = PREDICTS.get(type(model.parametrization).__name__, type(model.parametrization).__name__)
    else:
        facts["Noise"], facts["Predicts"] = "none", "the next token"
    if model.tokenizer is not None:
        facts["Vocabulary"] = f"{model.tokenizer.vocab_size:,} byte-level tokens"
    return facts | _from_card(model.card, model)


def _sight(block_size: int | None) -> str:
    if block_size is None:
        return "all tokens, on both sides"
    return "the tokens before" if block_size == 1 else f"its block of {block_size} tokens and all before it"


def _from_card(values: Mapping[str, Any], model: LanguageModel) -> dict[str, str]:
    data = values.get("data") or {}
    facts = {
        "Recipe": str(values.get("recipe") or values.get("name") or ""),
        "Training data": str(data.get("corpus", "")).replace("+", ", "),
    }
    if "train_tokens" in data:
        facts["Size of the data"] = f"{_tokens(data, 'train')}"
    if "heldout_tokens" in data:
        facts["Held out"] = f"{_tokens(data, 'heldout')}, by whole documents"
    if data.get("corpus"):
        facts["Licence of the data"] = data.get("licence") or _licences(values.get("licences"), data["corpus"])
    curve = training_curve(model)
    if curve:
        rows = f" of {values['batch_size']} rows" if "batch_size" in values else ""
        facts["Trained for"] = f"{number(curve[-1].get('step'))} steps{rows}, {large(curve[-1]['tokens'])} tokens seen"
    facts["Licence of the weights"] = str(values.get("licence") or values.get("license") or "")
    for key, value in values.items():
        if key not in _USED and isinstance(value, str | int | float):
            facts[key.replace("_", " ").capitalize()] = number(value) if isinstance(value, float) else str(value)
    return facts


def _licences(known: Sequence[Mapping[str, str]] | None, corpora: str) -> str:
    """A line for each of several corpora joined with `+`: what the card knows, else what the package does."""
    if known:
        lines = [(row.get("corpus", ""), row.get("licence", "")) for row in known]
    else:
        lines = [(part, corpus_licence(part)) for part in corpora.split("+")]
    return lines[0][1] if len(lines) == 1 else "\n".join(f"{part}: {line}" for part, line in lines)


def _tokens(data: Mapping[str, Any], side: str) -> str:
    documents = data.get(f"{side}_documents")
    inside = "" if documents is None else f" in {documents:,} document{'s' * (documents != 1)}"
    return f"{large(data[f'{side}_tokens'])} tokens{inside}"
