"""Looks at held-out text: which is best, what counts as worse, when a run stops and what it leaves."""

import dataclasses
import math

import pytest
import torch

import unmask.checkpoint
from unmask.errors import CheckpointError, ConfigError
from unmask.training import state
from unmask.training.settings import TrainSettings
from unmask.training.watch import Look, Watch

from .tiny import OPTIM, Seen, same, settings, trained, weights


def look(step, *rows):
    return Look(step, sum(rows) / len(rows), 9.0, rows)


def watched(*looks):
    watch = Watch()
    for each in looks:
        watch = watch.seen(each)
    return watch


def test_the_lowest_bound_is_best_and_only_a_rise_beyond_noise_is_worse():
    best = look(1, 1.0, 5.0, 3.0)
    clearly = look(2, 1.5, 5.5, 3.6)  # every row rose by a half, whatever rows differ by
    noisily = look(3, 2.0, 4.5, 3.1)
    assert watched(best) == Watch(best, 0)
    assert watched(best, clearly) == Watch(best, 1)
    assert watched(best, noisily) == Watch(best, 0)
    assert watched(best, clearly, dataclasses.replace(clearly, step=3)).worse == 2
    assert watched(best, clearly, noisily) == Watch(best, 0)  # in a row
    lower = look(4, 0.9, 5.0, 3.0)
    assert watched(best, clearly, lower) == Watch(lower, 0)


def test_a_bound_that_falls_again_is_not_getting_worse():
    best, above, lower, higher = (look(i, *(n + x for x in (0.0, 1.0, 2.0))) for i, n in enumerate((1, 1.6, 1.5, 1.7)))
    assert [watched(best, *rest).worse for rest in ([above], [above, lower], [above, lower, higher])] == [1, 0, 1]
    again = Watch.from_json(watched(best, above).as_json())
    assert again.last == above and again.seen(lower).worse == 0


def test_a_difference_has_the_standard_error_of_its_rows():
    gap, noise = look(2, 2.0, 3.0, 7.0).above(look(1, 1.0, 2.5, 4.0))
    gaps = torch.tensor([1.0, 0.5, 3.0])
    assert gap == pytest.approx(1.5) and noise == pytest.approx(float(gaps.std() / math.sqrt(3)))


def test_one_row_cannot_tell_noise_and_other_rows_cannot_be_compared():
    assert watched(look(1, 1.0), look(2, 5.0)).worse == 0
    other = look(2, 5.0, 5.0)
    assert watched(look(1, 1.0), other) == Watch(other, 0)


def test_a_watch_survives_json():
    for watch in (Watch(), watched(look(1, 1 / 3, 2 / 7), look(2, 4.0, 4.0))):
        assert Watch.from_json(watch.as_json()) == watch
    assert Watch.from_json(None) == Watch()


def falling_then_rising(turn, seen=None):
    """A bound that falls until the look at step `turn` and then rises; it keeps the weights that it saw."""

    def evaluate(lm):
        step = lm.card.get("at", 0) + 1
        lm.card["at"] = step
        nats = 5.0 - step if step <= turn else 5.0 - turn + 0.1 * step
        if seen is not None:
            seen[step] = weights(lm)
        return Seen(nats, rows=(nats, nats + 1, nats + 2))

    return evaluate


WATCHED = {"eval_every": 1, "patience": 2, "save_every": 50, "keep": 1}


def test_a_run_stops_when_the_bound_has_risen_and_leaves_its_best_weights(tmp_path):
    seen = {}
    lm = trained(tmp_path, settings(steps=20, **WATCHED), evaluate=falling_then_rising(3, seen))
    assert max(seen) == 5  # two looks in a row were worse
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000003", "step-00000005"]
    saved = unmask.checkpoint.load(tmp_path / "model")
    assert same(weights(lm), seen[3]) and same(weights(saved), seen[3]) and not same(seen[3], seen[5])
    assert saved.card["step"] == lm.card["step"] == 3


def test_the_best_weights_win_at_the_end_of_a_run_that_did_not_stop(tmp_path):
    seen = {}
    lm = trained(tmp_path, settings(steps=4, **WATCHED), evaluate=falling_then_rising(3, seen))
    assert max(seen) == 4 and same(weights(lm), seen[3])


def test_without_patience_the_last_weights_are_the_model(tmp_path):
    seen = {}
    lm = trained(tmp_path, settings(steps=6, **(WATCHED | {"patience": 0})), evaluate=falling_then_rising(3, seen))
    assert max(seen) == 6 and same(weights(lm), seen[6])
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000006"]


def bound_of_the_weights(lm):
    """A bound that the weights alone decide, to the bit."""
    rows = tuple(float(p.detach().double().sum()) for p in list(lm.net.parameters())[:4])
    return Seen(sum(rows), rows=rows)


@pytest.mark.parametrize("cut", [2, 5])
def test_a_watched_run_in_parts_is_the_run_in_one_go_to_the_bit(tmp_path, cut):
    constant = dataclasses.replace(OPTIM, schedule="constant")  # which does not ask how long the run is
    chosen = settings(steps=8, optim=constant, **(WATCHED | {"patience": 3}))
    looks = {"evaluate": bound_of_the_weights, "write_sample": lambda lm: "x"}
    whole = trained(tmp_path / "w", chosen, **looks)
    trained(tmp_path / "p", dataclasses.replace(chosen, steps=cut), **looks)
    rest = trained(tmp_path / "p", chosen, resume=True, **looks)
    assert same(weights(whole), weights(rest))
    names = [[path.name for path in state.checkpoints(tmp_path / run)] for run in ("w", "p")]
    assert names[0] == names[1]
    numbers = [state.load(state.checkpoints(tmp_path / run)[-1])[1] for run in ("w", "p")]
    assert numbers[0] == numbers[1] and numbers[0]["watch"]["best"] is not None


def test_a_run_that_stopped_stays_stopped_until_it_is_told_otherwise(tmp_path):
    def rising(lm):
        return Seen(1.0 + lm.card.get("step", 0), rows=(1.0, 2.0) if "step" not in lm.card else (3.0, 4.0))

    chosen = settings(steps=20, **(WATCHED | {"patience": 1}))
    first = trained(tmp_path, chosen, evaluate=rising)
    stopped = state.checkpoints(tmp_path)[-1].name
    again = trained(tmp_path, chosen, resume=True, evaluate=rising)
    assert state.checkpoints(tmp_path)[-1].name == stopped and same(weights(first), weights(again))
    trained(tmp_path, dataclasses.replace(chosen, patience=0), resume=True, evaluate=rising)
    assert state.checkpoints(tmp_path)[-1].name == "step-00000020"


def test_a_best_checkpoint_that_is_gone_is_told(tmp_path):
    evaluate = falling_then_rising(2)
    trained(tmp_path, settings(steps=20, **WATCHED), evaluate=evaluate)
    (tmp_path / "checkpoints" / "step-00000002" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)lost the checkpoint of step 2.*patience=0"):
        trained(tmp_path, settings(steps=20, **WATCHED), resume=True, evaluate=evaluate)


def test_samples_are_kept_and_go_back_with_a_checkpoint(tmp_path):
    chosen = settings(steps=3, eval_every=1, save_every=2)
    trained(tmp_path, chosen, evaluate=falling_then_rising(9), write_sample=lambda lm: "one\ntext")
    lines = state.read_metrics(tmp_path / "samples.jsonl")
    assert lines == [{"step": n, "text": "one\ntext"} for n in (1, 2, 3)]
    state.at_step(tmp_path, 3).joinpath("state.json").unlink()  # as if killed before the last save
    again = {"evaluate": falling_then_rising(9), "write_sample": lambda lm: "two"}
    trained(tmp_path, chosen, resume=True, **again)
    texts = [line["text"] for line in state.read_metrics(tmp_path / "samples.jsonl")]
    assert texts == ["one\ntext", "one\ntext", "two"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"patience": -1}, "patience must be at least 0 (no early stop), got -1"),
        ({"patience": 2}, "patience=2 needs looks at held-out text"),
        ({"lora": -1}, "lora must be at least 0 (no adapters), got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        TrainSettings(**({"steps": 1} | given))
    assert words in str(caught.value)
