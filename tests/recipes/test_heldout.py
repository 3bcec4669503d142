"""What a model is measured on when nothing is said: what its training did not see."""

import json

from unmask.compat.load import load
from unmask.recipes.heldout import scoring_rows
from unmask.text.corpora import corpus


def test_a_model_of_ones_own_text_is_measured_on_the_documents_it_did_not_see(small_models, tmp_path):
    texts = [
        f"Text number {i} tells of the fox and the dog and of {i} things, all of them free. " * 3 for i in range(90)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    model = load(small_models / "sedd")
    model.card = {"data": {"corpus": str(tmp_path / "mine.jsonl"), "field": "body"}}
    rows, _, info = scoring_rows(model, None, None)
    held = list(corpus(tmp_path / "mine.jsonl", field="body").heldout())
    assert info["documents"] == len(held) < 20
    assert model.tokenizer.decode(rows.ravel()) == "".join(held)[: len(model.tokenizer.decode(rows.ravel()))]
    (tmp_path / "other.jsonl").write_text(json.dumps({"text": "x" * 500}) + "\n" + json.dumps({"text": "y" * 500}))
    assert scoring_rows(model, str(tmp_path / "other.jsonl"), None)[2]["documents"] == 2  # a file by name: all of it
