"""Likelihoods of a target after a context, against enumeration; choices share their noise; requests do not mix."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from exact.world import World
from training.tiny import L, V, model
from unmask.diffusion import Absorbing, LogLinear
from unmask.errors import ConfigError, DataError
from unmask.evaluation import choices
from unmask.evaluation.choices import Match, Protocol, Request, greedy_matches, log_likelihoods
from unmask.evaluation.terms import loss_per_token

from .exact_models import BayesModel, absorbing, uniform

LONG = World.make(3, 3)
TEXTS = LONG.tokens.tolist()


def conditional(world: World, text: list[int], given: int) -> float:
    """log p(the rest | the first `given` tokens)."""
    prefix = (world.tokens[:, :given] == torch.tensor(text[:given])).all(1)
    return float(world.p[world.index(torch.tensor([text]))[0]].log() - world.p[prefix].sum().log())


def asked(texts: list[list[int]], given: int, copies: int = 1) -> list[Request]:
    return [Request(tuple(text[:given]), tuple(text[given:]), question) for text in texts for question in range(copies)]


class Tempered(BayesModel):
    """The posterior of the world, flattened: laws that belong to no joint law, so that the bound is strict."""

    def log_p0(self, xt, t, *, at=None):
        rows = torch.log_softmax(0.5 * self.bayes(xt, t), -1)
        return rows if at is None else rows[at]


class Clock(BayesModel):
    """-log p0 is the time, whatever the text: what the network is told can be read off the estimate."""

    def __init__(self, length: int, **others) -> None:
        super().__init__(Absorbing(3, LogLinear(1e-6)))
        self.length, self.parts = length, []
        self.__dict__.update(others)

    def log_p0(self, xt, t, *, at=None):
        self.parts.append((xt, t))
        rows = -t[:, None, None].expand(*xt.shape, 3)
        return rows if at is None else rows[at]


def clocked(length: int, request: Request, protocol: Protocol) -> float:
    return -float(log_likelihoods(Clock(length), [request], protocol))


@pytest.mark.parametrize("given", [0, 1])
def test_with_the_exact_posterior_the_mean_is_the_conditional_likelihood(given):
    copies = 400
    found = log_likelihoods(BayesModel(absorbing(), LONG), asked(TEXTS, given, copies), Protocol(mc=8))
    found = found.view(len(TEXTS), copies)
    truth = torch.tensor([conditional(LONG, text, given) for text in TEXTS])
    error = found.std(1) / copies**0.5
    assert bool(((found.mean(1) - truth).abs() < 4.5 * error).all())
    assert float(error.max()) < 0.05 < float(truth.std())


def test_one_target_token_is_exact():
    found = log_likelihoods(BayesModel(absorbing(), LONG), asked(TEXTS, 2), Protocol(mc=1))
    assert found.tolist() == pytest.approx([conditional(LONG, text, 2) for text in TEXTS], abs=1e-9)


def test_the_mean_is_the_enumerated_sum_and_a_bound():
    wrong, text, n, copies = Tempered(absorbing(), LONG), [1, 2, 0], 2, 3000
    expected, by_chain = 0.0, []
    for k in (1, 2):
        for hidden in itertools.combinations(range(1, 3), k):
            at = torch.zeros(1, 3, dtype=torch.bool)
            at[0, list(hidden)] = True
            xt = torch.where(at, 3, torch.tensor([text]))
            nats = -wrong.log_p0(xt, torch.ones(1), at=at).gather(-1, torch.tensor([text])[at][:, None]).sum()
            expected += float(nats) / k / math.comb(n, k)  # k uniform (1 / n), the weight n / k, sets uniform
    found = log_likelihoods(wrong, asked([text], 1, copies), Protocol(mc=4))
    assert -float(found.mean()) == pytest.approx(expected, abs=4.5 * float(found.std()) / copies**0.5)
    for first in (1, 2):  # either order of the two tokens is a law; the bound is the mean over orders of their logs
        one = [1, 3, 3]
        two = [1, *(text[i] if i == first else 3 for i in (1, 2))]
        steps = [(one, first), (two, 3 - first)]
        by_chain.append(sum(float(wrong.log_p0(torch.tensor([x]), torch.ones(1))[0, i, text[i]]) for x, i in steps))
    mixture = math.log(sum(map(math.exp, by_chain)) / 2)
    assert -expected == pytest.approx(sum(by_chain) / 2) and -expected < mixture - 1e-3


def test_raw_scores_give_the_integral_of_the_loss():
    """Against a grid over t of the loss of the bound, all sets of hidden target tokens listed."""
    raw = model("sedd", perturbed=True)
    raw.process = dataclasses.replace(raw.process, schedule=LogLinear(1e-9))  # the trained range is all of [0, 1]
    raw.net.eval()
    n, x0 = 3, torch.tensor([[4, 1, 0, 7, 5, 5, 2]])
    grid = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    total = 0.0
    for hidden in itertools.product((False, True), repeat=n):
        at = torch.tensor([[False] * 4 + list(hidden)])
        if not any(hidden):
            continue
        xt = torch.where(at, V, x0).expand(len(grid), -1)
        chance = grid ** sum(hidden) * (1 - grid) ** (n - sum(hidden))
        with torch.no_grad():
            total += float((chance * loss_per_token(raw, x0.expand(len(grid), -1), xt, grid).double().sum(1)).mean())
    copies = 400
    requests = [Request((4, 1, 0, 7), (5, 5, 2), question) for question in range(copies)]
    found = log_likelihoods(raw, requests, Protocol(mc=8))
    error = float(found.std()) / copies**0.5
    assert -float(found.mean()) == pytest.approx(total, abs=4.5 * error) and error < 0.01 * total
    normal = log_likelihoods(raw, requests, Protocol(mc=8, reads="p0"))
    assert bool((normal > found).all())  # the price of scores that are not those of a distribution


@pytest.mark.parametrize("n", [1, 2, 5])
def test_sigma_target_is_the_noise_of_the_process(n):
    """m is uniform on [0, 1] for every number of tokens, so the mean of the clock is n / 2."""
    copies, request = 1500, Request((0,) * 2, (1,) * n)
    requests = [dataclasses.replace(request, question=i) for i in range(copies)]
    found = -log_likelihoods(Clock(9), requests, Protocol(mc=4))
    assert float(found.mean()) == pytest.approx(n / 2, abs=4.5 * float(found.std()) / copies**0.5)


def test_sigma_match_is_the_masked_share_of_the_canvas():
    request = Request((0, 0), (1, 1))
    assert clocked(9, request, Protocol(mc=2, sigma="match")) == pytest.approx((1 * 2 * 0.25 + 2 * 0.5) / 2, abs=1e-5)
    full = (1 * 2 * 6 / 9 + 2 * 7 / 9) / 2  # 5 places behind stay masked
    assert clocked(9, request, Protocol(mc=2, sigma="match", canvas="full")) == pytest.approx(full, abs=1e-5)


def test_canvases():
    eos = SimpleNamespace(eos_id=2)
    for canvas, length, tail in (("exact", 4, []), ("eos", 5, [2]), ("full", 7, [3, 3, 3])):
        clock = Clock(7, tokenizer=eos)
        log_likelihoods(clock, [Request((0, 1), (1, 1))], Protocol(mc=4, canvas=canvas))
        for xt, _ in clock.parts:
            assert xt.shape[1] == length and xt[:, :2].tolist() == [[0, 1]] * len(xt)
            assert xt[:, 4:].tolist() == [tail] * len(xt)
            assert bool((xt[:, 2:4] == 3).any(1).all())


def test_the_difference_of_bounds():
    """On a canvas filled with masks the exact posterior knows the context's own law too."""
    copies = 500
    found = log_likelihoods(
        BayesModel(absorbing(), LONG), asked([[1, 2, 0]], 1, copies), Protocol("joint-difference", "full", mc=8)
    )
    error = float(found.std()) / copies**0.5
    assert float(found.mean()) == pytest.approx(conditional(LONG, [1, 2, 0], 1), abs=4.5 * error) and error < 0.05


def test_the_mean_of_the_whole():
    whole = log_likelihoods(BayesModel(absorbing(), LONG), asked(TEXTS, 0, 3), Protocol(mc=4))
    requests = [Request((), r.target, r.question) for r in asked(TEXTS, 0, 3)]
    mean = log_likelihoods(BayesModel(absorbing(), LONG), requests, Protocol("full-mean", mc=4))
    assert torch.allclose(mean, whole / 3)
    context_and_target = log_likelihoods(BayesModel(absorbing(), LONG), asked(TEXTS, 1), Protocol("full-mean", mc=600))
    truth = [conditional(LONG, text, 0) / 3 for text in TEXTS]
    assert float((context_and_target - torch.tensor(truth)).abs().mean()) < 0.03


@pytest.mark.parametrize("mode", choices.MODES)
def test_choices_of_a_question_share_their_noise(mode):
    """The same text twice is the same number, also behind a context of another length (the target's noise)."""
    net = model("sedd", perturbed=True)
    twice = log_likelihoods(net, [Request((1, 2), (3, 4, 5), 7)] * 2, Protocol(mode, mc=3))
    assert twice[0] == twice[1]
    other = log_likelihoods(net, [Request((1, 2), (3, 4, 5), 8)], Protocol(mode, mc=3))
    assert abs(float(other[0] - twice[0])) > 1e-6
    clock = Clock(9)
    log_likelihoods(clock, [Request((0,), (1, 1, 1), 7), Request((0, 0, 0), (2, 1, 2), 7)], Protocol(mc=6))
    (long, t_long), (short, t_short) = clock.parts
    assert torch.equal(long[:, 3:] == 3, short[:, 1:] == 3) and torch.equal(t_long, t_short)


def test_requests_do_not_depend_on_their_company():
    net = model("sedd", perturbed=True)
    requests = [Request((1,) * (i % 4), (2, 3, i % V)[: 1 + i % 3], i) for i in range(13)]
    for protocol in (Protocol(mc=3), Protocol("joint-difference", "full", mc=3), Protocol(sigma="match", mc=5)):
        seen: list[tuple[int, int]] = []
        together = log_likelihoods(net, requests, protocol, progress=lambda *at, seen=seen: seen.append(at))
        alone = torch.cat([log_likelihoods(net, [request], protocol) for request in requests])
        assert torch.allclose(together, alone, atol=2e-5)
        assert seen[-1] == (13, 13) and seen == sorted(seen)
    assert net.net.training  # as it was


def test_rows_that_hide_the_same_are_read_once():
    clock = Clock(5, conditioning=None)
    log_likelihoods(clock, [Request((0,), (1,), i) for i in range(4)], Protocol(mc=32))
    assert sum(len(xt) for xt, _ in clock.parts) == 4
    assert {float(t) for _, times in clock.parts for t in times} == {1.0}
    told = Clock(5)
    log_likelihoods(told, [Request((0,), (1,))], Protocol(mc=32))
    assert sum(len(xt) for xt, _ in told.parts) == 32  # each is told another sigma


def test_the_seed_decides():
    net = model("sedd", perturbed=True)
    by_seed = [log_likelihoods(net, [Request((1,), (2, 3))], Protocol(mc=2, seed=s)).item() for s in (0, 0, 1)]
    assert by_seed[0] == by_seed[1] != by_seed[2]


class Greedy(BayesModel):
    """Writes 0 where nothing is known, and after a 0 or 1 the other one."""

    def log_p0(self, xt, t, *, at=None):
        self.read.append((xt, t))
        before = F.pad(xt[:, :-1], (1, 0), value=3)
        likeliest = torch.where(before == 3, 0, (1 - before).clamp(min=0))
        rows = F.one_hot(likeliest, 3).double().log_softmax(-1)
        return rows if at is None else rows[at]


def test_both_greedy_rules():
    writer = Greedy(absorbing())
    writer.length = 6
    found = greedy_matches(
        writer,
        [
            Request((1,), (0, 0, 0)),
            Request((1,), (0, 1, 0)),
            Request((1,), (1, 0)),
            Request((1,), (0,)),
            Request((), (0, 1)),
        ],
    )
    # all at once, places behind a masked one are 0; one by one they alternate
    assert found == [Match(True, False), Match(False, True), Match(False, False), Match(True, True), Match(False, True)]
    assert found[0].by("one-pass") and not found[0].by("left-to-right")
    with pytest.raises(ConfigError, match="unknown greedy rule 'best'"):
        found[0].by("best")


@pytest.mark.parametrize(("sigma", "expected"), [("target", [1, 2 / 3, 1 / 3]), ("match", [0.75, 0.5, 0.25])])
def test_what_left_to_right_is_told(sigma, expected):
    writer = Greedy(absorbing())
    writer.length = 6
    greedy_matches(writer, [Request((1,), (0, 1, 0))], Protocol(sigma=sigma))
    assert [round(float(t), 4) for _, t in writer.read] == pytest.approx(expected, abs=1e-3)
    assert [(xt == 3).sum().item() for xt, _ in writer.read] == [3, 2, 1]


def test_refusals():
    net = model("sedd")
    with pytest.raises(DataError, match=rf"13 tokens \(context 3, target 10\) does not fit: the model reads {L}"):
        log_likelihoods(net, [Request((1,) * 3, (2,) * 10)])
    with pytest.raises(DataError, match="empty target"):
        log_likelihoods(net, [Request((1,), ())])
    with pytest.raises(DataError, match=f"the token {V}: the model has {V}"):
        greedy_matches(net, [Request((1,), (V,))])
    with pytest.raises(ConfigError, match="hides none"):
        log_likelihoods(BayesModel(uniform()), [Request((1,), (2,))])
    with pytest.raises(ConfigError, match="unknown mode 'joint'"):
        Protocol("joint")
    for given in ({"canvas": "small"}, {"sigma": "x"}, {"reads": "logits"}):
        with pytest.raises(ConfigError, match="unknown"):
            Protocol(**given)
    with pytest.raises(ConfigError, match="mc is 0"):
        Protocol(mc=0)
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        log_likelihoods(net, [Request((1,), (2,))], Protocol(canvas="eos"))
    with pytest.raises(DataError, match="reads 11"):  # the end of the document takes a place
        net.tokenizer = SimpleNamespace(eos_id=0)
        log_likelihoods(net, [Request((1,) * 2, (2,) * 10)], Protocol(canvas="eos"))


def test_the_protocol_in_words():
    words = Protocol("joint-difference", "eos", "match", mc=7).words(model("sedd"))
    for part in ("joint-difference", "not a bound", "canvas eos", "sigma match", "raw scores", "7 draws"):
        assert part in words
    assert "normalized p0" in Protocol().words(model("mdlm"))
