"""What a number was measured on: the processor, what it can multiply, and how fast it does."""

import time
from typing import Any

import torch

from unmask.devices import settle
from unmask.evaluation.results import cpuinfo, processor

__all__ = ["machine", "processor", "words"]

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
SHAPE = (1024, 768, 3072)  # of a matrix product of the small size: L, D, 4 D


def machine(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> dict[str, Any]:
    """The machine's name, threads, matrix extensions, and GFLOP/s of a matrix product in each dtype."""
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo() if line.startswith("flags")), [])
    known: dict[str, Any] = {"cpu": processor(), "threads": torch.get_num_threads()}
    known |= {"flags": {flag: flag in flags for flag in FLAGS} if flags else None}
    if device.type == "cuda":
        known["accelerator"] = torch.cuda.get_device_name(device)
    return known | {"gflops": {str(d).removeprefix("torch."): round(gflops(device, d)) for d in dtypes}}


def words(found: dict[str, Any]) -> str:
    """One line for people."""
    has = [flag for flag, there in (found["flags"] or {}).items() if there]
    lacks = [flag for flag, there in (found["flags"] or {}).items() if not there]
    speeds = ", ".join(f"{speed} GFLOP/s in {dtype}" for dtype, speed in found["gflops"].items())
    where = found.get("accelerator", f"{found['cpu']}, {found['threads']} threads")
    parts = [f"with {', '.join(has)}" if has else "", f"without {', '.join(lacks)}" if lacks else ""]
    L, D, wide = SHAPE
    return "; ".join(x for x in (where, *parts, f"a product of {L} x {D} and {D} x {wide}: {speeds}") if x)


def gflops(device: torch.device, dtype: torch.dtype, repeats: int = 30) -> float:
    """The fastest of `repeats` products of SHAPE."""
    L, D, wide = SHAPE
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((L, D), (wide, D)))
    fastest = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        torch.nn.functional.linear(a, b)
        settle(device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * L * D * wide / fastest / 1e9
