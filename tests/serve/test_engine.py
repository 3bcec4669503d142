"""The worker: rows share evaluations, do not depend on each other, join and leave between moves."""

import pytest
import torch
from tests.sampling.nets import autoregressive, diffusion, in_blocks
from tests.serve.rows import Told, alone, run

from unmask.nn.decoding import Decoder
from unmask.sampling import Canvas, denoise
from unmask.serve.engine import ClosedError, Engine, FullError


def double(**options):
    return diffusion(**options).to(dtype=torch.float64)


def mixed():
    """Rows of different rules, steps, lengths, laws and seeds."""
    gaps = Canvas.template([3, 1], 5, [2], 4)
    return [
        Told(Canvas.blank(12), seed=5),
        Told(Canvas.blank(12), seed=5, sample=1),
        Told(Canvas.blank(12), seed=9),
        Told(gaps, seed=2, rule="ancestral", steps=7),
        Told(gaps, seed=3, rule="ancestral", steps=7, temperature=0.5),
        Told(Canvas.blank(9), seed=4, rule="first-hitting"),
        Told(Canvas.blank(12), seed=4, rule="confidence", steps=3, top_p=0.8),
        Told(Canvas.blank(12), seed=4, rule="threshold", tau=0.4),
    ]


@pytest.mark.parametrize("kind", ["score", "clean"])
@pytest.mark.parametrize("slots", [2, 8])
def test_a_row_is_what_it_is_alone(kind, slots):
    model, rows = double(kind=kind), mixed()
    run(model, *rows, slots=slots)
    for told in rows:
        assert told.looks[-1].tokens.tolist() == alone(model, told)
        assert told.looks[-1].committed.all() and told.looks[-1].last
        assert not any(look.last for look in told.looks[:-1])


def test_noise_that_does_not_commit_is_served_too():
    model = double(uniform=True)
    rows = [Told(Canvas.blank(8), seed=i, steps=4 + i) for i in range(3)]
    run(model, *rows)
    assert [told.looks[-1].tokens.tolist() for told in rows] == [alone(model, told) for told in rows]
    assert not rows[0].looks[-2].committed.any()


def test_a_model_with_blocks_writes_block_by_block():
    model = in_blocks()
    ways = [
        {"seed": i, "steps": steps, "rule": rule}
        for i, (steps, rule) in enumerate([(6, None), (6, None), (9, "margin")])
    ]
    rows = [Told(Canvas.prompt([1, 2], 12), **each) for each in ways] + [Told(Canvas.blank(20), seed=4, block_size=2)]
    rows[0].then = lambda look: bool(look.committed[:8].all())
    lane = run(model, *rows).lanes["m"]
    assert [told.looks[-1].tokens.tolist() for told in rows[1:]] == [alone(model, told) for told in rows[1:]]
    assert rows[0].looks[-1].tokens.tolist()[:8] == alone(model, rows[0])[:8]
    assert not rows[0].looks[-1].committed.all() and lane.rows_evaluated > lane.evaluations > 0


def test_looks_say_how_sure_the_network_was_whoever_shared_the_evaluation():
    model = double()
    rows = [Told(Canvas.blank(12), seed=i, rule="ancestral", steps=4 + i, top=2) for i in range(3)]
    run(model, *rows)
    for i, told in enumerate(rows):
        frames = denoise(model, told.row.canvas, seed=i, rule="ancestral", steps=4 + i, top=2)
        for look, frame in zip(told.looks, frames, strict=False):  # a row leaves before the moves that change nothing
            assert [each.position for each in look.top] == frame.top.at[0].nonzero()[:, 0].tolist()
            assert [each.p for each in look.top] == pytest.approx(frame.top.p.tolist())
            assert [[x for x, _ in each.others] for each in look.top] == frame.top.other.tolist()
    assert sum(len(look.top) for told in rows for look in told.looks) == 36


def test_rows_of_all_kinds_share_evaluations():
    ways = [{"rule": rule, "steps": steps} for rule in ("margin", "random-order") for steps in (8, 10, 12)]
    rows = [Told(Canvas.blank(12), seed=i, temperature=1 + i / 10, **each) for i, each in enumerate(ways)]
    lane = run(double(), *rows).lanes["m"]
    assert lane.evaluations == 12 and lane.rows_evaluated == 2 * (8 + 10 + 12)
    assert lane.finished == 6 and lane.used > 0


def test_a_row_joins_between_moves_and_leaves_when_it_is_finished():
    model = double()
    long = Told(Canvas.blank(12), seed=1, rule="random-order", steps=12)
    short = Told(Canvas.blank(12), seed=2, rule="margin", steps=3)
    engine = Engine({"m": model}, slots=4, queue=4)

    def join(look):
        if len(long.looks) == 5:
            engine.submit([short.row])
        return False

    long.then = join
    engine.submit([long.row])
    engine.start()
    found = [long.wait(), short.wait()]
    engine.close(60)
    assert found == [alone(model, long), alone(model, short)] and short.when < long.when
    assert engine.lanes["m"].evaluations == 12


def test_a_row_that_has_seen_enough_makes_room():
    model = double()
    first, second = (Told(Canvas.blank(12), seed=i, rule="random-order", steps=12) for i in range(2))
    first.then = lambda look: look.step == 4
    engine = run(model, first, second, slots=1)
    assert first.looks[-1].step == 4 and second.looks[-1].tokens.tolist() == alone(model, second)
    assert first.when < second.when and engine.lanes["m"].finished == 2


def test_an_autoregressive_model_writes_a_token_a_move():
    model = autoregressive().to(dtype=torch.float64)
    rows = [Told(Canvas.prompt([1, 2], 10), seed=1), Told(Canvas.prompt([3, 0], 10), seed=1, sample=4)]
    rows += [Told(Canvas.prompt([5], 10), seed=2, temperature=0.7), Told(Canvas.blank(6), seed=3)]
    rows[0].then = lambda look: look.step == 3
    run(model, *rows)
    for told in rows:
        known = int(told.looks[-1].here.sum())
        assert told.looks[-1].tokens.tolist()[:known] == alone(model, told)[:known]
        assert [look.step for look in told.looks] == list(range(1, len(told.looks) + 1))
    assert len(rows[0].looks) == 3 and len(rows[1].looks) == 8


def test_an_autoregressive_model_says_how_sure_it_was_and_writes_the_same():
    model = autoregressive().to(dtype=torch.float64)
    law = {"temperature": 0.5, "top_p": 0.9}
    canvases = [Canvas.prompt([1, 2], 10), Canvas.prompt([3, 0], 10), Canvas.prompt([5], 10), Canvas.blank(6)]
    plain, sure = ([Told(c, seed=i, top=top, **law) for i, c in enumerate(canvases)] for top in (None, 2))
    sure[0].then = lambda look: look.step == 3  # the others go on without it
    run(model, *plain, *sure, slots=16)
    for i, (without, told) in enumerate(zip(plain, sure, strict=True)):
        row, looks = without.looks[-1].tokens, told.looks
        assert row.tolist() == alone(model, without) and not any(look.top for look in without.looks)
        written = int(looks[-1].here.sum())
        assert torch.equal(looks[-1].tokens[:written], row[:written])
        assert len(looks) == (3 if i == 0 else int((~canvases[i].frozen).sum()))
        for look in looks:
            [one] = look.top
            assert one.position == int(look.here.sum()) - 1
            trials = torch.cat([row[: one.position].expand(7, -1), torch.arange(7)[:, None]], 1)
            p = (-model.nll(trials)[:, -1]).exp()  # the model's own: neither temperature nor top-p is in it
            drawn = int(row[one.position])
            assert one.p == pytest.approx(float(p[drawn]))
            p[drawn] = -1
            assert one.others == tuple((int(k), pytest.approx(float(p[k]))) for k in p.topk(2).indices)


def test_a_compiled_autoregressive_model_writes_through_native_code_while_rows_leave(monkeypatch):
    model, native = autoregressive().to(dtype=torch.float32).compile(), []
    through = Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda self, x, cache: native.append(len(x)) or through(self, x, cache))
    rows = [Told(Canvas.prompt([1, 2], 10), seed=i) for i in range(3)]
    rows[1].then = lambda look: look.step == 3
    run(model, *rows)
    assert native == [3, 3] + 5 * [2]  # after the prompt, a token a move
    assert [told.looks[-1].tokens.tolist() for told in rows[::2]] == [alone(model, told) for told in rows[::2]]


def test_the_queue_is_bounded_and_says_how_long_to_wait():
    engine = Engine({"m": diffusion()}, slots=1, queue=2)
    engine.submit([Told(Canvas.blank(4)).row, Told(Canvas.blank(4)).row])
    with pytest.raises(FullError) as caught:
        engine.submit([Told(Canvas.blank(4)).row, Told(Canvas.blank(4)).row])
    assert 1 <= caught.value.retry_after <= 60
    engine.submit([Told(Canvas.blank(4)).row])


def test_a_closed_engine_finishes_what_it_has_and_takes_no_more():
    told = Told(Canvas.blank(12), seed=1, rule="random-order", steps=12)
    engine = Engine({"m": diffusion()}, slots=1, queue=2)
    engine.submit([told.row])
    engine.start()
    engine.close(60)
    assert told.ended.is_set() and told.looks[-1].last
    with pytest.raises(ClosedError):
        engine.submit([Told(Canvas.blank(4)).row])


def test_cancelled_rows_leave_at_once():
    model = double()
    running, waiting, other = (Told(Canvas.blank(12), seed=i, rule="random-order", steps=12) for i in range(3))
    engine = Engine({"m": model}, slots=1, queue=4)

    def stop(look):
        if look.step == 3:
            engine.cancel([running.row])
            engine.cancel([waiting.row])
        return False

    running.then = stop
    for told in (running, waiting, other):
        engine.submit([told.row])
    engine.start()
    assert other.wait() == alone(model, other)
    engine.close(60)
    assert len(running.looks) == 4 and not waiting.looks and running.error is waiting.error is None


def test_a_failing_network_fails_its_rows_and_not_the_worker():
    model = double()
    broken, good = Told(Canvas.blank(12), seed=1), Told(Canvas.blank(12), seed=2)
    predict, model.predict = model.predict, lambda xt, t: 1 / 0
    engine = Engine({"m": model}, slots=4, queue=4)
    engine.submit([broken.row])
    engine.start()
    with pytest.raises(ZeroDivisionError):
        broken.wait()
    model.predict = predict
    engine.submit([good.row])
    assert good.wait() == alone(model, good)
    engine.close(60)


def test_a_watch_that_raises_fails_its_row_alone():
    model = double()
    bad, good = Told(Canvas.blank(12), seed=1), Told(Canvas.blank(12), seed=2)
    bad.then = lambda look: 1 / 0
    engine = Engine({"m": model}, slots=4, queue=4)
    engine.submit([bad.row])
    engine.submit([good.row])
    engine.start()
    assert good.wait() == alone(model, good) and isinstance(bad.error, ZeroDivisionError)
    engine.close(60)


def test_the_model_that_had_least_time_moves_next():
    moved, lanes = [], {"a": autoregressive(), "b": autoregressive()}
    rows = [Told(Canvas.prompt([1], 12), name) for name in lanes]
    engine = Engine(lanes, slots=4, queue=4)
    for told in rows:
        told.then = lambda look, name=told.row.model: moved.append(name)
        engine.submit([told.row])
    engine.lanes["a"].used, engine.lanes["b"].used = 1e6, 0.0
    engine.start()
    for told in rows:
        told.wait()
    engine.close(60)
    assert moved == ["b"] * 11 + ["a"] * 11


def test_an_idle_model_gathers_no_claim_on_the_worker():
    engine = Engine({"a": autoregressive(), "b": autoregressive()}, slots=4, queue=4)
    engine.lanes["a"].used = 100.0
    engine.submit([Told(Canvas.prompt([1], 12), "a").row])
    engine.submit([Told(Canvas.prompt([1], 12), "b").row])
    assert engine.lanes["b"].used == 100.0
