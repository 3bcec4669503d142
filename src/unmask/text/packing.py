"""From documents to rows of one length: which rule joins them, and what is left over."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import ConfigError, DataError, unknown
from unmask.text.tokenizers import Tokenizer

Ids = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows to train on or to score. num_tokens counts the tokens of the text, ends of documents included.

    leftover_tokens of them do not fill a last row and are in none: they are counted, never padded. Tokens that a
    packing puts around rows are no part of the text. scored: which positions are scored, None for all of them.
    """

    rows: Ids  # [N, L], uint16 where every id fits, else int32
    num_tokens: int
    num_documents: int
    leftover_tokens: int
    scored: NDArray[np.bool_] | None = None  # [N, L]


def ids_dtype(largest: int) -> type[np.uint16] | type[np.int32]:
    """The smallest type that the rows of a vocabulary are kept in, given its largest id."""
    return np.uint16 if largest <= np.iinfo(np.uint16).max else np.int32


def tokenize(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Ids]:
    """The ids of each document, a list of 1-D arrays, without ends of documents.

    progress, if given, is called after each batch with the documents and the tokens done so far.
    """
    dtype = ids_dtype(tokenizer.vocab_size - 1)
    done: list[Ids] = []
    tokens = 0
    stream = iter(documents)
    while texts := list(islice(stream, batch)):
        ids = [np.asarray(each, dtype=dtype) for each in tokenizer.encode_batch(texts)]
        done += ids
        tokens += sum(each.size for each in ids)
        if progress is not None:
            progress(len(done), tokens)
    return done


def _with_ends(documents: Sequence[Ids], eos_id: int) -> Iterator[Ids]:
    """Each document, and `<|endoftext|>` after each, the last one too."""
    end = np.asarray([eos_id])
    for ids in documents:
        yield ids
        yield end


def _bare(documents: Sequence[Ids], eos_id: int) -> Iterator[Ids]:
    """The documents alone: for a corpus that is one stream of characters, such as text8."""
    yield from documents


@dataclass(frozen=True, eq=False)
class _Cut:
    """How the joined stream [T] is cut: rows [N, L], what is left over, and the positions that are scored."""

    rows: Ids
    leftover: int
    scored: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Frame:
    """What a packing may need: length L, the ids that frame rows, and the step of a sliding window."""

    length: int
    bos_id: int
    eos_id: int
    stride: int


def _plain(stream: Ids, frame: _Frame) -> _Cut:
    """Rows one after the other."""
    count = stream.size // frame.length
    return _Cut(stream[: count * frame.length].reshape(count, frame.length), stream.size % frame.length)


def _framed(stream: Ids, frame: _Frame) -> _Cut:
    """L - 2 tokens a row between a beginning and an end: MDLM's blocks."""
    inner = frame.length - 2
    count = stream.size // inner
    body = stream[: count * inner].reshape(count, inner)
    ends = [np.full((count, 1), each, dtype=stream.dtype) for each in (frame.bos_id, frame.eos_id)]
    return _Cut(np.concatenate([ends[0], body, ends[1]], axis=1), stream.size % inner)


def _framed_given_bos(stream: Ids, frame: _Frame) -> _Cut:
    """`_framed`, the beginning given and not scored."""
    cut = _framed(stream, frame)
    scored = np.ones(cut.rows.shape, dtype=np.bool_)
    scored[:, 0] = False
    return _Cut(cut.rows, cut.leftover, scored)


def _sliding(stream: Ids, frame: _Frame) -> _Cut:
    """A window that moves by `stride`; the last one ends where the text does. Each token is scored once."""
    length, step = frame.length, frame.stride
    starts = [*range(0, stream.size - length, step), stream.size - length]
    rows = stream[np.asarray(starts)[:, None] + np.arange(length)]
    scored, done = np.zeros(rows.shape, dtype=np.bool_), 0
    for row, start in zip(scored, starts, strict=True):
        row[done - start :] = True
        done = start + length
    return _Cut(rows, 0, scored)


@dataclass(frozen=True)
class Packing:
    """How documents are joined, how the stream is cut, and how many of a row's tokens are not of the text."""

    join: Callable[[Sequence[Ids], int], Iterator[Ids]]
    cut: Callable[[Ids, _Frame], _Cut]
    framing: int = 0


PACKINGS: dict[str, Packing] = {
    # Lou et al. 2024: every document ends in <|endoftext|>, all are joined and cut into rows, which may
    # begin and end inside a document. Their code drops a remainder every 1000 documents, this one once.
    "sedd": Packing(_with_ends, _plain),
    "stream": Packing(_bare, _plain),
    # Sahoo et al. 2024: as sedd, but a row is a beginning, L - 2 tokens and an end, all of them scored
    "mdlm": Packing(_with_ends, _framed, 2),
    # Arriola et al. 2025, zero-shot: no ends between documents, the beginning of a row is not scored
    "bd3": Packing(_bare, _framed_given_bos, 2),
    # Radford et al. 2019: a sliding window over the text, so that every token but the first L has a long past
    "stride": Packing(_with_ends, _sliding),
}


def pack(
    documents_ids: Iterable[Sequence[int] | Ids],
    length: int,
    eos_id: int,
    *,
    rule: str = "sedd",
    bos_id: int | None = None,
    stride: int | None = None,
) -> Packed:
    """Join the documents by the rule (a name in PACKINGS) and cut them into rows of `length` tokens.

    bos_id: what begins a row where the rule says so; eos_id if None, as in GPT-2. stride: of the rule `stride`, in
    tokens; half a row if None: every token after the first row is scored with at least length - stride before it.
    ConfigError for an unknown rule, a length below 1 (3 where rows are framed) or a stride outside 1..length;
    DataError if there is not enough for one row.
    """
    if rule not in PACKINGS:
        raise unknown("packing", rule, PACKINGS)
    chosen = PACKINGS[rule]
    if length < chosen.framing + 1:
        raise ConfigError(
            f"rows of {length} tokens cannot be packed", f"ask for a length of at least {chosen.framing + 1}"
        )
    step = max(length // 2, 1) if stride is None else stride
    if not 1 <= step <= length:
        raise ConfigError(f"a window of {length} tokens cannot move by {step}", f"give a stride in 1..{length}")
    documents = [np.asarray(ids, dtype=np.int64) if len(ids) == 0 else np.asarray(ids) for ids in documents_ids]
    parts = list(chosen.join(documents, eos_id))
    tokens = sum(part.size for part in parts)
    if tokens < length - chosen.framing:
        raise DataError(
            f"the corpus holds {tokens} tokens, which does not fill one row of {length}",
            "give more text or a shorter context",
        )
    frame = _Frame(length, eos_id if bos_id is None else bos_id, eos_id, step)
    framing = [frame.bos_id, frame.eos_id] if chosen.framing else []
    dtype = ids_dtype(max(*(int(part.max()) for part in parts if part.size), 0, *framing))
    stream = np.concatenate([part.astype(dtype, copy=False) for part in parts])
    cut = chosen.cut(stream, frame)
    return Packed(cut.rows, tokens, len(documents), cut.leftover, cut.scored)
