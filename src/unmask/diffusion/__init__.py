"""The mathematics of discrete diffusion on tensors: no network, no tokenizer, no file."""

from unmask.diffusion.hybrid import Hybrid
from unmask.diffusion.losses import (
    absorbing_score_entropy_rows,
    denoising_score_entropy,
    masked_cross_entropy,
    score_entropy,
)
from unmask.diffusion.matrix import RateMatrix
from unmask.diffusion.parametrizations import CleanLogits, LeaveOneOut, Parametrization, RawScore
from unmask.diffusion.processes import Absorbing, Process, Uniform
from unmask.diffusion.schedules import SCHEDULES, Cosine, Geometric, Gidd, LogLinear, Polynomial, Schedule
from unmask.diffusion.times import cosine_grid, linear_grid, low_discrepancy, stratified

PROCESSES: dict[str, type[Process]] = {"absorbing": Absorbing, "hybrid": Hybrid, "uniform": Uniform}

__all__ = [
    "PROCESSES",
    "SCHEDULES",
    "Absorbing",
    "CleanLogits",
    "Cosine",
    "Geometric",
    "Gidd",
    "Hybrid",
    "LeaveOneOut",
    "LogLinear",
    "Parametrization",
    "Polynomial",
    "Process",
    "RateMatrix",
    "RawScore",
    "Schedule",
    "Uniform",
    "absorbing_score_entropy_rows",
    "cosine_grid",
    "denoising_score_entropy",
    "linear_grid",
    "low_discrepancy",
    "masked_cross_entropy",
    "score_entropy",
    "stratified",
]
