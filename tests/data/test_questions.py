"""Questions have the answers that their clips have, and no constant answer does well."""

from collections import Counter

import pytest

from salmonn_lab.data.corpora import sounds, speech
from salmonn_lab.data.corpora.questions import NUMBER_WORDS, ask_about_sounds, ask_about_speech
from salmonn_lab.metrics.choice import Accuracy

SPEECH = {split: speech.plan(split) for split in speech.SIZES}
SOUNDS = {split: sounds.plan(split) for split in speech.SIZES}


@pytest.mark.parametrize("split", speech.SIZES)
def test_answers_about_speech_are_true(split: speech.Split) -> None:
    for utterance, question in ask_about_speech(SPEECH[split], 200, split):
        values = {value.lower() for value in utterance.slots.values()}
        if question.kind == "how_many":
            assert NUMBER_WORDS.index(question.answer) == len(utterance.text.split())
        elif question.kind == "yes_no":
            named = question.text.removeprefix("Is this named: ").removesuffix("?")
            assert (question.answer == "yes") == (named in values)
        else:
            assert question.answer in values
            assert question.answer in utterance.text


@pytest.mark.parametrize("split", speech.SIZES)
def test_answers_about_sounds_are_true(split: speech.Split) -> None:
    for clip, question in ask_about_sounds(SOUNDS[split], 200, split):
        if question.kind == "how_many":
            assert NUMBER_WORDS.index(question.answer) == clip.hits > 0
        elif question.kind == "yes_no":
            assert (question.answer == "yes") == question.text.endswith(f": {clip.label}?")
        else:
            assert question.answer == clip.label


def test_an_answer_with_its_reason_is_read_as_the_answer() -> None:
    asked = [q for _, q in ask_about_speech(SPEECH["train"], 2000, "x")]
    asked += [q for _, q in ask_about_sounds(SOUNDS["train"], 1000, "x")]
    reasoned = [question for question in asked if question.reason]
    assert {question.kind for question in reasoned} == {"yes_no"}
    texts, ids = [question.spoken_out for question in reasoned], [str(number) for number in range(len(reasoned))]
    accuracy = Accuracy()
    accuracy.update(texts, [[q.answer] for q in reasoned], ids, [q.choices for q in reasoned])
    assert accuracy.compute() == {"accuracy": 1.0, "following_rate": 1.0}


def test_choices_are_four_different_ones_with_the_answer_anywhere_among_them() -> None:
    asked = [q for _, q in ask_about_speech(SPEECH["train"], 1000, "x") if q.kind == "four_choice"]
    places = Counter(question.choices.index(question.answer) for question in asked)
    assert all(len(set(question.choices)) == 4 for question in asked)
    assert max(places.values()) < 0.35 * len(asked)


def test_the_best_constant_answer_to_the_test_questions_is_below_a_third() -> None:
    asked = [*ask_about_speech(SPEECH["test"], 60, "test speech"), *ask_about_sounds(SOUNDS["test"], 60, "test sounds")]
    assert Counter(question.answer for _, question in asked).most_common(1)[0][1] < len(asked) / 3
