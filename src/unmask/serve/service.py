"""What the routes share: the models, the engine, the settings, and how a request's fields become a way and a seed."""

import dataclasses
import functools
import secrets
import time
from collections.abc import Mapping
from typing import Any

from unmask.model import AutoregressiveLM, LanguageModel
from unmask.serve.engine import Engine
from unmask.serve.jobs import Job
from unmask.serve.metrics import Metrics
from unmask.serve.refusals import Refusal
from unmask.serve.schema import Sampling
from unmask.serve.settings import Settings
from unmask.serve.work import Way
from unmask.text.pieces import byte_table
from unmask.text.tokenizers import Tokenizer


@dataclasses.dataclass(eq=False)
class Service:
    """One running server. closing: it finishes what it has. busy: requests that are being answered."""

    models: Mapping[str, LanguageModel]
    settings: Settings
    engine: Engine
    metrics: Metrics
    closing: bool = False
    busy: int = 0
    since: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def job(self) -> Job:
        """An empty job of this server."""
        return Job(self.engine, self.settings.timeout)

    def chosen(self, body: Sampling) -> "Chosen":
        """The model, way and seed that a body asks for. Refusal 404 for an unknown model, 400 beyond the limits."""
        name = body.model if body.model is not None else next(iter(self.models))
        if name not in self.models:
            served = ", ".join(self.models)
            raise Refusal(404, f"no model {name!r} here: {served}", param="model", code="model_not_found")
        if body.steps is not None and body.steps > self.settings.max_steps:
            raise Refusal(400, f"steps is {body.steps}, at most {self.settings.max_steps} here", param="steps")
        if body.diffusing and not body.stream:
            raise Refusal(400, "diffusing shows a stream of frames: it needs stream", param="diffusing")
        way = Way(**{f.name: getattr(body, f.name) for f in dataclasses.fields(Way) if f.name != "top"}, top=None)
        model, most = self.models[name], self.settings.max_length
        length = most if model.net.slides else min(model.length, most)
        return Chosen(name, model, way, secrets.randbits(48) if body.seed is None else body.seed, length)

    def check_rows(self, rows: int, param: str) -> None:
        """Refusal 400 for more rows than a request may have."""
        if rows > self.settings.max_n:
            raise Refusal(400, f"{rows} samples in a request, at most {self.settings.max_n} here", param=param)


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """What a request is answered with. length: the longest canvas."""

    name: str
    model: LanguageModel
    way: Way
    seed: int
    length: int

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's; a model without one is not served."""
        assert self.model.tokenizer is not None
        return self.model.tokenizer

    def encode(self, text: str, param: str) -> list[int]:
        """The ids of a text. Refusal 400 for one that is too long by far."""
        self.check_size(text, param)
        return self.tokenizer.encode(text)

    def check_size(self, text: str, param: str, longest: int = 1) -> None:
        """Refusal 400 for a text that does not fit whatever its tokens are: to count bytes is quicker than to read.

        longest: bytes that can stand for one token beside the tokenizer's own.
        """
        size = len(text.encode())
        if size > self.length * max(longest, _longest(self.tokenizer)):
            raise Refusal(
                400, f"a text of {size} bytes has more than {self.length} tokens, the most that a sample has here",
                param=param, code="context_length_exceeded",
            )  # fmt: skip

    @property
    def writes_rightwards(self) -> bool:
        """Whether the model is autoregressive."""
        return isinstance(self.model, AutoregressiveLM)


@functools.lru_cache(maxsize=8)
def _longest(tokenizer: Tokenizer) -> int:
    """The bytes of the longest token."""
    return max(map(len, byte_table(tokenizer)))


def usage(given: int, written: int) -> dict[str, Any]:
    """OpenAI's account of tokens."""
    return {"prompt_tokens": given, "completion_tokens": written, "total_tokens": given + written}
