"""What devices differ in, and tensors on their way there: asked for without waiting for what the device is at.

Which positions are written is decided on the CPU. A GPU that had to be asked would stand still while it answers and
while the next kernels are launched; as it is, they are queued behind those of the network, which take longer.
Shapes: B rows, L positions, N of them.
"""

import torch
from torch import Tensor


def float_type(device: torch.device) -> torch.dtype:
    """The widest float there: float64, or float32 on MPS."""
    return torch.float32 if device.type == "mps" else torch.float64


def wide(x: Tensor) -> Tensor:
    """x in the widest float that its device has."""
    return x.to(float_type(x.device))


def precise(x: Tensor) -> Tensor:
    """x in float64, on the CPU where its device has none: for small tensors."""
    return (x if float_type(x.device) == torch.float64 else x.cpu()).double()


def settle(device: torch.device | str) -> None:
    """Wait until an accelerator is done with all that it was asked for, as a clock has to; at once for the CPU."""
    device = torch.device(device)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """x on a device. From the CPU to CUDA by way of pinned memory, which alone is copied without waiting."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def places(at: Tensor, device: torch.device) -> Tensor:
    """Where `at` [B, L] bool is True, as places in [B * L], in its order: [N] int64 on a device."""
    return sent(at.flatten().nonzero()[:, 0], device)


def picked(x: Tensor, at: Tensor) -> Tensor:
    """x [B, L, ...] at the True positions of `at` [B, L], which may be on another device: [N, ...] where x is."""
    return x.flatten(0, 1).index_select(0, places(at, x.device))


def put(x: Tensor, at: Tensor, values: Tensor) -> None:
    """Write values [N] to the True positions of `at` [B, L] of x [B, L], contiguous, in place."""
    x.view(-1).index_copy_(0, places(at, x.device), values)


def indices(rows: Tensor) -> Tensor:
    """Rows [b] int64 of a bool a row, [B]; indices stay what they are."""
    return rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of x [B, ...] at these indices [b], which may be on another device."""
    return x.index_select(0, sent(rows, x.device))
