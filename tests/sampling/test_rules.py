"""The laws of the rules against SEDD's own numbers, and what a transform may change of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unmask.diffusion import Absorbing, Geometric, LogLinear, Process, Uniform
from unmask.errors import ConfigError
from unmask.sampling import RULES
from unmask.sampling.laws import (
    Weigh,
    ancestral_law,
    euler_law,
    reshape_leaving,
    tweedie_clean_law,
    tweedie_law,
)
from unmask.sampling.rules import chunks
from unmask.sampling.transforms import compose, temperature, top_k

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "processes.safetensors")
FAMILIES: dict[str, Process] = {
    "absorb": Absorbing(7, LogLinear(1e-3)),
    "uniform": Uniform(7, Geometric(1e-4, 20.0)),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("key", "law"), [("tweedie_probs", tweedie_law), ("euler_probs", euler_law), ("denoise_probs", tweedie_clean_law)]
)
def test_laws_equal_the_published_codes(family: str, key: str, law: Weigh) -> None:
    process, golden = FAMILIES[family], {k.split(".")[1]: v for k, v in GOLDEN.items() if k.startswith(family)}
    x, t = golden["x"], golden["tt"].double().expand(golden["x"].shape)
    torch.testing.assert_close(process.schedule.sigma(t[:, :1]).float(), golden["sg"], rtol=1e-5, atol=1e-7)
    got = law(process, golden["log_score"], x, t, t - golden["step"].double())
    want = golden[key].double()
    if key == "denoise_probs":  # published with the mask, which is dropped before the draw
        want[..., 7:] = 0
    torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-6)
    assert float((got - golden["log_score"].softmax(-1)).abs().max()) > 0.1  # the comparison can tell laws apart


@pytest.mark.parametrize("family", FAMILIES)
def test_laws_sum_to_one(family: str) -> None:
    process, rng = FAMILIES[family], torch.Generator().manual_seed(0)
    x = torch.randint(process.num_states, (50,), generator=rng)
    log_score = torch.randn(50, process.num_states, generator=rng).scatter(-1, x[:, None], 0.0)
    t, s = torch.full((50,), 0.6).double(), torch.full((50,), 0.4).double()
    log_p0 = torch.randn(50, 7, generator=rng).double().log_softmax(-1)
    for weights in (
        tweedie_law(process, log_score, x, t, s),
        euler_law(process, log_score, x, t, s),
        ancestral_law(process, log_p0, x, t, s),
    ):
        assert weights.dtype == torch.float64
        torch.testing.assert_close(weights.sum(-1), torch.ones(50).double())


def test_a_transform_keeps_the_mass_that_leaves() -> None:
    rng = torch.Generator().manual_seed(0)
    weights, x = torch.rand(20, 9, generator=rng).double(), torch.randint(9, (20,), generator=rng)
    weights[3] = torch.nn.functional.one_hot(x[3], 9).double()  # nothing leaves
    here = x[:, None]
    got = reshape_leaving(weights, x, compose(temperature(0.5), top_k(3)))
    torch.testing.assert_close(got.gather(1, here), weights.gather(1, here), rtol=0, atol=0)
    torch.testing.assert_close(got.sum(-1), weights.sum(-1))
    away = weights.scatter(1, here, 0.0)
    assert ((got.scatter(1, here, 0.0) > 0).sum(1) == (away > 0).sum(1).clamp(max=3)).all()
    best = away.topk(3, -1)
    for i in (0, 1, 2, 4):
        share = best.values[i] ** 2 / (best.values[i] ** 2).sum()
        torch.testing.assert_close(got[i, best.indices[i]], share * away[i].sum())


def test_grids_are_the_published_ones() -> None:
    tweedie, euler, ancestral = (RULES[name](4, 1.0) for name in ("tweedie", "euler", "ancestral"))
    published = torch.linspace(1, 1e-5, 5, dtype=torch.float64)
    for rule in (tweedie, euler):
        torch.testing.assert_close(torch.tensor(rule.times, dtype=torch.float64), published)
    assert ancestral.times == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert RULES["analytic"] is RULES["tweedie"]
    assert RULES["ancestral"](2, 0.5).times == (0.5, 0.25, 0.0)
    with pytest.raises(ConfigError, match="0 steps"):
        RULES["tweedie"](0, 1.0)


def test_chunks_cover_every_position_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.sampling.rules.BYTES", 320)
    at = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    parts = list(chunks(at, 10, at.device))
    assert [int(p.sum()) for p in parts[:-1]] == [4] * (len(parts) - 1) and len(parts) > 3
    values: Tensor = torch.arange(35).view(5, 7)
    assert torch.cat([values[p] for p in parts]).tolist() == values[at].tolist()
    assert list(chunks(torch.zeros_like(at), 10, at.device)) == []
