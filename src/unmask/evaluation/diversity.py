"""How diverse samples are: statistics of the tokens of each sequence (Table 4 of Deschenaux and Gulcehre 2024).

Token counts of one sequence of L tokens; nothing is compared across sequences. All three depend on L and on the
vocabulary: the fraction of unique tokens falls with L, entropy and repetition rise. Compare equal lengths only.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import ConfigError, DataError
from unmask.evaluation.results import Row
from unmask.evaluation.sample_set import SampleSet
from unmask.text.tokenizers import gpt2

WINDOW = 100  # of the paper
UNLIKE_REPETITION = (
    "the paper defines the repetition rate as the fraction of tokens that appear in the previous 100 tokens and "
    "prints 0.033 for its training text; by that definition English text has about 0.4, which is what stands here"
)


def unique_fraction(ids: NDArray[Any]) -> float:
    """Distinct tokens over tokens, of one sequence [L], L >= 1."""
    return len(np.unique(ids)) / len(ids)


def unigram_entropy(ids: NDArray[Any]) -> float:
    """Entropy in nats of the law count / L of the tokens of one sequence [L], L >= 1; at most ln L."""
    share = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(share * np.log(share)).sum()) + 0.0  # + 0.0: of one token, 0 and not -0


def repetition_rate(ids: NDArray[Any], window: int = WINDOW) -> float:
    """The fraction of the tokens of one sequence [L] that appear among the `window` tokens before them.

    As the paper's Table 4 defines it (all L tokens count, the first ones with what stands before them). The
    definition gives about 0.4 on English text; the paper prints 0.03: see UNLIKE_REPETITION.
    """
    order = np.argsort(ids, kind="stable")  # equal tokens side by side, in the order of their positions
    gaps, same = np.diff(order), np.diff(np.asarray(ids)[order]) == 0
    return float((same & (gaps <= window)).sum()) / len(ids)


@dataclasses.dataclass(frozen=True)
class Statistic:
    """Over sequences: the mean, the standard deviation (n - 1) and the standard error of the mean."""

    mean: float
    std: float
    stderr: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        """Of a value a sequence; NaN for the spread of a single one."""
        std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return cls(float(np.mean(values)), std, std / math.sqrt(len(values)))


@dataclasses.dataclass(frozen=True)
class Diversity:
    """Table 4 for one set of samples. values: by statistic, the value of each sequence. lengths: "256" or "12-256".

    tokens: whose tokens were counted.
    """

    model: str
    n: int
    lengths: str
    window: int
    tokens: str
    seed: int | None
    unique: Statistic
    entropy: Statistic
    repetition: Statistic
    values: dict[str, tuple[float, ...]] = dataclasses.field(repr=False, default_factory=dict)
    made: str = ""

    @property
    def protocol(self) -> str:
        """How the numbers were made."""
        made = f", {self.made}" if self.made else ""
        return f"sequences of {self.lengths} tokens ({self.tokens}), repetition window {self.window}{made}"

    def rows(self) -> list[Row]:
        """The three means, each with its standard error and the standard deviation over sequences."""
        wanted = (
            ("unique_unigrams", self.unique, "fraction", ""),
            ("unigram_entropy", self.entropy, "nats", ""),
            ("repetition_rate", self.repetition, "fraction", UNLIKE_REPETITION),
        )
        return [
            Row(
                name, self.model, value.mean, unit, f"mean over {self.protocol}", stderr=value.stderr, n=self.n,
                seed=self.seed, note=note, spread=value.std,
            )
            for name, value, unit, note in wanted
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """All but the values of single sequences."""
        values = dataclasses.asdict(self)
        values.pop("values")
        return values


def diversity(samples: SampleSet | Sequence[NDArray[Any]], *, window: int = WINDOW, name: str = "") -> Diversity:
    """The statistics of a sample set on its own ids, or of sequences of ids.

    Texts without ids are counted in GPT-2's tokens. name: what rows call it; default, the set's name. Raises
    ConfigError for a window below 1, DataError for sequences that are not longer than the window.
    """
    if window < 1:
        raise ConfigError(f"a window of {window} tokens", "it is at least 1")
    settings = samples.settings if isinstance(samples, SampleSet) else None
    sequences, tokens = _sequences(samples)
    short = [i for i, ids in enumerate(sequences) if len(ids) < max(2, window + 1)]
    if short or not len(sequences):
        found = f"sample {short[0]} has {len(sequences[short[0]])}" if short else "there are none"
        raise DataError(
            f"{len(short)} of {len(sequences)} samples are too short for a window of {window} tokens: {found}",
            f"take samples of more than {window} tokens, or a smaller window",
        )
    values = {
        "unique": tuple(map(unique_fraction, sequences)),
        "entropy": tuple(map(unigram_entropy, sequences)),
        "repetition": tuple(repetition_rate(ids, window) for ids in sequences),
    }
    sizes = sorted({len(ids) for ids in sequences})
    return Diversity(
        model=name or (settings.name if settings is not None else "samples"),
        n=len(sequences),
        lengths=str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}",
        window=window,
        tokens=tokens,
        seed=None if settings is None else settings.seed,
        values=values,
        made=samples.words() if isinstance(samples, SampleSet) else "",
        **{key: Statistic.of(each) for key, each in values.items()},
    )


def _sequences(samples: SampleSet | Sequence[NDArray[Any]]) -> tuple[Sequence[NDArray[Any]], str]:
    """The ids, and whose they are."""
    if not isinstance(samples, SampleSet):
        return samples, "their own ids"
    if samples.ids:
        return samples.ids, "their own ids"
    return [np.asarray(ids) for ids in gpt2().encode_batch(samples.texts)], "GPT-2's ids of texts"
