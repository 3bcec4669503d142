"""How likely a judge finds the continuation of a prompt, given the prompt: "cont. PPL" of tables 5 and 6 of
Deschenaux and Gulcehre 2024.
"""

import dataclasses
import math
import os.path
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unmask.errors import ConfigError, DataError
from unmask.evaluation.mauve import Floats, respelled, same_ids
from unmask.evaluation.results import Row
from unmask.text.token_bytes import token_bytes
from unmask.text.tokenizers import EOS

if TYPE_CHECKING:
    from unmask.evaluation.judge import Judge
    from unmask.text.tokenizers import Tokenizer

Progress = Callable[[int, int], None]
FIRST = 50  # tokens of the continuation that are scored


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What a judge says of the first `tokens` tokens of continuations, given their prompts.

    nats: of each sequence, per token of the generator. perplexity: exp of their mean, stderr by the delta method.
    nats_per_byte: over all bytes scored. route: "ids", or "re-tokenised" where the tokenizers differ. n: sequences
    that have text to score.
    """

    perplexity: float
    stderr: float
    nats_per_token: float
    nats_stderr: float
    nats_per_byte: float
    byte_stderr: float
    n: int
    tokens: int
    route: str
    nats: tuple[float, ...] = dataclasses.field(repr=False, default=())

    def rows(self, model: str, protocol: str, *, seed: int | None = None) -> list[Row]:
        """The perplexity and the nats per byte, as rows."""
        return [
            Row(
                "continuation_perplexity", model, self.perplexity, "perplexity", f"{protocol}; exp of the mean",
                stderr=self.stderr, n=self.n, seed=seed,
            ),
            Row(
                "continuation_nats_per_byte", model, self.nats_per_byte, "nats/byte", f"{protocol}; over all bytes",
                stderr=self.byte_stderr, n=self.n, seed=seed,
            ),
        ]  # fmt: skip


def continuation_nll(
    judge: "Judge",
    tokenizer: "Tokenizer",
    rows: Tensor,
    prompt_tokens: int,
    *,
    tokens: int = FIRST,
    batch: int = 16,
    progress: Progress | None = None,
) -> Continuation:
    """-log p of the first `tokens` tokens behind the prompt, given the prompt, by a judge. rows: [N, P + R] ids.

    Where the tokenizers agree the judge reads the ids and every one of those tokens is scored. Else it reads the text
    of prompt and continuation, tokenized as one, and the judge's tokens count that begin at or behind the prompt's
    last byte: a token that lies across the border counts on neither side. A sequence's nats per byte are of the bytes
    of those tokens; times the continuation's bytes, over its tokens, they are its nats per token of the generator. An
    end of document becomes the judge's own, and has no bytes.

    Raises DataError where rows hold fewer tokens, or no text; ConfigError for a judge whose tokens are not bytes.
    """
    return read_continuations(judge, tokenizer, rows, prompt_tokens, tokens=tokens, batch=batch, progress=progress)[0]


def read_continuations(
    judge: "Judge",
    tokenizer: "Tokenizer",
    rows: Tensor,
    prompt_tokens: int,
    *,
    tokens: int = FIRST,
    max_tokens: int | None = None,
    batch: int = 16,
    progress: Progress | None = None,
) -> tuple[Continuation, Floats]:
    """`continuation_nll`, and what `unmask.evaluation.mauve.features` gives of the same tokens, in one reading.

    The features are of prompt and the first `tokens` tokens, cut to max_tokens of the judge's: [N, D] float32.
    """
    if not 0 < prompt_tokens < rows.shape[1] or not 0 < tokens <= rows.shape[1] - prompt_tokens:
        raise DataError(
            f"rows of {rows.shape[1]} tokens, {prompt_tokens} of them the prompt, have no {tokens} tokens to follow",
            f"score at most {rows.shape[1] - prompt_tokens}",
        )
    same = same_ids(tokenizer, judge.tokenizer)
    sizes = None if same else token_bytes(judge.tokenizer)
    if sizes is None and not same:
        raise ConfigError(
            f"the tokens of the judge {judge.name} do not say which bytes they stand for", "use a byte-level judge"
        )
    read = [
        _reading(judge.tokenizer, tokenizer, row, prompt_tokens, sizes)
        for row in rows[:, : prompt_tokens + tokens].tolist()
    ]
    nats, states = np.zeros(len(read)), [np.empty(0)] * len(read)
    order = sorted(range(len(read)), key=lambda i: len(read[i].ids))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for i, value, state in zip(part, *_judged(judge, [read[i] for i in part], max_tokens), strict=True):
            nats[i], states[i] = value, state
        if progress is not None:
            progress(min(start + batch, len(order)), len(order))
    return _continuation(nats, read, tokens, same), np.stack(states)


@torch.no_grad()
def _judged(judge: "Judge", read: Sequence["_Reading"], max_tokens: int | None) -> tuple[list[float], Floats]:
    """Nats of what counts in each row, and its last state. Logits are made only where they count."""
    ids = [torch.tensor(one.ids) for one in read]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(judge.device)
    hidden = judge.hidden(padded)  # causal: what pads a row on the right changes nothing
    nats = []
    for states, row, one in zip(hidden, padded, read, strict=True):
        last = len(one.ids)
        log_p = torch.log_softmax(judge.head(states[one.first - 1 : last - 1]), -1)
        nats.append(float(-log_p.gather(-1, row[one.first : last, None]).cpu().double().sum()))
    ends = torch.tensor([min(len(one.ids), max_tokens or len(one.ids)) - 1 for one in read])
    return nats, hidden.cpu()[torch.arange(len(read)), ends].float().numpy()


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A row as the judge reads it. first: the first of its tokens that counts; scored: bytes from there on; size:
    bytes of the whole continuation.
    """

    ids: list[int]
    first: int
    scored: int
    size: int


def _reading(
    judges: "Tokenizer", tokenizer: "Tokenizer", row: list[int], prompt_tokens: int, token_sizes: Floats | None
) -> _Reading:
    """token_sizes: bytes of each of the judge's tokens; None where it reads the ids as they are."""
    text = tokenizer.decode(row, keep_special=True)
    # the prompt may end inside a character: then the character belongs to the continuation
    prompt = os.path.commonprefix([tokenizer.decode(row[:prompt_tokens], keep_special=True), text])  # noqa: RUF071
    size = len(text[len(prompt) :].replace(EOS, "").encode())
    if token_sizes is None:
        return _Reading(row, prompt_tokens, size, size)
    spelled = respelled(judges, text)
    sizes = token_sizes[spelled]
    spans = np.where(np.asarray(spelled) == judges.eos_id, 1, sizes)  # so that an end has a place
    begins = np.cumsum(spans) - spans
    first = max(int(np.searchsorted(begins, len(prompt.replace(EOS, "\0").encode()))), 1)
    return _Reading(spelled, first, int(sizes[first:].sum()), size)


def _continuation(nats: Floats, read: Sequence[_Reading], tokens: int, same: bool) -> Continuation:
    scored, size = (np.array([getattr(one, name) for one in read], float) for name in ("scored", "size"))
    kept = (scored > 0) | same  # ids cost nats even where all of them are ends of documents
    if not scored.any():
        raise DataError("none of the continuations has text that can be scored", "score more tokens")
    nats, scored, size = nats[kept], scored[kept], size[kept]
    each = nats / tokens if same else nats / scored * size / tokens
    n = len(each)
    mean, error = float(each.mean()), _stderr(each)
    per_byte = float(nats.sum() / scored.sum())
    byte_error = _stderr(nats - per_byte * scored) / float(scored.mean())  # of a ratio of sums
    return Continuation(
        math.exp(mean), math.exp(mean) * error, mean, error, per_byte, byte_error, n, tokens,
        "ids" if same else "re-tokenised", tuple(each.tolist()),
    )  # fmt: skip


def _stderr(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
