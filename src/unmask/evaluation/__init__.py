"""Measurements: one file each, returning values with unit, count, standard error, seed and protocol."""

from unmask.evaluation.likelihood import Bound, exact_nll, log_likelihood, nelbo

__all__ = ["Bound", "exact_nll", "log_likelihood", "nelbo"]
