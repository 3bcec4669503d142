"""Randomness as a function of a key: the same key gives the same number, whatever the batch, rank or order.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on int64 tensors, so that
it is the same on every device. A draw is named by what it is for (a stream), a seed and up to three counters.
"""

import hashlib

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def fold(*parts: int | str) -> int:
    """A 63-bit seed from names and numbers, stable across machines and versions of Python."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _philox(counter: list[Tensor], key: int | Tensor) -> list[Tensor]:
    """Ten rounds of Philox4x32. counter: four int64 tensors of values below 2^32; returns four such."""
    a, b, c, d = counter
    k0, k1 = key & _LOW, (key >> 32) & _LOW
    for _ in range(10):
        p, q = a * _M0, c * _M1  # int64 products wrap; their bits are those of the unsigned product
        a, b, c, d = ((q >> 32) & _LOW) ^ b ^ k0, q & _LOW, ((p >> 32) & _LOW) ^ d ^ k1, p & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return [a, b, c, d]


def uniform(seed: int | Tensor, *counters: Tensor | int, device: torch.device | str | None = None) -> Tensor:
    """Uniform numbers in [0, 1), one for each element of the broadcast counters (at most three, each below 2^32).

    seed: 63 bits, or an int64 tensor of such on the counters' device, broadcast against them: rows with a seed each.
    float64 with 53 random bits; float32 with 24 where the device has no float64 (MPS).
    """
    if not 1 <= len(counters) <= 3:
        raise ValueError(f"a draw takes 1 to 3 counters, got {len(counters)}")
    if device is None:
        device = next((c.device for c in counters if isinstance(c, Tensor)), torch.device("cpu"))
    parts = torch.broadcast_tensors(*(torch.as_tensor(c, dtype=torch.int64, device=device) for c in counters))
    words = [p & _LOW for p in parts]
    zero = torch.zeros_like(words[0])
    words += [zero] * (4 - len(words))
    hi, lo, _, _ = _philox(words, seed)
    if torch.device(device).type == "mps":
        return (hi >> 8).to(torch.float32) * 2.0**-24
    return ((hi >> 5).to(torch.float64) * 67108864.0 + (lo >> 6).to(torch.float64)) * 2.0**-53


def permutation(n: int, seed: int) -> Tensor:
    """A random order of range(n), [n] int64, decided by the seed alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
