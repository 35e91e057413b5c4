"""Manifests read back as written, and every mistake in one is named."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.manifest import Manifest, read_manifest, write_manifest

LINE = {"id": "a", "audio": "a.flac", "task": "asr", "target": "hello"}


def write_lines(folder: Path, *lines: Any) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_line_becomes_an_example_with_audio_relative_to_the_manifest(tmp_path: Path) -> None:
    full = {
        "id": "b",
        "audio": ["x/1.wav", {"path": "/abs/2.wav", "offset": 1, "duration": 2.5}],
        "task": "audio_QA",
        "target": "",
        "question": "what?",
        "references": ["a dog", "hund ü"],
        "duration": 3,
        "meta": {"speaker": 7, "list": [1, None]},
    }
    manifest = read_manifest(write_lines(tmp_path, LINE, "", full))
    assert len(manifest) == 2
    assert manifest[0] == Example("a", (Segment(str(tmp_path / "a.flac")),), "asr", "hello")
    assert manifest[-1] == Example(
        id="b",
        audio=(Segment(str(tmp_path / "x/1.wav")), Segment("/abs/2.wav", 1.0, 2.5)),
        task="audio_QA",
        target="",
        question="what?",
        references=("a dog", "hund ü"),
        duration=3.0,
        meta={"speaker": 7, "list": [1, None]},
    )
    assert list(manifest) == [manifest[0], manifest[1]]
    with pytest.raises(IndexError):
        manifest[2]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SEGMENTS = st.builds(
    Segment,
    st.sampled_from(["a.wav", "sub folder/ü.flac", "/elsewhere/b.mp3"]),
    st.floats(0, 100),
    st.none() | st.floats(0.01, 100),
)
EXAMPLES = st.builds(
    Example,
    id=TEXT,
    audio=st.lists(SEGMENTS, min_size=1, max_size=3).map(tuple),
    task=TEXT,
    target=TEXT,
    question=st.just("") | TEXT,
    references=st.lists(TEXT.filter(str.strip), max_size=3).map(tuple),
    duration=st.none() | st.floats(0.01, 1000),
    meta=st.dictionaries(TEXT, st.integers(-9, 9) | TEXT | st.booleans(), max_size=3),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(examples=st.lists(EXAMPLES, min_size=1, max_size=5, unique_by=lambda example: example.id))
def test_what_is_written_reads_back_equal(tmp_path: Path, examples: list[Example]) -> None:
    def below(segment: Segment) -> Segment:
        return Segment(str(tmp_path / segment.path), segment.offset, segment.duration)

    examples = [Example(**{**vars(example), "audio": tuple(map(below, example.audio))}) for example in examples]
    write_manifest(tmp_path / "m.jsonl", examples)
    assert list(read_manifest(tmp_path / "m.jsonl")) == examples


def test_writing_is_deterministic_relative_and_atomic(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.jsonl"
    example = Example(
        "a", (Segment(str(path.parent / "wav/a.wav")), Segment("/far/b.wav")), "asr", "é", meta={"b": 1, "a": 2}
    )
    write_manifest(path, [example])
    line = '{"id": "a", "audio": ["wav/a.wav", "/far/b.wav"], "task": "asr", "target": "é", "meta": {"a": 2, "b": 1}}\n'
    assert path.read_text(encoding="utf-8") == line

    def fail() -> Any:
        yield example
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_manifest(path, fail())
    assert path.read_text(encoding="utf-8") == line
    assert [file.name for file in path.parent.iterdir()] == ["m.jsonl"]


def test_a_manifest_may_move_with_its_audio(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        manifest = read_manifest(write_lines(tmp_path / name, LINE))
        assert manifest[0].audio[0].path == str(tmp_path / name / "a.flac")


def test_the_table_is_made_once_per_content_and_mapped_from_the_cache(tmp_path: Path) -> None:
    path = write_lines(tmp_path, LINE)
    first = read_manifest(path).table.cache_files
    assert str(datasets.config.HF_DATASETS_CACHE) in first[0]["filename"]
    assert read_manifest(path).table.cache_files == first
    write_lines(tmp_path, {**LINE, "target": "changed"})
    changed = read_manifest(path)
    assert changed.table.cache_files != first
    assert changed[0].target == "changed"


def first_target(manifest: Manifest) -> str:
    return manifest[0].target


def test_another_process_can_read_a_manifest_sent_to_it(tmp_path: Path) -> None:
    manifest = read_manifest(write_lines(tmp_path, LINE))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(first_target, (manifest,)) == "hello"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "audio"', r"m\.jsonl:2: malformed JSON: .*, column 1"),
        ("[1]", r":2: a line must be a JSON object, got a list"),
        ({**LINE, "tagret": "x"}, r":2: unknown key 'tagret'; did you mean 'target'\?"),
        ({**LINE, "zzz": 1}, r":2: unknown key 'zzz'; known keys: id, audio, task"),
        ({"id": "b", "task": "asr", "target": "x"}, r":2: missing key 'audio'"),
        ({"id": "b", "audio": "x.wav", "target": "x"}, r":2: missing key 'task'"),
        ({**LINE, "id": ""}, r":2: key 'id' is empty"),
        ({**LINE, "id": 7}, r":2: key 'id' must be a string, got a number"),
        ({**LINE, "target": ["x"]}, r":2: key 'target' must be a string, got a list"),
        ({**LINE, "target": ""}, r":2: key 'target' is empty, and there are no 'references'"),
        ({**LINE, "target": "\ud800"}, r":2: key 'target' holds half of a surrogate pair"),
        ({**LINE, "audio": 3}, r":2: key 'audio' must be a path"),
        (
            {**LINE, "audio": [{"path": "x", "ofset": 1}]},
            r":2: unknown key 'audio.ofset'; did you mean 'audio.offset'\?",
        ),
        ({**LINE, "audio": {"offset": 1}}, r":2: missing key 'audio.path'"),
        ({**LINE, "audio": {"path": "x", "offset": -1}}, r":2: key 'audio.offset' must not be negative"),
        ({**LINE, "audio": {"path": "x", "duration": 0}}, r":2: key 'audio.duration' must be above 0"),
        ({**LINE, "duration": "3 s"}, r":2: key 'duration' must be a number of seconds, got '3 s'"),
        ({**LINE, "duration": float("nan")}, r":2: key 'duration' must be a number of seconds"),
        ({**LINE, "references": ["one", " "]}, r":2: key 'references' holds an empty text beside others"),
        ({**LINE, "references": "one"}, r":2: key 'references' must be a list of strings"),
        ({**LINE, "meta": 1}, r":2: key 'meta' must be an object, got a number"),
        ({**LINE, "references": ["a", "\ud800"]}, r":2: key 'references' holds half of a surrogate pair"),
        ({**LINE, "meta": {"a": ["\udfff"]}}, r":2: key 'meta' holds half of a surrogate pair"),
        ({**LINE, "meta": {"likelihood": 1}}, r":2: key 'meta.likelihood' is reserved for what is noted beside an"),
        ({**LINE, "meta": {"generation": {}}}, r":2: key 'meta.generation' is reserved for what is noted beside an"),
        ({**LINE, "meta": {"choices": "a, b"}}, r":2: key 'meta.choices' must be a list of strings"),
        ({**LINE, "duration": 10**400}, r":2: holds a number of 401 digits, more than a float can"),
        (json.dumps(LINE)[:-1] + ', "duration": ' + 5000 * "9" + "}", r":2: it holds a number of more than 4,300"),
        (json.dumps(LINE)[:-1] + ', "meta": ' + 3000 * "[" + 3000 * "]" + "}", r":2: its JSON is nested too deeply"),
        (json.dumps(LINE)[:-1] + ', "meta": {"a": ' + 500 * "[" + 500 * "]" + "}}", r":2: its JSON is nested too"),
        (LINE, r":2: key 'id': 'a' was already used at .*m\.jsonl:1"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_key(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_manifest(write_lines(tmp_path, LINE, line))


def test_missing_empty_and_undecodable_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"m\.jsonl: the manifest has no examples"):
        read_manifest(write_lines(tmp_path, "", ""))
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(LINE).encode() + b"\n\xe9\n")
    with pytest.raises(ValueError, match=r"latin\.jsonl:2: the line is not UTF-8"):
        read_manifest(tmp_path / "latin.jsonl")


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    good = Example("a", (Segment("/a.wav"),), "asr", "x")
    for examples, message in [
        ([], "has no examples"),
        ([good, good], "id 'a' is used twice"),
        ([Example("b", (), "asr", "x")], "example 'b': key 'audio' is empty"),
        ([Example("c", (Segment("/a.wav"),), "asr", "")], "example 'c': key 'target' is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_manifest(tmp_path / "m.jsonl", examples)
    assert not list(tmp_path.iterdir())


def test_the_originals_json_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "salmonn_stage1_data.json"
    annotation = [
        {"path": "/data/1.flac", "text": "hello"},
        {"path": "/data/1.flac", "text": "a man", "task": "gender_recognition", "extra": 1},
        {"path": "2.wav", "text": "yes", "task": "QA", "Q": "loud?", "expand_wav": ["3.wav", "/data/4.wav"]},
    ]
    path.write_text(json.dumps({"annotation": annotation}, indent=4))
    one, two, three = read_manifest(path)
    assert one == Example("/data/1.flac", (Segment("/data/1.flac"),), "asr", "hello")
    assert two == Example(
        "/data/1.flac#2", (Segment("/data/1.flac"),), "gender_recognition", "a man", meta={"extra": 1}
    )
    assert three.id == "2.wav"
    assert [segment.path for segment in three.audio] == [
        str(tmp_path / "2.wav"),
        str(tmp_path / "3.wav"),
        "/data/4.wav",
    ]
    assert (three.task, three.question, three.target) == ("QA", "loud?", "yes")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ([], "the manifest has no examples"),
        ({}, "key 'annotation' must be a list, got an object"),
        ([{"path": "a", "text": "x"}, {"path": "b"}], r"annotation\[1\]: missing key 'text'"),
        ([{"text": "x"}], r"annotation\[0\]: key 'path' must be a string, got nothing"),
        ([{"path": "a", "text": "x", "expand_wav": "b"}], r"annotation\[0\]: key 'expand_wav' must be a list"),
        ([{"path": "a", "text": 1}], r"annotation\[0\]: key 'target' must be a string"),
    ],
)
def test_mistakes_in_the_originals_json_are_named_by_their_place(tmp_path: Path, annotation: Any, message: str) -> None:
    (tmp_path / "o.json").write_text(json.dumps({"annotation": annotation}))
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / "o.json")
