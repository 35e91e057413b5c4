"""Small files that are written whole or not at all, and JSON whose errors name its file."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".tmp"
"""How the names of files end that are being written; they begin with a dot."""
ABANDONED_SECONDS = 3600.0
"""Where there are no locks, an unfinished file of this age is nobody's: writing one takes seconds."""


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, a kill or a power cut sees the old one or the new one, never a part.

    Raises:
        OSError: it cannot be written, as on a full disk; the file is named, and what it held is still there.
    """
    with writing(path) as file:
        file.write(text.encode())


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open file that takes the place of `path` when the block ends, on disk and whole; an error leaves the old one.

    It is locked meanwhile, so that `remove_unfinished` can tell it from what a killed process left.

    Raises:
        OSError: it cannot be written, as on a full disk; the file is named.
    """
    unfinished, file = open_unfinished(path)
    try:
        with naming(path), file:  # closing writes, too
            yield file
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def open_unfinished(path: Path) -> tuple[Path, BinaryIO]:
    """Open and lock a new file beside another, of the same permissions as any new file."""
    while True:
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        try:
            file = unfinished.open("xb")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        with suppress(OSError):  # no locks on this file system: see `remove_unfinished`
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return unfinished, file
        file.close()  # removed between the two, by a process that took it for abandoned


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes were writing in a folder, and nothing that a living one is at work on."""
    for unfinished in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError), unfinished.open("rb") as file:  # it is finished meanwhile, or somebody else's
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:  # no locks on this file system
                if time.time() - os.fstat(file.fileno()).st_mtime < ABANDONED_SECONDS:
                    continue
            unfinished.unlink()


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk, so that a file renamed into it survives a power cut; a no-op on Windows."""
    with suppress(PermissionError):  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in errors of writing to it: once it is open, the system's do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


DEEPEST = 100
"""Levels of lists and objects in one another that JSON may have: what walks a value by recursion ends at some 300."""


def parse_json(line: bytes) -> Any:
    """Value of a line of JSON, which may begin with a byte order mark.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested more than `DEEPEST` deep or holds a number of over 4,300 digits.
    """
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"malformed JSON: {error.msg}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the line is not UTF-8: {error.reason}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(_too_much(error)) from None
    check_plain(value, surrogates=True)
    return value


def _too_much(error: Exception) -> str:
    deep = isinstance(error, RecursionError)
    return "its JSON is nested too deeply" if deep else "it holds a number of more than 4,300 digits"


def check_plain(value: Any, *, surrogates: bool = False) -> None:
    """Refuse a value of JSON that cannot be written as UTF-8, walked by recursion, or turned into floats.

    Args:
        value: of numbers, texts, lists and dicts.
        surrogates: allow texts with half of a surrogate pair.

    Raises:
        ValueError: says what is wrong with it.
    """
    rest = [(value, 1)]
    while rest:
        item, depth = rest.pop()
        if isinstance(item, str):
            if not surrogates and not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item):
                raise ValueError("holds half of a surrogate pair")
        elif isinstance(item, dict | list):
            if depth > DEEPEST:
                raise ValueError(f"its JSON is nested too deeply: more than {DEEPEST} levels")
            rest += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]
            if isinstance(item, dict):
                rest += [(key, depth) for key in item]
        elif isinstance(item, int) and item.bit_length() > 1023:
            raise ValueError(f"holds a number of {len(str(abs(item)))} digits, more than a float can")


def read_json(path: Path) -> Any:
    """Value of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, not JSON, nested too deeply or holds a number of too many digits; the file and,
            where there is one, the line are named.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: malformed JSON: {error.msg}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not UTF-8: {error.reason}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: {_too_much(error)}") from None
    try:
        check_plain(value, surrogates=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Object in a JSON file; errors as in `read_json`, and ValueError where it holds anything but an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
