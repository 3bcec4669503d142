"""Conditional generation (Deschenaux and Gulcehre 2024, tables 5 and 6): how well prompts are continued.

By MAUVE against what really follows, and by a judge's perplexity. Shapes: N prompts of P tokens, continuations of R.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unmask.errors import ConfigError, DataError
from unmask.evaluation.continuation import FIRST, Continuation, continuation_nll, read_continuations
from unmask.evaluation.mauve import MAX_TOKENS, SEEDS, Floats, Mauve, features, mauve
from unmask.evaluation.ranks import RankCorrelation, rank_correlation
from unmask.evaluation.results import Row
from unmask.evaluation.ways import WAYS, MatchedNoise, Way, continuations, continue_prompts
from unmask.text.prompts import Prompts

if TYPE_CHECKING:
    from unmask.evaluation.judge import Judge
    from unmask.text.tokenizers import Tokenizer

__all__ = [
    "WAYS", "Continuation", "MatchedNoise", "Quality", "RankCorrelation", "Way", "conditional_quality",
    "conditional_rows", "continuation_nll", "continuations", "continue_prompts", "rank_correlation",
    "read_continuations",
]  # fmt: skip
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Quality:
    """One set of continuations: MAUVE against the references, and the judge's perplexity of them."""

    mauve: Mauve
    continuation: Continuation
    protocol: str

    def rows(self, model: str, *, seed: int | None = None) -> list[Row]:
        """MAUVE, continuation perplexity and continuation nats per byte, as rows."""
        found = dataclasses.replace(self.mauve.row(model, self.protocol), seed=seed)
        return [found, *self.continuation.rows(model, self.protocol, seed=seed)]


def conditional_quality(
    judge: "Judge",
    tokenizer: "Tokenizer",
    prompts: Prompts,
    generated: Tensor,
    *,
    seeds: Sequence[int] = SEEDS,
    max_tokens: int = MAX_TOKENS,
    tokens: int | None = None,
    batch: int = 16,
    reference_features: Floats | None = None,
    progress: Progress | None = None,
) -> Quality:
    """MAUVE and continuation perplexity of generated [N, P + R], what `continue_prompts` gave for the prompts.

    reference_features: of `prompts.rows`, for callers that measure several sets against the same references.
    max_tokens: what MAUVE sees of a text. tokens: how many of a continuation are scored, default 50 or what there is.
    """
    if generated.shape != prompts.rows.shape or not torch.equal(generated[:, : prompts.ids.shape[1]], prompts.ids):
        raise DataError("the continuations do not belong to these prompts", "give what continue_prompts made of them")
    if max_tokens < 1:
        raise ConfigError(f"max_tokens is {max_tokens}", "MAUVE sees at least 1 token of a text")
    size, many = prompts.ids.shape[1], prompts.references.shape[1]
    wanted = min(FIRST, many) if tokens is None else tokens
    if reference_features is None:
        reference_features = features(judge, prompts.rows, tokenizer=tokenizer, max_tokens=max_tokens, batch=batch)
    scored, made = read_continuations(
        judge, tokenizer, generated, size, tokens=wanted, max_tokens=max_tokens, batch=batch, progress=progress
    )
    if wanted < many:  # the features are of the whole text
        made = features(judge, generated, tokenizer=tokenizer, max_tokens=max_tokens, batch=batch)
    found = mauve(reference_features, made, seeds=seeds)
    return Quality(found, scored, protocol(judge, prompts, scored, max_tokens, seeds))


def protocol(judge: "Judge", prompts: Prompts, scored: Continuation, max_tokens: int, seeds: Sequence[int]) -> str:
    """How the numbers of `Quality` were made, in a line."""
    route = "by token ids" if scored.route == "ids" else "re-tokenised"
    return (
        f"{len(prompts)} prompts of {prompts.ids.shape[1]} tokens from {prompts.source}, "
        f"{prompts.references.shape[1]} to follow; judge {judge.name}, {route}; MAUVE on the last state of at most "
        f"{max_tokens} tokens, mean of {len(seeds)} k-means seeds; perplexity of the first {scored.tokens} tokens"
    )


def conditional_rows(found: Mapping[str, Quality], *, seed: int | None = None, top_k: Sequence[str] = ()) -> list[Row]:
    """The rows of tables 5 and 6: those of each set, by label, and the rank correlation of MAUVE with perplexity.

    top_k: labels of sets sampled with top-k, which the paper names as an exception. The correlation comes over all
    sets and over those without top-k, each where it has 3 sets that differ.
    """
    rows = [row for label, quality in found.items() for row in quality.rows(label, seed=seed)]
    for words, left_out in (("all sets", ()), ("without top-k", tuple(top_k))):
        kept = {label: quality for label, quality in found.items() if label not in left_out}
        try:
            pair = rank_correlation(
                [one.mauve.mean for one in kept.values()], [one.continuation.perplexity for one in kept.values()]
            )
        except DataError:
            continue
        rows.append(pair.row(words, "MAUVE with continuation perplexity, Spearman, a pair for each set"))
    return rows
