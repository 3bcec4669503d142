"""What a process makes of the environment that its launcher left; tests/slow/test_many.py launches real ones."""

import types

import pytest
import torch

from unmask.errors import ConfigError
from unmask.evaluation import processes

MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}


@pytest.fixture
def environment(monkeypatch):
    """Sets the launcher's variables and what stands in for accelerate's state; returns what that was asked."""
    asked = []

    def put(found, **variables):
        for name in (*processes.SIZES, "ACCELERATE_USE_CPU"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        def state(cpu):
            asked.append(cpu)
            if isinstance(found, Exception):
                raise found
            return types.SimpleNamespace(num_processes=found, process_index=1, device=torch.device("cpu"))

        monkeypatch.setattr("accelerate.PartialState", state)
        return asked

    return put


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "1"}, {"PMI_SIZE": "none"}])
def test_a_process_that_nobody_launched_is_alone(environment, variables):
    asked = environment(2, **variables)
    assert processes.launched() is processes.ALONE and asked == []


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, MPI, {"PMI_SIZE": "2"}])
def test_several_processes_are_found_under_each_launchers_name(environment, variables):
    environment(2, **variables)
    found = processes.launched()
    assert (found.index, found.count) == (1, 2)


def test_the_cpu_is_taken_where_the_launcher_says_so(environment, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    asked = environment(2, **MPI, ACCELERATE_USE_CPU="True")
    processes.launched()
    environment(2, **MPI)
    processes.launched()
    processes.launched(cpu=True)
    assert asked == [True, False, True]


def test_processes_that_do_not_meet_are_an_error(environment):
    environment(1, **MPI)
    with pytest.raises(ConfigError, match="2 processes were started, and each is on its own"):
        processes.launched()
    environment(ValueError("no MASTER_ADDR"), **MPI)
    with pytest.raises(ConfigError, match="cannot meet: no MASTER_ADDR") as error:
        processes.launched()
    assert "--multi_gpu" in error.value.hint
