"""How many of n positions are masked, and at which level of noise: the bound's integral, ordered by the count.

With m = 1 - alpha(t) and g the loss of a masked position in nats (`terms.bracket_per_token`), the diffusion term of
absorbing noise over t in [t_min, 1] is, with low = m(t_min) and high = m(1),

    int_low^high dm / m  E_{masks ~ m} [ sum over masked of g ]
      = sum_k int_low^high dm  C(n, k) m^(k-1) (1 - m)^(n-k)  E_{sets of k} [ sum of g ].

C(n, k) m^(k-1) (1 - m)^(n-k) = Beta(m; k, n - k + 1) / k, so with g's mean over the k masked positions,

    = sum_k int_low^high dm  Beta(m; k, n - k + 1)  E_{sets of k} [ mean of g ]
      = sum_k w_k  E_{m ~ Beta(k, n - k + 1) in [low, high]}  E_{sets of k} [ mean of g ],

where w_k = I_high(k, n - k + 1) - I_low(k, n - k + 1), I the regularised incomplete beta function. The w_k sum to
n (high - low), since the n densities sum to n. So the truncation to the trained range costs nothing but that k is
drawn in proportion to w_k instead of uniformly; the ends of the range lose a little, all else is 1. I_m(k, n - k + 1)
is also P(Binomial(n, m) >= k), a finite sum, which is how it is computed. Everything is float64.
"""

import torch
from torch import Tensor

_STEPS, _EXACT = 60, 1e-11


def at_least(n: int, m: Tensor) -> Tensor:
    """P(Binomial(n, m) >= k) = I_m(k, n - k + 1) for k = 1..n: [..., n] from m [...] in [0, 1]."""
    k = torch.arange(n + 1, dtype=torch.float64)
    choose = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    m = m.double()[..., None]
    mass = (choose + torch.special.xlogy(k, m) + torch.special.xlog1py(n - k, -m)).exp()
    return mass.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def count_masses(n: int, low: float, high: float) -> Tensor:
    """w_k for k = 1..n: [n], never negative, with the sum n (high - low)."""
    ends = at_least(n, torch.tensor([low, high], dtype=torch.float64))
    return (ends[1] - ends[0]).clamp(min=0)


def count_at(n: int, u: Tensor, low: float, high: float) -> Tensor:
    """The k in 1..n that the inverse CDF of w_k gives for u [P] in [0, 1): [P] int64."""
    summed = count_masses(n, low, high).cumsum(0)
    return torch.searchsorted(summed / summed[-1], u.double(), right=True).clamp(max=n - 1) + 1


def level_at(n: int, k: Tensor, u: Tensor, low: float, high: float) -> Tensor:
    """m ~ Beta(k, n - k + 1) within [low, high] by inverse CDF, for k [P] and u [P] in [0, 1): [P].

    Newton's steps, and the middle of what is left where a step would leave it.
    """
    place, k = (k - 1)[:, None], k.double()
    start, stop = (at_least(n, torch.tensor(end, dtype=torch.float64))[place[:, 0]] for end in (low, high))
    target = start + u.double() * (stop - start)
    scale = torch.lgamma(torch.tensor(n + 1.0, dtype=torch.float64)) - torch.lgamma(k) - torch.lgamma(n - k + 1)
    below, above, m = torch.full_like(target, low), torch.full_like(target, high), (k / (n + 1)).clamp(low, high)
    left = torch.arange(len(m))  # the ones that still move
    for _ in range(_STEPS):
        here, count = m[left], k[left]
        excess = at_least(n, here).gather(-1, place[left])[:, 0] - target[left]
        below[left] = torch.where(excess < 0, here, below[left])
        above[left] = torch.where(excess < 0, above[left], here)
        density = (scale[left] + torch.special.xlogy(count - 1, here) + torch.special.xlog1py(n - count, -here)).exp()
        guess = here - excess / density
        inside = (guess > below[left]) & (guess < above[left])
        m[left] = torch.where(inside, guess, (below[left] + above[left]) / 2)
        left = left[(m[left] - here).abs() > _EXACT]
        if not len(left):
            break
    return m


def counts_and_levels(n: Tensor, u: Tensor, v: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """k and m for rows of n [B] scored positions: [B, K] each, k by u [B, K] and m by v [B, K], uniforms in [0, 1)."""
    k, m = torch.empty(u.shape, dtype=torch.int64), torch.empty(u.shape, dtype=torch.float64)
    for size in n.unique().tolist():
        rows = n == size
        k[rows] = count_at(size, u[rows].flatten(), low, high).view(-1, u.shape[1])
        m[rows] = level_at(size, k[rows].flatten(), v[rows].flatten(), low, high).view(-1, u.shape[1])
    return k, m
