"""Checked reading of the tables that corpora are published in: CSV, TSV, JSON lists and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

LIST_LENGTH_SHOWN = 8
"""Columns that an error lists before it says `...`."""


class Row(NamedTuple):
    """One record, and the file and line it is from."""

    where: str
    fields: dict[str, str]


class Record(NamedTuple):
    """One JSON object, and the file and line or item it is from."""

    where: str
    fields: dict[str, Any]


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ",", quotes: Literal["doubled", "none", "escaped"] = "doubled"
) -> Iterator[Row]:
    """Yield the rows of a table with a header line; a byte order mark is skipped.

    Args:
        path: UTF-8.
        columns: must be there; others may be.
        delimiter: between fields.
        quotes: `doubled` is usual CSV; with `none` a quote or backslash is a character like others; with `escaped` a
            quote is too, and a backslash takes the character behind it literally.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a line has more or fewer fields than the header.
    """
    require(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            file,
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quotes == "doubled" else csv.QUOTE_NONE,
            escapechar="\\" if quotes == "escaped" else None,
        )
        header: list[str] = []
        try:
            header = [name.strip() for name in next(reader, [])]
            check_keys(header, columns, f"{path}:1", "column")
            for fields in reader:
                if not fields:
                    continue
                where = f"{path}:{reader.line_num}"
                if len(fields) != len(header):
                    raise ValueError(f"{where}: {len(fields)} fields, the header has {len(header)}: {fields!r:.200}")
                yield Row(where, dict(zip(header, fields, strict=True)))
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: malformed table: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{reader.line_num + 1}: not UTF-8: {error.reason}") from None


def read_records(path: Path, keys: Sequence[str]) -> Iterator[Record]:
    """Yield JSON objects: the items of a list, or one a line; `keys` must be in each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: malformed JSON, something else than an object, or a missing key.
    """
    require(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error.reason}") from None
    for where, item in _items(path, text):
        if not isinstance(item, dict):
            raise ValueError(f"{where}: expected an object, got {item!r:.100}")
        check_keys(list(item), keys, where, "key")
        yield Record(where, item)


def _items(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    number = 1
    try:
        if text.lstrip().startswith("["):
            yield from ((f"{path}: item {index}", item) for index, item in enumerate(json.loads(text)))
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", json.loads(line)
    except json.JSONDecodeError as error:
        line_number = number + error.lineno - 1
        raise ValueError(f"{path}:{line_number}: malformed JSON: {error.msg}, column {error.colno}") from None


def require(path: Path) -> None:
    """Raise FileNotFoundError where there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")


def check_keys(present: Sequence[str], wanted: Sequence[str], where: str, kind: str) -> None:
    """Raise ValueError that names what is missing."""
    missing = [name for name in wanted if name not in present]
    if missing:
        shown = ", ".join(present[:LIST_LENGTH_SHOWN]) + (", ..." if len(present) > LIST_LENGTH_SHOWN else "")
        raise ValueError(f"{where}: no {kind} {', '.join(map(repr, missing))}; there are {shown or 'none'}")


def check_choice(value: str, allowed: Sequence[str], what: str) -> None:
    """Raise ValueError where a value is none of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}, got '{value}'")
