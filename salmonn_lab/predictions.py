"""Files of predictions: one JSON object a line, appended while a model answers, read back whatever stopped it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

from salmonn_lab.batch import Prediction
from salmonn_lab.files import naming, write_atomically

KEYS = tuple(field.name for field in fields(Prediction))
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Answers:
    """The answers of one model to one benchmark on disk, which a kill at any moment leaves fit to go on from.

    While they are given, each process appends to `NAME.partial/rankN.jsonl`; once all are there, they move to
    `NAME.jsonl`. In `NAME.partial/provenance.json` and `NAME.provenance.json` stands what they were made from, and
    answers that were made from anything else are never taken for these.
    """

    path: Path
    """Of `NAME.jsonl`."""
    provenance: Mapping[str, Any]
    """What the answers are made from: values of JSON by dotted key."""

    @property
    def partial(self) -> Path:
        """The folder of what is answered so far; there only while answers are missing."""
        return self.path.with_suffix(".partial")

    def prepare(self, *, again: bool = False) -> str | None:
        """Make the folder of what is to be answered, unless all is there; one process does, before any reads.

        Answers that were begun are gone on with, and answers that are complete kept, if they were made from the same.

        Args:
            again: do not keep complete ones.

        Returns:
            what was found and not used, and why; None where nothing was.
        """
        remark = None
        begun, whole = self._stored(self.partial / PROVENANCE), self._stored(self.path.with_suffix(f".{PROVENANCE}"))
        if begun == self.provenance:
            return None
        if self.partial.exists():
            shutil.rmtree(self.partial)
            if begun:
                remark = f"discarded the answers that were begun with another {self._differences(begun)}"
        if again or whole != self.provenance:
            self.partial.mkdir(parents=True)
            write_atomically(self.partial / PROVENANCE, json.dumps(self.provenance, indent=1) + "\n")
            if whole and not again:
                remark = f"what is stored was answered with another {self._differences(whole)}"
        return remark

    def read(self) -> dict[str, Prediction]:
        """Return what is answered so far by id, or all of it."""
        files = sorted(self.partial.glob("rank*.jsonl")) if self.partial.is_dir() else [self.path]
        return {prediction.id: prediction for file in files for prediction in read_predictions(file)}

    def append(self, rank: int, predictions: Iterable[Prediction]) -> None:
        """Add answers of one process, which a kill then leaves there.

        Raises:
            OSError: they cannot be written, as on a full disk; the file is named, and what it held is still there.
        """
        try:
            append_predictions(self.partial / f"rank{rank}.jsonl", predictions)
        except OSError as error:
            kept = "what was answered before is kept, and the same command goes on from there"
            raise OSError(error.errno, f"{error.strerror} ({kept})", error.filename) from error

    def finish(self, predictions: Iterable[Prediction]) -> None:
        """Write all answers in order, in place of any older ones, unless they are there already; one process does."""
        if not self.partial.is_dir():
            return
        provenance = self.path.with_suffix(f".{PROVENANCE}")
        provenance.unlink(missing_ok=True)  # before the file that it is about changes
        write_predictions(self.path, predictions)
        (self.partial / PROVENANCE).replace(provenance)
        shutil.rmtree(self.partial)

    def _stored(self, file: Path) -> dict[str, Any] | None:
        return cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def _differences(self, stored: Mapping[str, Any]) -> str:
        missing = object()
        keys = sorted(stored.keys() | self.provenance.keys())
        return ", ".join(key for key in keys if stored.get(key, missing) != self.provenance.get(key, missing))


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Add lines to a file, which is made if need be; they are with the operating system when this returns.

    A last line that a kill or a full disk tore is cut off first, so that nothing is written onto its end.

    Raises:
        OSError: they cannot be written; the file is named, and what it held is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab+") as file:
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
