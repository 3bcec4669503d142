"""Whole runs by name: what a paper or a twin is, in ten lines each."""
