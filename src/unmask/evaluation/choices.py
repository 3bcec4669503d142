"""How likely a diffusion model finds a target after a context: what choosing between answers needs.

The noise hides positions, so a term of the bound can be read off any set of them. With k of n scored positions hidden,
k uniform on 1..n and the set uniform among those of its size, the mean of

    n / k * (sum over the hidden of -log p0 + price)

is the integral over the noise m = 1 - alpha from 0 to 1 of the paper's loss (Lou et al. 2024, arXiv 2310.16834), since
the binomial law of k given m integrates to 1 / k (Ou et al. 2024, arXiv 2406.03736; Nie et al. 2025, arXiv 2502.09992).
Minus that mean is at most log p(target | context). `price` is e^T - 1 - T, T the log of (e^sigma - 1) times the sum of
the scores: what raw scores pay for not being those of a distribution, 0 for a normalized p0. Given k, m follows
Beta(k, n - k + 1), the law of the k-th smallest of n uniforms: the positions of the k smallest are hidden and m is the
k-th, which does not depend on their order. Beyond the trained times, [1e-3, 1], the network is told the nearest one,
and its scores scale with 1 / (e^sigma - 1) from there, so that no part of the integral is left out.

Shapes: R rows (draws of terms), L length of a canvas, N hidden positions, V clean tokens.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from unmask.diffusion.parametrizations import RawScore
from unmask.errors import ConfigError, DataError, unknown
from unmask.evaluation.likelihood import T_MIN
from unmask.evaluation.rows import Progress, evaluating
from unmask.evaluation.terms import before, bracket_per_token
from unmask.model import DiffusionLM
from unmask.random import fold, uniform

MODES = {
    "conditional": "target-conditional sum, a lower bound of log p(target | context) in the mean",
    "joint-difference": "bound of context and target minus bound of the context: a difference of bounds, not a bound",
    "full-mean": "bound of context and target, mean per token",
}
CANVASES = {
    "exact": "context and target",
    "eos": "context, target and an end-of-document token that is given",
    "full": "context, target and masks up to the model's context, which stay masked and are not scored",
}
SIGMAS = {
    "target": "noise of the scored tokens' own process",
    "match": "noise matched to the masked fraction of the canvas",
}
READS = {"score": "raw scores", "p0": "normalized p0"}
GREEDY = {
    "one-pass": "argmax at all target positions at once",
    "left-to-right": "argmax one position after the other, each given those before it",
}
_ROWS = 2**18  # positions of drawn rows that stand in memory at once
_LOGITS = 2**27  # numbers of logits in one pass of the network, at most
_BATCH = 64  # rows in one pass


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How likelihoods are estimated; the names are those of MODES, CANVASES, SIGMAS and READS.

    reads: None is the model's own parametrization. mc: draws for each term. The noise of a draw is a function of
    (seed, question, draw, position counted from the start of the target): the choices of a question share it.
    """

    mode: str = "conditional"
    canvas: str = "exact"
    sigma: str = "target"
    reads: str | None = None
    mc: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("mode", self.mode, MODES),
            ("canvas", self.canvas, CANVASES),
            ("sigma", self.sigma, SIGMAS),
            ("reading", self.reads or "p0", READS),
        ):
            if given not in known:
                raise unknown(kind, given, known)
        if self.mc < 1:
            raise ConfigError(f"mc is {self.mc}", "it counts the draws of the noise for each likelihood: at least 1")

    def words(self, model: DiffusionLM) -> str:
        """Every field, for a row's protocol."""
        reads = READS[self.reading(model)]
        return (
            f"{self.mode} ({MODES[self.mode]}), canvas {self.canvas} ({CANVASES[self.canvas]}), sigma {self.sigma} "
            f"({SIGMAS[self.sigma]}), reads {reads}, {self.mc} draws, common to the choices of a question"
        )

    def reading(self, model: DiffusionLM) -> str:
        """ "score" or "p0"."""
        own = "score" if isinstance(getattr(model, "parametrization", None), RawScore) else "p0"
        return own if self.reads is None else self.reads


@dataclasses.dataclass(frozen=True)
class Request:
    """log p(target | context) is asked. question: below 2^32, the same for all choices of a question."""

    context: tuple[int, ...]
    target: tuple[int, ...]
    question: int = 0


@dataclasses.dataclass(frozen=True)
class Match:
    """Whether greedy decoding gives the target, by either rule of GREEDY."""

    one_pass: bool
    left_to_right: bool

    def by(self, rule: str) -> bool:
        """The answer of a rule by name."""
        if rule not in GREEDY:
            raise unknown("greedy rule", rule, GREEDY)
        return self.one_pass if rule == "one-pass" else self.left_to_right


@dataclasses.dataclass(frozen=True)
class _Term:
    """A canvas: positions start to stop are scored, those before and behind are given, or masks that stay."""

    tokens: tuple[int, ...]
    start: int
    stop: int
    origin: int  # where the target begins: noise is keyed by the distance from it
    question: int


def log_likelihoods(
    model: DiffusionLM,
    requests: Sequence[Request],
    protocol: Protocol = Protocol(),
    *,
    progress: Progress | None = None,
) -> Tensor:
    """An estimate for each request by `protocol.mode`, in nats (full-mean: nats per token), [len(requests)] float64.

    Estimates do not depend on what else is asked but for the rounding of batches. progress: told how many of the
    requests are done. Raises ConfigError for a process without a mask; DataError for a request that is empty, does
    not fit the context, or holds a token that the model does not know.
    """
    check(model, requests, protocol)
    parts = [_terms(model, request, protocol) for request in requests]
    terms = list(dict.fromkeys(term for part in parts for term, _ in part))  # choices share the term of their context
    asked = Counter(part[0][0] for part in parts)
    bounds: dict[_Term, float] = {}
    with evaluating(model):
        for places in _alike([len(term.tokens) for term in terms], protocol.mc):
            some = [terms[place] for place in places]
            bounds.update(zip(some, _bounds(model, some, protocol).tolist(), strict=True))
            if progress is not None:
                progress(sum(asked[term] for term in bounds), len(requests))
    values = [sum(weight * bounds[term] for term, weight in part) for part in parts]
    return torch.tensor(values, dtype=torch.float64)


def greedy_matches(
    model: DiffusionLM,
    requests: Sequence[Request],
    protocol: Protocol = Protocol(),
) -> list[Match]:
    """Whether each target is what the model writes after its context, taking the likeliest tokens.

    The canvas and what the network is told of the noise are the protocol's. Both rules begin with the whole target
    hidden; `left-to-right` reads only as long as the tokens so far are right. Raises as `log_likelihoods`.
    """
    check(model, requests, protocol)
    terms = [_conditional(model, request, protocol) for request in requests]
    one_pass, right = [False] * len(terms), [0] * len(terms)  # right: tokens that left-to-right has got
    with evaluating(model):
        active = list(range(len(terms)))
        while active:
            for places in _alike([len(terms[i].tokens) for i in active], 1):
                some = [active[place] for place in places]
                hits = _hits(model, [terms[i] for i in some], [right[i] for i in some], protocol)
                for i, hit in zip(some, hits, strict=True):
                    one_pass[i] = one_pass[i] or (right[i] == 0 and bool(hit.all()))
                    right[i] = right[i] + 1 if bool(hit[0]) else -1
            active = [i for i in active if 0 <= right[i] < terms[i].stop - terms[i].start]
    return [Match(whole, count > 0) for whole, count in zip(one_pass, right, strict=True)]


def room(model: DiffusionLM, protocol: Protocol) -> int:
    """How many tokens context and target may have together."""
    return model.length - (protocol.canvas == "eos")


def check(model: DiffusionLM, requests: Iterable[Request], protocol: Protocol) -> None:
    """Raises what `log_likelihoods` would, before any work."""
    if not model.process.commits:
        raise ConfigError(
            "likelihoods of a target are estimated from hidden positions, and this model's noise hides none",
            "use a model of absorbing noise",
        )
    if protocol.canvas == "eos" and model.tokenizer is None:
        raise ConfigError("canvas 'eos' needs a tokenizer to know the token, and the model has none", "use 'exact'")
    most = room(model, protocol)
    for request in requests:
        context, target = len(request.context), len(request.target)
        if not target:
            raise DataError("a request with an empty target: nothing to score", "leave it out")
        if context + target > most:
            raise DataError(
                f"a request of {context + target} tokens (context {context}, target {target}) does not fit: the model "
                f"reads {most}",
                "leave the document out, or use a model with a longer context",
            )
        largest = max(*request.context, *request.target, 0)
        if largest >= model.process.vocab_size:
            raise DataError(
                f"a request with the token {largest}: the model has {model.process.vocab_size}",
                "was it encoded with another tokenizer?",
            )


def _conditional(model: DiffusionLM, request: Request, protocol: Protocol) -> _Term:
    return _term(model, request.context, request.target, len(request.context), request.question, protocol)


def _terms(model: DiffusionLM, request: Request, protocol: Protocol) -> list[tuple[_Term, float]]:
    """What a likelihood is the weighted sum of."""
    if protocol.mode == "conditional":
        return [(_conditional(model, request, protocol), 1.0)]
    whole, origin = request.context + request.target, len(request.context)
    joint = _term(model, (), whole, origin, request.question, protocol)
    if protocol.mode == "full-mean":
        return [(joint, 1 / len(whole))]
    if not request.context:
        return [(joint, 1.0)]
    return [(joint, 1.0), (_term(model, (), request.context, origin, request.question, protocol), -1.0)]


def _term(
    model: DiffusionLM, given: tuple[int, ...], scored: tuple[int, ...], origin: int, question: int, protocol: Protocol
) -> _Term:
    tokens = given + scored
    if protocol.canvas == "eos":
        assert model.tokenizer is not None  # checked
        tokens += (model.tokenizer.eos_id,)
    if protocol.canvas == "full":
        tokens += (model.process.num_states - 1,) * (model.length - len(tokens))
    return _Term(tokens, len(given), len(given) + len(scored), origin, question)


def _alike(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """The places of equal lengths together, the longest first, a limited number of positions at a time."""
    groups: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        groups.setdefault(length, []).append(place)
    for length in sorted(groups, reverse=True):
        some = max(1, _ROWS // (rows * length))
        for start in range(0, len(groups[length]), some):
            yield groups[length][start : start + some]


def _time(model: DiffusionLM, noise: Tensor) -> Tensor:
    """The trained time nearest to where a fraction `noise` of the tokens is hidden: float64."""
    return model.process.schedule.inverse(1 - noise.double()).clamp(T_MIN, 1)


def _bounds(model: DiffusionLM, terms: list[_Term], protocol: Protocol) -> Tensor:
    """The estimate of the log-likelihood of each term's scored tokens, [len(terms)] float64; all of one length."""
    x0, xt, hidden, t, weight = draw(model, terms, protocol)
    reads = protocol.reading(model)
    conditioned = getattr(model, "conditioning", "sigma") not in (None, "zero")
    if not conditioned and reads == "p0":
        t = torch.ones_like(t)  # nothing reads it
    if protocol.sigma == "match" or not conditioned:  # rows that hide the same are one row
        which = torch.arange(len(terms)).repeat_interleave(protocol.mc)[:, None]
        _, back = torch.unique(torch.cat([which, t.view(torch.int64)[:, None], xt], 1), dim=0, return_inverse=True)
        first = torch.full((int(back.max()) + 1,), len(back)).scatter_reduce(0, back, torch.arange(len(back)), "amin")
        nats = surprise(model, x0[first], xt[first], hidden[first], t[first], reads)[back]
    else:
        nats = surprise(model, x0, xt, hidden, t, reads)
    return -(weight * nats).view(len(terms), protocol.mc).sum(1)


def draw(model: DiffusionLM, terms: list[_Term], protocol: Protocol) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """mc rows for each term: clean and noised tokens and what is hidden, [R, L] each; times and weights, [R] each."""
    mc, seed = protocol.mc, protocol.seed
    table = torch.tensor([(t.start, t.stop, t.origin, t.question) for t in terms]).repeat_interleave(mc, 0)
    start, stop, origin, question = table.T[..., None]  # each [R, 1]
    count, number = stop - start, torch.arange(mc).repeat(len(terms))[:, None]
    x0 = torch.tensor([t.tokens for t in terms]).repeat_interleave(mc, 0)
    place = torch.arange(x0.shape[1])
    u = uniform(fold(seed, "positions"), question, number, place - origin)
    u = torch.where((place >= start) & (place < stop), u, torch.inf)
    share = (number + uniform(fold(seed, "count"), question, number)) / mc  # stratified over the draws
    k = (1 + (count * share).long()).minimum(count)
    noise = u.sort(1).values.gather(1, k - 1)
    hidden = u <= noise
    noise = torch.where(count == 1, share, noise)  # Beta(1, 1): its quantile is at hand, and spread evenly
    xt = torch.where(hidden, model.process.num_states - 1, x0)
    if protocol.sigma == "match":
        noise = model.process.is_mask(xt).double().mean(1, keepdim=True)
    return x0, xt, hidden, _time(model, noise[:, 0]), (count / (mc * k))[:, 0].double()


def surprise(model: DiffusionLM, x0: Tensor, xt: Tensor, hidden: Tensor, t: Tensor, reads: str) -> Tensor:
    """Sum over the hidden positions of -log p0(x0), and of the price of raw scores: nats, [R] float64."""
    out = []
    for part in _passes(model, x0):
        clean, states, at, times = (z[part].to(model.device) for z in (x0, xt, hidden, t))
        if reads == "score":
            nats = bracket_per_token(model, clean, states, times, at)
        else:
            rows = -model.log_p0(states, times, at=at, **before(model, clean)).gather(-1, clean[at][:, None])[:, 0]
            nats = torch.zeros(at.shape, dtype=torch.float64, device=at.device).masked_scatter(at, rows.double())
        out.append(nats.sum(1).cpu())
    return torch.cat(out)


def _passes(model: DiffusionLM, rows: Tensor) -> Iterable[Tensor]:
    """Which of the rows [R, L] the network reads together."""
    most = _LOGITS // (model.process.num_states * rows.shape[1])
    return torch.arange(len(rows)).split(max(1, min(most, _BATCH)))


def _hits(model: DiffusionLM, terms: list[_Term], right: list[int], protocol: Protocol) -> list[Tensor]:
    """Which of the tokens from the `right`-th on are the likeliest, when they are hidden: a bool tensor a term."""
    x0 = torch.tensor([term.tokens for term in terms])
    place = torch.arange(x0.shape[1])
    start = torch.tensor([term.start + count for term, count in zip(terms, right, strict=True)])[:, None]
    first, stop = torch.tensor([(term.start, term.stop) for term in terms]).T[..., None]
    hidden = (place >= start) & (place < stop)
    xt = torch.where(hidden, model.process.num_states - 1, x0)
    noise = (stop - start) / (stop - first)
    if protocol.sigma == "match":
        noise = model.process.is_mask(xt).double().mean(1, keepdim=True)
    t = _time(model, noise[:, 0])
    found: list[Tensor] = []
    for part in _passes(model, x0):
        at = hidden[part]
        log_p0 = model.log_p0(xt[part].to(model.device), t[part].to(model.device), at=at.to(model.device))
        hit = log_p0.argmax(-1).cpu() == x0[part][at]
        found += hit.split(at.sum(1).tolist())
    return found
