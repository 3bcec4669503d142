"""What a machine offers: devices, how fast each dtype multiplies, a compiler, optional packages, the hub's reach."""

import importlib.util
import os
import shutil
import socket
import time
from typing import Any
from urllib.parse import urlparse

import torch

from unmask.devices import settle

EXTRAS = {  # extra of the package -> a module that it brings
    "datasets": "datasets",
    "figures": "matplotlib",
    "harness": "lm_eval",
    "judge": "transformers",
    "lora": "peft",
    "mauve": "mauve",
    "serve": "fastapi",
    "tensorboard": "tensorboard",
}
SHAPE = (512, 768, 3072)  # rows, width in, width out: a layer of the paper's small models


def devices() -> list[str]:
    """The devices that PyTorch finds, an accelerator first."""
    found = []
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if kind.type == "cuda" else []
        found = [f"{kind.type}: {name}" for name in names] or [kind.type]
    return [*found, f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"]


@torch.inference_mode()
def matmul_rates(device: torch.device | str = "cpu", repeats: int = 5) -> dict[str, float]:
    """Multiplications and additions a second, in billions, of a matrix product in float32 and in bfloat16.

    The fastest of `repeats`; about a fifth of a second in all on two slow cores.
    """
    rows, inner, outer = SHAPE
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(shape, dtype=dtype, device=device) for shape in ((rows, inner), (outer, inner)))
        best = float("inf")
        for _ in range(repeats + 1):
            began = time.perf_counter()
            torch.nn.functional.linear(a, b)
            settle(device)
            best = min(best, time.perf_counter() - began)
        rates[str(dtype).removeprefix("torch.")] = 2 * rows * inner * outer / best / 1e9
    return rates


def faster_dtype(rates: dict[str, float]) -> str:
    """The dtype that multiplies faster; bfloat16 does so where the processor has instructions for it."""
    return max(rates, key=lambda name: rates[name])


def compiler() -> str | None:
    """The C++ compiler that torch.compile needs on a CPU; None where there is none."""
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "clang++") if name and (path := shutil.which(name))), None
    )


def extras() -> dict[str, bool]:
    """Which extras of the package are installed."""
    return {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()}


def hub_reach(timeout: float = 3.0) -> str:
    """Whether the model hub answers, in words; HF_ENDPOINT and HF_HUB_OFFLINE are heeded."""
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return "not asked: HF_HUB_OFFLINE is set"
    where = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((where.hostname or "", where.port or 443), timeout):
            return f"{where.hostname} answers"
    except OSError as error:
        return f"{where.hostname} does not answer ({error.strerror or error}): give folders instead of hub ids"


def facts(*, hub: bool = False) -> dict[str, Any]:
    """All of it as words by what they are about. hub: connect to the model hub as well."""
    rates, found = matmul_rates(), compiler()
    return {
        "devices": "; ".join(devices()),
        "cpu matrix products": f"{rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16: "
        f"diffusion steps are faster in {faster_dtype(rates)} here",
        "torch.compile": found or "no C++ compiler: install g++ or clang",
        "model hub": hub_reach() if hub else "not asked (unmask doctor --hub)",
    } | {
        f"extra {name}": "yes" if have else f"no (pip install 'unmask[{name}]')" for name, have in extras().items()
    }  # fmt: skip
