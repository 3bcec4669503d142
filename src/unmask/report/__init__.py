"""Rows, samples and curves into JSON, Markdown and one self-contained page."""
