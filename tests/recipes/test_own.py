"""The sizes that are chosen for a text: from how much there is, from the machine, from the time."""

import json

import numpy as np
import pytest

from unmask.compat.load import load
from unmask.errors import ConfigError, DataError
from unmask.recipes import own
from unmask.recipes.own import Amount, Machine, choose, own_run
from unmask.recipes.run import names, with_settings
from unmask.text.corpora import corpus
from unmask.text.loader import Loader
from unmask.training.loop import seconds_per_step

CPU = Machine("cpu", 2, 1, 16e9)
GPU = Machine("cuda", 8, 1, 80e9)


def amount(size, documents=100):
    return Amount(documents, round(size * 0.95), round(size * 0.05))


def chosen(size, *by_hand, minutes=10.0, machine=CPU, speed=2e11, base=None, **given):
    """The run chosen where a step takes what its tokens and parameters take at `speed` operations a second."""

    def pace(run):
        work = 6 * own.blocks(run.model.width, run.model.depth) * run.batch_size * run.model.length
        return work / speed * (2 if run.train.precision == "float32" else 1)

    run = with_settings(base or own_run("x.txt"), by_hand)
    return choose(run, names(by_hand), amount(size), machine, minutes=minutes, pace=pace, **given)


def test_more_text_gets_a_larger_vocabulary_a_longer_context_and_a_larger_body():
    runs = [chosen(size)[0] for size in (2e3, 5e4, 5e5, 5e6, 5e8)]
    assert [run.data.tokenizer for run in runs] == ["bpe:512", "bpe:512", "bpe:1024", "bpe:4096", "bpe:4096"]
    assert [run.model.length for run in runs] == [16, 128, 256, 256, 256]
    widths = [run.model.width for run in runs]
    assert widths == sorted(widths) and widths[0] == 64 and widths[-1] > 96
    assert all(run.model.width % run.model.heads == 0 for run in runs)


def test_more_time_and_a_faster_machine_get_a_larger_body_and_the_rule_holds():
    widths = [chosen(1e9, minutes=m)[0].model.width for m in (0.1, 1, 10, 100, 1000)]
    assert widths == sorted(widths) and widths[0] < widths[2] < widths[4]
    assert chosen(1e9, speed=2e13)[0].model.width > chosen(1e9)[0].model.width
    for minutes in (10, 100):
        run, _ = chosen(1e9, minutes=minutes)
        body = own.blocks(run.model.width, run.model.depth)
        seen = run.train.steps * run.batch_size * run.model.length
        assert seen >= own.TOKENS_PER_PARAMETER * body


def test_a_body_has_no_more_than_four_parameters_a_token_unless_it_is_the_smallest():
    for size in (1e4, 1e5, 1e6, 1e7):
        run, reasons = chosen(size, minutes=1e4)
        body, known = own.blocks(run.model.width, run.model.depth), own.tokens(0.95 * size, run.data.tokenizer)
        assert body <= max(own.blocks(*own.SIZES[0]), 4 * known)
        assert any("more than 4 for each of about" in why for _, why in reasons)


def test_steps_fill_the_time_and_end_after_a_hundred_passes():
    run, _ = chosen(1e9, "width=64")
    seconds = 6 * own.blocks(64, 2) * 4096 / 2e11
    assert run.train.steps == int(0.85 * 600 / seconds) and run.train.precision == "bfloat16"
    few, reasons = chosen(1e5)
    known = own.tokens(95_000, "bpe:512")
    assert few.train.steps * few.batch_size * few.model.length == pytest.approx(100 * known, rel=0.01)
    assert any("100 passes over the text are enough" in why for _, why in reasons)
    assert chosen(1e5, "kind=ar")[0].train.steps < few.train.steps / 5


def test_looks_take_about_a_tenth_of_the_time_and_everything_goes_with_them():
    for size, minutes in ((1e5, 10), (1e7, 10), (1e7, 0.2)):
        run, _ = chosen(size, minutes=minutes)
        looks = run.train.steps / run.train.eval_every
        assert 1 <= looks <= 20 and run.train.save_every == run.train.eval_every and run.train.patience == 3
        assert run.train.optim.warmup <= run.train.steps // 10 and run.train.log_every >= 1


def test_what_small_batches_need_is_chosen_by_kind():
    sedd, mdlm, ar = (chosen(1e6, *by_hand)[0] for by_hand in ([], ["kind=mdlm"], ["kind=ar"]))
    assert (sedd.model.start, sedd.train.t_power) == ("neighbors", 2.0)
    assert (mdlm.model.start, mdlm.train.t_power) == ("zero", 2.0)
    assert (ar.model.start, ar.train.t_power) == ("zero", 1.0)


def test_what_is_given_by_hand_wins_and_the_rest_goes_with_it():
    by_hand = ["width=48", "tokenizer=bpe:300", "length=32", "batch_size=5", "steps=7", "eval_every=2", "start=zero"]
    run, reasons = chosen(1e6, *by_hand)
    assert (run.model.width, run.model.length, run.batch_size, run.train.steps) == (48, 32, 5, 7)
    assert run.data.tokenizer == "bpe:300" and run.train.eval_every == 2 and run.model.start == "zero"
    assert run.model.width % run.model.heads == 0 and run.model.depth == 2
    said = dict(reasons)
    assert said["tokenizer=bpe:300"] == said["steps=7"] == "by hand"
    assert said["width=48 depth=2 heads=2"].startswith("width by hand")
    deep, _ = chosen(1e6, "depth=3", "heads=3")
    assert deep.model.depth == 3 and deep.model.heads == 3 and deep.model.width % 3 == 0


def test_nothing_is_timed_that_nothing_hangs_on():
    base = with_settings(own_run("x.txt"), ["width=32", "steps=3"])
    fail = lambda run: pytest.fail("was timed")  # noqa: E731
    run, _ = choose(base, names(["width=32", "steps=3"]), amount(1e6), CPU, pace=fail)
    assert run.train.steps == 3


def test_a_batch_that_memory_does_not_hold_is_parted_and_splits_over_processes():
    run, reasons = chosen(1e9, "width=1024", "depth=24", machine=Machine("cpu", 8, 1, 4e9))
    assert 1 <= run.train.micro_batch < run.batch_size and any("MB" in why for _, why in reasons)
    assert chosen(1e9, machine=GPU)[0].train.micro_batch is None
    assert chosen(1e6, machine=Machine("cpu", 1, 3, 16e9))[0].batch_size % 3 == 0


def test_little_time_is_spent_on_smaller_batches():
    run, reasons = chosen(1e7, "width=512", "depth=8", minutes=2)
    assert run.batch_size == 4 and sum(what.startswith("batch_size") for what, _ in reasons) == 1
    assert chosen(1e7, "width=512", "depth=8", minutes=200)[0].batch_size == 16
    assert chosen(1e7, "width=512", "depth=8", "batch_size=16", minutes=2)[0].batch_size == 16
    three = Machine("cpu", 1, 3, 16e9)
    assert chosen(1e7, "width=512", "depth=8", minutes=2, machine=three)[0].batch_size % 3 == 0


def test_an_accelerator_gets_more_tokens_a_step_and_a_longer_context():
    run, _ = chosen(1e9, machine=GPU, speed=1e15)
    assert run.model.length == 1024 and run.batch_size == 32 and run.data.tokenizer == "bpe:8192"
    assert run.model.width >= 512


def test_a_run_that_begins_with_a_model_has_its_shape_and_lower_rates(small_models):
    for kind in ("sedd", "ar"):
        base = own_run("x.txt", init=str(small_models / kind))
        run, reasons = chosen(1e6, base=base, first=load(small_models / kind))
        assert run.model.kind == kind and (run.model.width, run.model.length) == (32, 32)
        assert run.data.tokenizer == "model" and run.model.start == "zero"
        assert run.train.optim.lr == own_run("x.txt").train.optim.lr / 10
        assert any("with its tokenizer" in why for _, why in reasons)
    assert own_run("x", init="y", lora=8).train.optim.optimizer == "adamw"


@pytest.mark.parametrize("by_hand", ["width=64", "kind=sedd", "tokenizer=gpt2"])
def test_what_contradicts_the_model_is_told_before_anything_is_timed(small_models, by_hand):
    base = with_settings(own_run("x.txt", init=str(small_models / "ar")), [by_hand])
    fail = lambda run: pytest.fail("was timed")  # noqa: E731
    with pytest.raises(ConfigError):
        choose(base, names([by_hand]), amount(1e6), CPU, first=load(small_models / "ar"), pace=fail)


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_makes_no_sense_is_refused(minutes):
    with pytest.raises(ConfigError, match="--minutes must be above 0"):
        chosen(1e6, minutes=minutes)


def test_the_amount_of_a_corpus_is_counted(tmp_path):
    rows = [f"document {i} é" for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    found = Amount.of(corpus(tmp_path / "a.jsonl"))
    assert found.documents == 60 and found.heldout_bytes > 0
    assert found.train_bytes + found.heldout_bytes == sum(len(row.encode()) for row in rows)
    (tmp_path / "empty.txt").write_text(" ")
    with pytest.raises(DataError, match="holds no text"):
        Amount.of(corpus(tmp_path / "empty.txt"))


def test_a_step_is_timed_by_real_steps_of_the_run(small_models):
    base = with_settings(own_run("x.txt"), ["width=16", "depth=1", "heads=2", "length=16", "batch_size=2"])
    first = load(small_models / "sedd")
    before = {k: v.clone() for k, v in first.net.state_dict().items()}
    assert own.timed(None)(base) > 0
    assert own.timed(first)(with_settings(own_run("x", init="y"), ["length=32", "batch_size=2"])) > 0
    assert all(bool((v == before[k]).all()) for k, v in first.net.state_dict().items())
    rows = np.zeros((4, 32), dtype=np.int64)
    assert seconds_per_step(first, Loader(rows, global_batch=2, seed=0), base.train) > 0


def test_this_machine_has_memory_and_threads():
    here = Machine.here()
    assert here.memory > 1e8 and here.threads >= 1 and here.processes == 1 and "GB of memory free" in here.words()
