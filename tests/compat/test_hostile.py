"""Files that would run code, or are damaged on purpose: one clear error, and nothing is run."""

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unmask import compat
from unmask.cli.main import app
from unmask.compat import files
from unmask.errors import CheckpointError


class Calls:
    """Unpickling it calls a function: the usual attack."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def attacks(witness: Path) -> dict[str, tuple[Any, str]]:
    return {
        "a shell": (Calls(os.system, f"touch {witness}"), r"posix\.system|nt\.system"),
        "eval": (Calls(eval, f"open({str(witness)!r}, 'w')"), "eval"),
        "exec": (Calls(exec, f"open({str(witness)!r}, 'w')"), "exec"),
        "a file": (Calls(open, str(witness), "w"), r"_io\.open|io\.open"),
        "a network": (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
    }


@pytest.mark.parametrize("attack", attacks(Path("x")).keys())
@pytest.mark.parametrize("layout", ["pytorch_model.bin", "checkpoints-meta/checkpoint.pth", "loose.pth"])
def test_a_pickle_that_would_run_code_is_refused(sedd, tmp_path, refused, attack, layout):
    witness = tmp_path / "owned"
    value, named = attacks(witness)[attack]
    weights = load_file(sedd / "model.safetensors")
    (sedd / "model.safetensors").unlink()
    path = sedd / layout
    path.parent.mkdir(exist_ok=True)
    torch.save(weights | {"more": value, "model": weights, "ema": {"shadow_params": [value]}}, path)
    error = refused(sedd, rf"{path.name} is refused: besides tensors it holds ({named})")
    assert "no code of a checkpoint is run" in (error.hint or "") and "weights_only" not in str(error)
    assert not witness.exists()
    refused(path, "is refused") if path.suffix == ".pth" else None
    assert not witness.exists()


def raw_pickles(witness: Path) -> dict[str, bytes]:
    call = {"a": Calls(os.system, f"touch {witness}")}
    return {f"protocol {n}": pickle.dumps(call, protocol=n) for n in (0, 2, 4, 5)} | {
        "empty": b"", "text": b"not a pickle at all", "cut off": pickle.dumps({"a": 1}, protocol=2)[:-3],
        "deep": pickle.PROTO + b"\x02" + b"(" * 100_000, "a zip of nothing": b"PK\x05\x06" + bytes(18),
        "a number": pickle.dumps(3, protocol=2),
        "no tensors": pickle.dumps(collections.OrderedDict(a=1), protocol=2),
    }  # fmt: skip


@pytest.mark.parametrize("kind", raw_pickles(Path("x")).keys())
def test_other_streams_are_refused_too(tmp_path, kind):
    witness, path = tmp_path / "owned", tmp_path / "pytorch_model.bin"
    path.write_bytes(raw_pickles(witness)[kind])
    with pytest.raises(CheckpointError) as caught:
        files.named_tensors(files.read_pickle(path), path)
    assert str(path) in str(caught.value) and "weights_only" not in str(caught.value)
    assert not witness.exists()


def test_bytes_that_were_changed_do_no_more_than_fail(sedd, tmp_path):
    """A weights file with one byte after another overwritten: it loads, or there is one error of ours."""
    torch.save({"x": torch.arange(4.0)}, tmp_path / "a.bin")
    good = (tmp_path / "a.bin").read_bytes()
    loaded = 0
    for place in range(0, len(good), 7):
        (tmp_path / "b.bin").write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            files.named_tensors(files.read_pickle(tmp_path / "b.bin"), tmp_path / "b.bin")
            loaded += 1
        except CheckpointError as error:
            assert "b.bin" in str(error)
    assert 0 < loaded < len(good) // 7


def test_the_command_says_it_in_two_lines(sedd, tmp_path):
    from typer.testing import CliRunner

    (sedd / "model.safetensors").unlink()
    torch.save({"x": Calls(os.system, f"touch {tmp_path / 'owned'}")}, sedd / "pytorch_model.bin")
    out = CliRunner().invoke(app, ["info", str(sedd)])
    assert isinstance(out.exception, CheckpointError) and out.exception.exit_code == 2
    assert not (tmp_path / "owned").exists()
    with pytest.raises(CheckpointError, match="is refused"):
        compat.load(sedd)
