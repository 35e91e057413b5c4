"""Files of predictions: one JSON object a line, appended while a model answers, read back whatever stopped it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from salmonn_lab.batch import Prediction

KEYS = tuple(field.name for field in fields(Prediction))


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Add lines to a file, which is made if need be; they are with the operating system when this returns.

    A last line that a kill tore is cut off first, so that nothing is written onto its end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if tail := _unfinished_line(file):
            if _is_torn(tail):
                warnings.warn(f"{path}: cut off the last line, which is torn", stacklevel=2)
                file.truncate(file.seek(0, os.SEEK_END) - len(tail))
            else:
                file.write(b"\n")
        file.write("".join(map(_line, predictions)).encode())


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a whole file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(map(_line, predictions)))


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file; a last line that a kill tore is dropped with a warning.

    Raises:
        ValueError: for any other line that is no prediction, with its number.
        FileNotFoundError: there is no such file.
    """
    *lines, tail = path.read_bytes().split(b"\n")
    predictions = [_prediction(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if tail:
        if _is_torn(tail):
            warnings.warn(f"{path}:{len(lines) + 1}: dropped the last line, which is torn", stacklevel=2)
        else:
            predictions.append(_prediction(tail, f"{path}:{len(lines) + 1}"))
    return predictions


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction), ensure_ascii=False) + "\n"


def _unfinished_line(file: BinaryIO) -> bytes:
    """Return what follows the last end of line."""
    position, tail = file.seek(0, os.SEEK_END), b""
    while position and b"\n" not in tail:
        step = min(position, 4096)
        position = file.seek(position - step)
        tail = file.read(step) + tail
    return tail.rpartition(b"\n")[2]


def _is_torn(line: bytes) -> bool:
    """Tell whether a line without an end was not written to its end."""
    try:
        json.loads(line)
    except ValueError:  # bad JSON, or half of a character
        return True
    return False


def _prediction(line: bytes, where: str) -> Prediction:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(record, dict) or set(record) != set(KEYS):
        found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{where}: a prediction has the keys {', '.join(KEYS)}, got {found}")
    return Prediction(**{**record, "references": tuple(record["references"])})
