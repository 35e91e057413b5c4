"""The readers of Clotho and ClothoAQA, on miniatures of the published tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.data.corpora import clotho, clotho_aqa

CAPTIONS = """\
file_name,caption_1,caption_2,caption_3,caption_4,caption_5
Santa Motor.wav,"A machine whines, and squeals",A person drills.,Wood is cut,"He says ""go"" twice",A motor
01 A pug struggles to breathe 1_2_2008.wav,A pug breathes,A dog,Breath,Snoring,Someone snores
gone.wav,a,b,c,d,e
"""
ANSWERS = """\
file_name,QuestionText,answer,confidence
rain.wav,Is it raining?,yes,yes
rain.wav,Is it raining?,No,yes
rain.wav,Is it raining?,yes,maybe
rain.wav,"What falls, if anything?",hail,no
rain.wav,"What falls, if anything?",Water,maybe
rain.wav,"What falls, if anything?",rain,yes
gone.wav,Is it raining?,no,yes
gone.wav,Is it raining?,no,yes
gone.wav,Is it raining?,no,yes
rain.wav,Who speaks?,,yes
rain.wav,Who speaks?,,no
rain.wav,What is it?,Storm,unsure
rain.wav,What is it?,thunder,no
"""


def test_all_five_captions_are_references(tmp_path: Path) -> None:
    write(tmp_path / "clotho_captions_evaluation.csv", CAPTIONS)
    record(tmp_path / "evaluation", ["Santa Motor.wav", "01 A pug struggles to breathe 1_2_2008.wav"])
    reading = clotho.read(tmp_path, "evaluation")
    motor, pug = reading
    assert (motor.id, motor.task, motor.target) == ("Santa Motor.wav", "audiocaption", "A machine whines, and squeals")
    assert motor.references[1:] == ("A person drills.", "Wood is cut", 'He says "go" twice', "A motor")
    assert pug.audio[0].path == str(tmp_path / "evaluation/01 A pug struggles to breathe 1_2_2008.wav")
    assert reading.left_out == {"no recording": ["gone.wav"]}


@pytest.mark.parametrize("folder", ["clotho_audio_evaluation", "clotho_audio_evaluation/evaluation"])
def test_archives_may_be_unpacked_below_their_names(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "clotho_captions_evaluation.csv", CAPTIONS)
    record(tmp_path / folder, ["gone.wav"])
    assert [example.id for example in clotho.read(tmp_path, "evaluation")] == ["gone.wav"]


def test_an_empty_caption_is_named(tmp_path: Path) -> None:
    write(tmp_path / "clotho_captions_validation.csv", CAPTIONS.replace("a,b,c,d,e", "a,b,,d,e"))
    with pytest.raises(ValueError, match=r"clotho_captions_validation.csv:4: 'gone.wav' has an empty caption"):
        clotho.read(tmp_path, "validation")


def test_most_annotators_decide_and_the_surest_of_a_tie_is_the_target(tmp_path: Path) -> None:
    write(tmp_path / "clotho_aqa_test.csv", ANSWERS)
    record(tmp_path / "audio_files", ["rain.wav"])
    reading = clotho_aqa.read(tmp_path, "test")
    raining, falling, unsure = reading
    assert (raining.id, raining.task, raining.question) == ("rain.wav#1", "audio_QA", "Is it raining?")
    assert (raining.target, raining.references) == ("yes", ("yes",))
    assert raining.meta == {
        "agreement": 2,
        "answers": ["yes", "no", "yes"],
        "confidence": ["yes", "yes", "maybe"],
        "kind": "binary",
        "choices": ["yes", "no"],
    }
    assert (falling.target, falling.references) == ("rain", ("rain", "water", "hail"))
    assert (falling.meta["agreement"], falling.meta["kind"]) == (1, "single_word")
    assert "choices" not in falling.meta
    assert (unsure.target, unsure.references) == ("thunder", ("thunder", "storm"))
    assert reading.left_out == {"no recording": ["gone.wav#1"], "no answer": ["rain.wav#3"]}


@pytest.mark.parametrize(("row", "column"), [("a.wav,,rain,yes\n", "QuestionText"), (",What?,rain,yes\n", "file_name")])
def test_an_answer_to_nothing_is_named(tmp_path: Path, row: str, column: str) -> None:
    write(tmp_path / "clotho_aqa_val.csv", "file_name,QuestionText,answer,confidence\n" + row)
    with pytest.raises(ValueError, match=f"clotho_aqa_val.csv:2: column '{column}' is empty"):
        clotho_aqa.read(tmp_path, "val")
