"""What the worker is given and what it says: rows, ways of sampling, looks. Shapes: L length, N tokens."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.sampling.autoregressive import RULE
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import Plan, check_canvas, plan, reshaping
from unmask.sampling.transforms import Transform


@dataclasses.dataclass(frozen=True)
class Way:
    """How a row is sampled: the options of `denoise`. Rows of one way, length and arrival share moves."""

    steps: int | None
    rule: str | None
    tau: float | None
    gamma: float | None
    grid: str | None
    block_size: int | None
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    top: int | None

    def plan(self, model: DiffusionLM, canvas: Canvas) -> Plan:
        """The rules that write the canvas. ConfigError as `denoise`."""
        options = {"tau": self.tau, "gamma": self.gamma, "grid": self.grid}
        return plan(model, canvas, steps=self.steps, rule=self.rule, block_size=self.block_size, **options)

    def reshape(self) -> Transform | None:
        """What temperature and truncations make of a law. ConfigError as `denoise`."""
        return reshaping(self.temperature, self.top_p, self.top_k, self.min_p)

    def check(self, model: LanguageModel, canvas: Canvas) -> str:
        """The name of the rule that writes the canvas; ConfigError for what the model cannot do with it in this way."""
        self.reshape()
        if not isinstance(model, AutoregressiveLM):
            return self.plan(model, canvas).rules[0].name
        for name in ("steps", "rule", "tau", "gamma", "grid", "block_size"):
            if getattr(self, name) is not None:
                raise ConfigError(f"{name} with an autoregressive model", "it takes one step a token: leave it out")
        check_canvas(canvas, model.length, model.net.config.num_inputs)
        if bool((canvas.frozen[:, 1:] & ~canvas.frozen[:, :-1]).any()):
            raise ConfigError(
                "text after a gap with an autoregressive model, which writes only to the right of what is given",
                "leave out the suffix, or ask a diffusion model",
            )
        return RULE


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A row after a move. seconds: since it began to run. step: moves made. last: nothing more will change.

    here: where a token stands (no mask, and already written). committed: where no later move changes it.
    """

    tokens: Tensor  # [L] int64
    here: Tensor  # [L] bool
    committed: Tensor  # [L] bool
    step: int
    t: float
    nfe: int
    seconds: float
    last: bool
    top: tuple["Sure", ...] = ()


@dataclasses.dataclass(frozen=True)
class Sure:
    """A token that became final in a move: its position, its probability, and the likeliest others with theirs."""

    position: int
    p: float
    others: tuple[tuple[int, float], ...]


@dataclasses.dataclass(eq=False)
class Row:
    """One sequence to write: canvas [1, L], in a way, with the draws of (seed, sample).

    watch is told each look, in the worker's thread, and says whether it has seen enough; fail is told why there will be
    no more looks. behind: work that the finished row brings the worker, done between moves with its last look.
    cancelled: nobody waits for it any more.
    """

    model: str
    way: Way
    canvas: Canvas
    seed: int
    sample: int
    watch: Callable[[Look], bool]
    fail: Callable[[Exception], None]
    behind: Callable[[Look], None] | None = None
    cancelled: bool = False
    arrived: float = 0.0

    @property
    def kind(self) -> tuple[Way, int, int]:
        """Rows of one kind can begin together: way, length, and what is given at the left."""
        given = int((~self.canvas.frozen[0]).to(torch.uint8).argmax())
        return self.way, self.canvas.length, given
