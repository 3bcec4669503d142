"""From a finished run to package data: the weights, the card, and a README that says what was measured."""

import pytest
import torch

from unmask.compat import load
from unmask.recipes import embed
from unmask.recipes.run import DataSettings, ModelShape, Run
from unmask.recipes.train import start
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each kind on the excerpt, tiny."""
    root = tmp_path_factory.mktemp("runs")
    settings = TrainSettings(6, OptimSettings(warmup=2, ema=0.5), log_every=1, eval_every=3, save_every=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_CACHE", str(root / "cache"))
        for kind in ("sedd", "ar"):
            shape = ModelShape(kind, width=32, depth=1, heads=2, length=32, cond_dim=16)
            run = Run(f"tiny/{kind}", shape, DataSettings("excerpt", "bpe:300", heldout_rows=2), settings, batch_size=4)
            start(run, root / kind)
        yield root


@pytest.fixture(autouse=True)
def little(monkeypatch):
    for name, value in (("ROWS", 4), ("TIMES", 2), ("STEPS", 3)):
        monkeypatch.setattr(embed, name, value)
    whole = embed.raw_against_normalized
    monkeypatch.setattr(embed, "raw_against_normalized", lambda model, judge: whole(model, judge, number=2))


def test_the_diffusion_card_says_what_was_measured(runs, tmp_path):
    embed.embed(runs / "sedd", tmp_path / "sedd", load(runs / "ar"))
    model = load(tmp_path / "sedd")
    measured = model.card["measured"]
    assert measured["heldout"]["n"] == 4 and not measured["heldout"]["exact"]
    assert {row["rule"] for row in measured["sampling"]} == {"tweedie", "ancestral"}
    assert all(row["mean"] > 0 for row in measured["normalization"])
    assert [point["step"] for point in model.card["curves"]] == [1, 2, 3, 4, 5, 6]
    assert "heldout_nats" in model.card["curves"][2]
    text = (tmp_path / "sedd" / "README.md").read_text()
    for words in ("at most", "reconstruction", "public domain", "unmask train --recipe tiny/sedd", "Raw Tweedie"):
        assert words in text, words


def test_the_autoregressive_card_has_no_bound(runs, tmp_path):
    embed.embed(runs / "ar", tmp_path / "ar")
    text = (tmp_path / "ar" / "README.md").read_text()
    assert "at most" not in text and "next-token" in text


def test_weights_are_bfloat16_and_what_was_measured_is_what_is_read(runs, tmp_path):
    embed.embed(runs / "sedd", tmp_path / "sedd")
    embed.embed(runs / "sedd", tmp_path / "sedd")  # again: what is there is replaced
    averaged, read = load(runs / "sedd").net.state_dict(), load(tmp_path / "sedd").net.state_dict()
    for name, value in averaged.items():
        want = value if name == "rotary_emb.inv_freq" else value.bfloat16().float()
        assert torch.equal(read[name], want), name


def test_a_long_curve_is_thinned_to_its_means(runs, monkeypatch):
    monkeypatch.setattr(embed, "POINTS", 2)
    thin = embed.curve(runs / "sedd")
    assert [point["step"] for point in thin] == [3, 6]
    monkeypatch.setattr(embed, "POINTS", 120)
    losses = [point["loss"] for point in embed.curve(runs / "sedd")]
    assert thin[0]["loss"] == pytest.approx(sum(losses[:3]) / 3, abs=1e-3)


def test_entropy_of_a_row():
    rows = torch.tensor([[1, 1, 1, 1], [0, 1, 2, 3]])
    assert embed.mean_entropy(rows) == pytest.approx(torch.tensor(4.0).log().item() / 2)
