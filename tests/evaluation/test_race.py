"""The float32 race in closed form: against enumeration, against float32 itself, and against simulated runs."""

import math

import pytest
import torch

from unmask.errors import ConfigError
from unmask.evaluation.race import (
    GRID,
    conditionals,
    perplexity_ratio,
    race_effect,
    raced,
    raced_unmask,
    rate,
    step_odds,
    tempered,
    zipf,
    zipf_effect,
)
from unmask.sampling.draws import categorical, race

COARSE = 2.0**-12


def coarse_uniforms(shape: tuple[int, ...], seed: int, grid: float = COARSE) -> torch.Tensor:
    """float32 uniforms in multiples of `grid`: the published ones, with their coarseness in sight."""
    whole = torch.randint(round(1 / grid), shape, generator=torch.Generator().manual_seed(seed))
    return whole.float() * grid


@pytest.mark.parametrize("light", [0.3, 1.0, 4.0, 40.0])
def test_two_choices_by_enumerating_every_pair_of_uniforms(light):
    grid = 2.0**-11
    u = torch.arange(2**11, dtype=torch.float32) * grid
    pairs = torch.cartesian_prod(u, u)
    weights = torch.tensor([[light * grid, 1 - light * grid]])
    wins = (race(weights.expand(len(pairs), -1), pairs) == 0).double().mean()
    law = raced(weights, grid=grid)
    # the closed form takes the heavy one's exponential as continuous; its largest, at u = 0, is 23, not infinite
    assert float(law[0, 0]) == pytest.approx(float(wins), abs=23 * grid * float(weights[0, 0]))
    assert (float(wins) < 0.6 * float(weights[0, 0])) == (light <= 1)
    assert float(law.sum()) == pytest.approx(1)


def test_three_choices_by_enumerating_every_triple_of_uniforms():
    grid = 2.0**-6
    coarse, fine = torch.arange(2**6).float() * grid, (torch.arange(2**10) + 0.5) / 2**10
    triples = torch.cartesian_prod(coarse, coarse, fine)
    weights = torch.tensor([[0.5 * grid, 3 * grid, 1 - 3.5 * grid]])
    wins = torch.bincount(race(weights.expand(len(triples), -1), triples), minlength=3) / len(triples)
    law = raced(weights, grid=grid)[0]
    assert float(law[0]) == pytest.approx(float(wins[0]), rel=0.05)  # terms of order `grid` are left out
    assert float(law[1]) == pytest.approx(float(wins[1]), rel=0.02)
    assert float(wins[0]) < 0.4 * float(weights[0, 0])  # where exact draws would give all of it


@pytest.mark.parametrize("weight", [5e-9, 2e-8, 6e-8, 1e-6])
def test_the_rate_is_the_sum_over_float32s_own_grid(weight):
    """The exponentials as float32 makes them, the 1e-10s in; the mask's taken as continuous."""
    k = torch.arange(1, 200_000, dtype=torch.float64)
    u = (1 - k * GRID).float()
    exponential = (1e-10 - (u + 1e-10).log()).double()
    direct = float((GRID * torch.exp(-exponential * (1 - weight) / weight)).sum())
    assert float(rate(torch.tensor(weight))) == pytest.approx(direct, rel=1e-4)


def test_the_smallest_exponential_is_the_one_the_closed_form_knows():
    """A token beats the mask at u = 1 - 2^-24 only where the mask's exponential is above (d + 1e-10) / w."""
    w = 3e-8
    bound = (GRID + 1e-10) / w
    for factor, winner in ((1.01, 0), (0.99, 1)):
        u = torch.tensor([[1 - GRID, math.exp(-bound * factor)]])
        assert int(race(torch.tensor([[w, 1.0]]), u)) == winner


def test_a_simulated_race_follows_the_law_and_an_exact_draw_loses_nothing():
    n, weights = 1_000_000, torch.tensor([2e-4, 1e-3, 0.05, 0.94875])
    law = raced(weights[None], grid=COARSE)[0]
    wins = torch.bincount(race(weights.expand(n, -1), coarse_uniforms((n, 4), 0)), minlength=4)
    assert bool(((wins - n * law).abs() < 5 * (n * law).sqrt()).all())
    exact = weights.double() / weights.double().sum()
    assert float(wins[0]) < n * exact[0] - 5 * (n * exact[0]).sqrt()
    even = categorical(exact.expand(n, -1), (torch.arange(n) + 0.5) / n)
    assert bool(((torch.bincount(even, minlength=4) - n * exact).abs() < 2).all())


def test_weights_of_one_size_share_evenly_however_light():
    law = raced(torch.full((1, 50), 0.02), grid=2.0**-4)
    torch.testing.assert_close(law, torch.full((1, 50), 0.02, dtype=torch.float64))
    assert float(raced(torch.tensor([[-1.0, 0.0, 2.0]]))[0, 2]) == 1
    with pytest.raises(ConfigError, match="not positive"):
        raced(torch.zeros(1, 3))


def one_run(p: torch.Tensor, odds: list[float], grid: float) -> torch.Tensor:
    """The law of a run, step by step in Python."""
    out, alive = torch.zeros_like(p), 1.0
    for a in odds:
        hazard = rate(a * p, grid=grid)
        out += alive * hazard
        alive *= 1 - float(hazard.sum())
    last = rate(p, grid=grid)
    return out + alive * last / last.sum()


@pytest.mark.parametrize("steps", [1, 7, 200])
def test_the_table_gives_what_a_run_gives_step_by_step(steps):
    p = torch.softmax(4 * torch.randn(3, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), -1)
    laws = raced_unmask(p, steps, grid=2.0**-16)
    for row, law in zip(p, laws, strict=True):
        torch.testing.assert_close(law, one_run(row, step_odds(steps).tolist(), 2.0**-16), rtol=1e-4, atol=1e-9)
        effect = race_effect(row.log()[None], steps, grid=2.0**-16)
        assert effect.entropy_raced == pytest.approx(float(torch.special.entr(law).sum()), abs=1e-4)
        assert effect.cross_raced == pytest.approx(float(-(law * row.log()).sum()), abs=1e-4)
        assert effect.entropy_exact == effect.cross_exact == pytest.approx(float(-(row * row.log()).sum()))


def test_whole_runs_simulated_with_the_published_draw():
    n, steps = 150_000, 48
    p = torch.tensor([0.002, 0.01, 0.1, 0.888])
    token = torch.full((n,), 4)
    for step, a in enumerate(step_odds(steps).tolist()):
        masked = (token == 4).nonzero()[:, 0]
        weights = torch.cat([a * p, torch.tensor([1 - a])])
        token[masked] = race(weights.expand(len(masked), -1), coarse_uniforms((len(masked), 5), step))
    masked = (token == 4).nonzero()[:, 0]
    token[masked] = race(p.expand(len(masked), -1), coarse_uniforms((len(masked), 4), steps))
    law, seen = raced_unmask(p[None], steps, grid=COARSE)[0], torch.bincount(token, minlength=4)
    assert bool(((seen - n * law).abs() < 5 * (n * law * (1 - law)).sqrt()).all())
    assert float(seen[0]) < 0.5 * n * float(p[0])


def test_without_a_grid_nothing_is_lost():
    effect = race_effect(zipf(500), 64, grid=1e-18, shift=0)
    assert effect.entropy_lost == pytest.approx(0, abs=1e-9) and effect.swept < 1e-4
    assert raced_unmask(zipf(500).exp(), 64, grid=1e-18, shift=0)[0].tolist() == pytest.approx(
        zipf(500).exp()[0].tolist(), rel=1e-9
    )


def test_zipf_says_that_it_grows_with_the_vocabulary_and_the_steps():
    """Issue 3: 0.2 nats at V = 4,096 and 1.3 at 50,257; 1.2 where a position that lost its chance is raced again."""
    small, large = zipf_effect(4096, 1024), zipf_effect(50257, 1024)
    assert small.entropy_lost == pytest.approx(0.20, abs=0.005) and large.entropy_lost == pytest.approx(1.21, abs=0.01)
    lost = [zipf_effect(50257, steps).entropy_lost for steps in (16, 64, 256)]
    assert lost == sorted(lost) and lost[-1] < large.entropy_lost
    p, odds = zipf(50257).exp()[0], step_odds(1024)
    unslowed = sum(rate(a * p) / a for a in odds)  # the rates weighed by an exact run's survival
    unslowed = unslowed / unslowed.sum()
    assert large.entropy_exact + float(-torch.special.entr(unslowed).sum()) == pytest.approx(1.30, abs=0.01)


def test_the_predicted_ratio_and_its_share():
    log_p = torch.cat([zipf(2000, s) for s in (0.8, 1.0, 1.2)])
    few, many = (race_effect(log_p, steps, grid=2.0**-20) for steps in (32, 512))
    ratio = perplexity_ratio(few, many)
    changes = many.cross - few.cross
    assert ratio.value == pytest.approx(math.exp(float(changes.mean()))) and ratio.value < 1
    assert ratio.stderr == pytest.approx(ratio.value * float(changes.std()) / math.sqrt(3))
    share, stderr = ratio.share(80.0, 40.0)
    assert share == pytest.approx(math.log(ratio.value) / math.log(0.5)) and stderr > 0
    assert [row.name for row in many.rows("zipf")] == ["race_entropy_lost", "race_perplexity", "race_perplexity_ratio"]
    assert ratio.row("zipf").unit == "ratio"
    with pytest.raises(ConfigError, match="3 and 1 positions"):
        perplexity_ratio(few, race_effect(log_p[:1], 512))
    with pytest.raises(ConfigError, match="positive and differ"):
        ratio.share(80.0, 80.0)


def test_a_sampler_of_its_own_is_judged_by_the_judge():
    q, p = zipf(400, 0.7), zipf(400, 1.1)
    effect = race_effect(p, 256, sampler=q, grid=2.0**-16)
    law = raced_unmask(q.exp(), 256, grid=2.0**-16)
    assert effect.cross_raced == pytest.approx(float(-(law * p).sum()), abs=1e-4)
    assert effect.cross_exact == pytest.approx(float(-(q.exp() * p).sum()))
    assert effect.entropy_exact == pytest.approx(float(-(q.exp() * q).sum()))
    hard = torch.tensor([[0.0, -math.inf, -math.inf]])
    assert race_effect(hard, 16).entropy_raced == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigError, match="laws of shape"):
        race_effect(torch.zeros(0, 4), 16)


def test_a_warmer_judge_stands_in_for_a_weaker_sampler():
    log_p = torch.cat([zipf(500, 1.5), zipf(500, 1.2)])
    T, log_q = tempered(log_p, 60.0, 32)
    assert 1 < T < 4 and race_effect(log_p, 32, sampler=log_q).perplexity_raced == pytest.approx(60.0, rel=1e-3)
    torch.testing.assert_close(log_q, torch.log_softmax(log_p / T, -1))
    with pytest.raises(ConfigError, match="temperatures 1 to 4 give"):
        tempered(log_p, 2.0, 32)


class Counting:
    """A judge that says how many tokens it read, and which came last."""

    name, length, bos_id, device = "counting", 6, 7, torch.device("cpu")

    def hidden(self, ids):
        return torch.stack([torch.full(ids.shape, float(ids.shape[1])), ids.float()], -1)

    def head(self, hidden):
        return hidden @ torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_conditionals_are_taken_at_keyed_positions():
    ids = torch.arange(40).view(4, 10)
    log_p = conditionals(Counting(), ids, 12, seed=1)
    assert log_p.shape == (12, 3) and log_p.dtype == torch.float64
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(12, dtype=torch.float64))
    assert torch.equal(log_p, conditionals(Counting(), ids, 12, seed=1))
    assert not torch.equal(log_p, conditionals(Counting(), ids, 12, seed=2))
    read = (log_p[:, 0] - log_p[:, 2]).round().long()  # tokens read, bos with them
    last = (log_p[:, 1] - log_p[:, 2]).round().long()
    assert bool(((read >= 2) & (read <= 6)).all()) and torch.equal(last // 10, torch.arange(12) % 4)
    assert torch.equal(read, (last % 10 + 2).clamp(max=6))
    short = conditionals(Counting(), ids, 12, seed=1, context=1)
    assert set((short[:, 0] - short[:, 2]).round().long().tolist()) == {2}
    for bad in ({"count": 0}, {"context": 0}):
        with pytest.raises(ConfigError):
            conditionals(Counting(), ids, **({"count": 3, "seed": 0} | bad))
