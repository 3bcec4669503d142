"""The README.md of a model: what it is, where it is from, how to load it. Everything in it is read off the model."""

from typing import Any

import torch

from unmask.diffusion import Absorbing, CleanLogits, Gidd, Hybrid, LeaveOneOut, LogLinear, RawScore, Uniform
from unmask.model import DiffusionLM, LanguageModel

_NOISE: dict[type, str] = {
    Absorbing: "absorbing: tokens turn into a mask",
    Uniform: "uniform: tokens turn into random tokens",
    Hybrid: "hybrid: tokens turn into a mask or into random tokens",
}
_READS: dict[type, str] = {
    RawScore: "raw scores, the ratios p(y) / p(x)",
    CleanLogits: "the clean token, p(x0 | xt)",
    LeaveOneOut: "the clean token given the other positions",
}
_SCHEDULE: dict[type, str] = {LogLinear: "log-linear", Gidd: "GIDD's"}
_TOLD = {"sigma": "the total noise", "t": "the time", "zero": "0, whatever the time", None: "nothing of the time"}


def model_card(model: LanguageModel, name: str, dtype: torch.dtype | None = None) -> str:
    """Markdown with the hub's header. name: what `unmask.load` is to be given. dtype: of the weights, if not its own.

    What the model's `card` says of source, layout, paper and licence is said; where it names no licence of the
    weights, that is said too.
    """
    card = model.card
    head = ["---", "library_name: unmask", "pipeline_tag: text-generation", "tags:", f"- {model.kind}", "---", ""]
    return "\n".join(
        [
            *head,
            f"# {name}",
            "",
            _sentence(model),
            "",
            *_table(model, dtype),
            "",
            *_use(model, name),
            *_origin(card),
            "",
        ]
    )


def _sentence(model: LanguageModel) -> str:
    """One sentence of what it is."""
    kind = "An autoregressive language model"
    if isinstance(model, DiffusionLM):
        kind = "A diffusion language model"
        if model.block_size is not None:
            kind = f"A block diffusion language model (blocks of {model.block_size} tokens)"
    made = f", converted from the layout of {model.card['layout']}" if "layout" in model.card else ""
    return f"{kind} of {model.net.num_parameters:,} parameters{made}, in the format of unmask: safetensors and JSON."


def _table(model: LanguageModel, dtype: torch.dtype | None) -> list[str]:
    c = model.net.config
    rows = {
        "network": f"{c.depth} layers of width {c.width}, {c.heads} heads, {c.positions} positions",
        "context": f"{c.length:,} tokens",
        "weights": str(dtype or model.net.vocab_embed.embedding.dtype).removeprefix("torch."),
    }
    if isinstance(model, DiffusionLM):
        process = model.process
        rows |= {
            "noise": _NOISE.get(type(process), type(process).__name__) + _share(process),
            "schedule": _fields(process.schedule),
            "predicts": _READS.get(type(model.parametrization), type(model.parametrization).__name__),
            "network is told": _TOLD[model.conditioning],
            "clean tokens": f"{process.vocab_size:,}",
        }
    else:
        rows["tokens"] = f"{c.num_inputs:,}"
    if model.tokenizer is not None:
        rows["tokenizer"] = f"{model.tokenizer.vocab_size:,} byte-level tokens, in tokenizer.json"
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]


def _share(process: Any) -> str:
    return f" ({process.p_uniform:g} of them random in the middle)" if isinstance(process, Hybrid) else ""


def _fields(schedule: Any) -> str:
    """A schedule and its numbers, as it is written in Python; the two commonest in words."""
    words = _SCHEDULE.get(type(schedule), type(schedule).__name__)
    numbers = ", ".join(f"{k} {v:g}" for k, v in vars(schedule).items())
    return f"{words}, {numbers}"


def _use(model: LanguageModel, name: str) -> list[str]:
    lines = ["## Use", "", "```python", "import unmask", "", f'model = unmask.load("{name}")']
    canvas = f"unmask.Canvas.blank({min(64, model.net.config.length)})"
    lines += [f"made = unmask.sample(model, {canvas}, seed=0)"]
    if model.tokenizer is not None:
        lines += ["print(model.tokenizer.decode(made.tokens[0]))"]
    return [*lines, "```", ""]


def _origin(card: dict[str, Any]) -> list[str]:
    lines = ["## Source and licence", ""]
    for key, words in (
        ("source", "Source"),
        ("paper", "Paper"),
        ("code_licence", "Licence of the authors' code"),
        ("note", "Note"),
    ):
        if card.get(key):
            lines.append(f"- {words}: {card[key]}")
    licence = card.get("licence") or card.get("license")
    lines.append(f"- Licence of the weights: {licence or 'not known to this tool; see the source'}")
    return lines
