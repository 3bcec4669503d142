import pytest
import torch

from unmask.diffusion.parametrizations import CleanLogits, RawScore
from unmask.diffusion.processes import Absorbing, Uniform
from unmask.diffusion.schedules import Geometric, LogLinear
from unmask.errors import ConfigError
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.nn.transformer import Transformer, TransformerConfig

V, B, L = 9, 3, 8
T = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def network(states: int, **changes: object) -> Transformer:
    shape = {"num_inputs": states, "num_outputs": states, "width": 16, "depth": 2, "heads": 2, "length": L}
    net = Transformer(TransformerConfig(**shape | changes))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator))
    return net.double().eval()


def absorbing(parametrization=None, **changes) -> DiffusionLM:
    net = network(V + 1, **{"cond_dim": 8} | changes)
    return DiffusionLM(net, Absorbing(V, LogLinear()), parametrization or RawScore(True))


def uniform(parametrization=None) -> DiffusionLM:
    law = Uniform(V, Geometric(1e-4, 6.0))
    return DiffusionLM(network(V, cond_dim=8), law, parametrization or RawScore(False))


MODELS = [
    absorbing(),
    absorbing(RawScore(False)),
    absorbing(CleanLogits()),
    uniform(),
    uniform(CleanLogits()),
]


@pytest.fixture
def xt():
    return torch.randint(V, (B, L), generator=torch.Generator().manual_seed(0))


def noisy(model: DiffusionLM, x: torch.Tensor) -> torch.Tensor:
    return model.process.corrupt(x, T, generator=torch.Generator().manual_seed(1))


def autoregressive(**changes: object) -> AutoregressiveLM:
    return AutoregressiveLM(network(V, block_size=1, **changes), bos_id=V - 1)


@pytest.mark.parametrize("model", MODELS)
def test_asking_at_some_positions_gives_their_rows(model, xt):
    xt = noisy(model, xt)
    at = torch.rand(B, L, generator=torch.Generator().manual_seed(2)) < 0.5
    late = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)  # early enough for every log_p0
    prediction = model.predict(xt, late)
    S = model.process.num_states
    for read, width in (("logits", S), ("log_p0", V), ("log_score", S), ("log_total", None)):
        whole, rows = getattr(prediction, read)(), getattr(prediction, read)(at)
        assert whole.shape == (B, L) + (() if width is None else (width,))
        torch.testing.assert_close(rows, whole[at], rtol=1e-9, atol=1e-9)
    assert torch.equal(model.log_p0(xt, late, at=at), prediction.log_p0(at))
    assert torch.equal(model.log_score(xt, late), prediction.log_score())


@pytest.mark.parametrize("model", MODELS)
def test_the_readings_are_what_they_say(model, xt):
    xt = noisy(model, xt)
    prediction = model.predict(xt, 0.3 * T)
    p0, score = prediction.log_p0().exp(), prediction.log_score()
    torch.testing.assert_close(p0.sum(-1), torch.ones(B, L).double(), rtol=1e-9, atol=0)
    assert (score.gather(-1, xt[..., None]) == 0).all()
    total = (score.exp().sum(-1) - 1).log()
    torch.testing.assert_close(prediction.log_total(), total, rtol=1e-6, atol=1e-6)
    if model.process.commits:
        seen = ~model.process.is_mask(xt)
        assert 0 < seen.sum() < seen.numel()
        assert (p0[seen].gather(-1, xt[seen][:, None]) == 1).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_time_for_each_position_that_is_constant_is_one_for_the_row(model, xt):
    xt = noisy(model, xt)
    torch.testing.assert_close(
        model.log_score(xt, T), model.log_score(xt, T[:, None].expand(B, L)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("at", [torch.ones(B, L), torch.ones(L, dtype=torch.bool), torch.ones(B, dtype=torch.bool)])
def test_at_is_a_mask_of_the_canvas(xt, at):
    with pytest.raises(ConfigError, match="at must be bool of shape"):
        MODELS[0].predict(xt, T).log_p0(at)


def test_the_network_is_told_sigma_or_t_or_nothing(xt):
    law = Absorbing(V, LogLinear())
    told = []
    for conditioning in ("sigma", "t", None):
        net = network(V + 1, cond_dim=None if conditioning is None else 8)
        model = DiffusionLM(net, law, RawScore(True), conditioning=conditioning)
        told.append(model.condition(T))
        expected = net.hidden(xt, told[-1])
        assert torch.equal(model.predict(xt, T).hidden, expected)
    torch.testing.assert_close(told[0], -torch.log(1 - 0.999 * T))
    assert torch.equal(told[1], T) and told[2] is None


def test_a_prediction_runs_the_body_once(xt, monkeypatch):
    model = absorbing()
    calls = []
    run = model.net.hidden
    monkeypatch.setattr(model.net, "hidden", lambda *a, **k: (calls.append(1), run(*a, **k))[1])
    prediction = model.predict(xt, T)
    prediction.log_p0(), prediction.log_score(), prediction.log_total()
    assert len(calls) == 1 and not prediction.hidden.requires_grad


def test_parts_that_do_not_fit():
    law = Absorbing(V, LogLinear())
    with pytest.raises(ConfigError, match="embeds 9 states, the process has 10"):
        DiffusionLM(network(V, cond_dim=8), law, RawScore(True))
    with pytest.raises(ConfigError, match="conditioning None does not fit a network with cond_dim 8"):
        DiffusionLM(network(V + 1, cond_dim=8), law, RawScore(True), conditioning=None)
    with pytest.raises(ConfigError, match="conditioning 'sigma' does not fit a network with cond_dim None"):
        DiffusionLM(network(V + 1), law, RawScore(True))
    with pytest.raises(ConfigError, match="needs a causal network"):
        AutoregressiveLM(network(V), bos_id=0)
    with pytest.raises(ConfigError, match="bos_id 9 is not a token"):
        AutoregressiveLM(network(V, block_size=1), bos_id=V)


@pytest.mark.parametrize("model", [absorbing(), autoregressive()])
def test_moving_and_casting(model):
    assert model.length == L and model.device.type == "cpu"
    assert model.to(dtype=torch.bfloat16) is model
    assert {p.dtype for p in model.net.parameters()} == {torch.bfloat16}
    assert model.to(device="meta").device.type == "meta"


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_nll_is_that_of_each_next_token(xt, positions):
    model = autoregressive(positions=positions)
    nll = model.nll(xt)
    assert nll.shape == (B, L)
    for b in range(B):
        for i in range(L):  # a token at a time: bos, then what came before
            read = torch.cat([torch.tensor([V - 1]), xt[b, :i]])[None]
            expected = -torch.log_softmax(model.net(read)[0, -1], -1)[xt[b, i]]
            assert nll[b, i].item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_chance_of_all_texts_is_one():
    model = autoregressive()
    pairs = torch.cartesian_prod(torch.arange(V), torch.arange(V))
    assert float(torch.exp(-model.nll(pairs).sum(-1)).sum()) == pytest.approx(1, rel=1e-9)


def test_next_logits_follow_the_cache(xt):
    model = autoregressive()
    whole = model.net(xt)
    cache = model.net.cache(B)
    for start, end in ((0, 3), (3, 4), (4, 8)):
        logits = model.next_logits(xt[:, start:end], cache)
        torch.testing.assert_close(logits, whole[:, end - 1], rtol=1e-9, atol=1e-9)
        assert cache.length == end
