"""Text to measure a model on, as rows of its own tokens."""

from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import AssetError, DataError
from unmask.model import LanguageModel
from unmask.recipes.data import Say
from unmask.text.corpora import CORPORA, corpus
from unmask.text.packing import pack, tokenize

FALLBACK = "excerpt"


def heldout_rows(
    model: LanguageModel, data: str | None, count: int, *, say: Say = lambda words: None
) -> tuple[Any, dict[str, Any]]:
    """At most `count` rows [N, L], spread evenly over a text, and how they were made.

    data: a corpus by name (its held-out documents), a file or a folder (all documents), or None for the held-out
    documents of the corpora that the model was trained on; where those cannot be fetched, the excerpt that ships
    with the package stands in, and the protocol says so. Raises DataError for a model without a tokenizer.
    """
    if model.tokenizer is None:
        raise DataError("the model has no tokenizer, so text cannot be scored", "put its tokenizer.json in its folder")
    name, note = data or str(model.card.get("data", {}).get("corpus", FALLBACK)), ""
    try:
        documents = _documents(name)
    except AssetError as error:
        if data is not None:
            raise
        say(f"{error.message}; scoring the excerpt that ships with the package instead")
        name, note = FALLBACK, f"stands in for {name}, which could not be fetched"
        documents = _documents(name)
    packed = pack(tokenize(documents, model.tokenizer), model.length, model.tokenizer.eos_id)
    places = np.linspace(0, len(packed.rows) - 1, min(count, len(packed.rows))).astype(int)
    info = {
        "corpus": name, "documents": packed.num_documents, "packing": "sedd", "rows": len(places),
        "rows_in_all": len(packed.rows), "row_tokens": model.length, "leftover_tokens": packed.leftover_tokens,
        "note": note,
    }  # fmt: skip
    return np.asarray(packed.rows[places]), info


def _documents(name: str) -> list[str]:
    own = name not in CORPORA and Path(name).expanduser().exists()
    return list(corpus(name).documents() if own else corpus(name).heldout())
