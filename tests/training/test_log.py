"""What a person sees of a run."""

import io
import sys
import types
from typing import ClassVar

import pytest
from rich.console import Console

from unmask.errors import ConfigError
from unmask.training.log import Board, Reporter, duration

from .tiny import settings, trained


def test_on_a_terminal_a_bar_shows_step_loss_speed_and_time_left():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, color_system=None)
    with Reporter(start=10, steps=40, console=console) as reporter:
        for done in range(11, 26):
            reporter.tick(done)
        reporter.step(25, 3.25, 12345.6)
        reporter.say("step 25  [heldout] 3.5")
        reporter.progress.refresh()
    shown = screen.getvalue()
    assert "step 25/40" in shown and "loss 3.2500 nats/token" in shown and "12,346 tokens/s" in shown
    assert "left" in shown and ":" in shown.rsplit("left", 1)[1]
    assert "step 25  [heldout] 3.5" in shown


def test_a_tick_moves_the_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with Reporter(start=10, steps=40, console=console) as reporter:
        reporter.tick(17)
        assert reporter.progress.tasks[0].completed == 17


def test_elsewhere_there_is_a_line_now_and_then_and_one_at_the_end(capsys):
    with Reporter(start=0, steps=100, console=Console(file=io.StringIO()), every_seconds=1000) as reporter:
        reporter.step(50, 2.0, 10.0)
        assert capsys.readouterr().err == ""
        reporter.step(100, 1.5, 10.0)
    assert capsys.readouterr().err == "step 100/100  loss 1.5000 nats/token  10 tokens/s  left 00:00:00\n"
    with Reporter(start=0, steps=100, console=Console(file=io.StringIO()), every_seconds=0) as reporter:
        reporter.began -= 60
        reporter.step(40, 2.0, 10.0)
    assert capsys.readouterr().err.endswith("left 00:01:30\n")


def test_the_other_ranks_are_silent(capsys):
    with Reporter(start=0, steps=1, show=False, console=Console(file=io.StringIO(), force_terminal=True)) as reporter:
        reporter.tick(1)
        reporter.step(1, 2.0, 10.0)
        reporter.say("words")
    assert capsys.readouterr() == ("", "")


def test_a_duration_has_days_where_a_run_has():
    assert [duration(s) for s in (0, 59.6, 3661, 86_400 * 3 + 4 * 3600 + 5 * 60 + 6)] == [
        "00:00:00", "00:01:00", "01:01:01", "3d 04:05:06",
    ]  # fmt: skip


def test_without_tensorboard_a_run_that_asks_for_it_stops_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[tensorboard\]'"):
        trained(tmp_path / "run", settings(log_tensorboard=True))
    assert not (tmp_path / "run").exists()


class Writer:
    """Stands in for TensorBoard's."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.points, self.calls = folder, purge_step, [], []
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def test_tensorboard_gets_the_numbers_of_metrics(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    Writer.made.clear()
    trained(tmp_path / "run", settings(steps=4, log_tensorboard=True))
    (writer,) = Writer.made
    assert writer.folder == str(tmp_path / "run" / "tensorboard") and writer.purge_step == 1
    assert {name for name, _, _ in writer.points} == {"loss", "lr", "grad_norm", "tokens", "tokens_per_second"}
    assert [step for name, _, step in writer.points if name == "loss"] == [2, 3, 4]
    assert writer.calls == ["flush", "flush", "close"]
    trained(tmp_path / "run", settings(steps=5, log_tensorboard=True), resume=True)
    assert Writer.made[1].purge_step == 5


def test_a_board_writes_nothing_under_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    board = Board(tmp_path, after=3)
    board.write({"step": 7, "loss": 2.0})
    assert board._writer.points == [("loss", 2.0, 7)]
