"""An exponential moving average of a network's parameters."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class EMA:
    """Float32 averages of the trainable parameters of `module`.

    The decay ramps up as min(decay, (1 + n) / (10 + n)) after n updates, as in SEDD's ema.py (Lou et al.
    2024).
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999) -> None:
        self.decay, self.updates = decay, 0
        self.shadow: dict[str, Tensor] = {
            name: p.detach().float().clone() for name, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the averages towards the parameters of `module`, as they are now."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(module.named_parameters())
        shadows = list(self.shadow.values())
        torch._foreach_lerp_(shadows, [parameters[name].detach().float() for name in self.shadow], weight)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[nn.Module]:
        """Inside the block `module` has the averaged weights; after it, its own again, to the bit."""
        parameters = dict(module.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self.shadow}
        try:
            self._copy_into(parameters, self.shadow)
            yield module
        finally:
            self._copy_into(parameters, own)

    def copy_to(self, module: nn.Module) -> None:
        """Give `module` the averaged weights for good."""
        self._copy_into(dict(module.named_parameters()), self.shadow)

    @staticmethod
    @torch.no_grad()
    def _copy_into(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            parameters[name].copy_(value)
