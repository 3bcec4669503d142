"""A zero-shot set as rows of a model's own tokens."""

from typing import Any

from unmask.errors import DataError
from unmask.model import LanguageModel
from unmask.recipes.data import Say
from unmask.recipes.heldout import packed_rows
from unmask.text.zeroshot import zero_shot


def zero_shot_rows(
    model: LanguageModel,
    name: str,
    packing: str = "sedd",
    max_tokens: int | None = None,
    *,
    stride: int | None = None,
    say: Say = lambda words: None,
) -> tuple[Any, Any | None, dict[str, Any]]:
    """Rows [N, L] of the set, which of their positions are scored (bool [N, L], None for all), and how they were made.

    name: of `unmask.text.zeroshot`. packing, stride: of `unmask.text.packing`. max_tokens: as many rows as hold at
    most so many tokens (one at least), spread evenly over the set; all if None. The facts name source, licence,
    `unlike` (why the number is not of the paper's protocol), and how many tokens are in no row (`leftover_tokens`).
    Raises DataError for a model without a tokenizer; AssetError where the set cannot be had.
    """
    if model.tokenizer is None:
        raise DataError("the model has no tokenizer, so text cannot be scored", "put its tokenizer.json in its folder")
    chosen = zero_shot(name)
    say(f"reading {name} ({chosen.source})")
    count = None if max_tokens is None else max(max_tokens // model.length, 1)
    rows, scored, info = packed_rows(model, list(chosen.documents()), packing, count, stride)
    facts = {
        "corpus": name, "split": chosen.split, "source": chosen.source, "licence": chosen.licence,
        "unlike": chosen.unlike, "note": "",
    }  # fmt: skip
    return rows, scored, facts | info
