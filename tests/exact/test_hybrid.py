"""GIDD's noise against its own formulas, and the plug-in reading against those of UDLM, Duo and GIDD."""

import itertools

import pytest
import torch
from torch import Tensor

from unmask.diffusion import (
    Absorbing,
    Gidd,
    Hybrid,
    LeaveOneOut,
    LogLinear,
    Process,
    RateMatrix,
    Uniform,
    score_entropy,
)
from unmask.diffusion.matrix import exponential
from unmask.errors import ConfigError

from .test_laws import EYE, f64, generator_of, kernel, random_case
from .world import PROCESSES, World

V = 3
P_UNIFORM = 0.2
GIDD = Hybrid(V, Gidd(P_UNIFORM, 1e-9), P_UNIFORM)
NOISY: dict[str, Process] = {"hybrid": GIDD, "uniform": Uniform(V, LogLinear(1e-6))}
noisy = pytest.mark.parametrize("process", NOISY.values(), ids=NOISY.keys())


def published(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, the mask's mass and all random tokens' mass, as GIDD states them: (1 - t), t and c over 1 + c."""
    c = 2 * P_UNIFORM / (1 - P_UNIFORM) * torch.sqrt(t * (1 - t))
    return (1 - t) / (1 + c), t / (1 + c), c / (1 + c)


def test_the_marginal_is_the_published_one() -> None:
    t = f64(0.1, 0.4, 0.5, 0.9)
    alpha, mask, token = published(t)
    law = GIDD.marginal(EYE.expand(4, V, V), t)
    torch.testing.assert_close(law[..., V], mask[:, None].expand(4, V), rtol=1e-6, atol=0)
    want = alpha[:, None, None] * EYE + (token / V)[:, None, None]
    torch.testing.assert_close(law[..., :V], want, rtol=1e-6, atol=0)
    middle = GIDD.marginal(EYE[:1, :], f64(0.5))[0]
    assert float(V * middle[1]) / float(V * middle[1] + middle[0] - middle[1]) == pytest.approx(
        2 * P_UNIFORM / (1 + P_UNIFORM)
    )


def test_the_kernel_is_the_time_ordered_exponential_of_the_rates() -> None:
    """Many short pieces, each with the rates of its middle: the error falls with the square of the length."""
    start, end = GIDD.schedule.sigma(f64(0.2, 0.8))

    def composed(pieces: int) -> Tensor:
        edges = torch.linspace(float(start), float(end), pieces + 1, dtype=torch.float64)
        out = torch.eye(V + 1, dtype=torch.float64)
        for a, b in itertools.pairwise(edges):
            out = out @ exponential(generator_of(GIDD, (a + b) / 2), (b - a)[None])[0]
        return out

    want = kernel(GIDD, end - start, start)
    coarse, fine = (float((composed(n) - want).abs().max()) for n in (20, 40))
    assert fine < 1e-4 and coarse / fine == pytest.approx(4, rel=0.05)


def test_hardly_any_random_token_is_absorbing_noise() -> None:
    almost, absorbing = Hybrid(V, LogLinear(1e-6), 1e-12), Absorbing(V, LogLinear(1e-6))
    xt, s, t = torch.tensor([[3, 3, 3]]), f64(0.3), f64(0.7)
    p0 = f64(0.5, 0.3, 0.2).expand(1, 3, V)
    torch.testing.assert_close(almost.posterior(p0, xt, s, t), absorbing.posterior(p0, xt, s, t), rtol=0, atol=1e-9)
    q = torch.zeros(V + 1, V + 1, dtype=torch.float64)
    q[:V, V], q[range(V), range(V)] = 1, -1
    matrix = RateMatrix(V, LogLinear(1e-6), q)
    torch.testing.assert_close(almost.marginal(p0, t), matrix.marginal(p0, t), rtol=0, atol=1e-9)


def test_the_bound_is_the_published_one() -> None:
    """w(xt, x0) (KL(q(. | x0) || q(. | x_theta)) + r - log r - 1), with the weights of GIDD's appendix."""
    log_x, x0, xt, t = random_case(GIDD)
    alpha, mask, token = (part[:, None] for part in published(t))
    time = t[:, None]
    c = 2 * P_UNIFORM / (1 - P_UNIFORM) * torch.sqrt(time * (1 - time))
    slope = c * (1 - 2 * time) / (2 * time * (1 - time))
    both = (c + (1 - time) * slope) / (1 - time)
    weight = torch.where(xt == x0, both / V / (1 - time + c / V), both / c)
    weight = torch.where(xt == V, 1 / (time * (1 - time)), weight)

    def noisy_law(x: Tensor) -> Tensor:
        clean = alpha[..., None] * x + token[..., None] / V
        return torch.cat([clean, mask[..., None].expand(*x.shape[:-1], 1)], -1)

    q, model = noisy_law(EYE[x0]), noisy_law(log_x.exp())
    ratio = (q / model).gather(-1, xt[..., None])[..., 0]
    want = weight * ((q * (q / model).log()).sum(-1) + ratio - ratio.log() - 1)
    got = score_entropy(GIDD, LeaveOneOut().log_score(GIDD, log_x, xt, t), x0, xt, t)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@noisy
def test_the_plug_in_is_the_score_and_the_posterior(process: Process) -> None:
    """With x given the others: (alpha x + noise)[y] / (alpha x + noise)[xt], and q(xt | xs) q(xs | x) / q(xt | x)."""
    log_x, _, xt, t = random_case(process)
    s = 0.6 * t
    reading = LeaveOneOut()
    law = process.marginal(log_x.exp(), t)
    want = (law / law.gather(-1, xt[..., None])).log()
    torch.testing.assert_close(reading.log_score(process, log_x, xt, t), want, rtol=1e-8, atol=1e-9)
    sigma_s, sigma_t = process.schedule.sigma(s), process.schedule.sigma(t)
    before = process.marginal(log_x.exp(), s) * process.transpose_transition(xt, sigma_t - sigma_s, sigma_s)
    got = process.posterior(reading.log_p0(process, log_x, xt, t).exp(), xt, s, t)
    torch.testing.assert_close(got, before / before.sum(-1, keepdim=True), rtol=1e-8, atol=1e-10)


@noisy
def test_the_law_given_the_others_is_the_best_network(process: Process) -> None:
    """In an enumerable world: from p(x0 | the other positions), the reading gives p(x0 | all)."""
    world = World.make(V, 2)
    xt = torch.tensor([[0, 2], [1, 1], [2, 0]])
    t = f64(0.3, 0.5, 0.8)
    sigma = process.schedule.sigma(t)[:, None].expand(3, 2)
    seen = process.transpose_transition(xt, sigma)[..., :V]  # [3, 2, V]: q(xt_i | x0)
    joint = world.p.reshape(V, V)
    others = torch.stack(
        [torch.einsum("ab,nb->na", joint, seen[:, 1]), torch.einsum("ab,na->nb", joint, seen[:, 0])], 1
    )
    got = LeaveOneOut().log_p0(process, others.log(), xt, t)
    torch.testing.assert_close(got, world.bayes(process)(xt, t), rtol=1e-9, atol=1e-10)


def test_where_noise_commits_the_reading_is_the_plain_one() -> None:
    process = PROCESSES["absorbing-loglinear"]
    log_x, _, xt, t = random_case(process)
    torch.testing.assert_close(LeaveOneOut().log_p0(process, log_x, xt, t).exp()[xt == V], log_x.exp()[xt == V])
    assert bool((LeaveOneOut().log_p0(process, log_x, xt, t).argmax(-1)[xt < V] == xt[xt < V]).all())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ConfigError, match="p_uniform is"):
        Hybrid(V, LogLinear(), share)


def test_rates_that_change_need_to_know_when() -> None:
    with pytest.raises(ConfigError, match="the rates of hybrid noise change"):
        GIDD.jump_rates(torch.tensor([0]))
