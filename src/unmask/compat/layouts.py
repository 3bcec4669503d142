"""The layouts of checkpoints that can be read, and how a config tells which one it is: a row each."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask import checkpoint
from unmask.compat import bd3lm, duo, gidd, gpt2, mdlm, sdtt, sedd
from unmask.model import LanguageModel

OWN = "unmask's own"


@dataclasses.dataclass(frozen=True)
class Layout:
    """fits(config) says whether a config is of this layout, in the words `told_by`; load(folder, config) reads it.

    paper: what to cite. licence: of the authors' code; what the weights are under, their source says.
    """

    name: str
    told_by: str
    fits: Callable[[dict[str, Any]], bool]
    load: Callable[[Path, dict[str, Any]], LanguageModel]
    paper: str = ""
    licence: str = ""


def _typed(*names: str, key: str | None = None) -> Callable[[dict[str, Any]], bool]:
    """Told by model_type, and by a key that has to be there too."""
    return lambda config: str(config.get("model_type", "")).lower() in names and (key is None or key in config)


def _own(config: dict[str, Any]) -> bool:
    return config.get("library") == "unmask" or "format" in config


def _sedd(config: dict[str, Any]) -> bool:
    return len(config.keys() & set(sedd.KEYS)) >= len(sedd.KEYS) - 1


def _sdtt(config: dict[str, Any]) -> bool:
    return isinstance(config.get("parameterization"), dict) and isinstance(config.get("model"), dict)


LAYOUTS: tuple[Layout, ...] = (
    Layout(OWN, "the key format", _own, lambda folder, config: checkpoint.load(folder)),
    Layout(
        "GPT-2", "model_type 'gpt2'", _typed("gpt2"), gpt2.load,
        "Radford et al. 2019, Language models are unsupervised multitask learners", "MIT",
    ),
    Layout(
        "MDLM", "model_type 'mdlm'", _typed("mdlm"), mdlm.load, "Sahoo et al. 2024, arXiv 2406.07524", "Apache-2.0"
    ),
    Layout(
        "BD3-LM", "model_type 'bd3lm'", _typed("bd3lm"), bd3lm.load,
        "Arriola et al. 2025, arXiv 2503.09573", "Apache-2.0",
    ),
    Layout("Duo", "model_type 'duo'", _typed("duo"), duo.load, "Sahoo et al. 2025, arXiv 2506.10892", "Apache-2.0"),
    Layout(
        "GIDD", "model_type 'dit' and the key p_uniform", _typed("dit", key="p_uniform"), gidd.load,
        "von Ruette et al. 2025, arXiv 2503.04482", "MIT",
    ),
    Layout(
        "SDTT", "the keys model and parameterization", _sdtt, sdtt.load,
        "Deschenaux and Gulcehre 2025, arXiv 2410.21035",
    ),
    Layout(
        "SEDD", f"the keys {', '.join(sedd.KEYS)}", _sedd, sedd.load, "Lou et al. 2024, arXiv 2310.16834", "MIT"
    ),
)  # fmt: skip
