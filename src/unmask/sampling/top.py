"""How sure the network was of the tokens that became final, and what else it thought of. The loop reads it on demand.

A model that remembers its last answer is put before the loop; the law of the move to clean data is read once more from
that answer. Shapes: B batch, L length, N tokens that became final, k other tokens.
"""

import dataclasses

import torch
from torch import Tensor

from unmask.devices import picked, wide
from unmask.sampling.laws import Reads
from unmask.sampling.rules import Model, Prediction, Run, StandIn, State, chunks, to_clean


@dataclasses.dataclass(frozen=True, eq=False)
class Top:
    """Of the tokens that became final in a frame, in row-major order of `at`.

    Probabilities are the network's own at the state before the frame, before temperature and truncations. at is empty
    where the network did not run.
    """

    at: Tensor  # [B, L] bool
    p: Tensor  # [N] float64: of the token itself
    other: Tensor  # [N, k] int64: the likeliest other tokens, the likeliest first
    other_p: Tensor  # [N, k] float64


class Listening(StandIn):
    """A model that remembers its last answer."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.answer: Prediction | None = None

    def predict(self, xt: Tensor, t: Tensor) -> Prediction:
        """The model's answer, kept."""
        self.answer = self.model.predict(xt, t)
        return self.answer


@torch.inference_mode()
def read_top(run: Run, reads: Reads, before: State | None, tokens: Tensor, at: Tensor, k: int) -> Top:
    """What the last answer of `run.model`, a `Listening`, says of tokens [B, L] at the True positions of `at`.

    before: the state that it was asked about, None where there was none.
    """
    assert isinstance(run.model, Listening)
    answer, run.model.answer = run.model.answer, None
    if answer is None or before is None or not bool(at.any()):
        none = torch.zeros(0, k, dtype=torch.float64)
        return Top(torch.zeros_like(at), none.sum(-1), none.long(), none)
    plain, size = dataclasses.replace(run, reshape=None), run.model.process.vocab_size
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for part in chunks(at, run.model.process.num_states, tokens.device):
        weights = to_clean(reads).law(plain, answer, before, part)[:, :size].clamp(min=0)
        found.append(_likeliest(weights / weights.sum(-1, keepdim=True), picked(tokens, part), k))
    p, other, other_p = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Top(at.clone(), p.double(), other, other_p.double())


@torch.inference_mode()
def next_top(logits: Tensor, new: Tensor, at: Tensor, k: int) -> Top:
    """What an autoregressive model's logits [B, V] say of the tokens new [B], which stand at `at`, one in each row."""
    p, other, other_p = (x.cpu() for x in _likeliest(torch.softmax(wide(logits), -1), new, k))
    return Top(at, p.double(), other, other_p.double())


def _likeliest(law: Tensor, chosen: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the chosen tokens [N] under their laws [N, V]: p [N], and the k likeliest others with theirs, [N, k]."""
    p = law.gather(-1, chosen[:, None])[:, 0]
    other_p, other = law.scatter(-1, chosen[:, None], -1.0).topk(min(k, law.shape[-1] - 1), dim=-1)
    return p, other, other_p
