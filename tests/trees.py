"""Miniatures of published folders, as the tests of corpus readers write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def record(folder: Path, names: Sequence[str]) -> None:
    """Write a stand-in for each recording: readers look whether there is one, and do not listen."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
