"""The loader: a pure function of seed and step, each epoch a permutation."""

import numpy as np
import pytest
import torch

from unmask import random
from unmask.errors import ConfigError, DataError
from unmask.text.loader import Loader

N, L = 11, 3
ROWS = np.arange(N * L, dtype=np.uint16).reshape(N, L)


def stream(loader, steps):
    batches = [loader.batch(step) for step in range(steps)]
    return (torch.cat([getattr(b, field) for b in batches]) for field in ("rows", "epoch", "index"))


@pytest.mark.parametrize("size", [1, 4, N, 30])
def test_every_epoch_is_the_permutation_of_its_key(size):
    rows, epoch, index = stream(Loader(ROWS, global_batch=size, seed=5), -(-4 * N // size))
    for each in range(4):
        here = index[each * N : (each + 1) * N]
        assert torch.equal(here, random.permutation(N, random.fold(5, "epoch", each)))
        assert (epoch[each * N : (each + 1) * N] == each).all()
    assert torch.equal(rows, torch.from_numpy(ROWS.astype(np.int64))[index])
    assert rows.dtype == torch.int64


def test_the_order_does_not_depend_on_the_batch_size():
    one, four = (list(stream(Loader(ROWS, global_batch=b, seed=5), 24 // b))[2] for b in (1, 4))
    assert torch.equal(one, four)


def test_a_batch_is_a_function_of_its_step():
    loader = Loader(ROWS, global_batch=4, seed=5)
    forward = [loader.batch(step).index for step in range(20)]
    for step in (19, 3, 11, 0):
        assert torch.equal(Loader(ROWS, global_batch=4, seed=5).batch(step).index, forward[step])
        assert torch.equal(loader.batch(step).index, forward[step])


def test_epochs_and_seeds_differ():
    _, _, a = stream(Loader(ROWS, global_batch=N, seed=5), 2)
    _, _, b = stream(Loader(ROWS, global_batch=N, seed=6), 1)
    assert not torch.equal(a[:N], a[N:])
    assert not torch.equal(a[:N], b)


def test_rows_on_disk_do(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    one, two = (Loader(rows, global_batch=5, seed=1).batch(9) for rows in (ROWS, mapped))
    assert torch.equal(one.rows, two.rows)


def test_what_cannot_be_loaded_is_refused():
    with pytest.raises(DataError, match=r"got \[0, 3\]"):
        Loader(ROWS[:0], global_batch=1, seed=0)
    with pytest.raises(DataError, match=r"got \[3\]"):
        Loader(ROWS[0], global_batch=1, seed=0)
    with pytest.raises(ConfigError, match="global batch of 0 rows"):
        Loader(ROWS, global_batch=0, seed=0)
    with pytest.raises(ConfigError, match="step -1 is below 0"):
        Loader(ROWS, global_batch=1, seed=0).batch(-1)


def test_steps_per_epoch():
    assert Loader(ROWS, global_batch=4, seed=0).steps_per_epoch == N / 4
