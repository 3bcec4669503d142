"""Linear layers in int8: weights rounded once, a scale an output; activations rounded as they come, a scale a row.

The product of the two is PyTorch's own (oneDNN on the CPU, cuBLAS on CUDA): whole numbers, summed without error in
int32. A row is rounded by its own largest number, so that a sample does not depend on the others in its batch, as it
would with one scale for all rows (PyTorch's older dynamic quantization). Shapes: N rows, I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError, unknown
from unmask.nn.transformer import Block, Transformer

MODES = ("int8",)
LARGEST = 127  # of an int8; -128 is not used, so that the scale is the same on both sides
SMALLEST = 1e-30  # scale, so that a row of zeros stays one
CUDA_ROWS = 32  # cuBLAS takes no int8 product of 16 rows or fewer


class Int8Linear(nn.Module):
    """x W^T + b with W in int8. Takes and gives any float type; sums and scales are float32, or float64 for it."""

    scale: Tensor  # [O] float32

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight [O, I], bias [O] or None: those of the layer that this one stands for, in any float type."""
        super().__init__()
        wide = weight.detach().float()
        scale = (wide.abs().amax(1) / LARGEST).clamp(min=SMALLEST)
        rounded = (wide / scale[:, None]).round_().to(torch.int8)
        self.weight = nn.Parameter(rounded, requires_grad=False)  # [O, I] int8
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_buffer("scale", scale)

    def _apply(self, fn: Any, recurse: bool = True) -> "Int8Linear":
        """Follow the module to a device; the scale stays float32 whatever the type of the others."""
        exact = self.scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.scale.dtype != exact.dtype:
            self.scale = exact.to(self.scale.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O], in the type of x."""
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        rows = x.reshape(-1, x.shape[-1])
        unit = (rows.abs().amax(1, keepdim=True).to(wide) / LARGEST).clamp_(min=SMALLEST)  # [N, 1]
        sums = self._sums((rows / unit).round_().to(torch.int8)).to(wide).mul_(unit)
        scale = self.scale.to(wide)
        y = sums.mul_(scale) if self.bias is None else torch.addcmul(self.bias.to(wide), sums, scale)
        return y.to(x.dtype).view(*x.shape[:-1], len(scale))

    def _sums(self, rows: Tensor) -> Tensor:
        """rows [N, I] times W^T, both int8: [N, O] int32."""
        count = len(rows)
        if rows.is_cuda and count < CUDA_ROWS:
            rows = F.pad(rows, (0, 0, 0, CUDA_ROWS - count))
        return torch._int_mm(rows, self.weight.t())[:count]


def quantize(net: Transformer, mode: str = "int8", *, head: bool = True) -> Transformer:
    """Round the matrices of attention, MLP and (head) the head to int8, in place; returns net.

    What is looked up (embeddings), added (biases) or computed once for a whole step (the modulation) stays as it is.
    A tied head gets rounded weights of its own. On CUDA a layer whose widths are not multiples of 8 stays as it is.
    The network is for reading from then on: it cannot be trained or saved. Raises ConfigError for a mode that is not
    in MODES, a network that is rounded already, and a device without int8 products.
    """
    if mode not in MODES:
        raise unknown("way to quantize", mode, MODES)
    if is_quantized(net):
        raise ConfigError("the network is quantized already", "load the model again, and quantize it once")
    device = net.vocab_embed.embedding.device
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"int8 on {device.type}, which has no product of int8 matrices", "use the CPU or CUDA")
    for block in net.blocks:
        assert isinstance(block, Block)
        block.attn_qkv, block.attn_out = _rounded(block.attn_qkv), _rounded(block.attn_out)
        block.mlp[0], block.mlp[2] = _rounded(block.mlp[0]), _rounded(block.mlp[2])
    if head:
        net.output_layer.linear = _rounded(net.output_layer.linear or _tied(net))
    return net


def is_quantized(net: nn.Module) -> bool:
    """Whether `quantize` has been here."""
    return any(isinstance(module, Int8Linear) for module in net.modules())


def plain_state(net: Transformer) -> dict[str, Tensor]:
    """The state of a network with its rounded matrices multiplied out, in the type of the others: what `save` would
    have written, but for the rounding. Of a network that is not quantized its own state.
    """
    state: dict[str, Tensor] = net.state_dict()
    for name, module in net.named_modules():
        if isinstance(module, Int8Linear):
            wide = module.weight * module.scale[:, None]
            state[f"{name}.weight"] = wide.to(net.vocab_embed.embedding.dtype)
            del state[f"{name}.scale"]
    if net.config.tied:
        state.pop("output_layer.linear.weight", None)
    return state


def _tied(net: Transformer) -> nn.Linear:
    """The embedding as the head that it is."""
    embedding = net.vocab_embed.embedding
    linear = nn.Linear(embedding.shape[1], embedding.shape[0], bias=False, device="meta")
    linear.weight = embedding
    return linear


def _rounded(linear: nn.Module) -> Any:
    assert isinstance(linear, nn.Linear)
    return Int8Linear(linear.weight, linear.bias) if _fits(linear.weight) else linear


def _fits(weight: Tensor) -> bool:
    """Whether the device multiplies int8 matrices of this shape."""
    return not weight.is_cuda or not any(size % 8 for size in weight.shape)
