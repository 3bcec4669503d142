"""What is recorded for CUDA, with a recorder that plays on the CPU: rows, keys, and what a graph reads and writes."""

import pytest
import torch

from sampling.nets import autoregressive, diffusion
from unmask.nn import graphs
from unmask.nn.transformer import Transformer
from unmask.sampling import autoregressive as writing
from unmask.sampling.draws import EXACT, keyed


class Played:
    """Stands for a graph: runs the work again, into the same tensor."""

    def __init__(self, work):
        self.work, self.out, self.plays = work, work().clone(), 0

    def replay(self):
        self.plays += 1
        self.out.copy_(self.work())


@pytest.fixture
def recorded(monkeypatch):
    """All that is recorded in a test."""
    made = []

    def record(work, device, pool=None):
        made.append(Played(work))
        return made[-1], made[-1].out

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(writing, "record", record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return made


def stack_of(model):
    replayed = graphs.Replayed(model.net, lambda h, shared: Transformer.stack(model.net, h, shared))
    model.net.__dict__["stack"] = replayed
    return replayed


def test_rows_are_rounded_up_and_a_graph_serves_all_that_round_alike(recorded):
    plain, fast = (diffusion("x0").to(dtype=torch.float64) for _ in "ab")
    fast.net.load_state_dict(plain.net.state_dict())
    stack_of(fast)
    rng = torch.Generator().manual_seed(0)
    for rows in (3, 4, 1, 3, 2):
        x, t = torch.randint(8, (rows, 12), generator=rng), torch.rand(rows, generator=rng).double()
        for times in (t, t[:1].expand(rows)):
            torch.testing.assert_close(fast.log_p0(x, times), plain.log_p0(x, times), rtol=0, atol=1e-12)
    assert len(recorded) == 5  # times of their own: 4, 2 and (one row, one time) 1; one time: 4 and 2
    assert sum(each.plays for each in recorded) == 10


def test_many_tokens_and_moved_weights_are_not_played_from_an_old_graph(recorded, monkeypatch):
    model = diffusion("x0").to(dtype=torch.float64)
    replayed = stack_of(model)
    x, t = torch.arange(24).view(2, 12) % 8, torch.tensor([0.4]).expand(2)
    first = model.log_p0(x, t)
    model.net.blocks[0].attn_qkv.weight = torch.nn.Parameter(2 * model.net.blocks[0].attn_qkv.weight)
    assert not torch.allclose(model.log_p0(x, t), first) and len(recorded) == 2
    monkeypatch.setattr(graphs, "FEW", 23)
    model.log_p0(x, t)
    assert len(recorded) == len(replayed.recorded) == 2 and [each.plays for each in recorded] == [1, 1]


def test_draws_played_again_are_those_of_the_plain_path(recorded):
    model = autoregressive().to(dtype=torch.float64)
    draws = keyed(3, torch.device("cpu"), seed=1, generator=None, mode=EXACT)
    u, written = draws.uniforms("next", 0, 12), []
    for still in (False, True):
        write, read = writing.Writer(model, model.net.cache(3, 12), draws), torch.full((3, 1), model.bos_id)
        write.still = still
        for i in range(11):
            new = write(read[:, i : i + 1], u[:, i])
            read = torch.cat([read, new[:, None]], 1)
        written.append(read)
    assert torch.equal(*written) and len(recorded) == 1 and recorded[0].plays == 11
