"""How times are spread over a batch, and the grids."""

import pytest
import torch

from unmask.diffusion import cosine_grid, linear_grid, low_discrepancy, stratified
from unmask.errors import ConfigError


def test_low_discrepancy_covers_the_interval_evenly() -> None:
    t = low_discrepancy(8, 0.75, t_min=0.2)
    gaps = t.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((7,), 0.1, dtype=torch.float64))
    assert t[0].item() == pytest.approx(0.2 + 0.8 * 0.75 / 8)


def test_a_rank_gets_its_own_part_of_the_batch() -> None:
    whole = low_discrepancy(8, 0.3)
    torch.testing.assert_close(low_discrepancy(8, 0.3, torch.tensor([5, 2])), whole[[5, 2]])


def test_an_index_beyond_the_batch_wraps_around() -> None:
    torch.testing.assert_close(low_discrepancy(4, 0.5, torch.tensor([5])), low_discrepancy(4, 0.5)[[1]])


def test_each_low_discrepancy_time_is_uniform() -> None:
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    every = torch.stack([low_discrepancy(4, float(v), t_min=0.0) for v in u]).flatten().sort().values
    assert float((every - (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000).abs().max()) < 1e-9


def test_stratified_puts_one_time_in_each_cell() -> None:
    u = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = stratified(100, u, t_min=0.0)
    assert (t * 100).long().tolist() == list(range(100))
    torch.testing.assert_close(t * 100 - torch.arange(100), u)


@pytest.mark.parametrize("grid", [linear_grid, cosine_grid])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_grids_fall_from_end_to_end(grid, steps: int) -> None:
    t = grid(steps, 0.9, 0.1)
    assert t.shape == (steps + 1,) and t.dtype == torch.float64
    assert t[0].item() == pytest.approx(0.9) and t[-1].item() == pytest.approx(0.1)
    assert bool((t.diff() < 0).all())
    assert grid(steps)[0].item() == 1.0 and grid(steps)[-1].item() == pytest.approx(1e-5)


def test_grid_values() -> None:
    torch.testing.assert_close(linear_grid(4, 1.0, 0.0), torch.tensor([1, 0.75, 0.5, 0.25, 0]).double())
    assert cosine_grid(3, 1.0, 0.0)[1:].tolist() == pytest.approx([3**0.5 / 2, 0.5, 0.0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: low_discrepancy(0, 0.5), "batch of 0"),
        (lambda: low_discrepancy(2, 0.5, t_min=1.0), "t_min is 1.0"),
        (lambda: stratified(2, torch.rand(2), t_min=-0.1), "t_min is -0.1"),
        (lambda: linear_grid(0), "grid of 0 steps"),
        (lambda: cosine_grid(3, 0.2, 0.4), "down to 0.4"),
        (lambda: linear_grid(3, 1.2), "from t = 1.2"),
    ],
)
def test_bad_ranges_are_refused(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
