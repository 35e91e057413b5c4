"""Prediction files read back what was written, whatever stopped the writer."""

from __future__ import annotations

import errno
import json
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


RECORD = {"id": "a", "benchmark": "b", "prompt": "", "text": "x", "references": ["y"], "meta": {}}
NOTE = {"reference": [-1.0, 2], "choices": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 7}, "key 'id' must be a string, got 7"),
        ({"id": None}, "key 'id' must be a string, got null"),
        ({"id": ""}, "key 'id' is empty"),
        ({"benchmark": None}, "key 'benchmark' must be a string, got null"),
        ({"prompt": ["x"]}, r"key 'prompt' must be a string, got \["),
        ({"text": None}, "key 'text' must be a string, got null"),
        ({"text": 1.0}, "key 'text' must be a string, got 1.0"),
        (
            {"references": "turn on the light"},
            "key 'references' must be a list of one string or more, got \"turn on the",
        ),
        ({"references": []}, r"key 'references' must be a list of one string or more, got \[\]"),
        ({"references": None}, "key 'references' must be a list of one string or more, got null"),
        ({"references": ["x", None]}, "key 'references' must be a list of one string or more"),
        ({"references": {"x": 1}}, "key 'references' must be a list of one string or more"),
        ({"references": ["\ud800"]}, "key 'references' holds half of a surrogate pair"),
        ({"text": "\udfff"}, "key 'text' holds half of a surrogate pair"),
        ({"id": "\ud800"}, "key 'id' holds half of a surrogate pair"),
        ({"meta": None}, "key 'meta' must be an object, got null"),
        ({"meta": []}, r"key 'meta' must be an object, got \[\]"),
        ({"meta": {"\ud800": 1}}, "key 'meta' holds half of a surrogate pair"),
        ({"meta": {"choices": "a, b"}}, "key 'meta.choices' must be a list of strings, got \"a, b\""),
        ({"meta": {"generation": 1}}, "key 'meta.generation' must hold finished .* got 1"),
        ({"meta": {"generation": {"finished": 1}}}, "key 'meta.generation' must hold finished"),
        ({"meta": {"generation": {"tokens": -1}}}, "key 'meta.generation' must hold finished"),
        ({"meta": {"generation": {"seconds": float("nan")}}}, "key 'meta.generation' must hold finished"),
        ({"meta": {"generation": {"seconds": "1"}}}, "key 'meta.generation' must hold finished"),
        ({"meta": {"likelihood": 0.5}}, "key 'meta.likelihood' must hold .* got 0.5"),
        ({"meta": {"likelihood": {**NOTE, "reference": [-1.0]}}}, "key 'meta.likelihood' must hold"),
        ({"meta": {"likelihood": {**NOTE, "reference": [float("-inf"), 2]}}}, "key 'meta.likelihood' must hold"),
        ({"meta": {"likelihood": {**NOTE, "reference": [-1.0, 0]}}}, "key 'meta.likelihood' must hold"),
        ({"meta": {"likelihood": {**NOTE, "choices": [[-1.0, 2]]}}}, "as many such pairs as the item has choices"),
        ({"meta": {"a": 10**400}}, "holds a number of 401 digits, more than a float can"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_file_line_and_key(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + json.dumps({**RECORD, "id": "second", **change}) + "\n")
    with pytest.raises(ValueError, match=rf"p\.jsonl:2: .*{message}"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (3000 * "[" + 3000 * "]", "its JSON is nested too deeply"),
        (300 * "[" + 300 * "]", "its JSON is nested too deeply: more than 100 levels"),
        (5000 * "9", "it holds a number of more than 4,300 digits"),
        (400 * "9", "holds a number of 400 digits, more than a float can"),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_values_too_large_to_work_with_are_refused_even_at_the_end(
    tmp_path: Path, raw: str, message: str, end: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({**RECORD, "meta": {"a": "@"}}).replace('"@"', raw) + end)
    with pytest.raises(ValueError, match=rf"p\.jsonl:1: not a JSON object: {message}"):
        read_predictions(path)


def test_an_id_that_comes_twice_and_another_benchmarks_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({**RECORD, "id": id}) + "\n" for id in "aba"))
    with pytest.raises(ValueError, match=r"p\.jsonl:3: key 'id': 'a' was already used at .*p\.jsonl:1"):
        read_predictions(path)
    assert [prediction.id for prediction in read_predictions(path, repeated=True)] == ["a", "b", "a"]
    with pytest.raises(ValueError, match=r"p\.jsonl:1: key 'benchmark' must be 'asterisk' here, got 'b'"):
        read_predictions(path, "asterisk", repeated=True)


def test_a_byte_order_mark_and_other_ends_of_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, PREDICTIONS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_predictions(path) == PREDICTIONS


def test_only_the_beginning_of_a_prediction_counts_as_torn(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for tail in (b"not a prediction", b"[1, 2", b"\x80\x04pickled", b"nul"):
        write_predictions(path, PREDICTIONS)
        path.write_bytes(path.read_bytes() + tail)
        with pytest.raises(ValueError, match=r"p\.jsonl:4: not a JSON object"):
            read_predictions(path)
    for tail in (b'{"id": "a", "bench\0\0\0', b"\0\0\0"):  # as a power cut may leave it
        write_predictions(path, PREDICTIONS)
        path.write_bytes(path.read_bytes() + tail)
        with pytest.warns(UserWarning, match=r"p\.jsonl:4: dropped the last line, which is torn"):
            assert read_predictions(path) == PREDICTIONS


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


IDS = [prediction.id for prediction in PREDICTIONS]


def finished(path: Path, **provenance: object) -> Answers:
    answers = begin(path, **provenance)
    answers.append(0, PREDICTIONS)
    answers.finish(PREDICTIONS)
    return answers


def test_answers_whose_audio_is_not_recorded_are_kept_and_it_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    finished(path)
    answers = Answers(path, {"weights": "a", "audio": "1", "manifest_path": "/x"})
    said = "the stored answers do not say what audio they were made from: taken to be today's"
    assert answers.prepare(IDS) == said
    assert list(answers.read().values()) == PREDICTIONS
    assert answers.prepare(IDS) is None
    assert json.loads(answers.provenance_file.read_text()) == answers.provenance
    changed = Answers(path, {"weights": "a", "audio": "2", "manifest_path": "/x"})
    assert changed.complete(IDS) is None
    assert changed.prepare(IDS) == "what is stored was answered with another audio"
    assert changed.read() == {}


def test_the_place_of_a_manifest_is_not_compared_nor_audio_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    finished(path, audio="1", manifest_path="/x")
    for provenance in ({"weights": "a", "audio": "1", "manifest_path": "/y"}, {"weights": "a", "manifest_path": "/x"}):
        answers = Answers(path, provenance)
        assert answers.complete(IDS) == {prediction.id: prediction for prediction in PREDICTIONS}
        assert answers.prepare(IDS) is None
    assert json.loads(answers.provenance_file.read_text())["audio"] == "1"


def test_answers_that_complete_ones_lack_are_given_and_strange_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    answers = finished(path)
    write_predictions(path, PREDICTIONS[:2])
    assert answers.complete(IDS) is None
    assert answers.prepare(IDS) == f"{path} lacks 1 of 3 answers, such as that to 'c'"
    assert list(answers.read()) == IDS[:2]
    answers.append(0, PREDICTIONS[2:])
    answers.finish(answers.read().values())
    assert read_predictions(path) == PREDICTIONS
    assert answers.complete(IDS[:2]) is None
    assert answers.prepare(IDS[:2]) == f"{path} loses 1 answers to ids that the manifest lacks: 'c', ..."
    assert list(answers.read()) == IDS[:2]


def test_answers_whose_file_is_gone_are_given_anew(tmp_path: Path) -> None:
    answers = finished(tmp_path / "p.jsonl")
    answers.path.unlink()
    assert answers.complete(IDS) is None
    assert answers.prepare(IDS) == f"{answers.path} is gone"
    assert answers.read() == {}


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"text"', '{"a": ' + 3000 * "[" + 3000 * "]" + "}"])
def test_a_torn_provenance_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    whole = finished(tmp_path / "whole.jsonl")
    whole.provenance_file.write_text(content)
    with pytest.raises(ValueError, match=r"whole\.provenance\.json.*: remove it to have them made anew"):
        whole.prepare(IDS)
    begun = begin(tmp_path / "begun.jsonl")
    (begun.partial / "provenance.json").write_text(content)
    with pytest.raises(ValueError, match=r"begun\.partial/provenance\.json.*: remove .*begun\.partial to have them"):
        begun.prepare(IDS)


def test_answers_of_another_benchmark_are_not_gone_on_with(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "p.jsonl", {}, "asterisk")
    answers.prepare(IDS)
    answers.append(0, PREDICTIONS[2:])
    with pytest.raises(ValueError, match=r"p\.partial/rank0\.jsonl:1: key 'benchmark' must be 'asterisk' here, got ''"):
        answers.read()


def test_a_key_that_came_later_and_is_off_keeps_old_answers(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "p.jsonl", {"weights": "a", "model.llm.revision": None})
    assert answers.fits({"weights": "a"})
    assert not answers.fits({"weights": "a", "model.llm.revision": "4f2a"})
    assert not Answers(tmp_path / "p.jsonl", {"weights": "a", "model.llm.revision": "4f2a"}).fits({"weights": "a"})
