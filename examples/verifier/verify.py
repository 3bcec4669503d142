"""A verifier: accepts a text that names a year between 1700 and 2030, names no other, and whose quotes are closed.

As a function:  unmask sample -n 200 --verifier verify.py:accept --until 5
As a command:   unmask sample -n 200 --verifier "python verify.py" --until 5
"""

import re
import sys

YEAR = re.compile(r"(?<![\d.,-])\d{4}(?![\d.,-]*\d)")


def accept(text: str) -> bool:
    """Whether the text has a well-formed year and balanced quotes."""
    years = [int(year) for year in YEAR.findall(text)]
    straight = text.count('"') % 2 == 0
    curly = text.count("“") == text.count("”")
    return bool(years) and all(1700 <= year <= 2030 for year in years) and straight and curly


if __name__ == "__main__":
    sys.exit(0 if accept(sys.stdin.read()) else 1)
