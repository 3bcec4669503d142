import json

from unmask import checkpoint
from unmask.recipes.run import ModelShape
from unmask.recipes.train import build_model
from unmask.report.cards import card, short_name, training_curve


def test_a_card_says_what_the_model_is(small_models):
    sedd, ar = (checkpoint.load(small_models / name) for name in ("sedd", "ar"))
    facts = card(sedd, "SEDD").facts
    assert facts["Parameters"] == f"{sum(p.numel() for p in sedd.net.parameters()):,}"
    assert facts["Network"] == "1 layers of width 32, 2 heads" and facts["Context"] == "32 tokens"
    assert facts["Noise"] == "absorbing, loglinear schedule" and facts["Predicts"].startswith("raw scores")
    assert facts["Vocabulary"] == "320 byte-level tokens"
    assert card(ar, "AR").facts["Attends to"] == "the tokens before"
    assert "Training data" not in facts and "Licence of the data" not in facts


def test_a_card_of_blocks_and_one_of_another_layout(small_models):
    config = json.loads((small_models / "mdlm" / "config.json").read_text())
    config["network"]["block_size"] = 4
    blocks = checkpoint.build(config | {"card": {"layout": "BD3-LM"}})
    assert card(blocks, "x").facts["Attends to"] == "its block of 4 tokens and all before it"
    assert short_name(blocks) == "BD3-LM"


def test_a_card_says_what_the_model_learned_from(small_models):
    sedd = checkpoint.load(small_models / "sedd")
    sedd.card = {
        "recipe": "twins/sedd", "batch_size": 12, "licence": "Apache-2.0", "hours": 4.5, "run": {"left": "out"},
        "data": {"corpus": "sotu+wiki", "train_tokens": 7_900_000, "train_documents": 1, "heldout_tokens": 1234},
        "curves": [{"step": 20, "tokens": 6e6, "loss": 5.0}, {"step": 10, "tokens": 3e6, "loss": 6.0, "lr": 1.0}],
    }  # fmt: skip
    facts = card(sedd, "SEDD").facts
    assert facts["Recipe"] == "twins/sedd" and facts["Training data"] == "sotu, wiki"
    assert facts["Size of the data"] == "7.9 million tokens in 1 document"
    assert facts["Held out"] == "1,234 tokens, by whole documents"
    assert facts["Trained for"] == "20 steps of 12 rows, 6.0 million tokens seen"
    assert facts["Licence of the weights"] == "Apache-2.0" and facts["Hours"] == "4.500"
    first, second = facts["Licence of the data"].split("\n")
    assert first.startswith("sotu: public domain") and second.startswith("wiki: CC BY-SA")
    sedd.card["licences"] = [{"corpus": "sotu", "licence": "its own"}]
    assert card(sedd, "SEDD").facts["Licence of the data"] == "its own"


def test_a_curve_is_in_order_and_holds_what_is_drawn(small_models):
    sedd = checkpoint.load(small_models / "sedd")
    assert training_curve(sedd) == []
    sedd.card = {"curves": [{"step": 2, "tokens": 20, "loss": 1.0, "lr": 3.0}, {"step": 1, "tokens": 10}, {"step": 3}]}
    assert training_curve(sedd) == [{"step": 1.0, "tokens": 10.0}, {"step": 2.0, "tokens": 20.0, "loss": 1.0}]


def test_names(small_models, small_tokenizer):
    assert [short_name(checkpoint.load(small_models / n)) for n in ("sedd", "mdlm", "ar")] == ["SEDD", "MDLM", "AR"]
    shape = ModelShape("sedd", width=32, depth=1, heads=2, length=32, cond_dim=16, process="uniform")
    assert short_name(build_model(shape, small_tokenizer)) == "SEDD (uniform)"
