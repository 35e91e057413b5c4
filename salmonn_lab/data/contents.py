"""A hash of the audio that a manifest's examples play, which changes with any byte of any file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from salmonn_lab.data.manifest import Manifest, cache_folder
from salmonn_lab.files import read_json_object, write_atomically

THREADS = 8
Stamp = list[Any]
"""Size, time of modification in ns, and hash of a file."""


def audio_digest(manifest: Manifest) -> str | None:
    """Hash of the files that a manifest's examples play, in their order; None where a file is not there.

    Where the files lie does not count. A file is read once: its hash is kept in the cache of manifests, and trusted
    as long as size and time of modification are those of before. For 5,000 clips of 180 kB the first call takes
    1.3 s of a processor and as long as the disk needs for 0.9 GB, later ones 0.2 s.
    """
    names = [segment.path for example in manifest for segment in example.audio]
    digests = file_digests(dict.fromkeys(names), manifest.path)
    if digests is None:
        return None
    whole = hashlib.sha256()
    for name in names:
        whole.update(bytes.fromhex(digests[name]))
    return whole.hexdigest()


def file_digests(names: Iterable[str], manifest: Path) -> dict[str, str] | None:
    """Hash of each file by its name, None where one cannot be read; known hashes are looked up by the manifest."""
    place = hashlib.sha256(str(manifest.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    cache = cache_folder() / "audio" / f"{place}.json"
    known = read_stamps(cache)

    def stamp(name: str) -> Stamp:
        state = Path(name).stat()
        old = known.get(name)
        if old is not None and old[:2] == [state.st_size, state.st_mtime_ns]:
            return old
        with Path(name).open("rb") as file:
            return [state.st_size, state.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]

    names = list(names)
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            stamps = dict(zip(names, threads.map(stamp, names), strict=True))
    except OSError:
        return None
    if stamps != known:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps(stamps) + "\n")  # ASCII: names may be no UTF-8
    return {name: str(digest) for name, (_, _, digest) in stamps.items()}


def read_stamps(cache: Path) -> dict[str, Stamp]:
    """Stamps that were kept; none where the file is missing or is not what `file_digests` wrote: they are made anew."""
    try:
        found = read_json_object(cache)
    except (OSError, ValueError):
        return {}
    kinds = [int, int, str]
    return {name: stamp for name, stamp in found.items() if isinstance(stamp, list) and list(map(type, stamp)) == kinds}
