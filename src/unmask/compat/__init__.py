"""Other people's checkpoints, and the one door to all of them: `load`."""

from unmask.compat.convert import convert
from unmask.compat.load import EMBEDDED, load

__all__ = ["EMBEDDED", "convert", "load"]
