"""Outputs that went wrong are told from those that are only wrong."""

from __future__ import annotations

import pytest

from salmonn_lab.batch import Prediction
from salmonn_lab.metrics.health import RULES, health, symptoms

PROMPT = "USER: <Speech><SpeechHere></Speech> Write down what is said.\nASSISTANT:"


def prediction(text: str, *references: str, prompt: str = PROMPT) -> Prediction:
    return Prediction("a", "b", prompt, text, references or ("hello there",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello there", set()),
        ("something else entirely", set()),
        ("", {"empty"}),
        (" \n\t", {"empty"}),
        ("if you are " * 4, {"looped"}),
        ("well " + "if you are " * 8 + "if you", {"looped"}),
        ("well " + "if you are " * 8 + "if you ar", {"looped"}),
        ("no, no, no, no", {"looped"}),
        ("no, no, no", set()),
        ("no no no no thanks", set()),
        ("bye bye bye bye bye x", set()),
        ("好好好好", {"looped"}),
        ("今天天气很好", set()),
        ("I'm sorry, I can't hear it.", {"refused"}),
        ("I’m sorry", {"refused"}),
        ("As an AI, I have no ears", {"refused"}),
        ("she said sorry", set()),
        ("sorrynot", set()),
        ("Write down what is said. hello", {"echoed"}),
        ("so: WRITE DOWN what is said!", {"echoed"}),
        ("write down what was said", set()),
        ("user", set()),
        ("Sorry sorry sorry sorry", {"looped", "refused"}),
    ],
)
def test_an_output_breaks_exactly_these_rules(text: str, expected: set[str]) -> None:
    assert symptoms(prediction(text)) == expected


@pytest.mark.parametrize(
    ("text", "reference"),
    [("", ""), ("ha ha ha ha", "Ha, ha, ha, ha!"), ("I'm sorry. Wrong number.", "I am sorry, that's wrong.")],
)
def test_what_a_reference_does_too_is_no_fault(text: str, reference: str) -> None:
    assert symptoms(prediction(text, "other", reference)) == set()


def test_the_words_of_a_question_may_be_answered_with() -> None:
    prompt = "<SpeechHere> Is it a dog or a cat? Answer in one word."
    assert symptoms(prediction("a dog", "dog", prompt=prompt)) == set()
    assert symptoms(prediction("Answer in one word. dog", "dog", prompt=prompt)) == {"echoed"}


def test_every_rule_is_counted_even_at_zero() -> None:
    outputs = [prediction(text) for text in ("", "", "a a a a", "fine")]
    assert health(outputs) == {"empty": 2, "looped": 1, "echoed": 0, "refused": 0}
    assert health([]) == dict.fromkeys(RULES, 0)


def test_a_very_long_output_is_judged_quickly() -> None:
    words = " ".join(f"w{index}" for index in range(5000))
    assert symptoms(prediction(words)) == set()
