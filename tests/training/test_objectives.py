"""What a step minimizes, and that its draws are functions of their keys."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unmask.evaluation.likelihood import loss_per_token, nelbo
from unmask.training.objectives import AutoregressiveObjective, Batch, Corruption, objective

from .tiny import KINDS, L, loader, model, rows

CPU = torch.device("cpu")
each = pytest.mark.parametrize("kind", KINDS)
diffusion = pytest.mark.parametrize("kind", [k for k in KINDS if k != "ar"])


def whole(step: int, size: int = 8) -> Batch:
    return Batch.cut(loader(batch=size).batch(step), step, 0, size, CPU)


def parts(step: int, sizes: tuple[int, ...]) -> list[Batch]:
    batch, starts = loader().batch(step), np.cumsum([0, *sizes])
    return [Batch.cut(batch, step, int(a), n, CPU) for a, n in zip(starts, sizes, strict=False)]


@diffusion
@pytest.mark.parametrize("sizes", [(4, 4), (1, 2, 5), (1,) * 8])
def test_the_corruption_does_not_depend_on_how_the_batch_is_cut(kind, sizes):
    goal = objective(model(kind), seed=2)
    one = goal.corrupt(whole(4))
    many = [goal.corrupt(part) for part in parts(4, sizes)]
    assert torch.equal(one.xt, torch.cat([m.xt for m in many]))
    assert torch.equal(one.t, torch.cat([m.t for m in many]))


@each
def test_the_loss_is_a_sum_over_rows_however_the_batch_is_cut_dropout_included(kind):
    goal = objective(model(kind, dropout=0.3, perturbed=True), seed=2).train()
    one = goal(whole(4))
    many = sum(goal(part) for part in parts(4, (3, 5)))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=0)
    assert torch.equal(one, goal(whole(4)))
    assert not torch.allclose(one, goal.eval()(whole(4)), rtol=1e-4)  # dropout was there


def test_dropout_is_keyed_by_seed_step_and_place():
    goal = objective(model("ar", dropout=0.3, perturbed=True), seed=2).train()
    batch = whole(4)
    same_rows = torch.stack([batch.rows[0]] * 8)
    losses = [goal(Batch(same_rows[:1], batch.epoch[:1], batch.index[:1], torch.tensor([p]), 4, 8)) for p in range(3)]
    later = goal(Batch(same_rows[:1], batch.epoch[:1], batch.index[:1], torch.tensor([0]), 5, 8))
    assert len({x.item() for x in [*losses, later]}) == 4


def test_masks_are_keyed_by_seed_epoch_and_sample_and_by_nothing_else():
    goal, other = objective(model(), seed=2), objective(model(), seed=3)
    x, index, zero = torch.from_numpy(rows(40).astype(np.int64)), torch.arange(40), torch.zeros(40, dtype=torch.int64)

    def masked(goal, epoch=0, step=0, shift=0):
        place = (index + shift) % 40
        noisy = goal.corrupt(Batch(x, zero + epoch, index, place, step, 40))
        return goal.model.process.is_mask(noisy.xt), noisy.t

    (a, t_a), (b, t_b) = masked(goal), masked(goal, step=9, shift=17)
    later = (t_b > t_a)[:, None]
    assert bool(torch.where(later, a <= b, b <= a).all())  # one threshold a position: more noise, more masks
    equal_times = masked(goal, epoch=1)[1]
    assert torch.equal(equal_times, t_a) and not torch.equal(masked(goal, epoch=1)[0], a)
    assert not torch.equal(masked(other)[0], a)


def test_a_batch_has_one_time_in_each_equal_cell_and_the_offset_is_of_the_step():
    goal = objective(model(), seed=2, t_min=1e-3)
    times = [goal.corrupt(whole(step)).t for step in range(200)]
    for t in times:
        cells = ((t.sort().values - 1e-3) / (1 - 1e-3) * 8).floor()
        assert cells.tolist() == list(range(8))
        assert t.dtype == torch.float64 and 1e-3 <= float(t.min()) and float(t.max()) < 1
    offset = torch.stack([((t[0] - 1e-3) / (1 - 1e-3) * 8) % 1 for t in times])
    assert len(offset.unique()) == 200 and abs(float(offset.mean()) - 0.5) < 4 / (12 * 200) ** 0.5
    assert torch.equal(objective(model("uniform"), seed=2).corrupt(whole(3)).t, times[3])


def test_each_block_has_uniform_times_of_its_own_evenly_spread_over_the_batch():
    goal = objective(model("blocks"), seed=2, t_min=1e-3)
    times = torch.stack([(goal.corrupt(whole(step)).t - 1e-3) / (1 - 1e-3) for step in range(300)])  # [step, row, L]
    assert times.dtype == torch.float64 and times.shape == (300, 8, L)
    assert torch.equal(times[..., [0, 5, 10]], times[..., [4, 9, 11]])  # blocks of 5, 5 and 2
    each = times[..., [0, 5, 10]]
    assert ((each * 8).floor().sort(1).values == torch.arange(8.0)[:, None]).all()  # one in each cell
    off = (each.mean(0) - 0.5).abs()  # of each place in the batch, [row, block]
    assert float(off.max()) < 4 / (12 * 300) ** 0.5
    assert abs(float(torch.corrcoef(each[:, 0].T)[0, 1])) < 4 / 300**0.5  # two blocks know nothing of each other


@diffusion
def test_the_training_loss_is_the_bounds_integrand_at_the_drawn_noise(kind):
    lm = model(kind, dropout=0.0, perturbed=True)
    goal, batch = objective(lm, seed=2), whole(4)
    noisy = goal.corrupt(batch)
    expected = loss_per_token(lm, batch.rows, noisy.xt, noisy.t).double().sum()
    torch.testing.assert_close(goal(batch).double(), expected, rtol=1e-5, atol=0)
    assert expected > 1


@diffusion
@pytest.mark.parametrize("t_power", [1.0, 2.0])
def test_the_mean_training_loss_is_what_evaluation_calls_the_papers(kind, t_power):
    lm = model(kind, dropout=0.0, perturbed=True)
    goal, few = objective(lm, seed=2, t_min=0.02, t_power=t_power), loader(count=4, batch=400)
    with torch.no_grad():
        losses = torch.stack([goal(Batch.cut(few.batch(s), s, 0, 400, CPU)) / (400 * L) for s in range(20)]).double()
    bound = nelbo(lm, np.tile(rows(4), (200, 1)), times_per_row=8, seed=1, batch_size=400, t_min=0.02)
    error = (float(losses.var()) / 20 + bound.paper_stderr**2) ** 0.5
    assert abs(float(losses.mean()) - bound.paper) < 4 * error < 0.25 * bound.paper


def test_the_autoregressive_loss_is_the_cross_entropy_of_the_next_token():
    lm = model("ar", dropout=0.0, perturbed=True)
    goal, batch = objective(lm, seed=2), whole(4)
    assert isinstance(goal, AutoregressiveObjective)
    total = torch.zeros(())
    for row in batch.rows:
        for i in range(L):
            read = torch.cat([torch.tensor([lm.bos_id]), row[:i]])
            total += F.cross_entropy(lm.net(read[None])[0, -1], row[i])
    torch.testing.assert_close(goal(batch), total, rtol=1e-5, atol=0)


@diffusion
def test_a_batch_without_masks_has_gradients_and_they_are_zero(kind):
    goal = objective(model(kind, dropout=0.0, perturbed=True), seed=2)
    goal.corrupt = lambda batch: Corruption(batch.rows, *torch.tensor([[1e-3], [1.0]], dtype=torch.float64))
    loss = goal(whole(4, size=1))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in goal.net.parameters())
    if kind != "uniform":  # every token of a uniform process may be noise
        assert loss.item() == 0 and not any(p.grad.any() for p in goal.net.parameters())


def test_a_power_draws_more_early_times_and_weighs_them_down():
    plain, early = (objective(model(), seed=2, t_power=p).corrupt(whole(3)) for p in (1.0, 2.0))
    assert torch.equal(plain.weight, torch.ones(8).double())
    s = (plain.t - 1e-3) / (1 - 1e-3)
    torch.testing.assert_close(early.t, 1e-3 + (1 - 1e-3) * s**2)
    torch.testing.assert_close(early.weight, 2 * s)
