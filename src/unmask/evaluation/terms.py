"""The terms of the diffusion bound: the weighted loss, the reconstruction and the prior.

`scored` [B, L] bool says which positions are scored; None means all. The others are given: they stay clean, are never
noised and cost nothing, so that the bound is one on -log p(scored | given) of the model that fills the scored
positions while the given ones are clamped. A model with blocks sees of the given ones those of earlier blocks and of
its own, none to the right of it.
"""

from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.losses import denoising_score_entropy, score_entropy
from unmask.diffusion.parametrizations import log_expm1_sigma
from unmask.diffusion.processes import Process
from unmask.diffusion.times import spread
from unmask.errors import ConfigError
from unmask.model import Clean, DiffusionLM
from unmask.random import fold, uniform


def mean_over(values: Tensor, scored: Tensor | None) -> Tensor:
    """The mean of values [B, L] over the scored positions of each row, [B] float64."""
    if scored is None:
        return values.double().mean(1)
    return torch.where(scored, values.double(), 0.0).sum(1) / scored.sum(1)


def before(model: DiffusionLM, x0: Tensor) -> dict[str, Any]:
    """The context that a block model scores x0 [B, L] in: the clean blocks before each; nothing for other models.

    One pass then scores all blocks, each at its noise and given the clean ones before it: the sum of their bounds.
    """
    return {"context": Clean(x0)} if getattr(model, "block_size", None) is not None else {}


def corrupted(process: Process, x0: Tensor, t: Tensor, u: Tensor, scored: Tensor | None) -> Tensor:
    """xt ~ q(. | x0) at scored positions, x0 at the others: [B, L]. u: uniforms [B, L]."""
    xt = process.corrupt(x0, t, u=u)
    return xt if scored is None else torch.where(scored, xt, x0)


def loss_per_token(model: DiffusionLM, x0: Tensor, xt: Tensor, t: Tensor, scored: Tensor | None = None) -> Tensor:
    """The weighted score entropy, [B, L], nats per unit of t; computed where it is not zero by construction.

    t: [B], or [B, L] where the blocks of a model with blocks have times of their own.
    """
    at = torch.ones_like(xt, dtype=torch.bool) if scored is None else scored
    if model.process.commits:
        at = at & model.process.is_mask(xt)
    log_score = model.log_score(xt, t, at=at, **before(model, x0))  # [N, S]
    times = spread(t, xt).expand(xt.shape)[at]
    rows = score_entropy(model.process, log_score[:, None], x0[at][:, None], xt[at][:, None], times)[:, 0]
    return torch.zeros(xt.shape, dtype=rows.dtype, device=xt.device).masked_scatter(at, rows)


def bracket_per_token(model: DiffusionLM, x0: Tensor, xt: Tensor, t: Tensor, at: Tensor) -> Tensor:
    """(m / (1 - m)) times the score entropy without its rate, at masked positions `at`, 0 elsewhere: [B, L] nats.

    m = 1 - alpha(t) and m / (1 - m) = e^sigma - 1. For the scores of a distribution it is -log p0(x0); for raw ones
    that plus what their sum is off (SEDD's score entropy; Lou et al. 2024, arXiv 2310.16834).
    """
    log_score = model.log_score(xt, t, at=at, **before(model, x0))  # [N, S]
    times = t[:, None].expand(xt.shape)[at]
    sigma = model.process.schedule.sigma(times)
    rows = denoising_score_entropy(model.process, log_score[:, None], x0[at][:, None], xt[at][:, None], sigma)[:, 0]
    rows = rows.double() * log_expm1_sigma(model.process, times).exp()
    return torch.zeros(xt.shape, dtype=torch.float64, device=xt.device).masked_scatter(at, rows)


def reconstruction_term(
    model: DiffusionLM, x0: Tensor, index: Tensor, seed: int, t_min: float, scored: Tensor | None = None
) -> Tensor:
    """E[-log p(x0 | x_tmin)] under the final step, nats per scored token, [B] float64.

    For a committing process only masked positions contribute, about one in a thousand; so one position a row is
    masked for certain and weighted by the chance that it is.
    """
    t = torch.full((len(x0),), t_min, dtype=torch.float64, device=x0.device)
    position = torch.arange(x0.shape[1], device=x0.device)
    u = uniform(fold(seed, "reconstruction"), index[:, None], position)
    xt = corrupted(model.process, x0, t, u, scored)
    if not model.process.commits:
        nll = -model.log_p0(xt, t, **before(model, x0)).gather(-1, x0[..., None])[..., 0]
        return mean_over(nll, scored)
    among = torch.ones_like(x0, dtype=torch.bool) if scored is None else scored
    chosen = (uniform(fold(seed, "chosen"), index) * among.sum(1)).long()
    at = among & (among.cumsum(1) - 1 == chosen[:, None])
    xt = torch.where(at, model.process.num_states - 1, xt)
    nll = -model.log_p0(xt, t, at=at, **before(model, x0)).gather(-1, x0[at][:, None])[:, 0]
    return (1 - model.process.alpha(t)) * nll.double()


def prior_kl(process: Process, x0: Tensor, unigram: Tensor | None = None) -> Tensor:
    """KL(q(x_1 | x0) || p(x_1)) in nats, [N, L] float64.

    p(x_1) of an absorbing process has mass alpha(1) on clean tokens, spread as `unigram` [V]: without it the
    divergence is infinite, since q leaves alpha(1) there too.
    """
    one = torch.ones((), dtype=torch.float64)
    alpha = float(process.alpha(one))
    if process.commits:
        if unigram is None:
            unigram = torch.full((process.vocab_size,), 1 / process.vocab_size)
        if unigram.shape != (process.vocab_size,):
            raise ConfigError(f"unigram has shape {list(unigram.shape)}, the model has {process.vocab_size} tokens")
        return -alpha * unigram.cpu().double().log()[x0]
    tokens, back = torch.unique(x0, return_inverse=True)
    sigma, log_pi = process.schedule.sigma(one)[None], process.prior_log_prob(torch.arange(process.num_states)).double()
    values = []
    for some in tokens.split(256):  # [256, S] at a time: all of [V, S] would be gigabytes
        q = process.transition(some, sigma)
        values.append((torch.xlogy(q, q) - q * log_pi).sum(-1))
    return torch.cat(values)[back]
