"""Files of predictions: one JSON object a line, appended while a model answers, read back whatever stopped it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from salmonn_lab.batch import GENERATION, LIKELIHOOD, Prediction
from salmonn_lab.files import check_plain, naming, parse_json, read_json_object, write_atomically

KEYS = tuple(field.name for field in fields(Prediction))
PROVENANCE = "provenance.json"
LATER_KEYS = ("audio", "reading")
"""Keys of a provenance that are not compared where one side lacks them: answers of earlier versions do."""
PLACES = ("manifest_path",)
"""Keys that say where something lay, which are not compared."""


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
    benchmark: str | None = None
    """Whose answers they are: those of another are refused; None takes any."""

    @property
    def partial(self) -> Path:
        """The folder of what is answered so far; there only while answers are missing."""
        return self.path.with_suffix(".partial")

    def prepare(self, wanted: Collection[str] = (), *, again: bool = False) -> str | None:
        """Make the folder of what is to be answered, unless all is there; one process does, before any reads.

        Answers that were begun are gone on with, and answers that are complete kept, if they were made from the same.

        Args:
            wanted: ids that complete answers have.
            again: do not keep complete ones.

        Returns:
            what was found and not used, and why; None where nothing was.

        Raises:
            ValueError: a file of earlier answers is torn or foreign; it is named.
        """
        remark = None
        begun, whole = self.begun(), self.whole()
        if begun is not None and self.fits(begun):
            return self._adopt(self.partial / PROVENANCE, begun)
        if self.partial.exists():
            shutil.rmtree(self.partial)
            if begun:
                remark = f"discarded the answers that were begun with another {self.differences(begun)}"
        if not again and whole is not None and self.fits(whole) and self.path.is_file():
            remark = remark or self._adopt(self.provenance_file, whole)
            kept = self.read()
            lost, strange = [id for id in wanted if id not in kept], sorted(kept.keys() - set(wanted or kept))
            if lost or strange:
                self._begin()
                write_predictions(self.partial / "rank0.jsonl", [kept[id] for id in wanted if id in kept])
            if lost:
                remark = f"{self.path} lacks {len(lost)} of {len(wanted)} answers, such as that to '{lost[0]}'"
            elif strange:
                remark = f"{self.path} loses {len(strange)} answers to ids that the manifest lacks: '{strange[0]}', ..."
            return remark
        self._begin()
        if whole and not again:
            differing = self.differences(whole)
            remark = f"what is stored was answered with another {differing}" if differing else f"{self.path} is gone"
        return remark

    def complete(self, wanted: Collection[str]) -> dict[str, Prediction] | None:
        """All answers by id, where all are there and made from the same; None else."""
        whole = self.whole()
        if whole is None or not self.fits(whole) or self.partial.exists() or not self.path.is_file():
            return None
        answers = self.read()
        return answers if answers.keys() == set(wanted) else None

    @property
    def provenance_file(self) -> Path:
        """What complete answers were made from."""
        return self.path.with_suffix(f".{PROVENANCE}")

    def begun(self) -> dict[str, Any] | None:
        """What the answers that were begun were made from, None where there are none."""
        return self._stored(self.partial / PROVENANCE, f"remove {self.partial}")

    def whole(self) -> dict[str, Any] | None:
        """What the complete answers were made from, None where there are none."""
        return self._stored(self.provenance_file, "remove it")

    def read(self) -> dict[str, Prediction]:
        """Return what is answered so far by id, or all of it."""
        begun = self.partial.is_dir()  # then two processes may have answered the same
        files = sorted(self.partial.glob("rank*.jsonl")) if begun else [self.path]
        return {
            prediction.id: prediction
            for file in files
            for prediction in read_predictions(file, self.benchmark, repeated=begun)
        }

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
        self.provenance_file.unlink(missing_ok=True)  # before the file that it is about changes
        write_predictions(self.path, predictions)
        (self.partial / PROVENANCE).replace(self.provenance_file)
        shutil.rmtree(self.partial)

    def fits(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether answers with the stored provenance are answers of this one."""
        return not self.differences(stored)

    def differences(self, stored: Mapping[str, Any]) -> str:
        """Keys in which a stored provenance differs, without those that are not compared; a missing one is null."""
        keys = sorted((stored.keys() | self.provenance.keys()) - {*PLACES})
        return ", ".join(
            key
            for key in keys
            if not (key in LATER_KEYS and (key not in stored or key not in self.provenance))
            and stored.get(key) != self.provenance.get(key)
        )

    def _adopt(self, file: Path, stored: Mapping[str, Any]) -> str | None:
        """Note in the provenance of fitting answers what it lacks, and say what that takes for granted."""
        lacking = [key for key in (*LATER_KEYS, *PLACES) if key in self.provenance and key not in stored]
        if not lacking:
            return None
        write_atomically(
            file, json.dumps({**stored, **{key: self.provenance[key] for key in lacking}}, indent=1) + "\n"
        )
        assumed = ", ".join(key for key in lacking if key in LATER_KEYS)
        return (
            f"the stored answers do not say what {assumed} they were made from: taken to be today's"
            if assumed
            else None
        )

    def _begin(self) -> None:
        self.partial.mkdir(parents=True)
        write_atomically(self.partial / PROVENANCE, json.dumps(self.provenance, indent=1) + "\n")

    def _stored(self, file: Path, remedy: str) -> dict[str, Any] | None:
        if not file.is_file():
            return None
        try:
            return read_json_object(file)
        except ValueError as error:
            raise ValueError(f"{error}; it said what answers were made from: {remedy} to have them made anew") from None


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


def read_predictions(path: Path, benchmark: str | None = None, *, repeated: bool = False) -> list[Prediction]:
    """Predictions in a file, in its order; a last line that a kill tore is dropped with a warning.

    Args:
        path: one JSON object a line, as `write_predictions` writes them.
        benchmark: whose predictions they must be; None takes any.
        repeated: allow an id more than once, as in files of what is answered so far.

    Raises:
        ValueError: for any other line that is no prediction, an id that comes twice or another benchmark's line; the
            file, the line and the key are named.
        FileNotFoundError: there is no such file.
    """
    *lines, tail = path.read_bytes().split(b"\n")
    if tail and _is_torn(tail):
        warnings.warn(f"{path}:{len(lines) + 1}: dropped the last line, which is torn", stacklevel=2)
    else:
        lines.append(tail)
    predictions: list[Prediction] = []
    first: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prediction, where = _prediction(line, f"{path}:{number}"), f"{path}:{number}"
        if benchmark is not None and prediction.benchmark != benchmark:
            raise ValueError(f"{where}: key 'benchmark' must be '{benchmark}' here, got '{prediction.benchmark}'")
        if not repeated and first.setdefault(prediction.id, number) != number:
            raise ValueError(f"{where}: key 'id': '{prediction.id}' was already used at {path}:{first[prediction.id]}")
        predictions.append(prediction)
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
    """Tell whether a line without an end is the beginning of a prediction; a power cut may leave zeros for the rest."""
    if line.strip(b"\0")[:1] not in (b"", b"{"):
        return False
    try:
        json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    except (ValueError, RecursionError):  # whole, and wrong
        return False
    return False


def _prediction(line: bytes, where: str) -> Prediction:
    """Prediction that a line holds; ValueError names the place and the key."""
    try:
        record = parse_json(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(record, dict) or set(record) != set(KEYS):
        found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{where}: a prediction has the keys {', '.join(KEYS)}, got {found}")
    try:
        _check(record)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Prediction(**{**record, "references": tuple(record["references"])})


def _check(record: dict[str, Any]) -> None:
    """Refuse values that are of another kind than a prediction's, or do not belong together."""
    for key in ("id", "benchmark", "prompt", "text"):
        if not isinstance(record[key], str):
            raise ValueError(f"key '{key}' must be a string, got {_shown(record[key])}")
    if not record["id"]:
        raise ValueError("key 'id' is empty")
    references, meta = record["references"], record["meta"]
    if not _texts(references) or not references:
        raise ValueError(f"key 'references' must be a list of one string or more, got {_shown(references)}")
    if not isinstance(meta, dict):
        raise ValueError(f"key 'meta' must be an object, got {_shown(meta)}")
    for key, value in record.items():
        try:
            check_plain(value)
        except ValueError as error:
            raise ValueError(f"key '{key}' {error}") from None
    choices = meta.get("choices")
    if choices is not None and not _texts(choices):
        raise ValueError(f"key 'meta.choices' must be a list of strings, got {_shown(choices)}")
    if GENERATION in meta:
        _check_generation(meta[GENERATION])
    if meta.get(LIKELIHOOD) is not None:
        _check_likelihood(meta[LIKELIHOOD], choices or [])


def _check_generation(note: Any) -> None:
    """Refuse what is no note of how a text came about; see `Generation`."""
    known = note if isinstance(note, dict) else {}
    finished, tokens, seconds = (known.get(key) for key in ("finished", "tokens", "seconds"))
    if (
        not isinstance(note, dict)
        or not isinstance(finished, bool | None)
        or not (tokens is None or _is_count(tokens))
        or not (seconds is None or (_is_number(seconds) and seconds >= 0))
    ):
        raise ValueError(
            f"key 'meta.{GENERATION}' must hold finished (true or false), tokens (a number from 0) and seconds (from "
            f"0), got {_shown(note)}"
        )


def _check_likelihood(note: Any, choices: list[str]) -> None:
    """Refuse what is no note of how likely a reference and the choices are."""

    def is_pair(pair: Any) -> bool:
        return isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and _is_count(pair[1]) and pair[1] > 0

    pairs = note.get("choices") if isinstance(note, dict) else None
    if (
        not isinstance(note, dict)
        or not is_pair(note.get("reference"))
        or not isinstance(pairs, list)
        or not all(map(is_pair, pairs))
        or len(pairs) != len(choices)
    ):
        raise ValueError(
            f"key 'meta.{LIKELIHOOD}' must hold [nats, tokens] under reference, and a list of as many such pairs as "
            f"the item has choices under choices, got {_shown(note)}"
        )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _shown(value: Any) -> str:
    """A value as a message holds it: as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
