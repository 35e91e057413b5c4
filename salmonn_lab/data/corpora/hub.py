"""Reader of any audio dataset of the Hugging Face hub, or of parquet files made like one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import datasets
import yaml

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.choices import add_question
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_keys

MAGIC = {
    b"RIFF": ".wav",
    b"RF64": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"\xff\xf3": ".mp3",
    b"\xff\xf2": ".mp3",
}
"""How files of each format begin."""


@dataclass(frozen=True)
class Columns:
    """Which column of a dataset says what of an example."""

    target: str
    audio: str = "audio"
    id: str | None = None
    """None numbers the rows."""
    question: str | None = None
    references: str | None = None
    """Texts, or a list of them; None means that the target is the only reference."""
    meta: tuple[str, ...] = ()
    """Kept under their names: what slices a report."""
    choices: str | None = None
    """Lists of texts: the question shows them with letters, and the target is one of them, its letter or its number."""


@dataclass(frozen=True)
class Source:
    """A dataset, and what its rows are examples of: what a description file holds."""

    source: str
    """A dataset of the hub, a parquet file, or a folder of them."""
    task: str
    columns: Columns
    config: str | None = None
    split: str = "test"
    revision: str | None = None


def read_source(path: Path) -> Source:
    """Read the description of a dataset, a YAML file; relative paths in it are relative to the file.

    Raises:
        ValueError: malformed, with an unknown or a missing key, or a value of a wrong type.
        FileNotFoundError: there is no such file.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    check_description(loaded, Source, str(path))
    check_description(loaded["columns"], Columns, f"{path}: columns")
    columns: dict[str, Any] = {**loaded["columns"], "meta": tuple(loaded["columns"].get("meta") or ())}
    described = Source(**{**loaded, "columns": Columns(**columns)})
    local = path.parent / described.source
    return replace(described, source=str(local)) if local.exists() else described


def check_description(record: Any, kind: type[Source] | type[Columns], where: str) -> None:
    """Raise ValueError where an object of a description is not what a dataclass can be made of."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: must be a mapping, got {record!r:.100}")
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in record.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key '{key}'; {hint}")
        wanted = {"columns": dict, "meta": list}.get(key, str)
        if not isinstance(value, wanted) and not (value is None and known[key].endswith("None")):
            raise ValueError(f"{where}: key '{key}' must be a {wanted.__name__}, got {value!r:.100}")
    required = ("source", "task", "columns") if kind is Source else ("target",)
    check_keys(list(record), required, where, "key")


def read(
    source: str | Path,
    task: str,
    columns: Columns,
    audio_folder: Path,
    *,
    config: str | None = None,
    split: str = "test",
    revision: str | None = None,
) -> Reading:
    """Return the rows of a dataset as examples of one task.

    Audio is not decoded here: what is inside of the dataset is written below `audio_folder` as it is, and a path is
    used where it leads. Left out are rows without audio, rows whose target is empty, and questions none of whose
    choices is the answer. A class label is its name.

    Args:
        source: a parquet file, a folder of them, or the name of a dataset of the hub.
        task: of every example.
        columns: which column is what.
        audio_folder: takes the files, named by the numbers of their rows.
        config: of a dataset of the hub.
        split: of a dataset of the hub; files have none.
        revision: of a dataset of the hub: a commit, without which the next reading may give something else.

    Raises:
        ValueError: a column is missing, or holds what an example cannot.
    """
    rows, folder = open_rows(source, columns.audio, config=config, split=split, revision=revision)
    names = {
        column: feature.names for column, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)
    }
    named = (columns.target, columns.audio, columns.id, columns.question, columns.references, columns.choices)
    wanted = (*named, *columns.meta)
    check_keys(list(rows.features), [column for column in wanted if column], str(source), "column")
    reading = Reading()
    for number, row in enumerate(rows):
        for column, labels in names.items():
            row[column] = labels[row[column]]
        where = f"{source}: row {number}"
        id = str(row[columns.id]) if columns.id else f"{number:06d}"
        choices = _texts(row, columns.choices, where) if columns.choices else ()
        target = _chosen(row[columns.target], choices) if choices else _text(row, columns.target, where)
        if not target:
            reading.leave_out(id, "an empty target")
            continue
        path = save_audio(row[columns.audio], audio_folder / f"{number:06d}", folder, where)
        if path is None:
            reading.leave_out(id, MISSING)
            continue
        question = _text(row, columns.question, where) if columns.question else ""
        meta = {column: row[column] for column in columns.meta}
        if choices:
            add_question(reading, id, path, question, choices, target, meta, task=task)
            continue
        reading.append(
            Example(
                id=id,
                audio=(Segment(str(path)),),
                task=task,
                target=target,
                question=question,
                references=_texts(row, columns.references, where) if columns.references else (target,),
                meta=meta,
            )
        )
    return reading


def open_rows(
    source: str | Path, audio: str, *, config: str | None = None, split: str = "test", revision: str | None = None
) -> tuple[Any, Path]:
    """Return a dataset whose audio stays encoded, and the folder that paths in it are relative to.

    Raises:
        FileNotFoundError: there are no parquet files.
        ValueError: there is no audio column of this name.
    """
    path = Path(source)
    if path.exists():
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"{path}/*.parquet: no such file")
        # Streaming, since a copy in the cache would hold all the audio again.
        names = [str(file) for file in files]
        dataset = datasets.load_dataset("parquet", data_files=names, split="train", streaming=True)
    else:
        dataset = datasets.load_dataset(str(source), config, split=split, revision=revision)
    check_keys(list(dataset.features), [audio], str(source), "column")
    return dataset.cast_column(audio, datasets.Audio(decode=False)), path if path.is_dir() else path.parent


def save_audio(value: Mapping[str, Any] | None, target: Path, folder: Path, where: str) -> Path | None:
    """Return the file of an undecoded audio value, written to `target` plus a suffix where its bytes are there.

    A path is taken as relative to `folder`. None means that there are neither bytes nor a file.

    Raises:
        ValueError: bytes of no known format, and no name that says which.
    """
    if not value:
        return None
    content, name = value.get("bytes"), value.get("path") or ""
    if not content:
        return find_recording([folder], [name]) if name else None
    suffix = next((suffix for start, suffix in MAGIC.items() if content.startswith(start)), Path(name).suffix)
    if not suffix:
        raise ValueError(f"{where}: the audio begins with {content[:4]!r}, which is no known format, and has no name")
    path = target.with_name(target.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: column '{column}' must hold a text, got {value!r:.100}")
    return value.strip()


def _chosen(value: Any, choices: Sequence[str]) -> str:
    """Return the choice that an answer is, names by its letter, or counts from 0; any other answer as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return choices[value]
    text = "" if value is None else str(value).strip()
    letter = text.strip("().: ").upper()
    if text not in choices and len(letter) == 1 and letter in ascii_uppercase[: len(choices)]:
        return choices[ascii_uppercase.index(letter)]
    return text


def _texts(row: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    value = row[column]
    texts: Iterable[Any] = value if isinstance(value, list) else [value]
    return tuple(_text({column: text}, column, where) for text in texts)
