"""How many bytes of text each token stands for."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.text.tokenizers import Tokenizer


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.int64] | None:
    """The bytes of each id, [V]: 0 for ends of documents. None for a tokenizer that is not byte-level.

    A byte-level token knows its bytes, one for each of its characters, even where it is a part of a character of
    text, which decoding by itself would turn into the three bytes of U+FFFD.
    """
    core: Any = getattr(tokenizer, "_core", None)
    if core is None or type(getattr(core, "decoder", None)).__name__ != "ByteLevel":
        return None
    sizes = np.array([len(core.id_to_token(i) or "") for i in range(tokenizer.vocab_size)], dtype=np.int64)
    for number, added in core.get_added_tokens_decoder().items():  # these are kept as text, not as bytes
        sizes[number] = 0 if added.special else len(added.content.encode())
    return sizes


def count_bytes(tokenizer: Tokenizer, rows: Tensor, scored: Tensor) -> Tensor:
    """The bytes of the scored tokens of rows [N, L], scored [N, L] bool: [N] float64.

    Where tokens do not know their bytes, those of the text that they decode to.
    """
    sizes = token_bytes(tokenizer)
    if sizes is not None:
        known = torch.from_numpy(sizes)
        here = torch.where(rows < len(known), known[rows.clamp(max=len(known) - 1)], 0)  # padding of a vocabulary
        return torch.where(scored, here, 0).sum(1).double()
    texts = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(rows, scored, strict=True)]
    return torch.tensor([len(text.encode()) for text in texts], dtype=torch.float64)
