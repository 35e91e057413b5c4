"""The synthetic speech holds out phrases and voices, and sounds the same every time."""

from __future__ import annotations

import platform
from dataclasses import replace

import numpy as np
import pytest

from salmonn_lab.data.corpora.speech import LEXICON, SIZES, TEMPLATES, VOICES, Utterance, plan, speak, spell

TRAIN, VALIDATION, TEST = plan("train"), plan("validation"), plan("test")


def words(utterances: list[Utterance]) -> set[str]:
    return {word for utterance in utterances if utterance.kind != "open" for word in utterance.text.split()}


def test_splits_share_no_phrase_and_no_voice_and_no_slots() -> None:
    splits = (TRAIN, VALIDATION, TEST)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not {u.text for u in splits[one]} & {u.text for u in splits[other]}
        assert not {u.voice for u in splits[one]} & {u.voice for u in splits[other]}
        slots = [
            {frozenset(u.slots.items()) for u in split if u.kind == "command"} for split in (splits[one], splits[other])
        ]
        assert not slots[0] & slots[1]


def test_held_out_phrases_of_one_scale_are_not_trained_on_at_another() -> None:
    trained = {utterance.text for utterance in plan("train", 3.0)}
    assert not trained & {utterance.text for utterance in (*plan("test", 2.0), *plan("validation", 2.0), *TEST)}


def test_every_word_of_a_held_out_command_or_number_is_trained_on() -> None:
    assert words(VALIDATION) | words(TEST) <= words(TRAIN)


def test_sizes_voices_and_ids_are_as_published() -> None:
    for split, utterances in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        assert len(utterances) == sum(SIZES[split].values())
        assert {u.voice for u in utterances} == set(VOICES[split])
    assert len({u.id for u in (*TRAIN, *VALIDATION, *TEST)}) == len(TRAIN) + len(VALIDATION) + len(TEST)
    assert len({u.text for u in TEST}) == len(TEST)


def test_text_is_lower_case_words_and_templates_are_filled() -> None:
    for utterance in (*TRAIN, *VALIDATION, *TEST):
        assert utterance.text.replace(" ", "").isalpha()
        assert utterance.text == " ".join(utterance.text.lower().split())
    assert {word for template in TEMPLATES for word in template.split() if word.isupper()} == set(LEXICON)


def test_a_plan_is_the_same_every_time_and_a_smaller_one_is_its_beginning() -> None:
    assert plan("train", 0.1) == plan("train", 0.1)
    assert set(map(repr, plan("train", 0.1))) <= set(map(repr, TRAIN))
    assert {utterance.kind for utterance in plan("test", 0.001)} == {"command", "number", "open"}


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_above_zero_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be above 0"):
        plan("test", scale)


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(
        (ValueError, TypeError), match="'dev'"
    ):  # jaxtyping's hook, where it is on, is the first to object
        plan("dev")  # type: ignore[arg-type]


def test_slots_say_what_the_text_says() -> None:
    for utterance in TRAIN:
        if utterance.kind == "number":
            assert len(utterance.slots["number"]) == int(utterance.slots["digits"])
        elif utterance.kind == "command":
            assert utterance.slots["action"]
            for name, value in utterance.slots.items():
                assert name == "action" or (spell(int(value)) if value.isdigit() else value) in utterance.text
        else:
            assert not utterance.slots


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "seven"),
        (19, "nineteen"),
        (40, "forty"),
        (86, "eighty six"),
        (300, "three hundred"),
        (205, "two hundred and five"),
    ],
)
def test_numbers_are_spelled(number: int, text: str) -> None:
    assert spell(number) == text


def test_speech_is_the_same_every_time_at_full_scale() -> None:
    pytest.importorskip("py_nanotts")
    first = speak(TEST[0])
    speak(TEST[1])
    assert first.dtype == np.float32
    assert 0.5 < len(first) / 16_000 < 4
    assert np.abs(first).max() == pytest.approx(0.9)
    assert np.array_equal(first, speak(TEST[0]))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="promised with glibc")
def test_speech_does_not_depend_on_what_was_said_before() -> None:
    pytest.importorskip("py_nanotts")
    clips = TEST[::8]
    forward = {clip.id: speak(clip) for clip in clips}
    for clip in reversed(clips):
        assert np.array_equal(speak(clip), forward[clip.id]), clip.text


def test_about_half_of_the_clips_are_noisy() -> None:
    pytest.importorskip("py_nanotts")
    waves = [speak(replace(TEST[0], id=f"n{number}")) for number in range(40)]
    clean = max(sum(np.array_equal(wave, other) for other in waves) for wave in waves)
    assert 10 <= clean <= 30


def test_voices_sound_different() -> None:
    pytest.importorskip("py_nanotts")
    slow, fast = (speak(replace(TEST[0], voice=TEST[0].voice._replace(speed=speed))) for speed in (0.95, 1.25))
    assert len(slow) > 1.15 * len(fast)
