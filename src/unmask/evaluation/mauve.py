"""MAUVE (Pillutla et al. 2021, arXiv 2102.01454): how far generated texts lie from references, 1 for no distance.

Texts become the hidden states of a judge; references and generations are clustered together, and MAUVE is the area
under the curve of divergences between the two histograms over clusters. The clustering and the area are those of
`mauve-text` (GPL-3.0, an extra, imported only here). Scores of two judges do not compare, nor do those of two numbers
of samples.

Shapes: N texts, L length, D width of the judge, K clusters.
"""

import dataclasses
import importlib
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.errors import ConfigError, DataError, unknown
from unmask.evaluation.results import Row
from unmask.text.tokenizers import EOS

if TYPE_CHECKING:
    from unmask.evaluation.judge import Judge
    from unmask.text.tokenizers import Tokenizer

Progress = Callable[[int, int], None]
Floats = NDArray[Any]
SEEDS = (1, 2, 3, 4, 5)
MAX_TOKENS = 100  # the paper's
POOLS = ("last", "mean")
PER_CLUSTER = 10  # samples of one side for each cluster, where their number is `auto`: mauve-text's rule
REPLICATES = 200  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Mauve:
    """MAUVE over several seeds of the clustering.

    mean and std (of the seeds; 0 for one seed), per_seed, n: references and generations. stderr: the sampling error
    of the mean, by bootstrap of both histograms with the clusters held still, the error of the seeds' mean included.
    buckets: K.
    """

    mean: float
    std: float
    per_seed: tuple[float, ...]
    stderr: float
    n: tuple[int, int]
    buckets: int
    scaling: float

    def row(self, model: str, protocol: str, *, name: str = "mauve", note: str = "") -> Row:
        """The mean as a row, with the spread over seeds in its note."""
        spread = f"standard deviation over {len(self.per_seed)} k-means seeds {self.std:.4f}, {self.buckets} clusters"
        return Row(
            name, model, self.mean, "score", protocol, stderr=self.stderr, n=min(self.n),
            note=f"{spread}; {note}" if note else spread,
        )  # fmt: skip


def same_ids(one: "Tokenizer", other: "Tokenizer") -> bool:
    """Whether ids mean the same to two tokenizers."""
    return one is other or one.fingerprint == other.fingerprint


def respelled(tokenizer: "Tokenizer", text: str) -> list[int]:
    """The ids of a text in which `<|endoftext|>` ends a document."""
    pieces = tokenizer.encode_batch(text.split(EOS))
    return pieces[0] + [i for piece in pieces[1:] for i in (tokenizer.eos_id, *piece)]


def features(
    judge: "Judge",
    rows: Tensor | Sequence[str],
    *,
    tokenizer: "Tokenizer | None" = None,
    max_tokens: int = MAX_TOKENS,
    batch: int = 16,
    pool: Literal["last", "mean"] = "last",
    progress: Progress | None = None,
) -> Floats:
    """What the judge makes of each text, [N, D] float32: its hidden state, after the last norm, at the last token.

    rows: texts, or ids [N, L] of `tokenizer` (default: the judge's own). Ids are read as they are where the two
    tokenizers agree, else as text. A text is cut to max_tokens of the judge's tokens. pool: "last", as mauve-text has
    it, or "mean" over the tokens. Raises DataError for a text without tokens, ConfigError for another `pool` or
    numbers below 1.
    """
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    if max_tokens < 1 or batch < 1:
        raise ConfigError(f"max_tokens is {max_tokens}, batch is {batch}", "each is at least 1")
    ids = [one[: min(max_tokens, judge.length)] for one in judge_ids(judge, rows, tokenizer)]
    empty = [i for i, one in enumerate(ids) if not one]
    if not ids or empty:
        raise DataError("a text without tokens has no features", f"text {empty[0]} is empty" if empty else "give texts")
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # rows of a batch are padded to the longest
    found: list[Floats] = [np.empty(0)] * len(ids)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for i, row in zip(part, _states(judge, [ids[i] for i in part], pool), strict=True):
            found[i] = row
        if progress is not None:
            progress(min(start + batch, len(order)), len(order))
    return np.stack(found)


def judge_ids(judge: "Judge", rows: Tensor | Sequence[str], tokenizer: "Tokenizer | None") -> list[list[int]]:
    """Texts or ids as ids of the judge: as they are where the tokenizers agree, else through text."""
    if not isinstance(rows, Tensor):
        return judge.tokenizer.encode_batch(list(rows))
    if tokenizer is None or same_ids(tokenizer, judge.tokenizer):
        return [[int(i) for i in row] for row in rows.tolist()]
    return [respelled(judge.tokenizer, tokenizer.decode(row, keep_special=True)) for row in rows.tolist()]


def _states(judge: "Judge", ids: list[list[int]], pool: str) -> Floats:
    """Pooled hidden states [B, D]. The judge is causal, so that what pads a row on the right changes nothing."""
    sizes = torch.tensor([len(one) for one in ids])
    padded = torch.zeros(len(ids), int(sizes.max()), dtype=torch.int64)
    for row, one in zip(padded, ids, strict=True):
        row[: len(one)] = torch.tensor(one)
    hidden = judge.hidden(padded.to(judge.device)).cpu()
    if pool == "last":
        states = hidden[torch.arange(len(ids)), sizes - 1]
    else:
        inside = torch.arange(padded.shape[1])[None] < sizes[:, None]
        states = (hidden * inside[..., None]).sum(1) / sizes[:, None]
    return states.float().numpy()


def mauve(
    references: Floats,
    generations: Floats,
    *,
    seeds: Sequence[int] = SEEDS,
    scaling: float = 5,
    buckets: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
) -> Mauve:
    """MAUVE of features [N, D] and [M, D], once for each seed of the k-means clustering.

    scaling and buckets as in mauve-text, whose other defaults are kept ("auto": a tenth of the smaller number; five
    starts, 500 iterations, principal components for 0.9 of the variance). The paper finds 0.89 to 0.93 for the same
    text by the seed alone, and takes the mean of five. Raises DataError for features that do not fit each other, are
    not finite or are fewer than the clusters need; ConfigError without seeds, or where mauve-text is not installed.
    """
    if not len(seeds):
        raise ConfigError("MAUVE without a seed", "give at least one")
    count = _check(references, generations, buckets)
    compute = _library()
    values, spreads = [], []
    for i, seed in enumerate(seeds):
        found = compute(
            p_features=references, q_features=generations, num_buckets=count, mauve_scaling_factor=scaling, seed=seed
        )
        values.append(float(found.mauve))
        spreads.append(_bootstrap(found.p_hist, found.q_hist, (len(references), len(generations)), scaling, seed))
        if progress is not None:
            progress(i + 1, len(seeds))
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    error = (statistics.fmean(v**2 for v in spreads) + std**2 / len(values)) ** 0.5
    return Mauve(
        statistics.fmean(values), std, tuple(values), error, (len(references), len(generations)), count, scaling
    )


def _check(references: Floats, generations: Floats, buckets: int | Literal["auto"]) -> int:
    """The number of clusters; DataError where there are not enough samples for them."""
    shapes = f"references {list(references.shape)}, generations {list(generations.shape)}"
    if references.ndim != 2 or generations.ndim != 2 or references.shape[1] != generations.shape[1]:
        raise DataError(f"MAUVE of features that do not fit: {shapes}", "both are [N, D], of the same judge")
    if not (np.isfinite(references).all() and np.isfinite(generations).all()):
        raise DataError("MAUVE of features that are not finite", "does the judge overflow? use float32")
    fewest = min(len(references), len(generations))
    if buckets == "auto":
        if fewest < 2 * PER_CLUSTER:
            raise DataError(
                f"MAUVE needs at least {2 * PER_CLUSTER} references and as many generations, got {shapes}",
                f"its clusters are a tenth of the samples, and at least 2; give {2 * PER_CLUSTER - fewest} more",
            )
        return round(fewest / PER_CLUSTER)
    if isinstance(buckets, bool) or not isinstance(buckets, int) or buckets < 2:
        raise ConfigError(f"buckets is {buckets!r}", 'a number of clusters, at least 2, or "auto"')
    if fewest < buckets:
        raise DataError(
            f"MAUVE with {buckets} clusters needs at least {buckets} references and as many generations, got {shapes}",
            f"give {buckets - fewest} more, or ask for at most {fewest // PER_CLUSTER or 2} clusters",
        )
    return buckets


def _library() -> Callable[..., Any]:
    """mauve-text's `compute_mauve`, its clustering told not to warn of fewer than 39 samples a cluster."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # faiss' bindings are deprecated as they load
            library = importlib.import_module("mauve.compute_mauve")  # in the package its function hides the module
    except ImportError as error:
        raise ConfigError(
            f"MAUVE is computed with mauve-text, which cannot be loaded: {error}", "pip install 'unmask[mauve]'"
        ) from None

    faiss: Any = library.faiss

    def compute(**options: Any) -> Any:
        quiet = faiss.Kmeans.__init__

        def init(self: Any, *sizes: Any, **settings: Any) -> None:
            quiet(self, *sizes, min_points_per_centroid=1, **settings)

        # a library cannot be handed this setting, which decides whether C++ prints a warning and nothing else
        faiss.Kmeans.__init__ = init
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return library.compute_mauve(**options)
        finally:
            faiss.Kmeans.__init__ = quiet

    return compute


def area(p: Floats, q: Floats, scaling: float = 5) -> Floats:
    """MAUVE of histograms [..., K], each summing to 1: [...].

    The area under x = exp(-c KL(q | r)), y = exp(-c KL(p | r)) for mixtures r of p and q (Pillutla et al. 2021,
    section 2), by trapezes over mauve-text's 25 mixtures and the two end points.
    """
    w = np.linspace(1e-6, 1 - 1e-6, 25)
    p, q = np.asarray(p, np.float64)[..., None, :], np.asarray(q, np.float64)[..., None, :]
    mixture = w[:, None] * p + (1 - w[:, None]) * q
    curve = []
    for one in (q, p):
        ratio = np.divide(one, mixture, out=np.ones_like(mixture), where=one > 0)
        curve.append(np.exp(-scaling * (one * np.log(ratio)).sum(-1)))
    ends = np.ones_like(curve[0][..., :1])
    x = np.concatenate([ends, curve[0], 0 * ends], -1)  # from r = q to r = p: x falls, y rises
    y = np.concatenate([0 * ends, curve[1], ends], -1)
    return np.asarray(((x[..., 1:] + x[..., :-1]) / 2 * np.diff(y, axis=-1)).sum(-1))


def _bootstrap(p: Floats, q: Floats, n: tuple[int, int], scaling: float, seed: int) -> float:
    """The standard deviation of MAUVE where both samples are drawn again, with the clusters as they are."""
    rng = np.random.default_rng(seed)
    again = [rng.multinomial(m, h, REPLICATES) / m for m, h in zip(n, (p, q), strict=True)]
    return float(area(again[0], again[1], scaling).std())
