"""Spoken questions over sounds: the set of rules, and the mixtures made by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from trees import write

from salmonn_lab.data.corpora import coreasoning
from salmonn_lab.metrics.answer import ContainsAnswer

TABLE = (
    "filename,fold,target,category,esc10,src_file,take\n"
    "5-1-A-0.wav,5,0,dog,True,1,A\n"
    "1-1-A-0.wav,1,0,dog,True,1,A\n"
    "5-2-A-10.wav,5,10,rain,True,2,A\n"
    "5-3-A-1.wav,5,1,rooster,True,3,A\n"
)


def esc50(root: Path, questions: list[str]) -> Path:
    write(root / "meta/esc50.csv", TABLE)
    for folder, names in (("audio", ["5-1-A-0", "1-1-A-0", "5-3-A-1"]), ("questions", questions)):
        (root / folder).mkdir()
        for name in names:
            soundfile.write(root / folder / f"{name}.wav", np.full(8_000, 0.5), 16_000)
    return root


def test_questions_are_asked_over_the_sounds_that_decide_them(tmp_path: Path) -> None:
    reading = coreasoning.read(esc50(tmp_path, ["young", "place"]), tmp_path / "made")
    (example,) = reading
    assert (example.id, example.task) == ("young/5-1-A-0", "speech_audio_coreasoning")
    assert example.references == ("puppy", "puppies", "pup", "pups")
    assert example.meta == {
        "category": "young",
        "sound": "dog",
        "transcript": "What are its young ones called?",
        "rules": "coreasoning@1",
    }
    assert soundfile.info(example.audio[0].path).samplerate == 16_000
    assert reading.left_out == {"no recording": ["take/5-2-A-10"]}


def test_the_sound_is_heard_before_the_question_and_after_it(tmp_path: Path) -> None:
    sound, speech = np.full(4_000, 0.3, np.float32), np.full(16_000, 0.001, np.float32)
    mixture = coreasoning.mix(sound, speech)
    assert len(mixture) == 32_000
    assert mixture[:8_000] == pytest.approx(0.02)
    assert mixture[24_000:] == pytest.approx(0.02)
    assert mixture[8_000:24_000] == pytest.approx(0.02 + 0.02 * 10**0.5)
    assert len(coreasoning.mix(np.tile(sound, 20), speech)) == 80_000
    assert not coreasoning.mix(np.zeros(10, np.float32), np.zeros(10, np.float32)).any()


def test_no_question_gives_its_answer_away() -> None:
    version, questions = coreasoning.rules()
    assert version == 1
    for question in questions.values():
        for answers in question.answers.values():
            metric = ContainsAnswer()
            assert metric.measure(question.text, answers)[0] == 0
            assert all(metric.measure(f"I think it is {answer}.", answers)[0] == 1 for answer in answers)


def test_the_count_is_that_of_a_whole_fold() -> None:
    assert coreasoning.count() == 8 * sum(len(question.answers) for question in coreasoning.rules()[1].values())
