"""Reader of any audio dataset of the Hugging Face hub, or of parquet files made like one."""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

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


ANSWERS = ("text", "letter", "number", "number_from_1")
"""How a target may name one of its choices; `number` counts from 0."""
UNLABELLED = "no label"
LETTERED = re.compile(r"[(\[]?([A-Za-z])[)\].:]\s+(?=\S)")
"""The letter of a choice in front of its text."""


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
    answers: str | None = None
    """One of `ANSWERS`; None finds out, and refuses where the rows do not tell."""


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
    if described.answers not in (None, *ANSWERS):
        raise ValueError(f"{path}: key 'answers' must be one of {', '.join(ANSWERS)}, got {described.answers!r}")
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
    answers: str | None = None,
) -> Reading:
    """Examples of one task, one for each row of a dataset.

    Audio is not decoded here: what is inside of the dataset is written below `audio_folder` as it is, and a path is
    used where it leads. Left out are rows without audio, rows whose target is empty or a class label of -1, which
    means unlabelled, and questions without choices or none of whose choices is the answer. A class label is its name.
    References that are null or empty are dropped, and counted: an empty output would equal them.

    Args:
        source: a parquet file, a folder of them, or the name of a dataset of the hub.
        task: of every example.
        columns: which column is what.
        audio_folder: takes the files, named by the numbers of their rows.
        config: of a dataset of the hub.
        split: of a dataset of the hub; files have none.
        revision: of a dataset of the hub: a commit, without which the next reading may give something else.
        answers: how targets name their choices, as in `Source`.

    Raises:
        ValueError: a column is missing, or holds what an example cannot; or numbers may name the choices or be them.
    """
    rows, folder = open_rows(source, columns.audio, config=config, split=split, revision=revision)
    named = (columns.target, columns.audio, columns.id, columns.question, columns.references, columns.choices)
    wanted = (*named, *columns.meta)
    check_keys(list(rows.features), [column for column in wanted if column], str(source), "column")
    reading = Reading()
    questions: list[Question] = []
    for number, row in enumerate(rows):
        where = f"{source}: row {number}"
        row = {column: _named(row[column], rows.features[column], column, where) for column in rows.features}
        if columns.id and row[columns.id] is None:
            raise ValueError(f"{where}: column '{columns.id}' must hold an id, got None")
        id = str(row[columns.id]) if columns.id else f"{number:06d}"
        choices = _texts(row, columns.choices, where) if columns.choices else ()
        if columns.choices and not any(choices):
            reading.leave_out(id, "no choices")
            continue
        plain = _without_letters(choices)
        if plain != choices:
            choices = plain
            reading.mend(id, "choices that began with their letters")
        target = row[columns.target] if choices else _text(row, columns.target, where)
        if target is None or target == "" or (isinstance(target, float) and math.isnan(target)):
            unlabelled = isinstance(rows.features[columns.target], datasets.ClassLabel)
            reading.leave_out(id, UNLABELLED if unlabelled else "an empty target")
            continue
        path = save_audio(row[columns.audio], audio_folder / f"{number:06d}", folder, where)
        if path is None:
            reading.leave_out(id, MISSING)
            continue
        question = _text(row, columns.question, where) if columns.question else ""
        meta = {column: _stored(row[column], column, where) for column in columns.meta}
        if choices:
            questions.append(Question(where, id, path, question, choices, target, meta))
            continue
        references = _texts(row, columns.references, where) if columns.references else (target,)
        whole = tuple(reference for reference in references if reference)
        if len(whole) < len(references):
            reading.mend(id, "a reference without text")
        reading.append(
            Example(
                id=id,
                audio=(Segment(str(path)),),
                task=task,
                target=target,
                question=question,
                references=whole or (target,),
                meta=meta,
            )
        )
    if all(map(_is_counting, questions)):
        # A column of integers some of which are null becomes one of floating point in pandas.
        questions = [question._replace(answer=int(question.answer)) for question in questions]
    meaning = answers or meaning_of_numbers(questions)
    for asked in questions:
        answer = _chosen(asked.answer, asked.choices, meaning)
        add_question(reading, asked.id, asked.audio, asked.question, asked.choices, answer, asked.meta, task=task)
    return reading


class Question(NamedTuple):
    """A row with choices, its answer as the dataset has it."""

    where: str
    id: str
    audio: Path
    question: str
    choices: Sequence[str]
    answer: Any
    meta: dict[str, Any]


def meaning_of_numbers(questions: Sequence[Question]) -> str | None:
    """What answers that are integers are: `number` or `text` of a choice; None where no answer is an integer.

    Raises:
        ValueError: they may be either, or may count from 1; a row is named.
    """
    numbers = [question for question in questions if _is_number(question.answer)]
    if not numbers:
        return None
    stated = f"say which in the description: answers: {', '.join(ANSWERS[2:])} or text"
    texts = [question for question in numbers if str(question.answer) in question.choices]
    if not texts:
        beyond = next((question for question in numbers if question.answer == len(question.choices)), None)
        if beyond is not None and not any(question.answer == 0 for question in numbers):
            raise ValueError(
                f"{beyond.where}: the answer is {beyond.answer} of {len(beyond.choices)} choices and no row's is 0, so "
                f"they may count from 1; {stated}"
            )
        return "number"
    counted = [question for question in numbers if 0 <= question.answer < len(question.choices)]
    different = next((q for q in counted if q in texts and q.choices[q.answer] != str(q.answer)), None)
    all_texts, all_counted = len(texts) == len(numbers), len(counted) == len(numbers)
    if different is None or all_texts != all_counted:
        return "text" if all_texts or not all_counted else "number"
    raise ValueError(
        f"{different.where}: the answer {different.answer} may be the choice '{different.answer}', or the number of "
        f"'{different.choices[different.answer]}'; {stated}"
    )


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


def _named(value: Any, feature: Any, column: str, where: str) -> Any:
    """Value of a column, class labels as their names; None for -1 and null, which mean unlabelled.

    Raises:
        ValueError: a label that the dataset has no name for.
    """
    if isinstance(feature, datasets.ClassLabel):
        if value is None or value == -1:
            return None
        if not 0 <= value < len(feature.names):
            raise ValueError(f"{where}: column '{column}' has the label {value}, there are {len(feature.names)} names")
        return feature.names[value]
    if isinstance(feature, datasets.List | datasets.LargeList) and isinstance(value, list):
        return [_named(item, feature.feature, column, where) for item in value]
    if isinstance(feature, dict) and isinstance(value, dict):
        return {key: _named(item, feature.get(key), column, where) for key, item in value.items()}
    return value


def _without_letters(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Choices without the letters in front of them, where each begins with its own: (A) cat, (B) dog."""
    found = [LETTERED.match(choice) for choice in choices]
    letters = "".join(match[1].upper() for match in found if match)
    if len(choices) < 2 or letters != ascii_uppercase[: len(choices)]:
        return choices
    return tuple(choice[match.end() :] for choice, match in zip(choices, found, strict=True) if match)


def _is_counting(question: Question) -> bool:
    """Whether an answer is a whole number in floating point, and no choice as it is written."""
    answer = question.answer
    return isinstance(answer, float) and answer.is_integer() and str(answer) not in question.choices


def _stored(value: Any, column: str, where: str) -> Any:
    """A value of meta as JSON has it: dates as ISO 8601, null for what is no finite number.

    Raises:
        ValueError: JSON has nothing of the kind, such as bytes.
    """
    if isinstance(value, dict):
        return {str(key): _stored(item, column, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_stored(item, column, where) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{where}: column '{column}' holds {value!r:.60}, which no manifest can: leave it out of meta")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _chosen(value: Any, choices: Sequence[str], meaning: str | None) -> str:
    """Text of the choice that an answer is, names by its letter, or counts; any other answer as it is."""
    text = str(value).strip()
    if isinstance(value, bool) and {choice.casefold() for choice in choices} == {"yes", "no"}:
        return "yes" if value else "no"
    if meaning in ("number", "number_from_1") and text.lstrip("+-").isdecimal():
        place = int(text) - (meaning == "number_from_1")
        return choices[place] if 0 <= place < len(choices) else ""
    lettered = LETTERED.match(text)
    if lettered and text not in choices and lettered[1].upper() in ascii_uppercase[: len(choices)]:
        named = choices[ascii_uppercase.index(lettered[1].upper())]
        return named if text[lettered.end() :].strip().casefold() == named.casefold() else text
    letter = text.strip("().: ").upper()
    if (text not in choices or meaning == "letter") and len(letter) == 1 and letter in ascii_uppercase[: len(choices)]:
        return choices[ascii_uppercase.index(letter)]
    return text


def _texts(row: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    value = row[column]
    texts: Iterable[Any] = value if isinstance(value, list) else [value]
    return tuple(_text({column: text}, column, where) for text in texts)
