"""The readers of AIR-Bench's foundation part and of MMAR, on miniatures of the published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trees import record, write

from salmonn_lab.data.corpora import airbench, mmar

GROUNDING: dict[str, Any] = {
    "path": "audio_1.wav",
    "question": "When does 'a dog barks' occur?",
    "choice_a": "0.0, 1.5",
    "choice_b": "1.5, 3.0",
    "choice_c": "3.0, 4.5",
    "choice_d": "4.5, 6.0",
    "answer_gt": "1.5, 3.0",
    "task_name": "Audio_Grounding",
    "dataset_name": "AudioGrounding",
    "uniq_id": 7,
}
GENDER: dict[str, Any] = {
    "path": "b.wav",
    "question": "Is it a man?",
    "choice_a": "yes",
    "choice_b": "no",
    "choice_c": None,
    "choice_d": "",
    "answer_gt": "no",
    "task_name": "Speaker_Gender_Recognition",
    "dataset_name": "common_voice",
    "uniq_id": 8,
}
REASONING: dict[str, Any] = {
    "id": "BV1_00",
    "audio_path": "./audio/BV1_00.wav",
    "question": "说话人在哪里?",
    "choices": ["车站", "学校", "车站"],
    "answer": "学校",
    "modality": "mix-sound-speech",
    "category": "['Semantic Layer']",
    "sub-category": "Content Analysis",
    "language": "zh",
    "source": "bilibili",
    "url": "",
    "timestamp": "00:00,00:10",
    "thinking": "",
    "cue": [],
    "rubric": [],
}


@pytest.mark.parametrize("file", ["Foundation/Foundation_meta.json", "Foundation_meta.json"])
def test_airbench_questions_offer_the_choices_there_are(tmp_path: Path, file: str) -> None:
    missing = GENDER | {"path": "gone.wav", "uniq_id": 9}
    write(tmp_path / file, json.dumps([GROUNDING, GENDER, missing]))
    record(tmp_path / "Foundation", ["Audio_Grounding_AudioGrounding/audio_1.flac"])
    record(tmp_path / "Foundation", ["Speaker_Gender_Recognition_common_voice/b.wav"])
    reading = airbench.read(tmp_path)
    dog, man = reading
    assert dog.question.splitlines()[1:] == ["A. 0.0, 1.5", "B. 1.5, 3.0", "C. 3.0, 4.5", "D. 4.5, 6.0"]
    assert dog.audio[0].path.endswith("Audio_Grounding_AudioGrounding/audio_1.flac")
    assert man.question == "Is it a man?\nA. yes\nB. no"
    assert (man.id, man.task, man.target) == ("8", "audio_QA", "no")
    assert man.meta == {
        "category": "Speaker_Gender_Recognition",
        "dataset": "common_voice",
        "choices": ["yes", "no"],
        "answer_letter": "B",
    }
    assert reading.left_out == {"no recording": ["9"]}
    assert reading.mended == {}


@pytest.mark.parametrize("file", ["MMAR-meta.jsonl", "MMAR-meta.json"])
def test_mmar_is_read_as_lines_and_as_a_list(tmp_path: Path, file: str) -> None:
    items = [REASONING, REASONING | {"id": "other", "audio_path": "./audio/gone.wav"}]
    lines = "\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    write(tmp_path / file, lines if file.endswith("l") else json.dumps(items), "utf-8-sig")
    record(tmp_path / "audio", ["BV1_00.wav"])
    reading = mmar.read(tmp_path)
    (example,) = reading
    assert example.question == "说话人在哪里?\n(A) 车站\n(B) 学校"
    assert example.meta == {
        "modality": "mix-sound-speech",
        "category": "Semantic Layer",
        "sub_category": "Content Analysis",
        "language": "zh",
        "choices": ["车站", "学校"],
        "answer_letter": "B",
    }
    assert reading.left_out == {"no recording": ["other"]}
    assert reading.mended == {"a label that was a list": ["BV1_00"], "a choice listed twice or empty": ["BV1_00"]}


def test_a_malformed_line_of_mmar_is_named(tmp_path: Path) -> None:
    write(tmp_path / "MMAR-meta.jsonl", json.dumps(REASONING) + '\n\n{"id": }\n')
    record(tmp_path / "audio", ["BV1_00.wav"])
    with pytest.raises(ValueError, match=r"MMAR-meta.jsonl:3: malformed JSON"):
        mmar.read(tmp_path)
