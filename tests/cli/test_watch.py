"""--watch and --export: what is drawn, what is kept, and that the text is the one that comes out unwatched."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from unittest import mock

import pytest

from unmask import checkpoint
from unmask.cli import watch
from unmask.cli.main import run
from unmask.report.ramp import LIGHT, ramp, stop
from unmask.sampling import Canvas, denoise
from unmask.sampling.recording import Recorder

from .call import call

TEMPLATE = "the [MASK:6] of [MASK:4]"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(watch, "LONGEST", 0.0)
    monkeypatch.setattr(watch, "LAST", 0.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch, *arguments, **environment) -> tuple[str, str]:
    """What a terminal shows on stdout and stderr."""
    for name in ("NO_COLOR", "TERM", "COLORTERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "90"} | environment).items():
        monkeypatch.setenv(name, value)
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with mock.patch.object(sys, "argv", ["unmask", *map(str, arguments)]), pytest.raises(SystemExit) as left:
        run()
    assert not left.value.code, err.getvalue()
    return out.getvalue(), err.getvalue()


def fill(small_models: Path, *more: object) -> list[object]:
    return ["fill", TEMPLATE, "--model", small_models / "sedd", "--steps", 4, "--seed", 3, *more]


def test_what_is_watched_is_what_comes_out_unwatched(small_models, monkeypatch, tmp_path):
    plain = call(*fill(small_models, "-n", 3))
    shown, drawn = on_a_terminal(monkeypatch, *fill(small_models, "-n", 3, "--watch"))
    assert shown == plain.out and "\x1b[?25l" in drawn and watch.MASKED in drawn
    kept = tmp_path / "run.html"
    as_json = call(*fill(small_models, "--json")).lines()[0]
    exported = call(*fill(small_models, "--json", "--export", kept))
    again = exported.lines()[0]
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in as_json.items() if k != "seconds"}
    assert f"replay: {kept}\n" in exported.err


def test_gaps_of_several_lengths_are_not_watched(small_models, tmp_path):
    made = call("fill", "--model", small_models / "sedd", "a [MASK:1-2] b", "--export", tmp_path / "run.html")
    assert made.code == 2 and "--export with gaps of 2 combinations of lengths" in made.err
    assert not (tmp_path / "run.html").exists()


def test_a_prompt_is_watched_too(small_models, monkeypatch):
    arguments = ["sample", "--model", small_models / "mdlm", "--prompt", "We", "--steps", 3, "--seed", 1]
    shown, drawn = on_a_terminal(monkeypatch, *arguments, "--watch")
    assert shown == call(*arguments).out and "step 0, 0 of" in drawn


def test_no_color_draws_without_colours(small_models, monkeypatch):
    _, coloured = on_a_terminal(monkeypatch, *fill(small_models, "--watch"))
    _, plain = on_a_terminal(monkeypatch, *fill(small_models, "--watch"), NO_COLOR="1")
    colours = re.compile(r"\x1b\[[0-9;]*48;")
    assert colours.search(coloured) and not colours.search(plain) and watch.MASKED in plain


def test_a_picture_shows_when_each_token_settled(small_models):
    model = checkpoint.load(small_models / "sedd")
    canvas = Canvas.parse(TEMPLATE, model.tokenizer)
    running = denoise(model, canvas, steps=5, seed=3, top=3)
    recorder = Recorder(model.tokenizer, running)
    for moment in recorder:
        text = watch.picture(recorder, moment)
        assert text.plain.count(watch.MASKED) == sum(piece is None for piece in recorder.texts)
        assert f"step {moment.step}," in text.plain
    colors = {span.style.bgcolor.name for span in text.spans if span.style.color}
    frames = {frame.step: frame.t for frame in recorder.frames}
    settled = [token.committed_at for token in recorder.tokens if not token.given]
    assert colors <= {ramp(LIGHT)[stop(1 - frames[step])] for step in settled} and len(colors) > 1
    assert text.plain.startswith("the")


def test_a_replay_and_a_gif_are_kept(small_models, tmp_path):
    page = tmp_path / "run.html"
    call(*fill(small_models, "--export", page, "--top-p", 0.9))
    [data] = re.findall(r'id="recordings">(.*?)</script>', page.read_text(encoding="utf-8"))
    [recording] = json.loads(data)
    facts = {"model": str(small_models / "sedd"), "rule": "tweedie", "seed": 3, "steps": 4}
    assert recording["facts"] == facts | {"temperature": 1.0, "top_p": 0.9}
    assert sum(not token["given"] for token in recording["tokens"]) == 10
    picture = tmp_path / "run.gif"
    call(*fill(small_models, "--export", picture))
    assert picture.read_bytes().startswith(b"GIF89a")


def test_what_cannot_be_watched_is_one_clear_error(small_models, tmp_path, monkeypatch):
    sedd, ar = small_models / "sedd", small_models / "ar"
    for arguments, wrong in (
        (["--watch"], "--watch draws on a terminal, and stderr is none"),
        (["--export", "run.mp4"], "run.mp4 ends in '.mp4'"),
        (["--export", tmp_path / "no" / "run.gif"], "there is no folder"),
        (["--export", "run.gif", "-n", 2], "--export of 2 samples"),
        (["--export", "run.gif", "--out", tmp_path / "out.jsonl"], "--export with --out"),
        (["--export", "run.gif", "--batch-size", 2], "--export with --batch-size"),
    ):
        done = call("sample", "--model", sedd, *arguments)
        assert done.code == 2 and done.out == "" and wrong in done.err and "hint: " in done.err, done.err
    done = call("sample", "--model", ar, "--export", tmp_path / "run.gif")
    assert done.code == 2 and "is autoregressive: --export is for diffusion models" in done.err
    assert not list(tmp_path.iterdir())


def test_a_terminal_that_cannot_draw_is_none(small_models, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert not watch._terminal()
    monkeypatch.setenv("TERM", "xterm")
    assert watch._terminal()


@pytest.mark.slow
def test_on_a_real_terminal_what_was_drawn_is_taken_away_again(small_models):
    """A pseudo-terminal for stderr, a pipe for stdout."""
    import os
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "90"}
    arguments = map(str, fill(small_models, "--watch"))
    with subprocess.Popen(
        [sys.executable, "-m", "unmask.cli.main", *arguments], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # what reading a terminal ends with
            while part := os.read(ours, 65536):
                drawn += part
        assert process.stdout is not None
        text = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0 and text == call(*fill(small_models)).out
    assert watch.MASKED.encode() in drawn and b"\x1b[" in drawn
    assert watch.MASKED.encode() not in drawn[drawn.rindex(b"\x1b[2K") :]  # its last act: lines are erased
