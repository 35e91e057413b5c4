"""Prediction files read back what was written, whatever stopped the writer."""

from __future__ import annotations

import errno
import resource
import shutil
import warnings
from pathlib import Path

import pytest

from salmonn_lab.batch import Prediction
from salmonn_lab.predictions import Answers, append_predictions, read_predictions, write_predictions


class KilledError(BaseException):
    """Stands for a kill."""


PREDICTIONS = [
    Prediction("a/1", "asterisk", "USER: <SpeechHere>\nsay", 'plain "quoted"', ("one", "two"), {"words": 2}),
    Prediction(
        "ü", "asterisk", "", "今天\u2028天气\nзавтра 🙂\r\t\x85\0", ("é",), {"choices": ["a", "b"], "deep": {"x": None}}
    ),
    Prediction("c", "", "", "", ("",)),
]


def test_predictions_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.jsonl"
    write_predictions(path, PREDICTIONS)
    assert read_predictions(path) == PREDICTIONS
    assert path.read_bytes().count(b"\n") == len(PREDICTIONS)
    assert [file.name for file in path.parent.iterdir()] == ["p.jsonl"]
    write_predictions(path, PREDICTIONS[:1])
    assert read_predictions(path) == PREDICTIONS[:1]


def test_appending_batches_gives_the_file_that_writing_gives(tmp_path: Path) -> None:
    write_predictions(tmp_path / "whole.jsonl", PREDICTIONS)
    path = tmp_path / "new" / "parts.jsonl"
    append_predictions(path, [])
    append_predictions(path, PREDICTIONS[:1])
    append_predictions(path, PREDICTIONS[1:])
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_empty_file_has_no_predictions(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.jsonl", [])
    assert read_predictions(tmp_path / "p.jsonl") == []


def test_a_file_torn_at_any_byte_keeps_every_whole_line_and_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, PREDICTIONS)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kept = read_predictions(path)
            reading = len(caught)
            append_predictions(path, PREDICTIONS[len(kept) :])
        lines = content[:length].split(b"\n")
        complete = content[:length].endswith(b"\n") or length == 0 or content[length : length + 1] == b"\n"
        assert len(kept) == len(lines) - 1 + (complete and bool(lines[-1]))
        assert reading == (not complete)
        assert len(caught) == 2 * reading
        assert path.read_bytes() == content


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, PREDICTIONS)
    content = path.read_bytes()
    path.write_bytes(content + b'{"id": "' + b"x" * 20_000)
    with pytest.warns(UserWarning, match="cut off the last line"):
        append_predictions(path, PREDICTIONS)
    assert path.read_bytes() == content * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "a"', r"p.jsonl:2: not a JSON object"),
        (b"\xff\xfe", r"p.jsonl:2: not a JSON object"),
        (b'"text"', r"p.jsonl:2: a prediction has the keys id, benchmark, .* got str"),
        (b'{"id": "a"}', r"p.jsonl:2: a prediction has the keys id, benchmark, .* got id"),
    ],
)
def test_a_bad_line_before_the_last_is_refused_with_its_number(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, PREDICTIONS)
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + line + b"\n" + rest)
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


def test_a_missing_file_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "p.jsonl")


def begin(path: Path, **provenance: object) -> Answers:
    answers = Answers(path, {"weights": "a", **provenance})
    answers.prepare()
    return answers


def test_answers_are_read_from_all_processes_whatever_the_order(tmp_path: Path) -> None:
    answers = begin(tmp_path / "new" / "p.jsonl")
    assert answers.read() == {}
    for rank, prediction in ((1, PREDICTIONS[2]), (0, PREDICTIONS[0]), (1, PREDICTIONS[1]), (0, PREDICTIONS[1])):
        answers.append(rank, [prediction])
    assert answers.read() == {prediction.id: prediction for prediction in PREDICTIONS}
    answers.finish(PREDICTIONS)
    assert read_predictions(answers.path) == PREDICTIONS
    assert list(answers.read().values()) == PREDICTIONS


def test_a_kill_at_any_step_of_finishing_loses_nothing_and_mixes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old answers of other weights are there; whichever file operation is the last, each is found under its own."""
    steps = [(Path, "unlink"), (Path, "replace"), (shutil, "rmtree")]
    original = {name: getattr(owner, name) for owner, name in steps}
    finished = False
    for last in range(10):
        path = tmp_path / str(last) / "p.jsonl"
        old = begin(path, weights="old")
        old.append(0, PREDICTIONS[:1])
        old.finish(PREDICTIONS[:1])
        new = begin(path)
        new.append(0, PREDICTIONS)
        left = [last]

        def die(name: str, left: list[int], *arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return original[name](*arguments, **options)

        for owner, name in steps:
            replacement = lambda *arguments, _name=name, _left=left, **options: die(_name, _left, *arguments, **options)  # noqa: E731
            monkeypatch.setattr(owner, name, replacement)
        try:
            new.finish(PREDICTIONS)
            finished = True
        except KilledError:
            pass
        monkeypatch.undo()
        assert new.prepare() is None
        assert list(new.read().values()) == PREDICTIONS
        new.finish(PREDICTIONS)
        assert sorted(file.name for file in path.parent.iterdir() if file.name[0] != ".") == [
            "p.jsonl",
            "p.provenance.json",
        ]
        old.prepare()
        assert old.read() == {}, "the new answers are not taken for those of the old weights"
        if finished:
            break
    assert last >= 4


def test_a_folder_that_a_kill_left_without_its_provenance_is_begun_anew(tmp_path: Path) -> None:
    answers = begin(tmp_path / "p.jsonl")
    answers.append(0, PREDICTIONS)
    (answers.partial / "provenance.json").unlink()
    assert answers.prepare() is None
    assert answers.read() == {}


def test_a_full_disk_is_said_with_the_file_and_what_was_there_stays(tmp_path: Path) -> None:
    answers = begin(tmp_path / "p.jsonl")
    answers.append(0, PREDICTIONS[:1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(OSError, match=r"what was answered before is kept.*rank0\.jsonl") as failed:
            answers.append(0, PREDICTIONS[1:])
        with pytest.raises(OSError, match=r"p\.jsonl"):
            answers.finish(PREDICTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.value.errno == errno.EFBIG
    with pytest.warns(UserWarning, match="dropped the last line"):
        assert next(iter(answers.read().values())) == PREDICTIONS[0]
    with pytest.warns(UserWarning, match="cut off the last line"):
        answers.append(0, PREDICTIONS[1:])
    assert list(answers.read().values()) == PREDICTIONS
