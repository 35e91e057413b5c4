"""Finding the audio file that a corpus names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
"""A recording may be kept in any of these formats, whatever its suffix is where it is named."""
MISSING = "no recording"
"""Why an item is left out whose recording is missing or an empty file."""


def find_recording(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """Return the first file that is there and not empty: each folder is tried with each name, in each format."""
    for folder in folders:
        for name in names:
            for path in (folder / name, *(folder / f"{_stem(name)}{suffix}" for suffix in SUFFIXES)):
                if path.is_file() and path.stat().st_size:
                    return path
    return None


def find_clip(folders: Iterable[Path], video: str, start: int) -> Path | None:
    """Return the file of a clip of a YouTube video; `start` is its first second.

    Nobody may publish these clips, so their names depend on who downloaded them: `<video>_<start>`, `<video>` or
    `Y<video>`. AudioSet has no two clips of one video, so the short names are not ambiguous.
    """
    return find_recording(folders, [f"{video}_{start}", video, f"Y{video}"])


def _stem(name: str) -> str:
    """Return a name without the suffix of an audio format; other dots belong to the name."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name
