"""The readers of Inspec, WikiQA and SLURP, on miniatures of the published folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trees import record, write

from salmonn_lab.data.corpora import inspec, slurp, wikiqa

ABSTRACT = "A robust iterative\n\tapproach\nWe solve linear sys-\ntems with Newton methods.\n"
WIKIQA = (
    "QuestionID\tQuestion\tDocumentID\tDocumentTitle\tSentenceID\tSentence\tLabel\n"
    'Q0\tHOW "AFRICAN AMERICANS WERE IMMIGRATED\tD0\tAfrican "immigration\tD0-0\tThe "first" came in 1619.\t1\n'
    'Q0\tHOW "AFRICAN AMERICANS WERE IMMIGRATED\tD0\tAfrican "immigration\tD0-1\tA back\\slash.\t0\n'
    'Q0\tHOW "AFRICAN AMERICANS WERE IMMIGRATED\tD0\tAfrican "immigration\tD0-2\tOthers followed.\t1\n'
    "Q4\twho\tD4\tWho\tD4-0\tNobody.\t0\n"
    "Q5\twhen\tD5\tWhen\tD5-0\tNow.\t1\n"
)
SENTENCE = "wake me at nine am on friday or at ten"
COMMAND: dict[str, Any] = {
    "slurp_id": 13804,
    "sentence": SENTENCE,
    "sentence_annotation": "wake me at [time : nine am] on [date : friday] or at [time : ten]",
    "intent": "alarm_set",
    "scenario": "alarm",
    "action": "set",
    "tokens": [
        {"surface": surface, "id": number, "lemma": surface, "pos": "NN"}
        for number, surface in enumerate(SENTENCE.split())
    ],
    "recordings": [
        {"file": "audio-1490106714.flac", "wer": 0.0, "ent_wer": 0.0, "status": "correct"},
        {"file": "audio-1490106714-headset.flac", "wer": 0.0, "ent_wer": 0.0, "status": "correct"},
    ],
    "entities": [
        {"span": [3, 4], "type": "time"},
        {"span": [6], "type": "date_of_event"},
        {"span": [9], "type": "time"},
    ],
}


def test_every_keyword_of_an_abstract_is_a_reference(tmp_path: Path) -> None:
    for number, keywords in {
        "193": "Newton\n\tmethods; linear systems;robust\niterative;\n",
        "2": " ;\n",
        "31": "x",
    }.items():
        write(tmp_path / f"Test/{number}.abstr", ABSTRACT)
        write(tmp_path / f"Test/{number}.uncontr", keywords)
    record(tmp_path / "audio/Test", ["193.flac"])
    reading = inspec.read(tmp_path, "Test")
    (example,) = reading
    assert (example.id, example.task) == ("193", "keywords")
    assert example.references == ("Newton methods", "linear systems", "robust iterative")
    assert example.target == "Newton methods, linear systems, robust iterative"
    assert example.meta == {"in_text": ["Newton methods", "robust iterative"]}
    assert reading.left_out == {"no keywords": ["2"], "no recording": ["31"]}


def test_questions_have_every_answering_sentence_as_a_reference(tmp_path: Path) -> None:
    write(tmp_path / "WikiQA-test.tsv", WIKIQA)
    record(tmp_path / "audio", ["Q0.wav", "Q4.wav"])
    reading = wikiqa.read(tmp_path, "test")
    (example,) = reading
    assert (example.id, example.task, example.target) == ("Q0", "speech_query", 'The "first" came in 1619.')
    assert example.references == (example.target, "Others followed.")
    assert example.meta == {"transcript": 'HOW "AFRICAN AMERICANS WERE IMMIGRATED', "title": 'African "immigration'}
    assert reading.left_out == {"no sentence answers it": ["Q4"], "no recording": ["Q5"]}


def test_a_label_that_is_neither_0_nor_1_is_named(tmp_path: Path) -> None:
    write(tmp_path / "WikiQA-dev.tsv", WIKIQA.replace("Nobody.\t0", "Nobody.\tno"))
    with pytest.raises(ValueError, match=r"WikiQA-dev.tsv:5: column 'Label' must be 0 or 1, got 'no'"):
        wikiqa.read(tmp_path, "dev")


def commands(root: Path, *changes: dict[str, Any]) -> Path:
    lines = [json.dumps(COMMAND | {"slurp_id": number} | change) for number, change in enumerate(changes)]
    write(root / "dataset/slurp/test.jsonl", "\n".join(lines) + "\n")
    record(root / "audio/slurp_real", ["audio-1490106714-headset.flac"])
    return root


def test_each_kind_of_slot_is_asked_of_each_recording(tmp_path: Path) -> None:
    reading = slurp.read(commands(tmp_path, {}, {"entities": []}), "test")
    time, date = reading
    assert time.id == "0/audio-1490106714-headset/time"
    assert (time.task, time.question, time.target) == ("slot_filling", "time", "nine am")
    assert time.references == ("nine am", "ten")
    assert (date.question, date.target) == ("date of event", "friday")
    assert date.meta == {
        "category": "date_of_event",
        "scenario": "alarm",
        "intent": "alarm_set",
        "transcript": COMMAND["sentence"],
        "headset": True,
    }
    assert reading.left_out == {
        "no recording": ["0/audio-1490106714"],
        "the sentence fills no slot": ["1/audio-1490106714", "1/audio-1490106714-headset"],
    }


def test_all_slots_of_a_recording_are_one_answer(tmp_path: Path) -> None:
    reading = slurp.read_all_slots(commands(tmp_path, {}, {"entities": []}), "test")
    filled, empty = reading
    assert (filled.id, filled.task) == ("0/audio-1490106714-headset", "slot_filling")
    assert filled.target == "time: nine am; date of event: friday; time: ten"
    assert filled.references == (filled.target,)
    assert "kind" in filled.question
    assert (empty.id, empty.target, empty.references) == ("1/audio-1490106714-headset", "none", ("none",))
    assert reading.left_out == {"no recording": ["0/audio-1490106714", "1/audio-1490106714"]}


def test_a_slot_outside_of_its_sentence_is_named(tmp_path: Path) -> None:
    commands(tmp_path, {}, {"entities": [{"span": [9, 10], "type": "time"}]})
    with pytest.raises(ValueError, match=r"test.jsonl:2: the span \[9, 10\] of slot 'time' is not in the sentence"):
        slurp.read(tmp_path, "test")
