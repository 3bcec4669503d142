"""What a sample set is, and how one is read: our own files, and other people's samples."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import ConfigError, DataError
from unmask.sampling.draws import EXACT

FORMAT = 1
Ids = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """What decides a sample set. name: what tables call it. model: what was loaded. weights: its `fingerprint`.

    length: tokens of a sample, what is given included. steps and rule: None for autoregressive models; a rule of
    None is the model's own. batch: it decides the seconds, and the samples of the float32 race. extra: whatever else
    decides them (prompts, a way to condition), as plain values of JSON.
    """

    name: str
    model: str
    weights: str
    n: int
    length: int
    seed: int | None
    steps: int | None = None
    rule: str | None = None
    draws: str = EXACT
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float | None = None
    batch: int = 16
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.n, self.batch) < 1 or self.length < 0:
            raise ConfigError(f"{self.n} samples of {self.length} tokens in batches of {self.batch}", "all at least 1")

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values, as they come back from a file."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    def words(self) -> str:
        """How the samples were made, for a protocol."""
        parts = [f"{self.steps} steps"] if self.steps is not None else []
        parts += [self.rule] if self.rule is not None else []
        parts += [f"{self.draws} draws"] if self.draws != EXACT else []
        kept = (("temperature", 1.0), ("top_p", 1.0), ("top_k", None), ("min_p", None))
        parts += [f"{key} {getattr(self, key)}" for key, plain in kept if getattr(self, key) != plain]
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class BatchFacts:
    """What a batch took. seconds: wall time of the whole batch. rule and reads: as `unmask.Sample` says them."""

    first: int
    size: int
    seconds: float
    nfe: int
    clipped_mass: float
    rule: str = ""
    reads: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class SampleSet:
    """ids: one 1-D array a sample; empty where a file has texts only. texts: with `<|endoftext|>` where it stands,
    "" without a tokenizer. tokenizer: `Tokenizer.fingerprint` of what the ids mean, None if not known.
    """

    settings: SampleSettings
    ids: list[Ids]
    texts: list[str]
    batches: tuple[BatchFacts, ...]
    tokenizer: str | None
    path: Path

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(self.texts)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Wall time of each batch."""
        return tuple(batch.seconds for batch in self.batches)

    @property
    def nfe(self) -> int:
        """Evaluations of the network for a batch (the most of any); 0 for text that was not sampled."""
        return max((batch.nfe for batch in self.batches), default=0)

    @property
    def clipped_mass(self) -> float:
        """Negative mass that draws dropped, mean over samples."""
        total = sum(batch.clipped_mass * batch.size for batch in self.batches)
        return total / max(sum(batch.size for batch in self.batches), 1)

    def words(self) -> str:
        """How the samples were made, the rule that ran included."""
        rule = next((batch.rule for batch in self.batches if batch.rule), self.settings.rule)
        return dataclasses.replace(self.settings, rule=rule).words()

    def lengths(self) -> str:
        """The tokens of a sample in words: "256" or "12-256"; "?" without ids."""
        sizes = {len(ids) for ids in self.ids}
        return "?" if not sizes else str(max(sizes)) if len(sizes) == 1 else f"{min(sizes)}-{max(sizes)}"


def read_samples(path: str | Path) -> SampleSet:
    """A sample set; or other people's samples: JSON lines with "text" (and "ids" or "tokens"), or a text file.

    A text file has its samples between lines of three dashes, as `unmask sample` prints them, else one a line. Raises
    DataError, naming the line, for a file that cannot be read as such, is not whole, or holds nothing.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "give a .jsonl of samples, or a text file") from None
    if not content.strip():
        raise DataError(f"{path} holds no samples", "it is empty")
    if path.suffix == ".txt":
        return _plain(path, _texts(content), [], {})
    records = [_record(path, number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    if "settings" in records[0]:
        return _own(path, records)
    for number, record in enumerate(records, 1):
        if not isinstance(record.get("text"), str):
            raise DataError(f"line {number} of {path} has no text", 'each line is an object with a "text"')
    ids = [record.get("ids", record.get("tokens")) for record in records]
    known = [np.asarray(each, np.int64) for each in ids if each is not None]
    return _plain(path, [r["text"] for r in records], known if len(known) == len(ids) else [], records[0])


def facts_of(path: Path) -> Path:
    """Where `unmask.evaluation.many` keeps the seconds of a set, so that equal samples are equal files."""
    return path.with_name(f"{path.name}.facts")


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"line {number} of {path} is not JSON: {error}", "was the file copied whole?") from None
    if not isinstance(record, dict):
        raise DataError(f"line {number} of {path} is not an object", 'each line is an object with a "text"')
    return record


def _own(path: Path, records: list[dict[str, Any]]) -> SampleSet:
    """The set of a file that this module wrote."""
    head = records[0]
    if head.get("format") != FORMAT:
        raise DataError(f"{path} is a sample set of format {head.get('format')}", f"this version reads {FORMAT}")
    try:
        settings = SampleSettings(**head["settings"])
        samples = [record for record in records[1:] if "batch" not in record]
        if "asked" in head and (aside := facts_of(path)).exists():
            records = [*records, *(json.loads(line) for line in aside.read_text(encoding="utf-8").splitlines())]
        batches = tuple(BatchFacts(**record["batch"]) for record in records[1:] if "batch" in record)
        ids, texts = [np.asarray(each["ids"], np.int64) for each in samples], [str(each["text"]) for each in samples]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is a sample set that lacks something: {error}", "sample it again") from None
    if len(samples) != settings.n:
        raise DataError(
            f"{path} holds {len(samples)} of {settings.n} samples", "it is not finished: sample again with its settings"
        )
    return SampleSet(settings, ids, texts, batches, head.get("tokenizer"), path)


def _texts(content: str) -> list[str]:
    """Texts between lines of three dashes; without any, the lines that are not empty."""
    lines = content.splitlines()
    if "---" not in lines:
        return [line for line in lines if line.strip()]
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == "---":
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts if any(line.strip() for line in part)]


def _plain(path: Path, texts: Sequence[str], ids: list[Ids], first: dict[str, Any]) -> SampleSet:
    """A set of which only the samples are known, and what its first line says of its making."""
    facts = {key: first[key] for key in ("model", "seed", "steps", "rule", "draws") if key in first}
    values: dict[str, Any] = {"model": path.name, "seed": None} | facts
    length = max((len(each) for each in ids), default=0)
    settings = SampleSettings(name=path.stem, weights="", n=len(texts), length=length, **values)
    return SampleSet(settings, ids, list(texts), (), None, path)
