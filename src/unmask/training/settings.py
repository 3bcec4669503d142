"""How a run is trained: how long, how, and how often to look."""

import dataclasses

from unmask.errors import ConfigError
from unmask.training.optim import OptimSettings

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long, how, and how often to look.

    micro_batch: rows a rank reads at once (default: all of its share); gradients are accumulated over them.
    precision: "float32", or "bfloat16" for autocast, the weights staying float32. t_min: the earliest time of a
    diffusion model's loss. t_power: 1 draws its times uniformly, 2 draws more early ones and weighs them
    down. log_every, eval_every (0: never) and save_every: steps. keep: checkpoints.
    log_tensorboard: curves for TensorBoard in RUN/tensorboard as well. patience: after so many looks in a row at which
    the held-out bound is above its lowest by more than noise, stop; the model is then, and at the end of the run, the
    checkpoint of the lowest bound (0: no such thing, the last weights are the model; see `watch`). lora: train
    adapters of this rank instead of the weights (0: the weights; see `adapters`).
    """

    steps: int
    optim: OptimSettings = OptimSettings()
    micro_batch: int | None = None
    precision: str = "bfloat16"
    seed: int = 0
    t_min: float = 1e-3
    t_power: float = 1.0
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 500
    keep: int = 2
    log_tensorboard: bool = False
    patience: int = 0
    lora: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        counts = {name: getattr(self, name) for name in ("log_every", "save_every", "keep", "micro_batch")}
        if low := [f"{name}={value}" for name, value in counts.items() if value is not None and value < 1]:
            raise ConfigError(f"{', '.join(counts)} must be at least 1, got {', '.join(low)}")
        for name, meaning in (("eval_every", "never"), ("patience", "no early stop"), ("lora", "no adapters")):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0 ({meaning}), got {getattr(self, name)}")
        if self.patience and not self.eval_every:
            raise ConfigError(f"patience={self.patience} needs looks at held-out text", "set eval_every, or patience=0")
        if not 0 < self.t_min < 1:
            raise ConfigError(f"t_min must be in (0, 1), got {self.t_min}", "the paper's is 1e-3")
        if self.t_power < 1:
            raise ConfigError(f"t_power must be at least 1, got {self.t_power}", "1 draws times uniformly")
