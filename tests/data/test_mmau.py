"""The MMAU reader, on a miniature of test-mini."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from trees import record, write

from salmonn_lab.data.corpora import mmau

ITEM: dict[str, Any] = {
    "id": "3fe64f3d-282c-4bc8-a753-68f8f6c35652",
    "audio_id": "./test-mini-audios/3fe64f3d-282c-4bc8-a753-68f8f6c35652.wav",
    "question": "Based on the given audio, identify the source of the speaking voice.",
    "choices": ["Man", "Woman", "Child", "Robot"],
    "answer": "Man",
    "dataset": "AudioSet",
    "task": "sound",
    "split": "test-mini",
    "category": "Reasoning",
    "sub-category": "Acoustic Source Inference",
    "difficulty": "medium",
}


def tree(root: Path, *changes: dict[str, Any]) -> Path:
    items = [ITEM | {"id": f"q{n}", "audio_id": f"./test-mini-audios/q{n}.wav"} | c for n, c in enumerate(changes)]
    write(root / mmau.FILE, json.dumps(items))
    record(root, [item["audio_id"] for item in items])
    return root


def test_a_question_lists_its_lettered_choices(tmp_path: Path) -> None:
    (example,) = mmau.read(tree(tmp_path, {"answer": "Woman"}))
    assert example.question == ITEM["question"] + "\n(A) Man\n(B) Woman\n(C) Child\n(D) Robot"
    assert (example.id, example.task, example.target, example.references) == ("q0", "audio_QA", "Woman", ("Woman",))
    assert Path(example.audio[0].path) == tmp_path / "test-mini-audios/q0.wav"
    assert example.meta == {
        "modality": "sound",
        "category": "Reasoning",
        "sub_category": "Acoustic Source Inference",
        "difficulty": "medium",
        "dataset": "AudioSet",
        "source_sha256": hashlib.sha256((tmp_path / mmau.FILE).read_bytes()).hexdigest(),
        "choices": ["Man", "Woman", "Child", "Robot"],
        "answer_letter": "B",
    }


def test_a_choice_that_is_listed_twice_is_offered_once_and_counted(tmp_path: Path) -> None:
    reading = mmau.read(tree(tmp_path, {"choices": ["Dog", "Cat", "dog ", "Man"]}, {}))
    assert reading[0].meta["choices"] == ["Dog", "Cat", "Man"]
    assert reading[0].meta["answer_letter"] == "C"
    assert reading.mended == {"a choice listed twice or empty": ["q0"]}


def test_a_category_that_is_a_printed_list_is_its_word(tmp_path: Path) -> None:
    reading = mmau.read(tree(tmp_path, {"category": "['Reasoning']"}, {"category": "[sic"}))
    assert [example.meta["category"] for example in reading] == ["Reasoning", "[sic"]
    assert reading.mended == {"a label that was a list": ["q0"]}


def test_questions_that_cannot_be_asked_are_left_out_by_name(tmp_path: Path) -> None:
    tree(tmp_path, {"answer": "Nobody"}, {"answer": "robot"}, {})
    (tmp_path / "test-mini-audios/q2.wav").unlink()
    reading = mmau.read(tmp_path)
    assert [example.target for example in reading] == ["Robot"]
    assert reading.left_out == {"none of the choices is the answer": ["q0"], "no recording": ["q2"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": 1}]', r"mmau-test-mini.json: item 0: no key 'audio_id', 'question'"),
        ("[1]", r"mmau-test-mini.json: item 0: expected an object, got 1"),
        ("[\n{]", r"mmau-test-mini.json:2: malformed JSON"),
        (json.dumps([ITEM | {"choices": "Man"}]), r"item 0: key 'choices' must be a list, got 'Man'"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / mmau.FILE, text)
    with pytest.raises(ValueError, match=message):
        mmau.read(tmp_path)
