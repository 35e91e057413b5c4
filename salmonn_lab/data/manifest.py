"""Manifests: files that list examples, one JSON object a line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock

from salmonn_lab.batch import GENERATION, LIKELIHOOD, Example, Segment
from salmonn_lab.files import check_plain, parse_json, read_json_object

KEYS = ("id", "audio", "task", "target", "question", "references", "duration", "meta")
SEGMENT_KEYS = ("path", "offset", "duration")
# One fixed schema, whatever the lines look like: Arrow cannot infer a column that is a string here and a list there.
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "audio": pa.list_(pa.struct({"path": pa.binary(), "offset": pa.float64(), "duration": pa.float64()})),
        "task": pa.string(),
        "target": pa.string(),
        "question": pa.string(),
        "references": pa.list_(pa.string()),
        "duration": pa.float64(),
        "meta": pa.string(),  # JSON: free-form
    }
)
CACHE_VERSION = 3
"""Raise it whenever `SCHEMA` or the checks change: cached tables of older versions are then left alone."""
ROWS_AT_ONCE = 10_000


class Manifest(Sequence[Example]):
    """The examples of one manifest, memory-mapped: an example is made when it is asked for."""

    def __init__(self, path: Path, table: datasets.Dataset, digest: str) -> None:
        self.path = path
        self.digest = digest
        """sha256 of the file."""
        self.table = table.with_format("arrow")
        self._folder = path.parent.absolute()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} examples, there is no number {index}")
        return _read_row(self, int(index) % len(self))

    def __iter__(self) -> Iterator[Example]:
        for rows in self.table.iter(batch_size=1000):
            yield from map(self._example, rows.to_pylist())

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column, as stored: what planning reads instead of ten million examples."""
        return self.table.data.column(name)

    def _example(self, row: dict[str, Any]) -> Example:
        return Example(
            id=row["id"],
            audio=tuple(
                Segment(str(self._folder / os.fsdecode(part["path"])), part["offset"], part["duration"])
                for part in row["audio"]
            ),
            task=row["task"],
            target=row["target"],
            question=row["question"],
            references=tuple(row["references"]),
            duration=row["duration"],
            meta=json.loads(row["meta"]),
        )


@lru_cache(maxsize=10_000)
def _read_row(manifest: Manifest, index: int) -> Example:
    """Return one example; steps of a few dozen milliseconds, on clips that come back, would wait for Arrow."""
    row = manifest.table.data.fast_slice(index, 1)  # a quarter of what indexing the dataset takes
    return manifest._example(row.to_pylist()[0])


def read_manifest(path: str | Path) -> Manifest:
    """Open a JSONL manifest, or the original SALMONN's `{"annotation": [...]}`, which is told by its content.

    The first opening checks every line and writes an Arrow table to the cache of `datasets`, named by the hash of
    the manifest's content; later ones map that table into memory. Relative audio paths are relative to the
    manifest's folder. Errors name the file, the line and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such manifest")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cached = cache_folder() / f"{digest}-v{CACHE_VERSION}.arrow"
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cached}.lock"):  # of several processes, one reads the lines and the others wait
        if not cached.exists():
            _write_table(path, cached)
    return Manifest(path, datasets.Dataset.from_file(str(cached)), digest)


def cache_folder() -> Path:
    """Folder of what this machine knows of files and would find out again: within the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "salmonn_lab"


def write_manifest(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples as JSONL, atomically; audio below the manifest's folder is written relative to it.

    Equal examples give equal bytes. What `read_manifest` would refuse is refused here.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.absolute()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    seen: set[str] = set()
    try:
        with unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            for example in examples:
                record = _record(example, folder)
                try:
                    _row(record)
                except ValueError as error:
                    raise ValueError(f"{path}: example '{example.id}': {error}") from None
                if example.id in seen:
                    raise ValueError(f"{path}: id '{example.id}' is used twice")
                seen.add(example.id)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not seen:
            raise ValueError(f"{path}: the manifest has no examples")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _record(example: Example, folder: Path) -> dict[str, Any]:
    """Return an example as the shortest JSON object that reads back equal."""

    def audio(segment: Segment) -> str | dict[str, Any]:
        file = Path(segment.path).absolute()
        name = (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
        if segment == Segment(segment.path):
            return name
        return {
            "path": name,
            "offset": segment.offset,
            **({} if segment.duration is None else {"duration": segment.duration}),
        }

    parts = [audio(segment) for segment in example.audio]
    record: dict[str, Any] = {
        "id": example.id,
        "audio": parts[0] if len(parts) == 1 else parts,
        "task": example.task,
        "target": example.target,
    }
    if example.question:
        record["question"] = example.question
    if example.references:
        record["references"] = list(example.references)
    if example.duration is not None:
        record["duration"] = example.duration
    if example.meta:
        record["meta"] = json.loads(json.dumps(dict(example.meta), sort_keys=True))
    return record


def _write_table(path: Path, cached: Path) -> None:
    """Check every line of a manifest and write the Arrow table."""
    unfinished = cached.with_suffix(".tmp")
    hashes = array("q")  # eight bytes a line: a set of ten million ids would not be constant memory
    try:
        with pa.ipc.new_stream(str(unfinished), SCHEMA) as writer:
            rows = (row for _, row in _rows(path))
            while chunk := list(islice(rows, ROWS_AT_ONCE)):
                hashes.extend(hash(row["id"]) for row in chunk)
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=SCHEMA))
        if not hashes:
            raise ValueError(f"{path}: the manifest has no examples")
        ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
        _check_unique(path, set(ordered[1:][ordered[1:] == ordered[:-1]].tolist()))
        unfinished.replace(cached)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_unique(path: Path, suspects: set[int]) -> None:
    """Raise ValueError if two lines whose id has one of these hashes have the same id."""
    first: dict[str, str] = {}
    for where, row in _rows(path) if suspects else ():
        if hash(row["id"]) in suspects and first.setdefault(row["id"], where) != where:
            raise ValueError(f"{where}: key 'id': '{row['id']}' was already used at {first[row['id']]}")


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the checked row of every example, whichever format the file has."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    original = re.match(rb'(\xef\xbb\xbf)?\s*\{\s*"annotation"\s*:', head)
    for where, record in _read_original(path) if original else _read_lines(path):
        try:
            yield where, _row(record)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield f"{path}:{number}", parse_json(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None


def _read_original(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the original SALMONN's annotations as records of ours (dataset.py of the original)."""
    annotations = read_json_object(path)["annotation"]
    if not isinstance(annotations, list):
        raise ValueError(f"{path}: key 'annotation' must be a list, got {_kind(annotations)}")
    uses: dict[str, int] = {}
    for number, item in enumerate(annotations):
        where = f"{path}: annotation[{number}]"
        if not isinstance(item, dict):
            raise ValueError(f"{where}: must be an object, got {_kind(item)}")
        rest = dict(item)
        name, expand = rest.pop("path", None), rest.pop("expand_wav", None)
        if not isinstance(name, str):
            raise ValueError(f"{where}: key 'path' must be a string, got {_kind(name)}")
        if not isinstance(expand, list | None):
            raise ValueError(f"{where}: key 'expand_wav' must be a list, got {_kind(expand)}")
        if "text" not in rest:
            raise ValueError(f"{where}: missing key 'text'")
        while (unique := name if name not in uses else f"{name}#{uses[name] + 1}") in uses:
            uses[name] += 1
        uses[unique] = 1
        yield (
            where,
            {
                "id": unique,
                "audio": [name, *(expand or [])],
                "task": rest.pop("task", "asr"),
                "target": rest.pop("text"),
                "question": rest.pop("Q", ""),
                "meta": rest,
            },
        )


def _row(record: Any) -> dict[str, Any]:
    """Return a checked row of `SCHEMA`; raise ValueError that names the key."""
    if not isinstance(record, dict):
        raise ValueError(f"a line must be a JSON object, got {_kind(record)}")
    _check_keys(record, KEYS)
    for key in ("id", "audio", "task"):
        if not record.get(key):
            raise ValueError(f"key '{key}' is empty" if key in record else f"missing key '{key}'")
    references = record.get("references") or []
    if not isinstance(references, list) or not all(isinstance(reference, str) for reference in references):
        raise ValueError("key 'references' must be a list of strings")
    _check_plain("references", references)
    if len(references) > 1 and not all(reference.strip() for reference in references):
        raise ValueError("key 'references' holds an empty text beside others, so that an empty output would be right")
    if not record.get("target") and not references:
        raise ValueError("key 'target' is empty, and there are no 'references'")
    meta = record.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError(f"key 'meta' must be an object, got {_kind(meta)}")
    for key in (GENERATION, LIKELIHOOD):
        if key in meta:
            raise ValueError(f"key 'meta.{key}' is reserved for what is noted beside an answer; rename it")
    choices = meta.get("choices")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
        raise ValueError("key 'meta.choices' must be a list of strings")
    _check_plain("meta", meta)
    audio = record["audio"]
    duration = _number(record, "duration")
    if duration is not None and duration <= 0:
        raise ValueError(f"key 'duration' must be above 0, got {duration}")
    return {
        **{key: _text(record, key) for key in ("id", "task", "target", "question")},
        "audio": [_segment(part) for part in (audio if isinstance(audio, list) else [audio])],
        "references": references,
        "duration": duration,
        "meta": json.dumps(meta),
    }


def _check_plain(key: str, value: Any) -> None:
    try:
        check_plain(value)
    except ValueError as error:
        raise ValueError(f"key '{key}' {error}") from None


def _segment(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        part = {"path": part}
    if not isinstance(part, dict):
        raise ValueError(f"key 'audio' must be a path, an object with 'path' or a list of these, got {_kind(part)}")
    _check_keys(part, SEGMENT_KEYS, "audio.")
    if not part.get("path"):
        raise ValueError("missing key 'audio.path'")
    offset, duration = _number(part, "offset", "audio.") or 0.0, _number(part, "duration", "audio.")
    if offset < 0:
        raise ValueError(f"key 'audio.offset' must not be negative, got {offset}")
    if duration is not None and duration <= 0:
        raise ValueError(f"key 'audio.duration' must be above 0, got {duration}")
    return {"path": _path(part), "offset": offset, "duration": duration}


def _path(part: Mapping[str, Any]) -> bytes:
    """The bytes of a file's name; those that are no UTF-8 stand in JSON as Python has them, such as \\udcff."""
    value = part["path"]
    if not isinstance(value, str):
        raise ValueError(f"key 'audio.path' must be a string, got {_kind(value)}")
    try:
        return os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError("key 'audio.path' holds half of a surrogate pair") from None


def _check_keys(record: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> None:
    for key in record:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f"did you mean '{prefix}{close[0]}'?" if close else f"known keys: {', '.join(known)}"
            raise ValueError(f"unknown key '{prefix}{key}'; {hint}")


def _text(record: Mapping[str, Any], key: str, prefix: str = "") -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"key '{prefix}{key}' must be a string, got {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"key '{prefix}{key}' holds half of a surrogate pair") from None
    return value


def _number(record: Mapping[str, Any], key: str, prefix: str = "") -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"key '{prefix}{key}' must be a number of seconds, got {repr(value)[:60]}")
    return float(value)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")
