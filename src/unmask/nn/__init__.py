"""Tensors: one transformer body, its cache and its averages. Knows nothing of noise or of text."""
