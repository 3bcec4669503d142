"""Timing two sides: what is counted, what is extrapolated, where they break even. No test reads the clock's value."""

import math
import sys

import pytest
import torch

import unmask
from unmask.compat import gpt2
from unmask.errors import ConfigError
from unmask.evaluation import speed
from unmask.evaluation.latency import Latency, against, break_even
from unmask.evaluation.sizes import SIZES, build_pair, given_pair, hugging_face, is_gpt2, parameters

PAIR = build_pair("tiny")


def made(side="sedd", steps=64, batch=1, times=(1.0, 2.0, 4.0), **changes):
    steps = steps if side == "sedd" else None
    values = {
        "name": side, "side": side, "steps": steps, "batch": batch, "tokens": 100, "evaluations": steps or 100,
        "times": times, "measured": True, "size": "tiny", "weights": "random weights", "parameters": 1,
        "dtype": "float32", "device": "cpu", "threads": 1,
    }  # fmt: skip
    return Latency(**(values | changes))


def test_the_sizes_are_those_of_the_papers_models():
    """Peers' counts of the published checkpoints, and table 7's 1.45 B and 1.3 B."""
    assert parameters(SIZES["small"]) == (169_627_218, 124_439_808)
    assert parameters(SIZES["medium"]) == (424_477_010, 354_823_168)
    assert [round(n / 1e9, 2) for n in parameters(SIZES["xl"])] == [1.45, 1.32]
    assert (SIZES["xl"].length, SIZES["xl"].width, SIZES["xl"].depth, SIZES["xl"].heads) == (2048, 2048, 24, 32)


def test_a_random_sedd_loses_its_masks_at_the_schedules_pace():
    canvas = unmask.Canvas.blank(32, batch=64)
    frames = {frame.nfe: frame for frame in unmask.denoise(PAIR.sedd, canvas, steps=8, seed=0)}
    masked = (frames[4].tokens == 97).double().mean()
    assert float(masked) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(64 * 32))
    frozen = [p for p in PAIR.ar.net.parameters() if not torch.isfinite(p).all()]
    assert not frozen and build_pair("tiny", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_all_take_turns_and_everything_is_counted(monkeypatch):
    order = []
    clock = speed._clock

    def watched(work, device):
        order.append(work)
        return clock(work, device)

    monkeypatch.setattr(speed, "_clock", watched)
    told = []
    found = speed.latency(
        PAIR, steps=[2, 4], batches=[2, 1], tokens=16, repeats=2, whole_batch=2, hf=False,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert [(x.name, x.batch) for x in found] == [
        (name, batch) for batch in (1, 2) for name in ("SEDD, 2 steps", "SEDD, 4 steps", "AR, key-value cache")
    ]
    assert told == [(i + 1, 18) for i in range(18)] and len(order) == 18
    for x in found:
        assert x.measured and x.note == "" and len(x.times) == 2 and min(x.times) > 0 and x.peak_mb is None
        assert x.evaluations in ({x.steps, x.steps + 1} if x.steps else {16})
        assert x.throughput == pytest.approx(x.batch * 16 / x.seconds)
        assert x.tokens_per_evaluation == 16 / x.evaluations and x.threads == torch.get_num_threads()
        assert x.protocol.startswith(f"tiny, 16 new tokens, batch {x.batch}, float32, cpu")


def test_long_runs_are_extrapolated_from_their_middle_and_marked(monkeypatch):
    states, caches = [], []
    following = speed.denoise

    def watched(*args, **options):
        running = following(*args, **options)
        states.append((options["steps"], running))
        return running

    class Writing(speed.Writer):
        def __call__(self, x, u):
            caches.append(self.cache.length)
            return super().__call__(x, u)

    monkeypatch.setattr(speed, "denoise", watched)
    monkeypatch.setattr(speed, "Writer", Writing)
    monkeypatch.setattr(speed, "_clock", lambda work, device: [work(), 3.0][1])
    found = speed.latency(
        PAIR, steps=[4, 20, 40], repeats=1, whole_steps=4, whole_tokens=8, probe=(6, 4), hf=False
    )  # fmt: skip
    assert [(x.name, x.measured) for x in found] == [
        ("SEDD, 4 steps", True), ("SEDD, 20 steps", False), ("SEDD, 40 steps", False), ("AR, key-value cache", False),
    ]  # fmt: skip
    assert [x.seconds for x in found] == [3.0, 20 * 3.0 / 6, 40 * 3.0 / 6, 32 * 3.0 / 4]
    assert found[2].note == "extrapolated from 6 of 40 steps, in the middle of the run" and found[2].evaluations == 40
    assert found[3].note == "extrapolated from 4 of 32 tokens, in the middle of the run"
    assert {steps for steps, _ in states} == {40} and states[-1][1].state.step == 26
    assert states[-1][1].state.t == pytest.approx(1 - 26 / 40, abs=1e-4)
    assert caches == [16, 16, 17, 16, 16, 17, 18, 19]  # a warm-up of two tokens, then four, and one before each


def test_larger_batches_are_probed_with_fewer_steps():
    found = speed.latency(PAIR, steps=[4], batches=[1, 4], tokens=8, repeats=1, probe=(8, 2), hf=False)
    assert [(x.side, x.batch, x.measured) for x in found] == [
        ("sedd", 1, True), ("ar", 1, True), ("sedd", 4, False), ("ar", 4, False),
    ]  # fmt: skip
    assert found[2].note.startswith("extrapolated from 2 of 4 steps")


def test_a_batch_too_large_for_one_go_is_made_in_parts(monkeypatch):
    seen = []
    following = speed.denoise
    monkeypatch.setattr(
        speed, "denoise", lambda model, canvas, **options: seen.append((canvas.batch, options["rule"])) or
        following(model, canvas, **options),
    )  # fmt: skip
    monkeypatch.setattr(speed, "_clock", lambda work, device: [work(), 3.0][1])
    found = speed.latency(
        PAIR, steps=[4], batches=[1, 8], repeats=1, whole_steps=0, probe=(2, 2), rule="ancestral", at_once=2, hf=False
    )
    assert [(x.name, x.batch) for x in found[::2]] == [("SEDD, 4 steps, ancestral", 1), ("SEDD, 4 steps, ancestral", 8)]
    assert [x.seconds for x in found[::2]] == [4 * 3.0 / 2, 4 * 3.0 * 4]  # 8 sequences are 4 parts of 2
    assert found[2].note == "extrapolated from 1 of 4 steps, in the middle of the run, 2 of 8 sequences at a time"
    assert {batch for batch, _ in seen} == {1, 2} and {rule for _, rule in seen} == {"ancestral"}


def test_a_rule_without_a_grid_cannot_be_probed():
    with pytest.raises(ConfigError, match="has no grid"):
        speed.latency(PAIR, steps=[4], whole_steps=0, rule="confidence", hf=False)


def test_hugging_face_runs_on_the_same_weights_in_the_same_turns():

    x = torch.randint(97, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(hugging_face(PAIR.ar)(x).logits, PAIR.ar.net(x), rtol=1e-4, atol=1e-5)
    for whole in (None, 4):
        found = speed.latency(PAIR, steps=[2], tokens=8, repeats=2, whole_tokens=whole, probe=(1, 3))
        assert [x.side for x in found] == ["sedd", "ar", "hf"]
        assert [x.evaluations for x in found[1:]] == [8, 8] and found[2].measured == (whole is None)
        assert against(found).keys() == {1}


def test_publish_is_the_inverse_of_rename():
    state = PAIR.ar.net.state_dict()
    back = gpt2.rename(gpt2.publish(state))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_generate_is_refused_where_it_cannot_be_compared(monkeypatch):
    twins = build_pair("twins")
    assert twins.weights == "their own weights" and not is_gpt2(twins.ar)
    with pytest.raises(ConfigError, match="another"):
        hugging_face(twins.ar)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="transformers, which is not installed") as caught:
        speed.latency(PAIR, steps=[2], tokens=4)
    assert "pip install 'unmask[judge]'" in caught.value.hint


def test_what_cannot_be_timed_is_refused():
    for bad in ({"steps": []}, {"steps": [0]}, {"batches": [0]}, {"repeats": 0}, {"tokens": 33}, {"probe": (0, 1)}):
        with pytest.raises(ConfigError, match="at least 1"):
            speed.latency(PAIR, **({"steps": [2]} | bad))
    with pytest.raises(ConfigError, match="size"):
        build_pair("smal")
    with pytest.raises(ConfigError, match="a diffusion model first"):
        given_pair("ar-twin", "sedd-twin")


def test_median_and_quartiles():
    x = made(times=(5.0, 1.0, 2.0, 4.0, 3.0), batch=2)
    assert (x.low, x.seconds, x.high, x.throughput) == (2.0, 3.0, 4.0, pytest.approx(200 / 3))
    row, rate = x.row(), x.row(throughput=True)
    assert (row.name, row.value, row.unit, row.n, row.note) == ("latency", 3.0, "s", 5, "quartiles 2 to 4 s")
    assert (rate.name, rate.unit) == ("throughput", "tokens/s") and rate.note == "quartiles 50 to 100 tokens/s"
    assert made(times=(2.0,)).low == 2.0 == made(times=(2.0,)).high
    assert x.as_json()["seconds"] == 3.0 and x.as_json()["times"] == (5.0, 1.0, 2.0, 4.0, 3.0)


def test_break_even_is_interpolated_in_the_logarithm_of_the_batch():
    """Diffusion gives the same at any batch: 100 tokens/s in 64 steps. The other side: 25 at batch 1, 100 at 4 ..."""
    sides = [made("ar", batch=b, times=(4.0 / 4**i * b,)) for i, b in enumerate((1, 4, 16, 64))]
    rates = [made(steps=s, batch=b, times=(b * s / 64,)) for s in (64, 8, 300, 30_000) for b in (1, 4, 16, 64)]
    points = {x.steps: x for x in break_even([*sides, *rates])}
    assert list(points) == [8, 64, 300, 30_000] and points[64].tried == (1, 4, 16, 64)
    assert points[64].batch == pytest.approx(4.0) and points[64].words == "from batch 4"
    assert points[8].batch == pytest.approx(32.0) and points[300].batch == "always"
    slow = [made("ar", batch=b, times=(1e6,)) for b in (1, 4)]
    never = break_even([*slow, *rates])[0]
    assert (never.batch, never.words, points[300].words) == (
        "never", "at no batch up to 4", "at every batch, 1 to 64",
    )  # fmt: skip
    assert break_even(rates) == []
    dips = [made("ar", batch=b, times=(t,)) for b, t in ((1, 0.5), (2, 4.0), (4, 2.0))]
    level = [made(batch=b, times=(float(b),)) for b in (1, 2, 4)]
    assert break_even([*dips, *level])[0].batch == pytest.approx(2 * math.sqrt(2))


def test_the_ratio_is_of_paired_repeats():
    ours, theirs = made("ar", times=(1.0, 2.0, 9.0)), made("hf", times=(2.0, 4.0, 9.0))
    assert against([ours, theirs]) == {1: 0.5} and against([ours]) == {}
