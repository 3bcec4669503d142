"""From a corpus by name to rows of token ids, kept in the cache so that the second run starts at once."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask.assets import cache_folder
from unmask.checkpoint import read_json, whole_folder, write_json
from unmask.errors import ConfigError, DataError
from unmask.recipes.run import DataSettings
from unmask.text.corpora import CORPORA, Corpus, corpus, is_path
from unmask.text.packing import Packed, pack, tokenize
from unmask.text.tokenizers import Tokenizer, gpt2, train_bpe

Say = Callable[[str], None]
VERSION = 1  # part of the cache's key: raise it when the meaning of what is kept changes


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Rows [N, L] for training and for measuring, the tokenizer, and facts about them (`info`)."""

    tokenizer: Tokenizer
    train: Any
    heldout: Any
    info: dict[str, Any]

    def spread_heldout(self, count: int) -> Any:
        """`count` held-out rows (or all, if fewer), spread evenly over the documents."""
        places = np.linspace(0, len(self.heldout) - 1, min(count, len(self.heldout))).astype(int)
        return np.asarray(self.heldout[places])

    def unigram(self, size: int | None = None) -> torch.Tensor:
        """The law of a single training token, [V] float32, with one added to every count.

        size: V, where a model has more tokens than its tokenizer.
        """
        counts = np.ones(size or self.tokenizer.vocab_size)
        for start in range(0, len(self.train), 4096):  # the rows may be larger than memory
            counts += np.bincount(np.asarray(self.train[start : start + 4096]).ravel(), minlength=len(counts))
        return torch.from_numpy(counts / counts.sum()).float()


def prepare(
    settings: DataSettings, length: int, *, own: Tokenizer | None = None, say: Say = lambda words: None
) -> Prepared:
    """Tokenize and pack a corpus, held out by document. own: the tokenizer of the model that the run begins with.

    Raises DataError, AssetError or ConfigError.
    """
    found = corpus(settings.corpus, field=settings.field)
    key = _key(settings, length, own)
    folder = cache_folder() / "prepared" / key
    if not (folder / "info.json").exists():
        _prepare_into(folder, found, settings, length, own, say)
    return Prepared(
        tokenizer=Tokenizer.load(folder),
        train=np.load(folder / "train.npy", mmap_mode="r"),
        heldout=np.load(folder / "heldout.npy", mmap_mode="r"),
        info=read_json(folder / "info.json"),
    )


def _prepare_into(
    folder: Path, found: Corpus, settings: DataSettings, length: int, own: Tokenizer | None, say: Say
) -> None:
    say(f"reading {settings.corpus}")
    tokenizer = own if settings.tokenizer == "model" and own else tokenizer_of(settings.tokenizer, found, say)
    say("tokenizing")
    train_size, heldout_size = _Size(), _Size()
    packed = _pack(train_size.count(found.train()), tokenizer, length, settings)
    try:
        held = _pack(heldout_size.count(found.heldout()), tokenizer, length, settings)
    except DataError as error:
        raise DataError(f"the held-out documents of {settings.corpus}: {error.message}", error.hint) from None
    info = {
        "corpus": settings.corpus, "field": settings.field, "tokenizer": settings.tokenizer,
        "packing": settings.packing, "length": length,
        "vocab_size": tokenizer.vocab_size, "train_documents": packed.num_documents, "train_tokens": packed.num_tokens,
        "train_rows": len(packed.rows), "train_leftover_tokens": packed.leftover_tokens,
        "heldout_documents": held.num_documents, "heldout_tokens": held.num_tokens, "heldout_rows": len(held.rows),
        "heldout_leftover_tokens": held.leftover_tokens,
        "train_bytes": train_size.bytes, "heldout_bytes": heldout_size.bytes,
    }  # fmt: skip
    try:
        with whole_folder(folder) as temporary:
            tokenizer.save(temporary)
            np.save(temporary / "train.npy", packed.rows)
            np.save(temporary / "heldout.npy", held.rows)
            write_json(temporary / "info.json", info)
    except OSError as error:
        if not (folder / "info.json").exists():  # another process that prepared the same may have been first
            raise DataError(f"{folder} cannot be written: {error}", "set UNMASK_CACHE to a folder with room") from None
    say(
        f"{info['train_tokens']:,} tokens to train on ({info['train_rows']:,} rows of {length}, "
        f"{info['train_leftover_tokens']} tokens left over), {info['heldout_tokens']:,} held out"
    )


@dataclasses.dataclass
class _Size:
    """Counts the bytes of texts that pass by, so that none has to be kept."""

    bytes: int = 0

    def count(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            self.bytes += len(text.encode())
            yield text


def _pack(texts: Iterable[str], tokenizer: Tokenizer, length: int, settings: DataSettings) -> Packed:
    return pack(tokenize(texts, tokenizer), length, tokenizer.eos_id, rule=settings.packing)


def bpe_size(name: str) -> int | None:
    """4096 of the setting "bpe:4096"; None of other settings. ConfigError where the size is no number."""
    if not name.startswith("bpe:"):
        return None
    try:
        return int(name.removeprefix("bpe:"))
    except ValueError:
        raise ConfigError(f"tokenizer {name!r} is not understood", "write bpe:4096, gpt2 or a folder") from None


def tokenizer_of(name: str, found: Corpus | None = None, say: Say = lambda words: None) -> Tokenizer:
    """The tokenizer that a setting names; "bpe:SIZE" is learned from a corpus. ConfigError for an unknown name."""
    if name == "gpt2":
        return gpt2()
    if (size := bpe_size(name)) is not None:
        assert found is not None
        say(f"learning a vocabulary of {size} tokens")
        return train_bpe(found.train(), size)
    if (Path(name).expanduser() / "tokenizer.json").exists():
        return Tokenizer.load(Path(name).expanduser())
    raise ConfigError(f"tokenizer {name!r} is not known", "write gpt2, bpe:4096 or a folder with a tokenizer.json")


def _key(settings: DataSettings, length: int, own: Tokenizer | None) -> str:
    """A name for the cache: settings, length, tokenizer, and the state of any local file they name."""
    values = dataclasses.asdict(settings) | {"heldout_rows": 0}
    if values["field"] == "text":
        del values["field"]  # so that what was kept before there was such a setting is found
    parts = [json.dumps(values), str(length), str(VERSION)]
    if settings.tokenizer == "model" and own is not None:
        parts.append(own.fingerprint)
    whole = settings.corpus in CORPORA or is_path(settings.corpus)  # a path may hold a plus sign
    corpora = [settings.corpus] if whole else settings.corpus.split("+")
    for name in [*(part.strip() for part in corpora if part.strip() not in CORPORA), settings.tokenizer]:
        path = Path(name).expanduser()
        if path.exists():
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            parts += [f"{f.resolve()} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
