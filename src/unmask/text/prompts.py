"""Prompts from held-out text, each with the words that really follow.

Deschenaux and Gulcehre 2024 (section 5.2, appendix A.4) take 1000 prompts of 50 tokens from WebText's test set and
compare what a model writes behind them with the 50 tokens that stand there. Shapes: N prompts, P and R tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unmask.errors import ConfigError, DataError
from unmask.text.corpora import CORPORA, corpus
from unmask.text.documents import Document
from unmask.text.packing import Ids, tokenize
from unmask.text.tokenizers import Tokenizer

PAPER = "webtext-test"


@dataclass(frozen=True, eq=False)
class Prompts:
    """ids [N, P] and references [N, R], int64; documents: where each is from; starts: at which token of it.

    source: the corpus. unlike: in what these prompts are not those of the paper, empty where they are.
    """

    ids: Tensor
    references: Tensor
    documents: tuple[str, ...]
    starts: tuple[int, ...]
    source: str
    unlike: str

    @property
    def rows(self) -> Tensor:
        """Prompt and reference side by side, [N, P + R]."""
        return torch.cat([self.ids, self.references], 1)

    def __len__(self) -> int:
        return len(self.ids)


def prompts(
    name: str | Path,
    tokenizer: Tokenizer,
    *,
    count: int,
    prompt_tokens: int = 50,
    reference_tokens: int = 50,
    min_tokens: int | None = None,
) -> Prompts:
    """`count` prompts from the held-out documents of a corpus (of a path: from all of its documents).

    A window of prompt_tokens + reference_tokens tokens begins where a document begins. The documents come in the
    corpus' order; where they are too few, a second window follows the first in each document that is long enough,
    then a third. Windows never overlap, and the same call gives the same prompts. min_tokens: shorter documents are
    passed over; default, what one window needs.

    Raises DataError, with how many prompts there are, where there are fewer than `count`; ConfigError for numbers
    below 1; what `corpus` raises for a corpus that cannot be had.
    """
    if min(count, prompt_tokens, reference_tokens) < 1:
        raise ConfigError(
            f"{count} prompts of {prompt_tokens} tokens with {reference_tokens} to follow", "each is at least 1"
        )
    size = prompt_tokens + reference_tokens
    least = max(size, min_tokens or 0)
    documents = list(_documents(name))
    ids = tokenize((document.text for document in documents), tokenizer)
    where = list(_windows([len(one) for one in ids], size, least))
    if len(where) < count:
        raise DataError(
            f"the held-out documents of {name} make {len(where)} prompts of {prompt_tokens} tokens with "
            f"{reference_tokens} to follow, not {count}",
            f"ask for at most {len(where)}, for shorter ones, or name another corpus",
        )
    chosen = where[:count]
    rows = torch.from_numpy(_cut(ids, chosen, size))
    return Prompts(
        ids=rows[:, :prompt_tokens].contiguous(),
        references=rows[:, prompt_tokens:].contiguous(),
        documents=tuple(documents[i].source for i, _ in chosen),
        starts=tuple(start for _, start in chosen),
        source=str(name),
        unlike=unlike_paper(str(name), count, prompt_tokens, reference_tokens),
    )


def unlike_paper(name: str, count: int, prompt_tokens: int, reference_tokens: int) -> str:
    """In what prompts differ from the paper's 1000 of 50 + 50 tokens from WebText's test set; empty if in nothing."""
    parts = [] if name == PAPER else [f"prompts from held-out documents of {name}, not WebText's test set"]
    parts += [] if count == 1000 else [f"{count} prompts, not 1000"]
    if (prompt_tokens, reference_tokens) != (50, 50):
        parts.append(f"{prompt_tokens} + {reference_tokens} tokens, not 50 + 50")
    return "; ".join(parts)


def _documents(name: str | Path) -> Iterator[Document]:
    own = isinstance(name, Path) or (name not in CORPORA and Path(name).expanduser().exists())
    return (document for document in corpus(name).items() if own or document.heldout)


def _windows(sizes: Sequence[int], size: int, least: int) -> Iterator[tuple[int, int]]:
    """(document, first token) of all windows: the first of each document, then the second of each, and so on."""
    long = [(i, length // size) for i, length in enumerate(sizes) if length >= least]
    for turn in range(max((windows for _, windows in long), default=0)):
        yield from ((i, turn * size) for i, windows in long if turn < windows)


def _cut(ids: Sequence[Ids], where: Sequence[tuple[int, int]], size: int) -> Ids:
    """The windows as rows [N, size] int64."""
    return np.stack([ids[i][start : start + size] for i, start in where]).astype(np.int64)
