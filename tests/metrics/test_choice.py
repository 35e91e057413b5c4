"""Choices are read as their rules say, and what is not understood is wrong."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salmonn_lab.metrics.choice import (
    PHRASINGS,
    Accuracy,
    ItemAccuracy,
    LabelAccuracy,
    MultipleChoice,
    OptionLikelihood,
)
from salmonn_lab.metrics.item import item_number
from salmonn_lab.metrics.parse import PARSERS, Parser, find, parse_choice

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_choice.json").read_text(encoding="utf-8"))
IDS = [str(number) for number in range(20)]
INSTRUMENTS = ["Guitar", "Piano", "A drum"]


def test_accuracy_and_following_rate_equal_the_golden_ones() -> None:
    case = GOLDEN["emotion"]
    metric = Accuracy(case["labels"], "exact")
    metric.update([text or "" for text in case["pred"]], [[label] for label in case["y"]], IDS[: len(case["y"])])
    values = metric.compute()
    assert values["accuracy"].item() == pytest.approx(case["weighted_accuracy"], abs=1e-12)
    assert values["following_rate"].item() == pytest.approx(case["following_rate"], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("man", ["man", "woman"], "man"),
        ("the answer is man", ["man", "woman"], "man"),
        ("a woman is speaking", ["man", "woman"], "woman"),
        ("humanity", ["man", "woman"], None),
        ("yes and no", ["yes", "no"], None),
        ("yes yes i said yes", ["yes", "no"], "yes"),
        ("an acoustic guitar", ["guitar", "acoustic guitar"], "acoustic guitar"),
        ("he is not sad", ["sad", "not sad"], "not sad"),
        ("an acoustic guitar and a guitar", ["guitar", "acoustic guitar"], None),
        ("bass", ["drum", "bass drum"], None),
        ("", ["", "man"], None),
        ("nothing", ["", "man"], None),
        ("nothing", [], None),
    ],
)
def test_an_output_chooses_the_one_choice_that_it_names(text: str, choices: list[str], expected: str | None) -> None:
    assert parse_choice(text, choices) == expected
    assert parse_choice(text, list(reversed(choices))) == expected


def test_choices_of_an_item_come_before_the_labels() -> None:
    metric = Accuracy(["one", "two"])
    metric.update(["two", "Two.", "three"], [["two"], ["two"], ["three"]], IDS[:3], [None, ["two", "six"], ["three"]])
    assert {key: value.item() for key, value in metric.compute().items()} == {"accuracy": 1, "following_rate": 1}


def test_an_unparsed_answer_is_wrong_and_counted() -> None:
    metric = Accuracy(["yes", "no"])
    metric.update(["yes", "perhaps", "no", ""], [["yes"], ["yes"], ["yes"], ["no"]], IDS[:4])
    assert {key: value.item() for key, value in metric.compute().items()} == {"accuracy": 0.25, "following_rate": 0.5}


def test_equal_choices_are_one() -> None:
    metric = Accuracy()
    metric.update(["The word appears two times"], [["two"]], ["a"], [["five", "two", "one", "Two!"]])
    assert metric.compute()["accuracy"].item() == 1


def test_a_reference_that_nobody_may_answer_is_refused_with_its_id() -> None:
    with pytest.raises(ValueError, match=r"item 'a': none of the references \['dog'\] is among the choices"):
        Accuracy(["dog"]).update(["dog"], [["dog"]], ["a"], [["cat", "cow"]])
    with pytest.raises(ValueError, match=r"item 'a': none of the references \['dog'\] is among the labels"):
        Accuracy().update(["dog"], [["dog"]], ["a"])
    with pytest.raises(ValueError, match="is among the labels"):
        Accuracy(["", "dog"]).update(["dog"], [[" "]], ["a"])


def test_malformed_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="an entry for each of the 2 items"):
        Accuracy(["a"]).update(["a", "a"], [["a"], ["a"]], ["x", "y"], [["a"]])
    for wrong in ("ab", [3, -3], {"a": "b"}, 3):
        for metric in (Accuracy(), LabelAccuracy(["a"]), MultipleChoice(), ItemAccuracy(), OptionLikelihood()):
            with pytest.raises(ValueError, match=r"item 'x': .*a list of texts"):
                metric.update(["a"], [["a"]], ["x"], [wrong])  # type: ignore[list-item]


def test_other_labels_give_another_signature() -> None:
    one, same, other = Accuracy(["a", "b"]), Accuracy(["B", "a."]), Accuracy(["a", "c"])
    assert one.signature == same.signature != other.signature
    assert re.fullmatch(
        r"accuracy\|parser:choice@3\|norm:whisper_en_signs@2\|else:ladder@2\|labels:2-\w{8}\|agg:mean\|v2",
        one.signature,
    )


@pytest.mark.parametrize("case", GOLDEN["mmau_string_match"])
def test_the_rule_of_mmau_judges_as_the_official_script(case: dict[str, Any]) -> None:
    metric = MultipleChoice("mmau")
    metric.update([case["prediction"]], [[case["answer"]]], ["a"], [case["choices"]])
    assert metric.compute()["accuracy"].item() == case["match"]


@pytest.mark.parametrize("case", GOLDEN["air_bench_extraction"])
def test_the_rule_of_air_bench_reads_the_official_letter(case: dict[str, Any]) -> None:
    expected = set() if case["letter"] is None else {"ABCD".index(case["letter"])}
    assert PARSERS["air_bench"](case["response"], ["w", "x", "y", "z"]) == expected


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *[
            (text, "B")
            for text in ("B", "b", "B.", "(B)", "[B]", " B)\n", "**B**", '"B"', "B:", "B. Piano", "(B) Piano")
        ],
        *[(text, "B") for text in ("B) Piano", "B: Piano", "The answer is B.", "the correct answer is (B) Piano")],
        *[(text, "B") for text in ("Answer: B", "Option B", "I choose option B, not the guitar", "It is (B).")],
        *[(text, "A") for text in ("A", "A.", "Answer: A.", "The answer is A")],
        *[(text, None) for text in ("", "A dog barks", "The answer is A dog", "A or B", "(A) or (B)", "Piano", "Bass")],
        *[
            (text, None)
            for text in ("D", "The answer is Z.", "I think it is a piano", "answer", "the answer is a drum")
        ],
    ],
)
def test_a_letter_is_read_where_it_stands_for_a_choice(text: str, letter: str | None) -> None:
    expected = set() if letter is None else {"ABC".index(letter)}
    assert PARSERS["letter"](text, INSTRUMENTS) == expected


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        ("text", "It is a piano.", {1}),
        ("text", "B", set()),
        ("text", "guitar or piano", set()),
        ("text", "a drum", {2}),
        ("letter_or_text", "B", {1}),
        ("letter_or_text", "piano!", {1}),
        ("letter_or_text", "(A) Piano", {0}),
        ("letter_or_text", "both", set()),
        ("first", "Piano, not guitar", {1}),
        ("first", "none", set()),
        ("mmau", "B", set()),
    ],
)
def test_other_parsers_read_these_choices(parser: str, text: str, expected: set[int]) -> None:
    assert PARSERS[parser](text, INSTRUMENTS) == expected


def test_yes_is_the_first_answer_of_yes_there_are_no_others() -> None:
    assert PARSERS["first"]("Yes, there are no others.", ["yes", "no"]) == {0}
    assert PARSERS["text"]("Yes, there are no others.", ["yes", "no"]) == set()


def test_the_official_rule_of_mmau_lets_a_choice_be_listed_twice() -> None:
    metric = MultipleChoice("mmau")
    metric.update(["two"], [["two"]], ["a"], [["five", "two", "one", "two"]])
    assert metric.compute()["accuracy"].item() == 1


@pytest.mark.parametrize(
    "metric", [Accuracy(), LabelAccuracy(["two"]), *map(MultipleChoice, ("text", "first", "letter", "letter_or_text"))]
)
@pytest.mark.parametrize(
    ("choices", "problem"), [(["two", "one", "two "], "'two' is offered twice"), (["two", ""], "is empty")]
)
def test_choices_that_cannot_be_told_apart_are_refused(metric: Any, choices: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=f"item 'x': .*{problem}"):
        metric.update(["two"], [["two"]], ["x"], [choices])


def test_a_parser_is_found_by_name_or_given() -> None:
    own = Parser("own", 2, lambda text, choices: frozenset({0}))
    assert find(own) is own
    assert MultipleChoice(own).signature == "multiple_choice|parser:own@2|else:ladder@2|agg:mean|v2"
    assert MultipleChoice().signature == "multiple_choice|parser:letter_or_text@3|else:ladder@2|agg:mean|v2"
    assert MultipleChoice("mmau").signature == "multiple_choice|parser:mmau@1|agg:mean|v2"
    with pytest.raises(ValueError, match="no parser 'letters'; there are letter, text"):
        MultipleChoice("letters")


def test_unparsed_is_wrong_and_counted_and_may_be_left_out() -> None:
    metric = MultipleChoice("letter")
    metric.update(["B", "A", "who knows", ""], [["Piano"]] * 4, IDS[:4], [INSTRUMENTS] * 4)
    values = {key: value.item() for key, value in metric.compute().items()}
    assert (values["accuracy"], values["following_rate"], values["accuracy_of_parsed"]) == (0.25, 0.5, 0.5)


@pytest.mark.parametrize(
    ("parser", "expected"),
    [
        ("letter", (0, 1, 0, 1)),
        ("text", (1, 0, 1, 1)),
        ("letter_or_text", (1, 1, 1, 1)),
        ("mmau", (1, 0, 0.5, 0)),  # "a" and "the" are words of other choices
        ("air_bench", (0, 1, 0, 0)),
    ],
)
def test_ceilings_are_what_right_answers_would_get(parser: str, expected: tuple[float, ...]) -> None:
    metric = MultipleChoice(parser)
    choices = [INSTRUMENTS, ["the piano", "Guitar"]]
    metric.update(["", ""], [["Guitar"], ["Guitar"]], IDS[:2], choices)
    values = metric.compute()
    assert tuple(values[key].item() for key in PHRASINGS) == expected


def test_the_best_position_is_the_most_frequent_place_of_the_answer() -> None:
    metric = MultipleChoice()
    answers = ["Piano", "Guitar", "Piano", "A drum"]
    metric.update([""] * 4, [[answer] for answer in answers], IDS[:4], [INSTRUMENTS] * 4)
    assert metric.compute()["best_position"].item() == 0.5


def test_senseless_choices_are_refused_with_the_item() -> None:
    metric = MultipleChoice()
    for choices, message in (
        (None, "needs the item's choices"),
        ([["a", "b"]], "none of the references"),
        ([[str(number) for number in range(27)]], "up to 26 choices, got 27"),
    ):
        with pytest.raises(ValueError, match=f"item 'x': .*{message}"):
            metric.update(["a"], [["c"]], ["x"], choices)


def test_the_scores_of_labels_equal_those_of_scikit_learn() -> None:
    case = GOLDEN["emotion"]
    metric = LabelAccuracy(case["labels"], "exact")
    metric.update([text or "" for text in case["pred"]], [[label] for label in case["y"]], IDS[: len(case["y"])])
    values = metric.compute()
    for key in metric.keys:
        assert values[key].item() == pytest.approx(case[key], abs=1e-9)
    confusion = metric.confusion(metric.items().stats.numpy().sum(axis=0))
    # rows ang, hap, neu, sad; the last column chose none
    assert confusion.tolist() == [[1, 1, 0, 0, 0], [0, 2, 1, 0, 1], [0, 0, 2, 0, 0], [0, 0, 0, 1, 1]]


def test_labels_that_no_reference_has_do_not_count() -> None:
    metric = LabelAccuracy(["yes", "no", "maybe"])
    metric.update(["yes", "maybe"], [["yes"], ["no"]], IDS[:2])
    values = {key: value.item() for key, value in metric.compute().items()}
    assert values["unweighted_accuracy"] == 0.5
    assert values["macro_f1"] == 0.5


def test_of_several_right_labels_the_chosen_one_counts() -> None:
    metric = LabelAccuracy(["yes", "no", "maybe"])
    metric.update(["no"], [["yes", "no"]], ["a"])
    assert metric.compute()["weighted_accuracy"].item() == 1


def test_labels_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 64 for a confusion, got 65"):
        LabelAccuracy([str(number) for number in range(65)], "exact")
    with pytest.raises(ValueError, match="none of the references"):
        LabelAccuracy(["yes"]).update(["a"], [["no"]], ["x"])


def test_the_likeliest_choice_counts_in_sum_and_by_length() -> None:
    metric = OptionLikelihood()
    metric.update(
        ["", "", ""],
        [["long one"], ["short"], ["short"]],
        IDS[:3],
        [["short", "long one"]] * 3,
        [[-2.0, -3.0], [-1.0, -4.0], [-1.0, -1.0]],
        [[1, 2]] * 3,
    )
    values = {key: value.item() for key, value in metric.compute().items()}
    # The third is a tie in sum, and by length the wrong choice is likelier.
    assert values == {"accuracy_likelihood": 1 / 3, "accuracy_likelihood_normalized": 2 / 3}


@pytest.mark.parametrize(
    ("likelihoods", "lengths", "message"),
    [
        (None, [[1, 1]], "needs a log-likelihood and a length"),
        ([[-1.0]], [[1, 1]], "needs a log-likelihood and a length"),
        ([[-1.0, math.nan]], [[1, 1]], "must be numbers"),
        ([[-1.0, -2.0]], [[1, 0]], "lengths positive"),
        ([[-1.0, -2.0]] * 2, [[1, 1]], "an entry for each of the 1 items"),
    ],
)
def test_likelihoods_that_are_missing_are_refused(likelihoods: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptionLikelihood().update([""], [["a"]], ["x"], [["a", "b"]], likelihoods, lengths)
    with pytest.raises(ValueError, match="only `update` takes"):
        OptionLikelihood().measure("a", ["a"])


def test_a_choice_that_is_impossible_may_have_minus_infinity() -> None:
    metric = OptionLikelihood()
    metric.update([""], [["a"]], ["x"], [["a", "b"]], [[-1.0, -np.inf]], [[1, 1]])
    assert metric.compute()["accuracy_likelihood"].item() == 1


TWINS = [
    ("3 dB", "-3 dB", "minus three dB", "The change is \u22123 dB."),
    ("3 dB", "minus 3 dB", "-3 dB", "It is -3 dB."),
    ("C major", "C# major", "C sharp major", "The key is C\u266f major."),
    ("A major", "A\u266d major", "a flat major", "It is A\u266d major."),
    ("C", "C++", "c++", "I heard C++."),
    ("5", "$5", "$5", "It costs $5."),
    ("5", "<5", "<5", "It is <5."),
    ("A", "A.", "A.", None),
    ("A", "A-", "A minus", "The grade is A-."),
    ("US", "us", "us", "It was us."),
    ("three", "3", "3", "The answer: 3."),
    ("piano (left)", "piano (right)", "piano (right)", "It is the piano (right)."),
    ("colour", "color", "color", "The word is color."),
    ("resume", "r\u00e9sum\u00e9", "r\u00e9sum\u00e9", "It is r\u00e9sum\u00e9."),
    ("um", "uh", "uh", "It is uh."),
    ("12 30", "12:30", "12:30", "It is 12:30."),
    ("can not", "can't", "can't", "It was can't."),
    ("\u0915\u0940", "\u0915\u093e", "\u0915\u093e", None),
    ("\U0001f641", "\U0001f642", "\U0001f642", "\U0001f642!"),
]


@pytest.mark.parametrize(
    ("choices", "output", "chosen"),
    [
        (["drum & bass", "bass"], "drum and bass", 0),
        (["R&B", "rock"], "It is r and b.", 0),
        (["<10", "10", "> 10"], "< 10", 0),
        (["<10", "10", "> 10"], "more than 10", 2),
        (["<10", "10", "> 10"], "10", 1),
        (["\u22645", "<5"], "<= 5", 0),
        (["0.5 s", "5 s"], ".5 s", 0),
        ([".5", "5"], "0.5", 0),
        (["Bb major", "B major"], "B flat major", 0),
        (["F#m", "Bbm", "Bm"], "It is in B flat m", 1),
        (["男性", "女性"], "说话的是女性。", 1),
        (["钢琴", "小提琴"], "我听到的是小提琴的声音", 1),
        (["快乐", "不快乐"], "他不快乐", 1),
        (["5秒", "15秒"], "持续15秒", 1),
        (["ชาย", "หญิง"], "เสียงผู้หญิงพูด", 1),
        (["是", "否"], "是。", 0),
        (["是", "否"], "但是不行", None),
    ],
)
def test_a_choice_is_read_as_it_is_said_or_written(choices: list[str], output: str, chosen: int | None) -> None:
    wanted = set() if chosen is None else {chosen}
    assert PARSERS["text"](output, choices) == wanted
    right = [Accuracy().judge(output, [choice], choices)[0] == 1 for choice in choices]
    assert {place for place, value in enumerate(right) if value} == wanted


def test_a_decimal_fraction_without_its_zero_is_no_whole_number() -> None:
    assert Accuracy().judge("5", [".5"], [".5", "5"])[0] == 0
    assert Accuracy().judge(".5", [".5"], [".5", "5"])[0] == 1
    assert Accuracy([".5", "5"]).judge("5", [".5"], None)[0] == 0


@pytest.mark.parametrize("parser", ["text", "first", "letter_or_text"])
@pytest.mark.parametrize(("one", "other", "output", "sentence"), TWINS)
def test_choices_that_whispers_normalizer_makes_one_are_two(
    parser: str, one: str, other: str, output: str, sentence: str | None
) -> None:
    if parser == "letter_or_text" and one.isalpha() and len(one) == 1:
        return  # the letter of a choice
    read = PARSERS[parser]
    assert read(one, [one, other]) == {0}
    assert read(one, [other, one]) == {1}
    assert read(other, [one, other]) == {1}
    assert read(output, [one, other]) == {1}
    assert sentence is None or read(sentence, [one, other]) == {1}
    assert read("", [one, other]) == set()


@pytest.mark.parametrize(("one", "other", "output", "sentence"), TWINS)
@pytest.mark.parametrize("normalizer", ["whisper_en_signs", "whisper_en", "squad", "whisper_basic"])
def test_labels_that_a_normalizer_makes_one_are_two(
    normalizer: str, one: str, other: str, output: str, sentence: str | None
) -> None:
    for metric in (Accuracy([one, other], normalizer), LabelAccuracy([one, other], normalizer)):
        metric.update([one, other, one, other], [[one], [other], [other], [one]], IDS[:4])
        assert metric.score_rows(metric.items().stats.numpy())[metric.keys[0]] == 0.5
        assert metric.score_rows(metric.items().stats.numpy())["following_rate"] == 1


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("- 3 dB", ["3 dB", "-3 dB"]),  # a dash or a minus sign
        ("\u00b13 dB", ["3 dB", "-3 dB"]),
        ("A- and no more", ["A", "B"]),
        ("plus 3 dB", ["3 dB", "+3 dB"]),
        ("C\u266d", ["C", "D"]),
        ("C#", ["C", "D"]),
        ("-3 dB", ["3 dB", "6 dB"]),
        ("piano", ["piano (left)", "piano (right)"]),
        ("The answer is A.", ["A", "A."]),
        ("**A**", ["A", "A*"]),
        ("Us", ["US", "us"]),
        ("The answer", ["(A)", "(B)"]),
    ],
)
def test_what_may_be_either_choice_or_neither_is_not_parsed(text: str, choices: list[str]) -> None:
    assert PARSERS["text"](text, choices) == set()
    assert PARSERS["first"](text, choices) == set()


def test_an_output_that_is_a_choice_to_the_letter_is_that_choice() -> None:
    for choices in (
        ["A", "A."],
        ["- 3", "-3"],
        ["...", "?"],
        ["ice cream", "ice  cream"],
        ["yes", "yes!"],
        ["A", "A*"],
    ):
        for number, choice in enumerate(choices):
            assert PARSERS["text"](f" {choice}\n", choices) == PARSERS["first"](choice, choices) == {number}


def test_a_bullet_is_no_minus_sign() -> None:
    assert PARSERS["text"]("- 3", ["3", "4"]) == {0}


def test_a_letter_that_is_a_choice_too_is_not_parsed() -> None:
    notes = ["C", "A", "B"]
    assert PARSERS["letter_or_text"]("A", notes) == set()
    assert PARSERS["letter_or_text"]("C", notes) == set()
    assert PARSERS["letter_or_text"]("(B) A", notes) == {1}
    assert PARSERS["letter"]("A", notes) == {0}


def test_a_form_that_tells_labels_apart_is_in_the_signature() -> None:
    assert "|labels_by:raw_lower@1|" in Accuracy(["A", "A."]).signature
    assert "labels_by" not in Accuracy(["C", "C#"]).signature
    assert Accuracy(["C", "C#"]).signature == Accuracy(["c", "C sharp"]).signature != Accuracy(["C", "C++"]).signature


def test_a_reference_means_the_choice_that_it_equals() -> None:
    metric = MultipleChoice("letter")
    metric.update(["A", "B", "B"], [["us"], ["us"], ["Them"]], IDS[:3], [["US", "us"], ["US", "us"], ["US", "them"]])
    assert metric.items().stats[:, 0].sum().item() == 2
    with pytest.raises(ValueError, match=r"item 'x': the reference 'Us' may be any of \['US', 'us'\]"):
        metric.update(["A"], [["Us"]], ["x"], [["US", "us"]])
    likelihood = OptionLikelihood()
    likelihood.update([""], [["us"]], ["x"], [["US", "us"]], [[-1.0, -2.0]], [[1, 1]])
    assert likelihood.compute()["accuracy_likelihood"].item() == 0
    with pytest.raises(ValueError, match="item 'y': the choice 'us' is offered twice"):
        likelihood.update([""], [["us"]], ["y"], [["us", "us"]], [[-1.0, -2.0]], [[1, 1]])


def test_an_item_alone_says_what_it_allows() -> None:
    metric = ItemAccuracy()
    outputs = ["(B)", "Yes.", "yes and no", "Rain!", "it is rain", "", "C", "a drum", "C# major"]
    references = [["(B)"], ["yes"], ["yes"], ["rain"], ["rain"], ["rain"], ["D"], ["A drum"], ["C major"]]
    choices = [None, None, None, None, None, None, ["C", "D"], INSTRUMENTS, ["C major", "C# major"]]
    metric.update(outputs, references, IDS[:9], choices)
    order = np.argsort([item_number(id) for id in IDS[:9]])
    rows = metric.items().stats.numpy()[np.argsort(order)]
    assert rows[:, 0].tolist() == [1, 1, 0, 1, 0, 0, 0, 1, 0]
    assert rows[:, 1].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="item 'x': a reference must not be empty"):
        metric.update([""], [[""]], ["x"])
    with pytest.raises(ValueError, match="item 'x': none of the references"):
        metric.update(["A"], [["E"]], ["x"], [["A", "B"]])
