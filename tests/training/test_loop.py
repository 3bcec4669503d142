"""The loop: what a step does, what is averaged, written and looked at."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import unmask.checkpoint
from unmask.errors import CheckpointError, ConfigError, TrainingError
from unmask.nn.ema import EMA
from unmask.text.loader import Loader
from unmask.training import loop
from unmask.training.objectives import DiffusionObjective, objective
from unmask.training.optim import OptimSettings
from unmask.training.state import checkpoints, read_metrics

from .tiny import KINDS, MUON, OPTIM, Seen, loader, model, rows, same, settings, trained, weights


def run_of(chosen, kind="sedd", batch=8, **given):
    """The loop's own state around a fresh model, to take single steps."""
    lm = model(kind, **given)
    ranks, goal = loop.accelerator(), objective(lm, seed=chosen.seed)
    made = loop.optimizers(lm.net, chosen.optim)
    lm.net.train()
    return loop._Run(ranks, goal, goal, EMA(lm.net, chosen.optim.ema), made, loader(batch=batch), chosen, None)


def losses(path):
    return [line["loss"] for line in read_metrics(path / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro", [1, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(kind, micro):
    runs = [run_of(settings(micro_batch=m), kind, perturbed=True) for m in (None, micro)]
    for _ in range(3):
        (whole, norm), (parts, norm_of_parts) = (loop._step(run, 8) for run in runs)
        for run in runs:
            run.done += 1
        assert parts.item() == pytest.approx(whole.item(), rel=1e-5)
        assert norm_of_parts.item() == pytest.approx(norm.item(), rel=1e-4)


def test_the_gradient_is_clipped_to_its_norm_and_zero_clips_nothing():
    for clip, expected in ((1e-3, 1e-3), (0.0, None)):
        run = run_of(
            settings(optim=dataclasses.replace(OPTIM, clip=clip, warmup=0, schedule="constant")), perturbed=True
        )
        run.optims = [torch.optim.SGD(run.goal.net.parameters(), lr=1.0)]
        run.optims[0].param_groups[0]["peak"] = 1.0
        before = {k: p.detach().clone() for k, p in run.goal.net.named_parameters()}
        norm = loop._step(run, 8)[1].item()
        moved = math.sqrt(sum((p.detach() - before[k]).pow(2).sum().item() for k, p in run.goal.net.named_parameters()))
        assert norm > 0.1 and moved == pytest.approx(expected or norm, rel=1e-3)


def test_bfloat16_is_autocast_weights_and_loss_stay_float32():
    exact, rounded = (run_of(settings(precision=p), perturbed=True) for p in ("float32", "bfloat16"))
    kinds = []
    for run in (exact, rounded):
        run.goal.net.blocks[0].mlp.register_forward_hook(lambda module, given, out: kinds.append(out.dtype))
    a, b = loop._step(exact, 8)[0].item(), loop._step(rounded, 8)[0].item()
    assert kinds == [torch.float32, torch.bfloat16]
    assert a != b and b == pytest.approx(a, rel=0.02)
    assert all(p.dtype == torch.float32 for p in rounded.goal.net.parameters())


def test_precisions_may_follow_one_another_in_a_process(tmp_path):
    for i, precision in enumerate(("bfloat16", "float32", "bfloat16")):
        trained(tmp_path / str(i), settings(steps=3, precision=precision))
    assert losses(tmp_path / "0") == losses(tmp_path / "2") != losses(tmp_path / "1")


def test_the_saved_and_returned_weights_are_the_average_of_the_steps(tmp_path):
    constant = OptimSettings(lr=1e-2, warmup=0, ema=0.0)  # decay 0: the average is the last step itself
    path = [weights(trained(tmp_path / str(n), settings(steps=n, optim=constant))) for n in range(1, 5)]
    lm = trained(tmp_path / "run", settings(steps=4, optim=dataclasses.replace(constant, ema=0.3)))
    shadow = {k: v.double() for k, v in weights(model("sedd")).items()}
    for n, own in enumerate(path, start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        shadow = {k: decay * v + (1 - decay) * own[k].double() for k, v in shadow.items()}
    saved = unmask.checkpoint.load(tmp_path / "run" / "model")
    for k, v in weights(saved).items():
        torch.testing.assert_close(v.double(), shadow[k], rtol=1e-5, atol=1e-7)
    assert same(weights(saved), weights(lm)) and not lm.net.training and saved.card["step"] == 4


def test_training_is_a_function_of_its_seed(tmp_path):
    a, b, c = (trained(tmp_path / str(i), settings(seed=seed)) for i, seed in enumerate((11, 11, 12)))
    assert same(weights(a), weights(b)) and not same(weights(a), weights(c))


@pytest.mark.parametrize(("kind", "optim"), [*((kind, MUON) for kind in KINDS), ("sedd", OPTIM), ("ar", OPTIM)])
def test_training_learns_a_row_by_heart(tmp_path, kind, optim):
    one = Loader(rows(1), global_batch=16, seed=1)
    optim = dataclasses.replace(optim, lr=2e-2, warmup=3)
    loop.train(model(kind, dropout=0.0), one, settings(steps=40, optim=optim, log_every=5, save_every=40), tmp_path)
    found = losses(tmp_path)
    assert found[-1] < 0.8 * found[0]


def test_a_line_has_the_mean_since_the_last_one(tmp_path):
    trained(tmp_path / "each", settings(steps=7, log_every=1, save_every=100))
    trained(tmp_path / "some", settings(steps=7, log_every=3, save_every=5))
    each = losses(tmp_path / "each")
    lines = read_metrics(tmp_path / "some" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [3, 5, 6, 7]  # at every save too, so that a resumed run has the same
    means = [np.mean(each[0:3]), np.mean(each[3:5]), each[5], each[6]]
    assert [line["loss"] for line in lines] == pytest.approx(means, rel=1e-12)
    assert [line["tokens"] for line in lines] == [line["step"] * 8 * 12 for line in lines]
    assert all(line["tokens_per_second"] > 0 and line["grad_norm"] > 0 for line in lines)
    rates = [loop.rate_factor(OPTIM, line["step"] - 1, 7) * OPTIM.lr for line in lines]
    assert [line["lr"] for line in lines] == pytest.approx(rates)


def test_evaluation_sees_the_averages_in_evaluation_mode_and_changes_nothing(tmp_path):
    seen = []

    def evaluate(lm):
        assert not lm.net.training
        seen.append(weights(lm))
        return Seen(float(len(seen)), rows=(float(len(seen)),) * 2)

    plain = trained(tmp_path / "plain", settings(steps=5))
    looked = trained(tmp_path / "looked", settings(steps=5, eval_every=2), evaluate=evaluate)
    lines = [line for line in read_metrics(tmp_path / "looked" / "metrics.jsonl") if "heldout_nats" in line]
    assert lines == [{"step": s, "heldout_nats": n, "heldout_stderr": 0.5} for s, n in ((2, 1.0), (4, 2.0), (5, 3.0))]
    assert same(weights(plain), weights(looked)) and same(seen[-1], weights(looked))
    assert not same(seen[0], seen[1])


def test_evaluation_is_off_unless_asked_for(tmp_path):
    trained(tmp_path, settings(steps=2), evaluate=lambda lm: pytest.fail("was called"))


def test_the_config_is_written_when_the_run_is_known_to_fit(tmp_path):
    trained(tmp_path, settings(steps=3), config={"a": 1})
    assert unmask.checkpoint.read_json(tmp_path / "config.json") == {"a": 1}
    with pytest.raises(CheckpointError):
        wider = model("sedd", width=32)
        loop.train(wider, loader(), settings(steps=4), tmp_path, resume=True, config={"a": 2})
    assert unmask.checkpoint.read_json(tmp_path / "config.json") == {"a": 1}


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_names_the_step_and_is_not_saved(tmp_path, monkeypatch, poison):
    forward = DiffusionObjective.forward

    def poisoned(self, batch):
        loss = forward(self, batch)
        if batch.step != 4:  # the fifth step
            return loss
        if poison == "loss":
            return loss * math.nan
        return loss + (self.net.vocab_embed.embedding * 0).sum().sqrt()  # 0 itself, its derivative is not

    monkeypatch.setattr(DiffusionObjective, "forward", poisoned)
    with pytest.raises(TrainingError, match=r"(?s)at step 5\b.*smaller lr") as caught:
        trained(tmp_path, settings(steps=9, save_every=5, log_every=3))
    assert ("the loss is nan" in str(caught.value)) == (poison == "loss")
    assert checkpoints(tmp_path) == [] and not (tmp_path / "model").exists()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [3]


def test_a_diverging_run_stops_by_itself(tmp_path):
    wild = OptimSettings(lr=1e30, warmup=0, clip=0.0)
    with pytest.raises(TrainingError, match=r"at step [2-5]\b"):
        trained(tmp_path, settings(steps=50, optim=wild, save_every=10, log_every=5))
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16, got 'float16'"),
        ({"micro_batch": 0}, "got micro_batch=0"),
        ({"log_every": 0, "keep": -1}, "got log_every=0, keep=-1"),
        ({"eval_every": -1}, "eval_every must be at least 0 (never), got -1"),
        ({"t_min": 0.0}, "t_min must be in (0, 1), got 0.0"),
        ({"t_power": 0.5}, "t_power must be at least 1, got 0.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        loop.TrainSettings(**({"steps": 1} | given))
    assert words in str(caught.value)


def test_a_batch_that_does_not_split_over_the_ranks_is_refused(tmp_path, monkeypatch):
    class Three:
        num_processes = 3

    monkeypatch.setattr(loop, "accelerator", Three)
    with pytest.raises(ConfigError, match="a batch of 8 rows does not split over 3 ranks"):
        trained(tmp_path, settings())


def test_a_quantized_model_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="a quantized model cannot be trained"):
        loop.train(model().quantize("int8"), loader(), settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_does_not_go_through_what_was_compiled(tmp_path):
    said = []
    fast = model().compile(said.append)
    loop.train(fast, loader(), settings(steps=3), tmp_path / "fast")
    assert same(weights(fast), weights(trained(tmp_path / "plain", settings(steps=3)))) and said == []
    loop.train(model().compile(said.append), loader(), settings(steps=5), tmp_path / "fast", resume=True)
    assert said == [] and len(checkpoints(tmp_path / "fast")) > 0
