"""`unmask sample` into a file: batches, goings-on, verifiers, profiles, dtypes."""

import json
import tracemalloc
from pathlib import Path

import pytest
import torch

from unmask import compat
from unmask.cli import many as module
from unmask.evaluation import many as store
from unmask.evaluation.samples import read_samples
from unmask.sampling import Sample

from .call import call

VERIFY = """
def even(text):
    return len(text) % 2 == 0

def nothing(text):
    return False

def broken(text):
    raise ValueError("what is that")

def slow(text):
    import time
    time.sleep(30)

def dies(text):
    import os
    os._exit(3)

def loud(text):
    print("a word")
    return True
"""


@pytest.fixture
def verify(tmp_path: Path) -> Path:
    path = tmp_path / "verify.py"
    path.write_text(VERIFY)
    return path


def sample(models: Path, *options: object, kind: str = "sedd", n: int = 7):
    steps = [] if kind == "ar" else ["--steps", 4]
    return call("sample", "--model", models / kind, "-n", n, "--seed", 3, "--length", 12, *steps, *options)


def made(models: Path, out: Path, *options: object, kind: str = "sedd", n: int = 7) -> dict:
    (facts,) = sample(models, "--out", out, "--json", *options, kind=kind, n=n).lines()
    return facts


@pytest.mark.parametrize("kind", ["sedd", "mdlm", "ar"])
def test_float64_files_are_equal_to_the_byte_whatever_the_batch(tmp_path, small_models, kind):
    files = []
    for size in (1, 3, 7, "auto"):
        out = tmp_path / f"{size}.jsonl"
        facts = made(small_models, out, "--dtype", "float64", "--batch-size", size, "--prompt", "We the", kind=kind)
        assert facts["samples"] == facts["tried"] == facts["made"] == 7 and facts["seconds"] > 0
        assert size == "auto" or facts["batch"] == size
        files.append(out.read_bytes())
    assert len(set(files)) == 1
    found = read_samples(tmp_path / "3.jsonl")
    assert found.n == 7 and [b.size for b in found.batches] == [3, 3, 1] and found.nfe > 0
    assert all(text.startswith("We the") for text in found.texts) and len(set(found.texts)) == 7
    direct = sample(small_models, "--dtype", "float64", "--prompt", "We the", "--json", kind=kind).lines()
    assert [each["tokens"] for each in direct] == [ids.tolist() for ids in found.ids]
    assert sorted(p.name for p in tmp_path.glob("3.*")) == ["3.jsonl", "3.jsonl.facts"]


@pytest.mark.parametrize(("lives", "last"), [((1, 1), [4, 6]), ((2, 1, 1), [])])  # the second: cut in the joining
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, small_models, monkeypatch, lives, last):
    made(small_models, tmp_path / "whole.jsonl", "--batch-size", 2)
    out, append, draw, drawn = tmp_path / "cut.jsonl", store.append, store.draw_batch, []
    for stop in lives:
        left = [stop]

        def cut(file, lines, left=left):
            lines = list(lines)
            if left[0] == 0:
                file.write(json.dumps(lines[0]).encode()[:20])
                raise KeyboardInterrupt
            left[0] -= "checked" in lines[-1]
            append(file, lines)

        monkeypatch.setattr(store, "append", cut)
        assert sample(small_models, "--out", out, "--batch-size", 2).code == 130
        assert not out.exists() and out.with_name("cut.jsonl.plan").exists()
    monkeypatch.setattr(store, "append", append)
    monkeypatch.setattr(store, "draw_batch", lambda *a: drawn.append(a[3]) or draw(*a))
    done = call("sample", "--model", small_models / "sedd", "-n", 7, "--length", 12, "--steps", 4, "--out", out)
    assert done.code == 0 and drawn == last
    assert "seed 3, as" in done.err  # the seed and the batch are those of the plan
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.plan"))


def test_what_is_there_is_not_made_again_and_not_written_over(tmp_path, small_models, monkeypatch):
    out = tmp_path / "a.jsonl"
    first = made(small_models, out)
    before = out.read_bytes()
    monkeypatch.setattr(store, "draw_batch", lambda *a: pytest.fail("sampled"))
    assert made(small_models, out) == first
    for other, words in (
        (["--steps", 5], "steps 4, not 5"),
        (["-n", 8], "n 7, not 8"),
        (["--temperature", 0.5], "0.5"),
    ):
        done = sample(small_models, "--out", out, *other)
        assert done.code == 2 and words in done.err and "Traceback" not in done.err
    assert out.read_bytes() == before
    monkeypatch.undo()
    assert made(small_models, out, "--force", n=3)["samples"] == 3
    out.write_text("my diary\n")
    done = sample(small_models, "--out", out)
    assert done.code == 2 and "not a file of many samples" in done.err and out.read_text() == "my diary\n"


def test_what_was_begun_otherwise_is_refused(tmp_path, small_models, monkeypatch):
    out = tmp_path / "a.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(store, "draw_batch", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        assert sample(small_models, "--out", out, "--batch-size", 2).code == 130
    assert "batches of 2" in sample(small_models, "--out", out, "--batch-size", 3).err
    assert "temperature 1.0, not 0.5" in sample(small_models, "--out", out, "--temperature", 0.5).err
    assert made(small_models, out, "--temperature", 0.5, "--force")["samples"] == 7


def test_without_a_file_batches_are_printed_as_they_come(small_models):
    whole = sample(small_models, "--dtype", "float64", "--json").lines()
    parts = sample(small_models, "--dtype", "float64", "--json", "--batch-size", 2).lines()
    assert [x["tokens"] for x in whole] == [x["tokens"] for x in parts] and [x["sample"] for x in parts] == [*range(7)]
    assert "batches of" in sample(small_models, "--batch-size", "auto").err


@pytest.mark.parametrize("way", ["function", "command"])
def test_a_verifier_keeps_the_first_k_in_their_order(tmp_path, small_models, verify, way):
    everything = tmp_path / "all.jsonl"
    made(small_models, everything, "--dtype", "float64", n=24)
    texts = read_samples(everything).texts
    good = [i for i, text in enumerate(texts) if len(text) % 2 == 0]
    assert len(good) > 4
    call_it = "import sys; sys.exit(len(sys.stdin.buffer.read().decode()) % 2)"
    verifier = f"{verify}:even" if way == "function" else f"{module.sys.executable} -c '{call_it}'"
    files = []
    for size in (2, 5):
        out = tmp_path / f"{size}.jsonl"
        facts = made(
            small_models, out, "--dtype", "float64", "--verifier", verifier, "--until", 4, "--batch-size", size, n=24
        )
        assert (facts["samples"], facts["accepted"], facts["tried"]) == (4, 4, good[3] + 1)
        assert facts["tried"] <= facts["made"] < 24 and facts["samples_per_second"] > 0
        files.append(out.read_bytes())
    assert files[0] == files[1]
    lines = [json.loads(line) for line in files[0].splitlines()]
    assert [line["sample"] for line in lines[1:]] == good[:4] and lines[0]["tried"] == good[3] + 1
    assert read_samples(tmp_path / "2.jsonl").texts == [texts[i] for i in good[:4]]


def test_a_verified_run_goes_on(tmp_path, small_models, verify, monkeypatch):
    options = ("--verifier", f"{verify}:even", "--until", 8, "--batch-size", 2)
    made(small_models, tmp_path / "whole.jsonl", *options, n=24)
    out, draw = tmp_path / "cut.jsonl", store.draw_batch
    for stop in (2, 6):
        with monkeypatch.context() as patch:
            patch.setattr(store, "draw_batch", lambda *a, stop=stop: draw(*a) if a[3] < stop else 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sample(small_models, "--out", out, *options, n=24)
    made(small_models, out, *options, n=24)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_too_few_are_accepted(tmp_path, small_models, verify):
    done = sample(small_models, "--verifier", f"{verify}:nothing", "--until", 2, "--out", tmp_path / "a.jsonl")
    assert done.code == 0 and "0 of 7 samples accepted, not 2: raise -n" in done.out


def test_accepted_samples_are_printed_where_there_is_no_file(small_models, verify):
    done = sample(small_models, "--verifier", f"{verify}:loud", "--until", 2)
    assert done.code == 0 and done.out.count("---\n") == 1 and "2 of 2 samples accepted" in done.err
    lines = sample(small_models, "--verifier", f"{verify}:loud", "--until", 2, "--json").lines()
    assert [line["sample"] for line in lines] == [0, 1]


def test_verifiers_that_fail(small_models, verify, tmp_path):
    cases = {
        f"{verify}:broken": (1, "failed at sample 0: ValueError: what is that"),
        f"{verify}:dies": (1, "its process died (exit code 3)"),
        f"{verify}:absent": (2, "has no attribute 'absent'"),
        f"{tmp_path}/none.py:even": (2, "there is no file"),
        "no_such_module:even": (2, "No module named 'no_such_module'"),
        "no-such-command --please": (2, "no command that can be run"),
        "sh -c 'kill -9 $$'": (1, "ended by signal 9"),
        "sh -c 'exit 127'": (1, "could not be run"),
        "sh -c 'unclosed": (2, "cannot be read"),
    }
    for verifier, (code, words) in cases.items():
        done = sample(small_models, "--verifier", verifier, n=1)
        assert (done.code, done.out) == (code, "") and words in done.err and "Traceback" not in done.err, (
            verifier,
            done,
        )


@pytest.mark.parametrize("way", ["function", "command"])
def test_a_verifier_that_takes_too_long(small_models, verify, way):
    verifier = f"{verify}:slow" if way == "function" else "sleep 30"
    done = sample(small_models, "--verifier", verifier, "--verifier-timeout", 0.3, n=1)
    assert done.code == 1 and "longer than 0.3 seconds at sample 0" in done.err


@pytest.mark.parametrize("kind", ["sedd", "ar"])
def test_a_profile_on_stderr(small_models, kind):
    done = sample(small_models, "--profile", "--json", kind=kind)
    found, line = json.loads(done.err), json.loads(done.out.splitlines()[0])
    assert found["evaluations"] == line["nfe"] and found["row_evaluations"] == 7 * line["nfe"]
    assert found["tokens"] == 7 * 12 and found["tokens_per_evaluation"] == pytest.approx(12 / line["nfe"])
    assert sum(found["seconds"].values()) == pytest.approx(found["total_seconds"], abs=1e-4)
    assert set(found["seconds"]) == {"body", "head", "draw", "rest"} and min(found["seconds"].values()) > 0
    assert found["peak_bytes"] > 2**20 and found["draws"] >= 7 * 12
    table = sample(small_models, "--profile", kind=kind).err
    assert all(word in table for word in ("body", "head", "draw", "rest", "tokens an evaluation", "MiB"))


def test_a_profile_of_a_file(small_models, tmp_path):
    done = sample(small_models, "--profile", "--json", "--out", tmp_path / "a.jsonl", "--batch-size", 2)
    assert json.loads(done.err)["tokens"] == 7 * 12
    again = sample(small_models, "--profile", "--json", "--out", tmp_path / "a.jsonl", "--batch-size", 2)
    assert json.loads(again.err)["tokens"] == json.loads(again.err)["evaluations"] == 0  # it was there already


@pytest.mark.parametrize("verb", ["sample", "fill"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes(small_models, monkeypatch, verb, dtype):
    seen, load = [], compat.load
    monkeypatch.setattr(compat, "load", lambda *a, **k: seen.append(load(*a, **k)) or seen[-1])
    words = ["a [MASK:3] b"] if verb == "fill" else []
    done = call(verb, *words, "--model", small_models / "sedd", "--steps", 3, "--dtype", dtype, "--seed", 1)
    assert done.code == 0 and seen[0].net.vocab_embed.embedding.dtype == getattr(torch, dtype)


BAD = {
    "an unknown dtype": (["--dtype", "float16"], "known: bfloat16, float32, float64"),
    "a batch of none": (["--batch-size", "0"], "--batch-size 0"),
    "a batch of words": (["--batch-size", "many"], "auto"),
    "until without a verifier": (["--until", "3"], "--verifier"),
    "no time for the verifier": (["--verifier", "true", "--verifier-timeout", "0"], "timeout"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(small_models, case):
    options, words = BAD[case]
    done = sample(small_models, *options)
    assert done.code == 2 and done.out == "" and words in done.err and "Traceback" not in done.err, done.err


def test_several_processes_need_a_file(small_models, monkeypatch):
    from unmask.evaluation import processes

    monkeypatch.setattr(processes, "launched", lambda **_: processes.Ranks(0, 2))
    done = sample(small_models)
    assert done.code == 2 and "2 processes and no --out" in done.err


def test_the_pace_says_tokens_a_second_and_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    pace = module.Pace(new_tokens=50, every=10.0)
    for done, after in ((20, 0), (22, 5), (30, 20), (31, 21)):
        now[0] = 100.0 + after
        pace(done, 80)
    pace.end()
    assert capsys.readouterr().err == "sample 30 of 80, 25 tokens/s, 1 min 40 s left\n"
    assert [module.duration(x) for x in (3.4, 61, 7260)] == ["3 s", "1 min 01 s", "2 h 01 min"]


def test_memory_does_not_grow_with_the_number(tmp_path, small_models, monkeypatch):
    tokens = torch.arange(40 * 12).reshape(40, 12) % 300
    fake = Sample(tokens, nfe=1, steps=1, seconds=0.0, clipped_mass=0.0, rule="r", reads="p0", draws="exact", seed=3)
    monkeypatch.setattr(store, "draw_batch", lambda *a: (fake, 0.0))

    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            assert made(small_models, tmp_path / f"{n}.jsonl", "--batch-size", 40, n=n)["samples"] == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(40)
    assert peak(4000) < 1.2 * peak(400)


def test_rules_with_options_of_their_own(tmp_path, small_models):
    out = tmp_path / "a.jsonl"
    given = ("sample", "--model", small_models / "mdlm", "-n", 5, "--seed", 1, "--length", 12, "--dtype", "float64")
    given += ("--rule", "threshold", "--tau", 0.3)
    assert call(*given, "--out", out, "--batch-size", 2).code == 0
    direct = call(*given, "--json").lines()
    assert [line["tokens"] for line in direct] == [ids.tolist() for ids in read_samples(out).ids]
    done = call(*given[:-1], 0.4, "--out", out)
    assert done.code == 2 and "other settings" in done.err
    assert "note: " in call(*given[:-4], "--rule", "low_confidence", "--out", tmp_path / "b.jsonl").err
