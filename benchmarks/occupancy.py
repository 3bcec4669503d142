"""How many of T steps unmask something: L positions fall into T steps alike, one by one and independently.

That is ancestral sampling on an even grid of a log-linear schedule. A step without a position runs no network.
"""


def expected(steps: int, length: int) -> tuple[float, float]:
    """Mean and standard deviation of the number of steps that unmask something: T (1 - (1 - 1/T)^L)."""
    T, empty, pair = steps, (1 - 1 / steps) ** length, max(1 - 2 / steps, 0.0) ** length
    variance = T * empty + T * (T - 1) * pair - (T * empty) ** 2
    return T * (1 - empty), max(variance, 0.0) ** 0.5
