"""Data sets of the hub, against a stand-in for its client."""

from pathlib import Path

import pytest

from unmask.assets import fetch, where
from unmask.errors import AssetError


@pytest.fixture
def hub(cache, monkeypatch):
    import huggingface_hub

    calls = []

    def set_download(action):
        def download(repo, **options):
            calls.append((repo, options))
            action(Path(options["local_dir"]))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return calls

    return set_download


def test_a_data_set_comes_from_the_hub(hub, cache, capsys):
    def action(folder):
        (folder / ".cache").mkdir(parents=True)
        (folder / "train.parquet").touch()

    calls = hub(action)
    assert fetch("lm1b") == cache / "lm1b"
    ((repo, options),) = calls
    assert (repo, options["repo_type"], options["revision"]) == (
        "dvruette/lm1b",
        "dataset",
        "refs/convert/parquet",
    )
    assert [p.name for p in (cache / "lm1b").iterdir()] == ["train.parquet"]
    assert "fetching lm1b (2.5 GB) from the hub..." in capsys.readouterr().err


def test_an_unreachable_hub_says_where_to_put_the_files(hub, cache):
    def action(folder):
        (folder / "half").mkdir(parents=True)
        raise RuntimeError("no route\nand more")

    hub(action)
    with pytest.raises(AssetError) as raised:
        fetch("text8", progress=lambda line: None)
    assert "text8 (55.0 MB) could not be fetched from the hub: RuntimeError: no route\n" in str(raised.value)
    assert str(cache / "text8") in str(raised.value)
    assert where("text8") is None
    assert (cache / "partial" / "text8" / "half").is_dir()  # what is there is not downloaded again


def test_a_hub_download_that_another_process_finished(hub, cache):
    def action(folder):
        (cache / "text8").mkdir(parents=True)
        raise FileNotFoundError("moved away")

    hub(action)
    assert fetch("text8", progress=lambda line: None) == cache / "text8"


def test_a_data_set_without_parquet(hub, cache):
    hub(lambda folder: folder.mkdir(parents=True))
    with pytest.raises(AssetError, match="afmck/text8 holds no parquet files"):
        fetch("text8", progress=lambda line: None)
