"""What `unmask doctor` says of a machine."""

import socket

import pytest

from unmask.recipes import machine


def test_rates_are_of_both_dtypes() -> None:
    rates = machine.matmul_rates(repeats=1)
    assert list(rates) == ["float32", "bfloat16"] and min(rates.values()) > 0


def test_the_hub_is_asked_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(where: tuple[str, int], timeout: float) -> None:
        asked.append(where)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert machine.facts()["model hub"] == "not asked (unmask doctor --hub)" and asked == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert machine.hub_reach() == "127.0.0.1 does not answer (Connection refused): give folders instead of hub ids"
    assert asked == [("127.0.0.1", 9)]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert machine.hub_reach() == "not asked: HF_HUB_OFFLINE is set" and len(asked) == 1


def test_the_hub_answers_where_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert machine.hub_reach() == "127.0.0.1 answers"


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert machine.compiler() is None
    assert machine.facts()["torch.compile"] == "no C++ compiler: install g++ or clang"
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("CXX", "mine")
    assert machine.compiler() == "/bin/mine"


def test_extras_are_those_of_the_package() -> None:
    import tomllib
    from pathlib import Path

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(machine.EXTRAS) == set(declared["optional-dependencies"]) - {"dev", "docs"}
