"""Denormal numbers: zero in a process of our own, as they were in one of others."""

import subprocess
import sys
from pathlib import Path

import torch

from unmask.cli import computing

from .call import call

PROGRAM = """
import sys
from unmask.cli.main import main
sys.argv = ["unmask", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
if "torch" in sys.modules:
    import torch
    many = torch.full((1 << 20,), 1e-38)
    print((many * 0.1).count_nonzero().item(), "left", file=sys.stderr)
else:
    print("no torch", file=sys.stderr)
"""


def left(*words: object) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


def test_a_verb_that_computes_counts_them_as_zero_in_all_threads(small_models: Path):
    assert left("sample", "--model", small_models / "sedd", "--steps", 2, "--length", 8) == "0 left"


def test_help_and_verbs_that_compute_nothing_do_not_load_torch_for_it():
    assert left("sample", "--help") == left("assets", "list") == "no torch"


def test_a_process_of_others_keeps_its_numbers(small_models: Path):
    assert not computing._ours
    assert call("sample", "--model", small_models / "sedd", "--steps", 2, "--length", 8).code == 0
    assert int((torch.full((4,), 1e-38) * 0.1).count_nonzero()) == 4
