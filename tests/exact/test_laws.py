"""What must hold of every process, by enumeration in a world of 3 tokens x 2 positions, float64."""

import itertools

import pytest
import torch
from torch import Tensor

from unmask.diffusion import Process, Uniform, masked_cross_entropy, score_entropy
from unmask.diffusion.losses import denoising_score_entropy
from unmask.random import uniform

from .world import CLOSED, PROCESSES, TWINS, World

V = 3
WORLD = World.make(V, 2)
EYE = torch.eye(V, dtype=torch.float64)
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
twins = pytest.mark.parametrize(("closed", "matrix"), [(PROCESSES[a], PROCESSES[b]) for a, b in TWINS])


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def kernel(process: Process, sigma: Tensor, since: Tensor | None = None) -> Tensor:
    """exp(sigma Q), or what stands for it where Q changes, from total noise `since` on: [S, S]."""
    return process.transition(torch.arange(process.num_states), sigma, since)


def generator_of(process: Process, sigma: Tensor) -> Tensor:
    """Q at total noise sigma: [S, S], from its columns."""
    columns = process.jump_rates(torch.arange(process.num_states), sigma=sigma, dtype=torch.float64)  # [xt, y]
    return columns.T - columns.sum(0).diag()


@each
def test_marginals_compose(process: Process) -> None:
    sigma_s, sigma_t = process.schedule.sigma(f64(0.3, 0.7))
    k_t = kernel(process, sigma_t)
    torch.testing.assert_close(kernel(process, sigma_s) @ kernel(process, sigma_t - sigma_s, sigma_s), k_t)
    torch.testing.assert_close(process.marginal(EYE[None], f64(0.7))[0], k_t[:V])
    torch.testing.assert_close(k_t.sum(-1), torch.ones(process.num_states, dtype=torch.float64))


@each
def test_rows_and_columns_are_of_one_kernel(process: Process) -> None:
    sigma = f64(0.8)
    for since in (None, f64(0.5)):
        columns = process.transpose_transition(torch.arange(process.num_states), sigma, since)
        torch.testing.assert_close(columns.T, kernel(process, sigma, since))


@each
def test_posterior_is_bayes(process: Process) -> None:
    s, t = f64(0.3), f64(0.7)
    sigma_s, sigma_t = process.schedule.sigma(s), process.schedule.sigma(t)
    early, step, late = (
        kernel(process, sigma_s),
        kernel(process, sigma_t - sigma_s, sigma_s),
        kernel(process, sigma_t),
    )
    tried = 0
    for x0, xt in itertools.product(range(V), range(process.num_states)):
        if late[x0, xt] == 0:
            continue
        want = early[x0] * step[:, xt] / late[x0, xt]
        got = process.posterior(EYE[None, [x0]], torch.tensor([[xt]]), s, t)[0, 0]
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
        tried += 1
    assert tried >= 2 * V


@each
def test_posterior_of_the_bayes_denoiser_leads_back_to_the_marginal(process: Process) -> None:
    """sum over xt of p_t(xt) E q(xs | xt, x0) = p_s(xs); and the score is the ratio of the marginals."""
    s, t = f64(0.2), f64(0.6)
    p0 = f64(0.5, 0.3, 0.2)
    p_t, p_s = process.marginal(p0[None, None], t)[0, 0], process.marginal(p0[None, None], s)[0, 0]
    xt = torch.arange(process.num_states)[None]
    into = process.transpose_transition(xt, process.schedule.sigma(t))[..., :V]
    bayes = p0 * into / (p0 * into).sum(-1, keepdim=True)
    back = process.posterior(bayes, xt, s, t)[0]
    torch.testing.assert_close(p_t @ back, p_s, rtol=1e-9, atol=1e-12)
    neighbour = process.jump_rates(xt, sigma=process.schedule.sigma(t))[0] > 0
    score, ratio = process.score(bayes, xt, t)[0], p_t / p_t[:, None]
    torch.testing.assert_close(score[neighbour], ratio[neighbour], rtol=1e-9, atol=1e-12)


@each
def test_rate_is_the_derivative(process: Process) -> None:
    """dK/dt = K(t) R(t) with R from `rate`: the derivative by a five-point difference of the kernel."""
    t, h = 0.37, 1e-3
    at = process.schedule.sigma(f64(t - 2 * h, t - h, t + h, t + 2 * h))
    k = [kernel(process, s) for s in at]
    slope = (k[0] - 8 * k[1] + 8 * k[2] - k[3]) / (12 * h)
    into = process.rate(f64(t), torch.arange(process.num_states)[None])[0].T  # [y, xt]
    rate = into - into.sum(-1).diag()
    torch.testing.assert_close(kernel(process, process.schedule.sigma(f64(t))) @ rate, slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("process", CLOSED.values(), ids=CLOSED.keys())
def test_jump_rates_are_the_derivative_by_autograd(process: Process) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda sigma: kernel(process, sigma), zero)[..., 0]
    torch.testing.assert_close(slope, generator_of(process, zero))


@each
def test_reverse_rate_balances(process: Process) -> None:
    """p_t(x) R(x -> y) = p_t(y) Q(y -> x), and rows sum to 0."""
    p_t = process.marginal(f64(0.5, 0.3, 0.2)[None, None], f64(0.6))[0, 0]
    sigma = process.schedule.sigma(f64(0.6))
    got = process.reverse_rate(torch.arange(process.num_states), p_t / p_t[:, None], sigma)
    flow = p_t[:, None] * got
    want = (p_t[:, None] * generator_of(process, sigma)).T
    off = ~torch.eye(process.num_states, dtype=torch.bool)
    torch.testing.assert_close(flow[off], want[off])
    torch.testing.assert_close(got.sum(-1), torch.zeros(process.num_states, dtype=torch.float64))


@each
def test_tweedie_of_the_exact_score_is_the_posterior(process: Process) -> None:
    s, t = f64(0.45), f64(0.5)
    p_t = process.marginal(f64(0.5, 0.3, 0.2)[None, None], t)[0, 0]
    p_s = process.marginal(f64(0.5, 0.3, 0.2)[None, None], s)[0, 0]
    early = process.schedule.sigma(s)
    gap = process.schedule.sigma(t) - early
    xt = torch.arange(process.num_states)
    step = process.staggered_score(p_t / p_t[:, None], gap, early) * process.transpose_transition(xt, gap, early)
    want = p_s * kernel(process, gap, early).T / p_t[:, None]
    torch.testing.assert_close(step, want, rtol=1e-9, atol=1e-12)


def mutual_information(process: Process, t: float) -> float:
    """I(x0; xt) of whole texts, nats."""
    xt = torch.tensor(list(itertools.product(range(process.num_states), repeat=WORLD.length)))
    log_q = WORLD.log_likelihood(process, xt, f64(t).expand(len(xt)))  # [X, W]
    q = log_q.exp()
    p_t = q @ WORLD.p
    terms = torch.where(q > 0, q * (log_q - p_t.log()[:, None]), 0.0)
    return float((terms @ WORLD.p).sum())


def mean_loss(process: Process, t: Tensor) -> float:
    """E over x0 and xt of the score entropy of the exact denoiser, summed over positions, at t: [1]."""
    xt = torch.tensor(list(itertools.product(range(process.num_states), repeat=WORLD.length)))
    log_score = process.log_score(WORLD.bayes(process)(xt, t.expand(len(xt))), xt, t.expand(len(xt)))
    q = WORLD.log_likelihood(process, xt, t.expand(len(xt))).exp()
    total = 0.0
    for i, x0 in enumerate(WORLD.tokens):
        seen = q[:, i] > 0
        n = int(seen.sum())
        loss = score_entropy(process, log_score[seen], x0.expand(n, -1), xt[seen], t.expand(n))
        total += float(WORLD.p[i] * (q[seen, i] * loss.sum(1)).sum())
    return total


def integrated_loss(process: Process, t0: float, t1: float, n: int = 48) -> float:
    """Gauss-Legendre in u where t = t0 + (t1 - t0) u^3 tames the logarithm at 0."""
    jacobi = torch.arange(1, n, dtype=torch.float64)
    off = (jacobi / torch.sqrt(4 * jacobi**2 - 1)).diag(1)
    nodes, vectors = torch.linalg.eigh(off + off.T)
    total = 0.0
    for u, weight in zip((nodes + 1) / 2, vectors[0] ** 2, strict=True):
        t = t0 + (t1 - t0) * u**3
        total += float(weight * (t1 - t0) * 3 * u**2) * mean_loss(process, t[None])
    return total


@each
def test_the_bound_is_tight_for_the_exact_denoiser(process: Process) -> None:
    """Over [t0, t1] the loss is the information lost; over [0, 1] it is the data's entropy."""
    lost = mutual_information(process, 0.1) - mutual_information(process, 0.9)
    assert integrated_loss(process, 0.1, 0.9) == pytest.approx(lost, rel=1e-9)
    assert integrated_loss(process, 0.0, 1.0) == pytest.approx(WORLD.entropy, rel=3e-4)


def random_case(process: Process, n: int = 200) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log_p0 [n, 4, V], x0 and xt [n, 4] with xt ~ q(. | x0), t [n]."""
    g = torch.Generator().manual_seed(0)
    x0 = torch.randint(V, (n, 4), generator=g)
    t = torch.rand(n, generator=g, dtype=torch.float64) * 0.98 + 0.01
    log_p0 = torch.log_softmax(2 * torch.randn(n, 4, V, generator=g, dtype=torch.float64), -1)
    return log_p0, x0, process.corrupt(x0, t, generator=g), t


@pytest.mark.parametrize("name", ["absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"])
def test_score_entropy_is_masked_cross_entropy(name: str) -> None:
    process = PROCESSES[name]
    log_p0, x0, xt, t = random_case(process)
    want = masked_cross_entropy(process, log_p0, x0, xt, t)
    torch.testing.assert_close(score_entropy(process, process.log_score(log_p0, xt, t), x0, xt, t), want)
    assert (want > 0).sum() > 150 and (want == 0).sum() > 200


@pytest.mark.parametrize("name", ["uniform-loglinear", "uniform-polynomial"])
def test_score_entropy_is_the_udlm_bound(name: str) -> None:
    """At the plug-in score s_y = xbar_y / xbar_xt; the bound of UDLM and Duo as the latter writes it."""
    process = PROCESSES[name]
    log_p0, x0, xt, t = random_case(process)
    alpha, dalpha = process.alpha(t)[:, None], process.schedule.dalpha(t)[:, None]
    bar = V * alpha[..., None] * EYE[x0] + (1 - alpha[..., None])
    model = V * alpha[..., None] * log_p0.exp() + (1 - alpha[..., None])
    bar_i, model_i = bar.gather(-1, xt[..., None]), model.gather(-1, xt[..., None])
    cross = (bar / bar_i * torch.log(model_i * bar / (model * bar_i))).sum(-1)
    want = dalpha / (V * alpha) * ((V / bar_i - V / model_i)[..., 0] - cross)
    got = score_entropy(process, torch.log(model / model_i), x0, xt, t)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@each
def test_score_entropy_is_the_sum_of_its_definition(process: Process) -> None:
    """sum over y of Q[y, xt] (s - r log s + r (log r - 1)), written out, for any positive scores."""
    _, x0, xt, t = random_case(process)
    log_s = torch.randn(*xt.shape, process.num_states, generator=torch.Generator().manual_seed(3)).double()
    sigma = process.schedule.sigma(t)
    law = process.transition(x0, sigma)
    r = law / law.gather(-1, xt[..., None])
    terms = log_s.exp() - r * log_s + torch.xlogy(r, r) - r
    want = (process.jump_rates(xt, sigma=sigma, dtype=torch.float64) * terms).sum(-1)
    torch.testing.assert_close(denoising_score_entropy(process, log_s, x0, xt, sigma), want)
    rate = process.schedule.dsigma(t)[:, None]
    torch.testing.assert_close(score_entropy(process, log_s, x0, xt, t), rate * want)


@twins
def test_the_matrix_equals_the_closed_form(closed: Process, matrix: Process) -> None:
    log_p0, x0, xt, t = random_case(closed)
    s = 0.6 * t
    score = torch.randn(*xt.shape, closed.num_states, generator=torch.Generator().manual_seed(5)).double().exp()
    sigma = closed.schedule.sigma(t)
    p0 = log_p0.exp()
    assert (matrix.num_states, matrix.mask_id) == (closed.num_states, closed.mask_id)
    for a, b in [
        (closed.marginal(p0, t), matrix.marginal(p0, t)),
        (closed.posterior(p0, xt, s, t), matrix.posterior(p0, xt, s, t)),
        (closed.score(p0, xt, t), matrix.score(p0, xt, t)),
        (closed.log_score(log_p0, xt, t), matrix.log_score(log_p0, xt, t)),
        (closed.rate(t, xt), matrix.rate(t, xt)),
        (closed.reverse_rate(xt, score), matrix.reverse_rate(xt, score)),
        (closed.transition(x0, sigma), matrix.transition(x0, sigma)),
        (closed.transpose_transition(xt, sigma), matrix.transpose_transition(xt, sigma)),
        (closed.staggered_score(score, sigma), matrix.staggered_score(score, sigma)),
        (
            denoising_score_entropy(closed, score.log(), x0, xt, sigma),
            denoising_score_entropy(matrix, score.log(), x0, xt, sigma),
        ),
        (closed.prior_log_prob(xt), matrix.prior_log_prob(xt)),
    ]:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@each
def test_corrupt_is_the_inverse_cdf(process: Process) -> None:
    """Over a grid of n uniforms each state comes n q times, but for the ends of the CDF's pieces."""
    n, t = 10_000, f64(0.4)
    grid = ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    for x0 in range(V):
        xt = process.corrupt(torch.full((1, n), x0), t, u=grid)
        law = torch.bincount(xt[0], minlength=process.num_states) / n
        want = process.marginal(EYE[None, [x0]], t)[0, 0]
        assert float((law - want).abs().max()) < 2.5 / n


@each
def test_corrupt_with_keyed_uniforms_follows_the_marginal(process: Process) -> None:
    n = 40_000
    u = uniform(11, torch.arange(n)[:, None], torch.arange(2))
    x0 = torch.tensor([0, 2]).expand(n, 2)
    t = f64(0.5).expand(n)
    xt = process.corrupt(x0, t, u=u)
    assert torch.equal(xt[:7], process.corrupt(x0[:7], t[:7], u=u[:7]))
    for place, token in ((0, 0), (1, 2)):
        law = torch.bincount(xt[:, place], minlength=process.num_states) / n
        want = process.marginal(EYE[None, [token]], t[:1])[0, 0]
        assert float(((law - want) ** 2 / (want * (1 - want) / n + 1e-12)).max()) < 4.5**2


@each
def test_the_prior_is_the_limit_law(process: Process) -> None:
    log_p = process.prior_log_prob(torch.arange(process.num_states))
    start = torch.full((1, 1, V), 1 / V, dtype=torch.float64)
    late = process.marginal(start, f64(1.0))[0, 0]
    torch.testing.assert_close(log_p.exp().double(), late, rtol=0, atol=1e-4)
    n = 30_000
    grid = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).reshape(-1, 3)
    law = torch.bincount(process.sample_prior((n // 3, 3), u=grid).flatten(), minlength=process.num_states) / n
    assert float((law - log_p.exp()).abs().max()) < 2.5 / n


def test_only_absorbing_noise_commits() -> None:
    commits = {name for name, process in PROCESSES.items() if process.commits}
    assert commits == {"absorbing-loglinear", "absorbing-geometric", "absorbing-cosine"}
    assert not PROCESSES["uniform-loglinear"].is_mask(torch.arange(3)).any()
    assert PROCESSES["matrix-uneven-mask"].is_mask(torch.arange(4)).tolist() == [False] * 3 + [True]


def test_the_averaged_score_differs_from_the_plug_in_for_uniform_noise() -> None:
    """Why the parametrization names it: at a p0 that is no Bayes posterior the two are two models."""
    process = PROCESSES["uniform-loglinear"]
    assert isinstance(process, Uniform)
    log_p0, _, xt, t = random_case(process)
    plug_in = process.marginal(log_p0.exp(), t)
    plug_in = plug_in / plug_in.gather(-1, xt[..., None])
    assert float((process.score(log_p0.exp(), xt, t) / plug_in).log().abs().max()) > 0.1


def test_the_bayes_denoiser_is_bayes() -> None:
    process = PROCESSES["absorbing-loglinear"]
    log_p0 = WORLD.bayes(process)(torch.tensor([[3, 3], [1, 3], [1, 2]]), f64(0.5, 0.5, 0.5))
    joint = WORLD.p.reshape(V, V)
    torch.testing.assert_close(log_p0[0].exp(), torch.stack([joint.sum(1), joint.sum(0)]))
    torch.testing.assert_close(log_p0[1].exp(), torch.stack([EYE[1], joint[1] / joint[1].sum()]))
    torch.testing.assert_close(log_p0[2].exp(), EYE[[1, 2]])
