"""A run on disk: what resumes, what a full disk or a kill leaves, what is refused."""

import errno
import json
import resource

import pytest
import torch
from safetensors import SafetensorError

import unmask.checkpoint
from unmask.checkpoint import read_tensors
from unmask.errors import CheckpointError, ConfigError, TrainingError
from unmask.training import loop, state

from .tiny import MUON, OPTIM, loader, model, same, settings, trained, weights


class Stop(Exception):
    """A run that is cut off in the middle."""


def cut_off(out, chosen, at, kind="sedd", **others):
    """Train until just before the step `at` is done."""
    whole, seen = loader(), []

    class Cut(type(whole)):
        def batch(self, step):
            if step == at - 1:
                raise Stop
            seen.append(step)
            return super().batch(step)

    with pytest.raises(Stop):
        loop.train(model(kind), Cut(whole.rows, global_batch=8, seed=5), chosen, out, **others)
    return seen


def comparable(out):
    """All of metrics.jsonl but the speed."""
    return [
        {k: v for k, v in line.items() if k != "tokens_per_second"}
        for line in state.read_metrics(out / "metrics.jsonl")
    ]


def newest(out):
    return read_tensors(state.checkpoints(out)[-1] / "state.safetensors")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "optim"), [("sedd", OPTIM), ("sedd", MUON), ("ar", MUON), ("uniform", OPTIM)])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, kind, optim, precision):
    chosen = settings(steps=8, optim=optim, precision=precision)
    one = trained(tmp_path / "one", chosen, kind)
    cut_off(tmp_path / "two", chosen, at=6, kind=kind)  # the last checkpoint is of step 3
    assert cut_off(tmp_path / "two", chosen, at=8, kind=kind, resume=True) == [3, 4, 5, 6]
    two = trained(tmp_path / "two", chosen, kind, resume=True)
    assert same(weights(one), weights(two)) and same(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert comparable(tmp_path / "one") == comparable(tmp_path / "two")
    assert same(weights(unmask.checkpoint.load(tmp_path / "two" / "model")), weights(one))


def test_a_run_that_was_cut_off_before_its_first_checkpoint_starts_again(tmp_path):
    one = trained(tmp_path / "one", settings())
    cut_off(tmp_path / "two", settings(), at=3)
    assert same(weights(one), weights(trained(tmp_path / "two", settings(), resume=True)))
    assert comparable(tmp_path / "one") == comparable(tmp_path / "two")


def test_resuming_a_finished_run_trains_no_more_and_restores_its_model(tmp_path):
    lm = trained(tmp_path, settings())
    before = state.read_metrics(tmp_path / "metrics.jsonl")
    (tmp_path / "model").rename(tmp_path / ".model.abc.old")  # a kill between the two renames
    again = trained(tmp_path, settings(), resume=True)
    assert same(weights(lm), weights(again)) and state.read_metrics(tmp_path / "metrics.jsonl") == before
    assert same(weights(unmask.checkpoint.load(tmp_path / "model")), weights(lm))
    assert not (tmp_path / ".model.abc.old").exists()


def test_a_model_folder_older_than_the_checkpoint_is_written_anew(tmp_path):
    trained(tmp_path / "short", settings(steps=3))
    lm = trained(tmp_path / "run", settings(steps=6))
    model_folder = tmp_path / "run" / "model"
    model_folder.rename(tmp_path / "gone")
    (tmp_path / "short" / "model").rename(model_folder)
    trained(tmp_path / "run", settings(steps=6), resume=True)
    assert same(weights(unmask.checkpoint.load(model_folder)), weights(lm))


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    trained(tmp_path, settings(steps=4))
    trained(tmp_path, settings(steps=6), resume=True)
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000004", "step-00000006"]


def test_the_newest_checkpoints_are_kept(tmp_path):
    trained(tmp_path, settings(steps=7, save_every=1, keep=3))
    assert [int(path.name[5:]) for path in state.checkpoints(tmp_path)] == [5, 6, 7]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_resuming_removes_what_a_killed_writer_left_and_nothing_else(tmp_path):
    trained(tmp_path, settings())
    ours = [".model.x1y2", ".model.x1y2.old", "checkpoints/.step-00000009.abc", "checkpoints/.step-00000003.old"]
    for name in ours:
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("half")
    files = [".config.json.77", ".metrics.jsonl"]
    kept = [".gitignore", "checkpoints/.gitignore", "notes.txt"]
    for name in [*files, *kept]:
        (tmp_path / name).write_text("x")
    (tmp_path / "checkpoints" / "step-00000099").mkdir()  # no state.json: not whole
    trained(tmp_path, settings(), resume=True)
    assert not any((tmp_path / name).exists() for name in [*ours, *files])
    assert all((tmp_path / name).exists() for name in kept)


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "a": 1}\n{"step": 3}\n{"step": 2, "late": 1}\n{"ste')
    metrics = state.Metrics(path, after=2)
    metrics.write({"step": 4})
    metrics.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2, "a": 1}\n{"step": 2, "late": 1}\n{"step": 4}\n'


@pytest.mark.parametrize("torn", ['{"st', "[1]", '{"a": 1}', "7"])
def test_a_torn_line_ends_the_metrics(tmp_path, torn):
    (tmp_path / "m").write_text('{"step": 1}\n' + torn)
    assert state.read_metrics(tmp_path / "m") == [{"step": 1}]


def full_disk(*given, **named):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_as_safetensors_says_it(*given, **named):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("failure", [full_disk, full_disk_as_safetensors_says_it])
def test_a_full_disk_names_the_step_and_the_last_whole_checkpoint_and_the_run_resumes(tmp_path, monkeypatch, failure):
    one = trained(tmp_path / "one", settings())
    out = tmp_path / "two"
    cut_off(out, settings(), at=5)
    with monkeypatch.context() as patch:
        patch.setattr(state, "save_file", failure)
        with pytest.raises(TrainingError) as caught:
            trained(out, settings(), resume=True)
    words = str(caught.value)
    assert "the checkpoint of step 6" in words and str(out) in words and "the disk is full" in words
    assert "the last whole checkpoint is step-00000003" in words and "free some space and resume" in words
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000003"]
    assert same(weights(one), weights(trained(out, settings(), resume=True)))
    assert comparable(tmp_path / "one") == comparable(out)


def test_a_disk_that_is_full_at_the_model_or_the_metrics_is_told_alike(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(unmask.checkpoint, "save_file", full_disk)
        with pytest.raises(TrainingError, match=r"cannot write the model .*the disk is full; .* step-00000003"):
            trained(tmp_path / "a", settings())
    with monkeypatch.context() as patch:
        patch.setattr(state.Metrics, "write", full_disk)
        with pytest.raises(
            TrainingError, match=r"cannot write the metrics .*disk is full; there is no whole checkpoint"
        ):
            trained(tmp_path / "b", settings())


def test_a_file_that_may_not_grow_is_told_too(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # for real: a checkpoint takes some 100 kB
        with pytest.raises(TrainingError, match=r"cannot write the checkpoint of step 3 .*File too large"):
            trained(tmp_path, settings())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(TrainingError, match="b is not finite after step 3"):
        state.save(tmp_path, 3, {"a": torch.ones(2), "b": torch.tensor([1.0, float("inf")])}, {})
    assert state.checkpoints(tmp_path) == []


def test_a_run_is_not_begun_where_one_is(tmp_path):
    trained(tmp_path, settings(steps=3))
    with pytest.raises(CheckpointError, match="holds a run already"):
        trained(tmp_path, settings(steps=3))


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    trained(tmp_path, settings(steps=3))
    wanted = r"step-00000003 holds another model: .*embedding has shape \[14, 16\], this run needs \[14, 32\]"
    with pytest.raises(CheckpointError, match=wanted):
        loop.train(model("sedd", width=32), loader(), settings(), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"holds another model: .* is missing"):
        learned = model("sedd")
        learned.net.extra = torch.nn.Linear(2, 2)
        loop.train(learned, loader(), settings(), tmp_path, resume=True)


def test_the_checkpoint_of_another_optimizer_is_refused(tmp_path):
    trained(tmp_path, settings(steps=3))
    with pytest.raises(CheckpointError, match=r"optimizers \['AdamW'\], this run uses \['AdamW', 'Muon'\]"):
        trained(tmp_path, settings(optim=MUON), resume=True)


def test_a_checkpoint_without_an_optimizers_moments_is_refused(tmp_path):
    trained(tmp_path, settings(steps=3))
    path = state.checkpoints(tmp_path)[-1] / "state.safetensors"
    tensors = read_tensors(path)
    del tensors["optim.0.4.exp_avg"], tensors["optim.0.4.exp_avg_sq"], tensors["optim.0.4.step"]
    state.save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"optim\.0\.4\.moments is missing"):
        trained(tmp_path, settings(), resume=True)


@pytest.mark.parametrize(
    ("name", "damage"), [("state.json", b'{"step": 3}'), ("state.json", b"{"), ("state.safetensors", b"x")]
)
def test_a_damaged_checkpoint_is_told(tmp_path, name, damage):
    trained(tmp_path, settings(steps=3))
    path = state.checkpoints(tmp_path)[-1] / name
    path.write_bytes(damage)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        trained(tmp_path, settings(), resume=True)


def test_a_run_cannot_be_resumed_to_fewer_steps(tmp_path):
    trained(tmp_path, settings(steps=5))
    with pytest.raises(ConfigError, match=r"(?s)has done 5 steps already, more than steps=3.*set steps to 5 or more"):
        trained(tmp_path, settings(steps=3), resume=True)


def test_the_twins_checkpoint_layout(tmp_path):
    """Runs that are under way are resumed with this code: names and numbers stay as they are."""
    trained(tmp_path, settings(steps=3, optim=MUON))
    folder = state.checkpoints(tmp_path)[-1]
    assert json.loads((folder / "state.json").read_text()) == {
        "ema_updates": 3, "optimizers": ["AdamW", "Muon"], "step": 3,
    }  # fmt: skip
    names = read_tensors(folder / "state.safetensors").keys()
    net = model("sedd").net
    assert {n for n in names if n.startswith("net.")} == {f"net.{k}" for k in net.state_dict()}
    assert {n for n in names if n.startswith("ema.")} == {f"ema.{k}" for k, _ in net.named_parameters()}
    muon = {f"optim.1.{i}.momentum_buffer" for i in range(8)}
    count = len(list(net.parameters())) - 8
    adamw = {f"optim.0.{i}.{name}" for i in range(count) for name in ("step", "exp_avg", "exp_avg_sq")}
    assert {n for n in names if n.startswith("optim.")} == muon | adamw
