"""Bounds against the truth: models that know the exact posterior of a small world, and the chain rule."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.tiny import V, model, rows
from unmask.errors import ConfigError
from unmask.evaluation.likelihood import (
    T_MIN,
    diffusion_term,
    exact_nll,
    log_likelihood,
    nelbo,
    normalization,
    prior_kl,
    reconstruction_term,
)

from .exact_models import WORLD, BayesModel, absorbing, uniform

NLL = -WORLD.p.log() / 2  # of every text, nats per token
both = pytest.mark.parametrize("process", [absorbing(), uniform()], ids=["absorbing", "uniform"])


def texts(copies: int) -> torch.Tensor:
    """Every text of the world, `copies` times."""
    return WORLD.tokens.repeat(copies, 1)


def drawn(count: int) -> torch.Tensor:
    """Texts drawn from the world's law."""
    return WORLD.tokens[torch.multinomial(WORLD.p, count, True, generator=torch.Generator().manual_seed(3))]


@both
def test_with_the_exact_posterior_the_bound_is_the_likelihood_of_every_text(process):
    copies = 6000
    found = nelbo(BayesModel(process), texts(copies), times_per_row=4, t_min=1e-4, batch_size=9 * copies)
    values = torch.tensor(found.rows).view(copies, 9)
    error = values.std(0) / copies**0.5
    assert bool(((values.mean(0) - NLL).abs() < 4.5 * error + 2e-4).all())  # the prior costs alpha(1) log V
    assert float(error.max()) < 0.06 < float(NLL.max() - NLL.min()) / 10
    assert not found.exact and found.tokens == 2 * 9 * copies and found.n == 9 * copies


@both
def test_over_the_world_the_bound_is_the_entropy(process):
    found = nelbo(BayesModel(process), drawn(20_000), times_per_row=4, batch_size=20_000)
    assert found.nats_per_token == pytest.approx(WORLD.entropy / 2, abs=4 * found.stderr + 1e-3)
    assert found.stderr < 0.02


@both
def test_a_model_that_is_wrong_is_above_the_entropy(process):
    wrong = BayesModel(process)
    other = dataclasses.replace(WORLD, p=WORLD.p.flip(0))
    wrong.bayes = other.bayes(process)
    found = nelbo(wrong, drawn(10_000), times_per_row=4, batch_size=10_000)
    divergence = float((WORLD.p * (WORLD.p.log() - other.p.log())).sum()) / 2
    assert found.nats_per_token == pytest.approx(WORLD.entropy / 2 + divergence, abs=4 * found.stderr + 1e-3)
    assert divergence > 15 * found.stderr


@both
@pytest.mark.parametrize("t_min", [1e-3, 0.2])
def test_the_reconstruction_is_that_of_enumeration(process, t_min):
    truth, t = BayesModel(process), torch.tensor([t_min]).double()
    states = torch.cartesian_prod(*[torch.arange(process.num_states)] * 2)
    sigma = process.schedule.sigma(t)
    log_p0 = truth.log_p0(states, t.expand(len(states)))
    expected = []
    for x0 in WORLD.tokens:
        q = process.transition(x0, sigma)  # [2, S]
        chance = q[0, states[:, 0]] * q[1, states[:, 1]]
        nll = -log_p0.gather(-1, x0.expand(len(states), 2)[..., None])[..., 0].mean(1)
        expected.append(float((chance * torch.where(chance > 0, nll, 0.0)).sum()))
    copies = 4000
    x = texts(copies)
    found = reconstruction_term(truth, x, torch.arange(len(x)), 5, t_min).view(copies, 9)
    error = found.std(0) / copies**0.5
    assert bool(((found.mean(0) - torch.tensor(expected)).abs() < 4.5 * error + 1e-9).all())
    if process.commits:
        assert float(error.max()) < 0.05 * min(expected)  # one masked position a row is for certain


def test_the_prior_of_absorbing_noise_is_what_is_left_of_the_text_under_its_unigram_law():
    process, law = absorbing(eps=0.01), torch.tensor([0.5, 0.3, 0.2])
    x = torch.tensor([[0, 1], [2, 2]])
    expected = -0.01 * torch.tensor([[0.5, 0.3], [0.2, 0.2]]).double().log()
    torch.testing.assert_close(prior_kl(process, x, law), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(prior_kl(process, x), torch.full((2, 2), 0.01 * math.log(3)).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("eps", [0.5, 1e-3])
def test_the_prior_of_uniform_noise_is_the_divergence_from_the_limit_law(eps):
    process = uniform(eps)
    q = process.transition(torch.arange(3), process.schedule.sigma(torch.ones(1).double()))
    expected = (q * (q.log() + math.log(3))).sum(1)
    torch.testing.assert_close(prior_kl(process, torch.tensor([[0, 2, 2, 1]])), expected[[0, 2, 2, 1]][None])
    assert float(expected.min()) > 0


def test_the_models_own_unigram_is_used_where_none_is_given():
    law, given = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.1, 0.8])
    process, x = absorbing(eps=0.1), drawn(50)

    def prior(own, unigram):
        return nelbo(BayesModel(process, unigram=own), x, unigram=unigram).parts["prior"]

    assert prior(law, None) == pytest.approx(float(prior_kl(process, x, law).mean()))
    assert prior(law, given) == prior(None, given) != prior(law, None)
    assert prior(None, None) == pytest.approx(0.1 * math.log(3))
    with pytest.raises(ConfigError, match=r"unigram has shape \[4\], the model has 3 tokens"):
        prior(None, torch.ones(4) / 4)


@both
def test_the_parts_are_the_sum_and_the_papers_number_is_the_plain_mean(process):
    found = nelbo(BayesModel(process), drawn(300), times_per_row=3)
    assert sum(found.parts.values()) == pytest.approx(found.nats_per_token, rel=1e-12)
    assert found.parts["diffusion"] == pytest.approx((1 - T_MIN) * found.paper, rel=1e-12)
    assert found.nats_per_token == pytest.approx(float(np.mean(found.rows)), rel=1e-12)


@both
def test_the_batch_size_changes_nothing(process):
    x = drawn(37)
    one = nelbo(BayesModel(process), x, batch_size=37)
    for size in (1, 5, 36, 100):
        np.testing.assert_allclose(nelbo(BayesModel(process), x, batch_size=size).rows, one.rows, rtol=1e-12)
    assert nelbo(BayesModel(process), x[:20]).rows == pytest.approx(one.rows[:20], rel=1e-12)


def test_the_seed_decides_the_noise():
    a, b, c = (nelbo(BayesModel(absorbing()), drawn(20), seed=s).rows for s in (1, 1, 2))
    assert a == b != c


def test_times_are_stratified_within_each_row():
    truth = BayesModel(absorbing())
    diffusion_term(truth, drawn(50), torch.arange(50), 8, seed=3, t_min=0.1)
    times = torch.stack([t for _, t in truth.read], 1)  # [50, 8]
    assert times.shape == (50, 8) and times.dtype == torch.float64
    cells = ((times - 0.1) / 0.9 * 8).floor()
    assert cells.tolist() == [list(range(8))] * 50
    within = (times - 0.1) / 0.9 * 8 - cells
    assert len(within.unique()) == 400 and abs(float(within.mean()) - 0.5) < 4 / (12 * 400) ** 0.5


def test_the_standard_error_is_that_of_repetition_and_shrinks_with_rows_and_times():
    def bound(n, seed, times=1):
        return nelbo(BayesModel(absorbing()), drawn(n), seed=seed, times_per_row=times, batch_size=n)

    few, many = bound(250, 0), bound(4000, 0)
    assert many.stderr == pytest.approx(few.stderr / 4, rel=0.35)
    assert bound(4000, 0, times=16).stderr < 0.7 * many.stderr
    blocks = [nelbo(BayesModel(absorbing()), drawn(8000)[k * 100 :][:100], seed=k, batch_size=100) for k in range(80)]
    spread = np.std([b.nats_per_token for b in blocks], ddof=1)
    assert np.mean([b.stderr for b in blocks]) == pytest.approx(spread, rel=0.3)
    assert math.isnan(bound(1, 0).stderr)


def test_the_two_orders_of_the_perplexity():
    found = nelbo(BayesModel(uniform()), drawn(200))
    assert found.perplexity == pytest.approx(math.exp(np.mean(found.rows)))
    assert found.perplexity_mean_exp == pytest.approx(np.mean(np.exp(found.rows)))
    assert found.perplexity_mean_exp > found.perplexity
    assert found.paper_perplexity == pytest.approx(math.exp(found.paper))
    assert found.paper_perplexity_mean_exp >= found.paper_perplexity


def test_a_hopeless_model_has_an_infinite_perplexity_and_no_error():
    lost = BayesModel(absorbing())
    lost.bayes = lambda xt, t: torch.log_softmax(torch.tensor([0.0, -5000.0, -9000.0]).double(), -1).expand(
        *xt.shape, 3
    )
    found = nelbo(lost, torch.full((3, 2), 2))
    assert found.nats_per_token > 800 and found.perplexity == math.inf


def test_an_autoregressive_model_is_scored_by_the_chain_rule():
    lm = model("ar", perturbed=True)
    x = torch.from_numpy(rows(5).astype(np.int64))
    expected = []
    lm.net.eval()
    for row in x:
        total = 0.0
        for i in range(len(row)):
            read = torch.cat([torch.tensor([lm.bos_id]), row[:i]])
            total -= F.log_softmax(lm.net(read[None])[0, -1], -1)[row[i]].item()
        expected.append(total / len(row))
    lm.net.train()  # dropout 0.1 would show
    found = log_likelihood(lm, rows(5), batch_size=2)
    assert found.rows == pytest.approx(expected, rel=1e-5)
    assert found.exact and found.paper == found.nats_per_token and found.parts == {"likelihood": found.nats_per_token}
    assert found.perplexity == pytest.approx(math.exp(np.mean(expected)), rel=1e-5)
    assert lm.net.training and found.stderr == pytest.approx(np.std(expected, ddof=1) / 5**0.5, rel=1e-3)


@pytest.mark.parametrize("kind", ["sedd", "mdlm", "uniform"])
def test_a_network_is_scored_without_dropout_and_without_gradients(kind):
    lm = model(kind, dropout=0.5, perturbed=True)
    lm.net.train()
    a, b = (log_likelihood(lm, rows(6), batch_size=4) for _ in range(2))
    assert a == b and lm.net.training
    assert all(p.grad is None for p in lm.net.parameters())


def test_an_untrained_sedd_model_knows_nothing():
    found = nelbo(model("sedd"), np.tile(rows(20), (20, 1)), times_per_row=4, batch_size=400)
    assert found.nats_per_token == pytest.approx(math.log(V), abs=4 * found.stderr + 1e-3)


class Letters:
    """One byte a token, but the last, which is not text."""

    def decode(self, ids) -> str:
        return "".join(chr(97 + int(i)) for i in ids if int(i) < V - 1)


def test_bits_per_byte_are_all_nats_over_all_bytes():
    lm, x = model("ar"), rows(5)
    lm.tokenizer = Letters()
    found = log_likelihood(lm, x)
    size = int((x != V - 1).sum())
    assert size < x.size and found.bits_per_byte == pytest.approx(found.nats_per_token * x.size / size / math.log(2))
    lm.tokenizer = None
    assert log_likelihood(lm, x).bits_per_byte is None


def test_progress_is_told_to_the_end():
    told = []
    nelbo(BayesModel(absorbing()), drawn(10), batch_size=4, progress=lambda done, of: told.append((done, of)))
    exact_nll(model("ar"), rows(5), batch_size=4, progress=lambda done, of: told.append((done, of)))
    assert told == [(4, 10), (8, 10), (10, 10), (4, 5), (5, 5)]


def test_scores_of_a_distribution_are_normalized_at_every_time():
    found = normalization(BayesModel(absorbing()), drawn(400))
    assert [f.t for f in found] == pytest.approx([k / 10 for k in range(1, 10)])
    for f in found:
        assert f.mean == pytest.approx(1, abs=1e-9) and f.std < 1e-9
        assert f.n == pytest.approx(800 * f.t, abs=4 * (800 * f.t * (1 - f.t)) ** 0.5)


def test_raw_scores_are_not_and_the_measure_says_by_how_much():
    lm = model("sedd", dropout=0.0, perturbed=True)
    with torch.no_grad():
        lm.net.output_layer.linear.bias += math.log(1.5)
    x = torch.from_numpy(rows(30).astype(np.int64))
    (found,) = normalization(lm, x, times=[0.6], batch_size=7)
    again = normalization(lm, x, times=[0.6], batch_size=30)[0]
    assert found.mean == pytest.approx(again.mean, rel=1e-5) and found.n == again.n
    assert found.std > 0.01 and abs(found.mean - 1) > 0.1
    (plain,) = normalization(model("sedd", dropout=0.0), x, times=[0.6])  # before training: a uniform guess
    assert plain.mean == pytest.approx(1, abs=1e-5) and plain.std < 1e-5
    (mdlm,) = normalization(model("mdlm", perturbed=True), x, times=[0.6])
    assert mdlm.mean == pytest.approx(1, abs=1e-5)


def test_only_a_mask_has_such_a_sum():
    with pytest.raises(ConfigError, match="at masked positions only"):
        normalization(model("uniform"), rows(3))


@pytest.mark.parametrize(
    ("x", "given", "words"),
    [
        (torch.zeros(0, 2), {}, r"rows must be \[N, L\] with N >= 1, got \[0, 2\]"),
        (torch.zeros(2), {}, r"rows must be \[N, L\]"),
        (torch.zeros(1, 3), {}, "rows of 3 tokens do not fit the model's context of 2"),
        (torch.tensor([[0, 3]]), {}, "rows hold the ids 0 to 3, the model has 3 tokens"),
        (torch.tensor([[-1, 1]]), {}, "rows hold the ids -1 to 1"),
        (torch.zeros(1, 2), {"times_per_row": 0}, "times_per_row must be at least 1"),
        (torch.zeros(1, 2), {"t_min": 0.0}, r"t_min in \(0, 1\), got 8 and 0.0"),
        (torch.zeros(1, 2), {"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(x, given, words):
    with pytest.raises(ConfigError, match=words):
        nelbo(BayesModel(absorbing()), x, **given)
