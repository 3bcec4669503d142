"""Exact likelihoods and greedy text of a judge, with the conventions of lm-eval's `hf` backend.

Shapes: B batch, L length, D width, V tokens, N scored tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.errors import DataError
from unmask.evaluation.judge import Judge
from unmask.evaluation.rows import Progress

Pair = tuple[list[int], list[int]]  # context and target, both with at least one token
_TOKENS = 4096  # read in one pass
_LOGITS = 2**25  # numbers of logits that stand in memory at once


def scores(judge: Judge, pairs: Sequence[Pair], *, progress: Progress | None = None) -> list[tuple[float, bool]]:
    """log p(target | context) in nats, and whether every target token is the likeliest, for each pair.

    Sequences are read side by side, padded on the right, which a causal model does not see. progress: told how many
    are done. Raises DataError for a pair that does not fit the judge's context: nothing is cut.
    """
    for context, target in pairs:
        check(judge, context, target)
    out: list[tuple[float, bool]] = [(0.0, False)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
    done = 0
    while done < len(order):
        longest = sum(map(len, pairs[order[done]]))
        some = order[done : done + max(1, _TOKENS // longest)]
        for i, score in zip(some, _batch(judge, [pairs[i] for i in some]), strict=True):
            out[i] = score
        done += len(some)
        if progress is not None:
            progress(done, len(pairs))
    return out


def check(judge: Judge, context: Sequence[int], target: Sequence[int]) -> None:
    """DataError for a pair with an empty half, or one that is longer than the judge reads."""
    if not context or not target:
        raise DataError("a request with an empty context or target: nothing to score", "leave it out")
    if len(context) + len(target) - 1 > judge.length:  # the last token is not read
        raise DataError(
            f"a request of {len(context) + len(target)} tokens (context {len(context)}, target {len(target)}) does not "
            f"fit: {judge.name} reads {judge.length}",
            "leave the document out, or use a model with a longer context",
        )


@torch.no_grad()
def _batch(judge: Judge, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
    rows = [torch.tensor([*context, *target]) for context, target in pairs]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [B, L + 1]
    at = torch.zeros(len(rows), x.shape[1] - 1, dtype=torch.bool)
    for i, (context, target) in enumerate(pairs):
        at[i, len(context) - 1 : len(context) + len(target) - 1] = True
    hidden = judge.hidden(x[:, :-1].to(judge.device))[at.to(judge.device)]  # [N, D]
    wanted = x[:, 1:][at].to(judge.device)
    nll, hit = [], []
    some = max(1, _LOGITS // judge.tokenizer.vocab_size)
    for part, token in zip(hidden.split(some), wanted.split(some), strict=True):
        logits = judge.head(part)  # [N, V] float32
        nll.append(F.cross_entropy(logits, token, reduction="none").double().cpu())
        hit.append((logits.argmax(-1) == token).cpu())
    lengths = [len(target) for _, target in pairs]
    each = zip(torch.cat(nll).split(lengths), torch.cat(hit).split(lengths), strict=True)
    return [(-float(row.sum()), bool(right.all())) for row, right in each]


@torch.no_grad()
def continuation(
    judge: Judge,
    context: Sequence[int],
    most: int,
    *,
    until: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """At most `most` new tokens after the context, up to the first of `until` or the end of the document.

    temperature 0 takes the likeliest token. DataError where context and new tokens do not fit.
    """
    if not context or len(context) + most > judge.length + 1:
        raise DataError(
            f"a context of {len(context)} tokens and {most} new ones do not fit: {judge.name} reads {judge.length}",
            "ask for fewer tokens (max_gen_toks), or use a model with a longer context",
        )
    generator = torch.Generator().manual_seed(seed)
    read, text = torch.tensor([list(context)], device=judge.device), ""
    for _ in range(most):
        token = _next(judge.head(judge.hidden(read)[:, -1])[0], temperature, generator)
        if token == judge.tokenizer.eos_id:
            break
        read = torch.cat([read, read.new_tensor([[token]])], 1)
        text = judge.tokenizer.decode(read[0, len(context) :])
        if any(stop in text for stop in until if stop):
            break
    return cut(text, until)


def _next(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    law = torch.softmax(logits.double() / temperature, -1).cpu()
    return int(torch.multinomial(law, 1, generator=generator))


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stops."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
