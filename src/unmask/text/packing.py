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
    """Rows for training. num_tokens counts every token in, ends of documents included.

    num_tokens = rows.size + leftover_tokens: what does not fill a last row is counted, never padded.
    """

    rows: Ids  # [N, L], uint16 where every id fits, else int32
    num_tokens: int
    num_documents: int
    leftover_tokens: int


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


PACKINGS: dict[str, Callable[[Sequence[Ids], int], Iterator[Ids]]] = {
    # Lou et al. 2024: every document ends in <|endoftext|>, all are joined and cut into rows, which may
    # begin and end inside a document. Their code drops a remainder every 1000 documents, this one once.
    "sedd": _with_ends,
    "stream": _bare,
}


def pack(documents_ids: Iterable[Sequence[int] | Ids], length: int, eos_id: int, *, rule: str = "sedd") -> Packed:
    """Join the documents by the rule (a name in PACKINGS) and cut them into rows of `length` tokens.

    ConfigError for an unknown rule or a length below 1; DataError if there is not enough for one row.
    """
    if rule not in PACKINGS:
        raise unknown("packing", rule, PACKINGS)
    if length < 1:
        raise ConfigError(f"rows of {length} tokens cannot be packed", "ask for a length of at least 1")
    documents = [np.asarray(ids, dtype=np.int64) if len(ids) == 0 else np.asarray(ids) for ids in documents_ids]
    parts = list(PACKINGS[rule](documents, eos_id))
    tokens = sum(part.size for part in parts)
    if tokens < length:
        raise DataError(
            f"the corpus holds {tokens} tokens, which does not fill one row of {length}",
            "give more text or a shorter context",
        )
    dtype = ids_dtype(max(int(part.max()) for part in parts if part.size))
    stream = np.concatenate([part.astype(dtype, copy=False) for part in parts])
    count = tokens // length
    rows = stream[: count * length].reshape(count, length)
    return Packed(rows, tokens, len(documents), tokens - rows.size)
