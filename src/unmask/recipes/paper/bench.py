"""What tasks share while they run: models, judge, the results folder, and someone to tell."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from unmask.compat import load
from unmask.errors import ConfigError, InputError
from unmask.evaluation.judge import Judge, find_judge
from unmask.evaluation.samples import SampleSet, fingerprint, read_samples
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.recipes.data import Say
from unmask.recipes.paper.store import Results

Progress = Callable[[int, int], None]
Kept = TypeVar("Kept")


@dataclasses.dataclass
class Bench:
    """Loads what is asked for, once, and keeps it while it is wanted.

    where: folders or hub ids by model name, for names that stand for something else. progress: told (done, total)
    within the task that runs.
    """

    results: Results
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    device: "torch.device | str | None" = None
    say: Say = lambda words: None
    progress: Progress | None = None
    _models: dict[str, LanguageModel] = dataclasses.field(default_factory=dict)
    _judges: dict[str, Judge] = dataclasses.field(default_factory=dict)
    _prints: dict[str, str] = dataclasses.field(default_factory=dict)
    _missing: dict[str, str] = dataclasses.field(default_factory=dict)
    _kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    def model(self, name: str, dtype: str = "float32") -> LanguageModel:
        """The model of a name, its weights and activations of that type."""
        key = f"{name} {dtype}"
        if key not in self._models:
            self._models[key] = load(self.where.get(name, name), device=self.device, dtype=getattr(torch, dtype))
        return self._models[key]

    def diffusion(self, name: str) -> DiffusionLM:
        """The diffusion model of a name; ConfigError for one of the other kind."""
        found = self.model(name)
        if not isinstance(found, DiffusionLM):
            raise ConfigError(f"{name} is {found.kind}, a diffusion model was expected", "check --model")
        return found

    def autoregressive(self, name: str) -> AutoregressiveLM:
        """The autoregressive model of a name; ConfigError for one of the other kind."""
        found = self.model(name)
        if not isinstance(found, AutoregressiveLM):
            raise ConfigError(f"{name} is {found.kind}, an autoregressive model was expected", "check --model")
        return found

    def judge(self, name: str, dtype: str) -> Judge:
        """The judge of a name, computing in that type; its sums are float32."""
        key = f"{name} {dtype}"
        if key not in self._judges:
            self._judges[key] = find_judge(self.where.get(name, name), device=self.device, dtype=getattr(torch, dtype))
        return self._judges[key]

    def fingerprint(self, name: str) -> str:
        """What tells the weights of a model from others; the error of loading it, where it cannot be had."""
        if name in self._missing:
            raise ConfigError(self._missing[name])
        if name not in self._prints:
            try:
                self._prints[name] = fingerprint(self.model(name))
            except InputError as error:
                self._missing[name] = str(error.message)
                raise
        return self._prints[name]

    def once(self, key: str, make: Callable[[], Kept]) -> Kept:
        """What `make` gives, made once under this key for all tasks of a run."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: Kept = self._kept[key]
        return kept

    def samples(self, name: str) -> SampleSet:
        """A set that an earlier task left."""
        return read_samples(self.results.sample_file(name))
