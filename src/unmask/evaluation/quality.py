"""How likely a judge finds samples: the generative perplexity of Table 3 (Deschenaux and Gulcehre 2024).

A judge is another language model, so a low perplexity says "like what the judge expects", and text that repeats itself
has one too: never read it without the entropy beside it. Perplexities of judges with different tokenizers do not
compare; nats per byte do.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.errors import ConfigError, DataError
from unmask.evaluation.diversity import unigram_entropy
from unmask.evaluation.judge import Judge, token_nll
from unmask.evaluation.results import Row
from unmask.evaluation.sample_set import SampleSet
from unmask.text.token_bytes import token_bytes
from unmask.text.tokenizers import EOS

Progress = Callable[[int, int], None]
Route = Literal["ids", "re-tokenised"]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Quality:
    """What a judge says of n samples, each weighed alike. Standard errors are over samples; NaN for a single one.

    route: "ids" where the judge read the generator's own ids, "re-tokenised" where it read their text. A: nats per
    token of each sample, its first token given and not counted. perplexity: exp(mean A), the paper's order;
    perplexity_mean_exp: mean(exp A), that of the SEDD paper's code, never below it. nats_per_byte: all nats over all
    bytes of the tokens scored; ends of documents cost nats and count no byte. entropy: of a sample's own tokens, nats
    (`unmask.evaluation.diversity.unigram_entropy`). truncated: samples cut to what the judge reads.
    nats, tokens, bytes, entropies: by sample.
    """

    model: str
    judge: str
    route: Route
    n: int
    perplexity: float
    perplexity_stderr: float
    perplexity_mean_exp: float
    perplexity_mean_exp_stderr: float
    nats_per_token: float
    stderr: float
    nats_per_byte: float
    nats_per_byte_stderr: float
    entropy: float
    entropy_stderr: float
    truncated: int
    lengths: str
    made: str
    seed: int | None
    nats: tuple[float, ...] = dataclasses.field(repr=False, default=())
    tokens: tuple[int, ...] = dataclasses.field(repr=False, default=())
    bytes: tuple[int, ...] = dataclasses.field(repr=False, default=())
    entropies: tuple[float, ...] = dataclasses.field(repr=False, default=())

    @property
    def protocol(self) -> str:
        """How the numbers were made."""
        ends = "generator's ids" if self.route == "ids" else f"text re-tokenised, {EOS} as the judge's own end"
        return ", ".join(
            part
            for part in (
                f"judge {self.judge}", ends, f"{self.lengths} tokens of the generator", "first token given", self.made,
                f"{self.truncated} cut to the judge's context" if self.truncated else "",
            )
            if part
        )  # fmt: skip

    def rows(self) -> list[Row]:
        """Both perplexities, nats per token, nats per byte and entropy."""
        wanted = (
            ("judge_perplexity", self.perplexity, self.perplexity_stderr, "perplexity", "exp of the mean"),
            ("judge_perplexity_mean_exp", self.perplexity_mean_exp, self.perplexity_mean_exp_stderr, "perplexity",
             "mean of the exp"),
            ("judge_nats_per_token", self.nats_per_token, self.stderr, "nats/token", ""),
            ("judge_nats_per_byte", self.nats_per_byte, self.nats_per_byte_stderr, "nats/byte", ""),
            ("sample_entropy", self.entropy, self.entropy_stderr, "nats", "unigrams of each sample"),
        )  # fmt: skip
        return [
            Row(
                name, self.model, value, unit, self.protocol + (note and f"; {note}"), stderr=stderr, n=self.n,
                seed=self.seed,
            )
            for name, value, stderr, unit, note in wanted
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """All but the values of single samples."""
        values = dataclasses.asdict(self)
        for name in ("nats", "tokens", "bytes", "entropies"):
            values.pop(name)
        return values | {"tokens": sum(self.tokens), "bytes": sum(self.bytes), "protocol": self.protocol}


def route_of(judge: Judge, samples: SampleSet) -> Route:
    """By ids where the ids mean the same to the judge as to the generator, else by text."""
    same = bool(samples.ids) and samples.tokenizer == judge.tokenizer.fingerprint
    return "ids" if same else "re-tokenised"


def judge_samples(
    judge: Judge,
    samples: SampleSet,
    *,
    batch_size: int = 8,
    route: Route | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Score each sample by the judge. route: default `route_of`. progress: told (samples done, in all).

    Raises DataError for a sample that has fewer than 2 of the judge's tokens, ConfigError for the route "ids" where
    tokenizers differ.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    taken = route_of(judge, samples) if route is None else route
    if taken == "ids" and route_of(judge, samples) != "ids":
        raise ConfigError(
            f"the judge {judge.name} and the samples of {samples.path} do not share a tokenizer",
            "let them be re-tokenised",
        )
    read = [torch.from_numpy(ids) for ids in samples.ids] if taken == "ids" else _retokenised(judge, samples)
    for i, ids in enumerate(read):
        if len(ids) < 2:
            raise DataError(
                f"sample {i} of {samples.path} has {len(ids)} tokens, the first of which is only given",
                "leave out samples that are that short",
            )
    cut = [ids[: judge.length] for ids in read]
    nats = _nats(judge, cut, batch_size, progress)
    size = token_bytes(judge.tokenizer)
    tokens = np.array([len(ids) - 1 for ids in cut])
    lengths = np.array([_bytes(judge, size, ids[1:]) for ids in cut])
    entropies = np.array([unigram_entropy(ids) for ids in (samples.ids or [ids.numpy() for ids in cut])])
    truncated = sum(len(ids) > judge.length for ids in read)
    return _quality(judge, samples, taken, truncated, nats, tokens, lengths, entropies)


def _retokenised(judge: Judge, samples: SampleSet) -> list[torch.Tensor]:
    """The judge's ids of each text. Ends of documents, which texts spell out, become the judge's own."""
    sequences = []
    for text in samples.texts:
        pieces = judge.tokenizer.encode_batch(text.split(EOS))
        joined = pieces[0] + [i for piece in pieces[1:] for i in (judge.tokenizer.eos_id, *piece)]
        sequences.append(torch.tensor(joined, dtype=torch.int64))
    return sequences


def _bytes(judge: Judge, size: NDArray[Any] | None, ids: torch.Tensor) -> int:
    """The bytes of ids, by the table of a byte-level tokenizer; else those of the text that they decode to."""
    return len(judge.tokenizer.decode(ids).encode()) if size is None else int(size[ids.numpy()].sum())


def _nats(judge: Judge, sequences: list[torch.Tensor], batch_size: int, progress: Progress | None) -> Floats:
    """-log p of each sequence given its first token, [N]; sequences of like length share a batch."""
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    nats = np.zeros(len(sequences))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        # what is behind the end of a sequence is not seen by a causal model, and not counted
        ids = torch.nn.utils.rnn.pad_sequence([sequences[i] for i in places], batch_first=True)
        values = token_nll(judge, ids).cpu().double()  # some accelerators have no float64
        for i, row in zip(places, values, strict=True):
            nats[i] = float(row[: len(sequences[i]) - 1].sum())
        if progress is not None:
            progress(start + len(places), len(order))
    return nats


def _quality(
    judge: Judge, samples: SampleSet, route: Route, truncated: int, nats: Floats, tokens: NDArray[Any],
    size: NDArray[Any], entropies: Floats,
) -> Quality:  # fmt: skip
    each = nats / tokens
    mean, error = float(each.mean()), _stderr(each)
    with np.errstate(over="ignore"):
        exp = np.exp(each)
    per_byte = float(nats.sum() / size.sum()) if size.sum() else math.nan
    return Quality(
        model=samples.settings.name,
        judge=judge.name,
        route=route,
        n=len(each),
        perplexity=math.exp(mean),
        perplexity_stderr=math.exp(mean) * error,  # the delta method
        perplexity_mean_exp=float(exp.mean()),
        perplexity_mean_exp_stderr=_stderr(exp),
        nats_per_token=mean,
        stderr=error,
        nats_per_byte=per_byte,
        nats_per_byte_stderr=_stderr((nats - per_byte * size) / max(float(size.mean()), 1e-9)),  # of a ratio of means
        entropy=float(entropies.mean()),
        entropy_stderr=_stderr(entropies),
        truncated=truncated,
        lengths=samples.lengths(),
        made=samples.words(),
        seed=samples.settings.seed,
        nats=tuple(nats.tolist()),
        tokens=tuple(tokens.tolist()),
        bytes=tuple(size.tolist()),
        entropies=tuple(entropies.tolist()),
    )


def _stderr(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
