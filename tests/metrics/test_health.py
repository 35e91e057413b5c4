"""Outputs that went wrong are told from those that are only wrong."""

from __future__ import annotations

import time

import pytest

from salmonn_lab.batch import GENERATION, Prediction
from salmonn_lab.metrics.health import RULES, Count, Kind, examine, find_language, health, symptoms

PROMPT = "USER: <Speech><SpeechHere></Speech> Write down what is said.\nASSISTANT:"
GERMAN = "Das ist nicht der Hund, den ich mit dem Auto sah."


def prediction(text: str, *references: str, prompt: str = PROMPT, **meta: object) -> Prediction:
    return Prediction("a", "b", prompt, text, references or ("hello there",), meta)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello there", set()),
        ("something else entirely", set()),
        ("", {"empty"}),
        (" \n\t", {"empty"}),
        (" ... \u266a", {"empty"}),
        ("7", set()),
        ("if you are " * 4, {"looped"}),
        ("well " + "if you are " * 8 + "if you", {"looped"}),
        ("well " + "if you are " * 8 + "if you ar", {"looped"}),
        ("no, no, no, no", {"looped"}),
        ("no, no, no", set()),
        ("no no no no thanks", set()),
        ("bye bye bye bye bye x", set()),
        ("he said " + "if you are " * 8 + "well and then went home again", {"looped"}),
        ("he said " + "if you are " * 7 + "well and then went home again", set()),
        ("ha" * 12, {"looped"}),
        ("haha", set()),
        ("1" + "0" * 12, set()),
        ("好好好好", {"looped", "wrong language"}),
        ("I'm sorry, I can't hear it.", {"refused"}),
        ("I’m sorry", {"refused"}),
        ("As an AI, I have no ears", {"refused"}),
        ("I am unable to transcribe this.", {"refused"}),
        ("she said sorry", set()),
        ("sorrynot", set()),
        ("Write down what is said. hello", {"echoed"}),
        ("so: WRITE DOWN what is said!", {"echoed"}),
        ("write down what is said hello there", {"echoed"}),
        ("she began to write down what is said about her", set()),
        ("write down what was said", set()),
        ("hello USER: what", {"echoed"}),
        ("<Speech> hello", {"echoed"}),
        ("user", set()),
        ("Sorry sorry sorry sorry", {"looped", "refused"}),
        ("AH0 N D HH IY1 D IH0 Z ER1 V Z sil", {"phones"}),
        ("HH AH0 L OW1", {"phones"}),
        ("and then dh ah0 hh ow1 l k ao1 r t was there", {"phones"}),
        ("D O N T S A I D A N I sil", {"phones"}),
        ("write it to www dot n b c dot com", set()),
        ("alexander carey l l d doctor of laws", set()),
        ("uh i er think ah well", set()),
        ("er", set()),
        ("a man is speaking while music plays", {"captioned"}),
        ("The audio features a dog barking.", {"captioned"}),
        ("people are talking in the background", {"captioned"}),
        ("the plan is simple", set()),
        ("a man is never alone", set()),
        ("带上桌子，我们饿吧。", {"wrong language"}),
        ("Привет всем", {"wrong language"}),
        (GERMAN, {"wrong language"}),
    ],
)
def test_a_transcript_breaks_exactly_these_rules(text: str, expected: set[str]) -> None:
    reference = "hello there you are the one that they have seen" if "wrong language" in expected else "hello there"
    assert symptoms(prediction(text, reference), "transcript") == expected


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("", ""),
        ("ha ha ha ha", "Ha, ha, ha, ha!"),
        ("I'm sorry. Wrong number.", "I am sorry, that's wrong."),
        ("I can't tell you", "I can tell you"),
        ("a man is speaking to the crown", "a man is speaking to the crowd"),
        ("b c d f g h", "B C D F G H"),
        ("你好", "你好"),
        ("play 周杰伦", "play 周杰伦"),
    ],
)
def test_what_a_reference_does_too_is_no_fault(text: str, reference: str) -> None:
    assert symptoms(prediction(text, "other", reference), "transcript") == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", set()),
        ("Is it a dog or a cat?", {"echoed"}),
        ("Answer in one word. dog", {"echoed"}),
        ("a dog", set()),
        ("is it a dog or a cat that i hear", set()),
        ("No, the audio does not provide enough information to tell.", {"refused"}),
        ("It is difficult to determine the animal.", {"refused"}),
        ("No, I cannot identify the animal.", {"refused"}),
        ("The animal can not be seen, and I cannot hear any barking", set()),
        ("A dog that barks so loud that a car passing behind it is hard to identify", set()),
        ("No, it is not a cat.", set()),
        ("狗", {"wrong language"}),
        ("B", set()),
        ("OK", set()),
        ("3", set()),
    ],
)
def test_an_answer_breaks_exactly_these_rules(text: str, expected: set[str]) -> None:
    prompt = "<SpeechHere> Is it a dog or a cat? Answer in one word."
    assert symptoms(prediction(text, "dog", prompt=prompt), "answer") == expected


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("The dog that you have seen with him", GERMAN, True),
        ("Das ist nicht der Hund", GERMAN, False),
        ("Ein Hund.", "The dog that you have seen", False),  # too short to tell
        ("A perro grande", "Ein Hund ist nicht auf der Welt", False),  # no frequent words
        ("el perro y los gatos", "Ein Hund ist nicht auf der Welt", True),
        ("这是一只很大的狗", "これは大きな犬です", True),
        ("犬小屋", "これは大きな犬です", False),  # may be Japanese
        ("これは犬です", "这是一只很大的狗", True),
        ("这是狗", "这是一只很大的狗", False),
        ("我买了 iPhone", "我买了一个 iPhone", False),
        ("I bought an iPhone", "我昨天买了一个 iPhone", True),
        ("ｈｅｌｌｏ there", "hello there", False),  # full-width letters are Latin
        ("17", "这是狗", False),
        ("anything", "17", None),
    ],
)
def test_another_language_is_told_as_far_as_scripts_and_frequent_words_tell(
    text: str, reference: str, expected: bool | None
) -> None:
    assert examine(prediction(text, reference), "translation")["wrong language"] is expected


def test_a_language_is_named_or_only_its_script() -> None:
    assert find_language("und das ist nicht der Hund") == "German"
    assert find_language("Hund") == "LATIN"
    assert find_language("犬") == "CJK"
    assert find_language("犬です") == "Japanese"
    assert find_language("한국어") == "HANGUL"
    assert find_language("12 : 30") is find_language("ok") is None


@pytest.mark.parametrize(
    ("kind", "expected"), [("answer", True), ("caption", True), ("translation", True), ("transcript", None)]
)
def test_what_is_said_is_no_answer(kind: Kind, expected: bool | None) -> None:
    said = "set the alarm to seven in the morning"
    output = prediction("Set the alarm to seven in morning.", "seven", transcript=said)
    assert examine(output, kind)["transcribed"] is expected
    near = prediction("the alarm rings at seven in the morning", "seven", transcript=said)
    assert not examine(near, kind)["transcribed"]


def test_a_short_transcript_may_be_the_answer() -> None:
    assert symptoms(prediction("seven in", "7", transcript="seven in"), "answer") == set()
    assert symptoms(prediction("who is it there", "Who is it there?", transcript="who is it there"), "answer") == set()


def test_rules_of_other_tasks_do_not_apply() -> None:
    output = prediction("HH AH0 L OW1 DH EH1 R")
    assert examine(output, "phones")["phones"] is examine(output, "phones")["wrong language"] is None
    assert examine(prediction("a man is speaking while music plays"), "caption")["captioned"] is None


def test_what_a_prediction_does_not_record_is_unknown_and_not_fine() -> None:
    assert examine(prediction("a"), "answer")["truncated"] is None
    assert examine(prediction("a", **{GENERATION: {"finished": False}}), "answer")["truncated"] is True
    assert examine(prediction("a", **{GENERATION: {"finished": True}}), "answer")["truncated"] is False
    assert examine(prediction("a"), "answer")["unparsed"] is None
    assert examine(prediction("a"), "answer", parsed=False)["unparsed"] is True
    assert examine(prediction("a"), "answer", parsed=True)["unparsed"] is False
    assert examine(prediction("a"), "answer")["transcribed"] is None


def test_every_rule_is_counted_with_the_outputs_it_could_judge() -> None:
    outputs = [prediction(text) for text in ("", "", "a a a a", "fine")]
    counts = health(examine(output, "transcript") for output in outputs)
    assert tuple(counts) == tuple(RULES)
    assert counts["empty"] == Count(2, 4)
    assert counts["looped"] == Count(1, 4)
    assert counts["echoed"] == counts["captioned"] == Count(0, 4)
    assert counts["truncated"] == counts["unparsed"] == Count(0, 0)
    assert set(health([]).values()) == {Count(0, 0)}


def test_lone_surrogates_are_text_like_any_other() -> None:
    assert symptoms(prediction("\ud800 hello", "hello \udfff"), "transcript") == set()
    assert symptoms(prediction("\ud800"), "transcript") == {"empty"}


def test_a_very_long_output_is_judged_quickly() -> None:
    words = " ".join(f"w{index}" for index in range(5000))
    start = time.process_time()
    assert symptoms(prediction(words), "transcript") == set()
    assert symptoms(prediction("x" * 50_000 + "y"), "transcript") == set()
    assert time.process_time() - start < 3
