"""Text to measure a model on, as rows of its own tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unmask.errors import AssetError, DataError
from unmask.model import LanguageModel
from unmask.recipes.data import Say
from unmask.text.corpora import corpus, is_path
from unmask.text.packing import pack, tokenize

FALLBACK = "excerpt"


def heldout_rows(
    model: LanguageModel, data: str | None, count: int, *, say: Say = lambda words: None
) -> tuple[Any, dict[str, Any]]:
    """`scoring_rows` in the packing of training, `sedd`, where all positions are scored."""
    rows, _, info = scoring_rows(model, data, count, say=say)
    return rows, info


def scoring_rows(
    model: LanguageModel,
    data: str | None,
    count: int | None,
    *,
    packing: str = "sedd",
    stride: int | None = None,
    say: Say = lambda words: None,
) -> tuple[Any, Any | None, dict[str, Any]]:
    """At most `count` rows [N, L], spread evenly over a text, the positions to score, and how they were made.

    data: a corpus by name (its held-out documents), a file or a folder (all documents), or None for the held-out
    documents of the corpora that the model was trained on; where those cannot be fetched, the excerpt that ships
    with the package stands in, and the protocol says so. packing, stride: of `unmask.text.packing`. Raises DataError
    for a model without a tokenizer.
    """
    if model.tokenizer is None:
        raise DataError("the model has no tokenizer, so text cannot be scored", "put its tokenizer.json in its folder")
    trained = model.card.get("data", {})
    name, note = data or str(trained.get("corpus", FALLBACK)), ""
    field = str(trained.get("field", "text")) if data is None else "text"
    try:
        documents = _documents(name, whole=data is not None, field=field)
    except AssetError as error:
        if data is not None:
            raise
        say(f"{error.message}; scoring the excerpt that ships with the package instead")
        name, note = FALLBACK, f"stands in for {name}, which could not be fetched"
        documents = _documents(name, whole=False, field="text")
    rows, scored, info = packed_rows(model, documents, packing, count, stride)
    return rows, scored, {"corpus": name, "note": note} | info


def packed_rows(
    model: LanguageModel, documents: Sequence[str], packing: str, count: int | None, stride: int | None = None
) -> tuple[Any, Any | None, dict[str, Any]]:
    """At most `count` rows (all if None) of the documents, spread evenly, the positions to score, and the facts."""
    assert model.tokenizer is not None
    eos_id = model.tokenizer.eos_id
    packed = pack(tokenize(documents, model.tokenizer), model.length, eos_id, rule=packing, stride=stride)
    wanted = len(packed.rows) if count is None else min(count, len(packed.rows))
    places = np.linspace(0, len(packed.rows) - 1, wanted).astype(int)
    scored = None if packed.scored is None else np.asarray(packed.scored[places])
    info = {
        "documents": packed.num_documents, "packing": packing, "rows": len(places), "rows_in_all": len(packed.rows),
        "row_tokens": model.length, "tokens_in_all": packed.num_tokens, "leftover_tokens": packed.leftover_tokens,
        "scored_tokens": packed.rows[places].size if scored is None else int(scored.sum()),
    }  # fmt: skip
    if packing == "stride":
        info["stride"] = stride or max(model.length // 2, 1)
    return np.asarray(packed.rows[places]), scored, info


def _documents(name: str, *, whole: bool, field: str) -> list[str]:
    """The held-out documents of a corpus; with `whole`, all documents of a path."""
    found = corpus(name, field=field)
    return list(found.documents() if whole and is_path(name) else found.heldout())
