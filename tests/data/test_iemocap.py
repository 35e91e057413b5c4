"""The IEMOCAP reader, on a miniature of the full release."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.data.corpora import iemocap

EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes05F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-F1:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes05F_impro01_M001\texc\t[4.0000, 3.5000, 3.0000]
[12.0100 - 13.3925]\tSes05F_impro01_M002\txxx\t[4.0000, 3.5000, 3.0000]
[14.0100 - 15.3925]\tSes05F_impro01_M003\tfru\t[2.0000, 3.5000, 3.0000]
[16.0100 - 17.3925]\tSes05F_impro01_F004\tsad\t[2.0000, 3.5000, 3.0000]
"""


def tree(root: Path) -> Path:
    evaluations = root / "Session5/dialog/EmoEvaluation"
    write(evaluations / "Ses05F_impro01.txt", EVALUATION)
    write(evaluations / "Ses05M_script01_1b.txt", "[1.0 - 2.0]\tSes05M_script01_1b_FXX0\thap\t[4.5, 3.5, 3.0]\n")
    write(evaluations / "._Ses05F_impro01.txt", "\0\5\26\7Mac OS X")
    write(evaluations / "Categorical/Ses05F_impro01_e2_cat.txt", "Ses05F_impro01_F000 :Neutral state; ()\n")
    wav = root / "Session5/sentences/wav"
    record(wav, [f"Ses05F_impro01/Ses05F_impro01_{turn}.wav" for turn in ("F000", "M001", "M002", "M003")])
    record(wav, ["Ses05M_script01_1b/Ses05M_script01_1b_FXX0.wav"])
    return root


def test_excitement_is_happiness_and_four_classes_are_offered(tmp_path: Path) -> None:
    reading = iemocap.read(tree(tmp_path), "session5")
    assert [(example.id, example.target) for example in reading] == [
        ("Ses05F_impro01_F000", "neutral"),
        ("Ses05F_impro01_M001", "happy"),
        ("Ses05M_script01_1b_FXX0", "happy"),
    ]
    excited = reading[1]
    assert (excited.task, excited.references) == ("emotion_recognition", ("happy",))
    assert excited.meta == {
        "choices": ["angry", "happy", "neutral", "sad"],
        "label": "exc",
        "speaker": "Ses05M",
        "gender": "male",
        "session": "session5",
        "scripted": False,
        "valence": 4.0,
        "activation": 3.5,
        "dominance": 3.0,
    }
    assert (reading[2].meta["scripted"], reading[2].meta["speaker"]) == (True, "Ses05F")


def test_other_emotions_are_left_out_each_by_its_name(tmp_path: Path) -> None:
    assert iemocap.read(tree(tmp_path), "session5").left_out == {
        "emotion 'xxx'": ["Ses05F_impro01_M002"],
        "emotion 'fru'": ["Ses05F_impro01_M003"],
        "no recording": ["Ses05F_impro01_F004"],
    }


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    write(tree(tmp_path) / "Session5/dialog/EmoEvaluation/Ses05F_impro01.txt", "\n[6.2 - 8.2] Ses05F_impro01_F000 neu")
    with pytest.raises(ValueError, match=r"Ses05F_impro01.txt:2: expected '\[start - end\] <tab>"):
        iemocap.read(tmp_path, "session5")


def test_a_session_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Session4/dialog/EmoEvaluation/\*.txt: no such file"):
        iemocap.read(tree(tmp_path), "session4")
