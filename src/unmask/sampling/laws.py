"""The laws of the grid rules: what one step from t down to s makes of a state.

They are functions of rows: log scores [N, S] or log p0 [N, V], states xt [N], times t and s [N] with s < t; they
return the weights of the next states [N, S], float64 (float32 on MPS), which sum to 1 and which a raw score can
make negative. Shapes: V clean tokens, S states (V, or V + 1 with the mask last), N rows asked for.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import wide
from unmask.diffusion.processes import Process
from unmask.sampling.transforms import Transform

Reads = Literal["score", "p0"]
Weigh = Callable[[Process, Tensor, Tensor, Tensor, Tensor], Tensor]


def tweedie_law(process: Process, log_score: Tensor, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """[s exp(-d Q)]_y exp(d Q)[y, xt] with d = sigma(t) - sigma(s): SEDD's analytic step (Lou et al. 2024, section 4).

    Absorbing, from the mask: (e^d - 1) s_y, and 1 less their sum for the mask, which can be negative.
    """
    since = process.schedule.sigma(wide(s))
    return _tweedie(process, log_score, xt, process.schedule.sigma(wide(t)) - since, since)


def _tweedie(process: Process, log_score: Tensor, xt: Tensor, dsigma: Tensor, since: Tensor | None = None) -> Tensor:
    score = wide(log_score).exp()
    return process.staggered_score(score, dsigma, since) * process.transpose_transition(xt, dsigma, since)


def tweedie_clean_law(process: Process, log_score: Tensor, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The Tweedie step with alpha_s := 1, without the mask: SEDD's last step. Absorbing: s_y up to a constant.

    s is not read. Rows sum to 1 only where no mass was on the mask.
    """
    return _without_mask(process, _tweedie(process, log_score, xt, process.schedule.sigma(wide(t))))


def euler_law(process: Process, log_score: Tensor, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """1[y = xt] + (t - s) dsigma(t) R(xt, y), R the reverse rate: SEDD's Euler step (Lou et al. 2024, section 4).

    The weight of staying is negative where the step is longer than the rate allows.
    """
    t, s = wide(t), wide(s)
    reverse = process.reverse_rate(xt, wide(log_score).exp(), process.schedule.sigma(t))
    flow = reverse * ((t - s) * process.schedule.dsigma(t))[..., None]
    return flow.scatter_add(-1, xt[..., None], torch.ones_like(flow[..., :1]))


def ancestral_law(process: Process, log_p0: Tensor, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """E_{x0 ~ p0} q(xs | xt, x0): D3PM's step (Austin et al. 2021); absorbing: MDLM's, uniform: UDLM's and Duo's."""
    return process.posterior(wide(log_p0).exp(), xt, s, t)


def ancestral_clean_law(process: Process, log_p0: Tensor, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """`ancestral_law` with alpha_s := 1: p0 itself, whatever t, s and xt are; nothing on the mask."""
    return F.pad(wide(log_p0).exp(), (0, process.num_states - process.vocab_size))


def _without_mask(process: Process, weights: Tensor) -> Tensor:
    return weights if process.mask_id is None else F.pad(weights[..., : process.vocab_size], (0, 1))


CLEAN: dict[Reads, Weigh] = {"score": tweedie_clean_law, "p0": ancestral_clean_law}


def reshape_leaving(weights: Tensor, xt: Tensor, reshape: Transform) -> Tensor:
    """Reshape the law of the new token, y != xt, and keep the mass that leaves: [N, S] from weights >= 0."""
    here = xt[..., None]
    away = weights.scatter(-1, here, 0.0)
    mass = away.sum(-1, keepdim=True)
    law = reshape(torch.where(mass > 0, away / mass, 1.0).log()).exp()
    return torch.where(mass > 0, law * mass, 0.0).scatter(-1, here, weights.gather(-1, here))
