"""A model on the command line: where it is, and in what numbers it computes."""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from unmask.model import LanguageModel

DTYPES = ("float32", "bfloat16", "float64")


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """In what numbers the network computes, which decides the last bits of what it says."""

    dtype: str
    quantize: str | None = None
    compile: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """The type, and of the others what was asked for."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}


def load_model(model: str, device: "str | torch.device | None", arithmetic: Arithmetic) -> "LanguageModel":
    """The model by name, on a device, with a tokenizer. DataError without one, ConfigError for what cannot be."""
    import torch

    from unmask.cli.show import say
    from unmask.compat import load
    from unmask.errors import ConfigError, DataError, unknown

    dtype = arithmetic.dtype
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if device is None:
        device = str(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}", "try --device cpu"
        ) from None
    if dtype == "float64" and torch.device(device).type == "mps":
        raise ConfigError("dtype float64 on mps, which has none", "try --device cpu, or --dtype float32")
    lm = load(model, device=device, dtype=getattr(torch, dtype))
    if lm.tokenizer is None:
        raise DataError(f"the model {model} has no tokenizer, so its tokens are not text", "use it from Python")
    if arithmetic.quantize is not None:
        lm.quantize(arithmetic.quantize)
    return lm.compile(say) if arithmetic.compile else lm
