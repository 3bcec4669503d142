"""Between text and token ids: GPT-2's tokenizer, which ships with the package, and ones trained here."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from unmask.errors import CheckpointError, ConfigError, DataError

EOS = "<|endoftext|>"
GPT2_FOLDER = Path(__file__).parent / "gpt2"
_FILE = "tokenizer.json"
_BYTES = 256


class Tokenizer:
    """A byte-level tokenizer with one special token, `<|endoftext|>`, which ends a document.

    Text is only ever text: the characters `<|endoftext|>` in a document are encoded as characters, so that
    what a file says cannot end a document. Whatever is encoded decodes to itself.
    """

    def __init__(self, core: Any) -> None:
        """core: a `tokenizers.Tokenizer` that knows `<|endoftext|>`; ConfigError if it does not."""
        if core.token_to_id(EOS) is None:
            raise ConfigError(f"the tokenizer has no {EOS!r} token", f"add {EOS!r} to it as a special token")
        core.encode_special_tokens = True
        self._core = core

    @property
    def vocab_size(self) -> int:
        """The number of ids, `<|endoftext|>` included; ids are below it."""
        return int(self._core.get_vocab_size(with_added_tokens=True))

    @property
    def eos_id(self) -> int:
        """The id of `<|endoftext|>`."""
        return int(self._core.token_to_id(EOS))

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits, equal where ids mean the same: a hash of vocabulary, merges and special tokens."""
        core = json.loads(self._core.to_str())
        merges = [m if isinstance(m, str) else " ".join(m) for m in core["model"]["merges"]]
        parts = [sorted(self._core.get_vocab(with_added_tokens=True).items()), merges]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no special token is added."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as `encode` gives them, in parallel."""
        return [list(e.ids) for e in self._core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids (numbers, an array or a 1-D tensor). Bytes that are not UTF-8 become U+FFFD.

        keep_special prints `<|endoftext|>` where it stands. DataError for an id outside the vocabulary.
        """
        numbers, size = [int(i) for i in ids], self.vocab_size
        for number in numbers:
            if not 0 <= number < size:
                raise DataError(
                    f"token id {number} is outside the vocabulary of {size} tokens",
                    "a masked position has no text: fill it first, or leave it out",
                )
        return str(self._core.decode(numbers, skip_special_tokens=not keep_special))

    def save(self, folder: str | Path) -> Path:
        """Write `tokenizer.json` into the folder, made if it is not there; returns the file's path."""
        path = Path(folder) / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._core.save(str(path))
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer saved in the folder. CheckpointError if it is not there or cannot be read."""
        path = Path(folder) / _FILE
        if not path.is_file():
            raise CheckpointError(f"no {_FILE} in {folder}", "give a folder that Tokenizer.save wrote")
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises a bare Exception for everything
            raise CheckpointError(f"{path} is not a tokenizer: {error}", "save the tokenizer again") from error
        return cls(core)


def _byte_level(model: Any) -> Any:
    """A `tokenizers.Tokenizer` that splits and decodes bytes as GPT-2 does, with no space put in front."""
    core = tokenizers.Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


@cache
def gpt2(*special: str) -> Tokenizer:
    """GPT-2's tokenizer (Radford et al. 2019), from files in the package: 50257 ids, then one for each of `special`."""
    core = _byte_level(models.BPE.from_file(str(GPT2_FOLDER / "vocab.json"), str(GPT2_FOLDER / "merges.txt")))
    core.add_special_tokens([EOS, *special])
    return Tokenizer(core)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer learned from texts; `<|endoftext|>` is its last id.

    The same texts give the same tokenizer. It has fewer than vocab_size ids where the texts offer fewer
    merges. ConfigError if vocab_size leaves no room for the 256 bytes and `<|endoftext|>`.
    """
    if vocab_size < _BYTES + 1:
        raise ConfigError(
            f"a byte-level vocabulary of {vocab_size} tokens is too small",
            f"ask for at least {_BYTES + 1}: 256 bytes and {EOS!r}",
        )
    core = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # the special token is added after, so that it comes last
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_special_tokens([EOS])
    return Tokenizer(core)
