"""Free answers are right where they equal, share words with or hold a reference, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salmonn_lab.metrics.answer import ContainsAnswer, ExactMatch, KeywordMatch, TokenF1, constant_baseline, token_f1

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_answer.json").read_text(encoding="utf-8"))
IDS = [str(number) for number in range(20)]


def test_exact_match_and_token_f1_are_those_of_squad() -> None:
    case = GOLDEN["squad"]
    outputs = [item["prediction_text"] for item in case["preds"]]
    references = [item["answers"]["text"] for item in case["target"]]
    exact, overlap = ExactMatch("squad"), TokenF1()
    exact.update(outputs, references, IDS[:3])
    overlap.update(outputs, references, IDS[:3])
    # torchmetrics gives percent in float32
    assert 100 * exact.compute()["exact_match"].item() == pytest.approx(case["result"]["exact_match"], rel=1e-6)
    assert 100 * overlap.compute()["token_f1"].item() == pytest.approx(case["result"]["f1"], rel=1e-6)


@pytest.mark.parametrize(
    ("output", "references", "right"),
    [
        ("Dog.", ["dog"], True),
        ("café", ["Cafe"], True),
        ("twenty one", ["21"], True),
        ("a dog", ["dog"], False),
        ("cat", ["dog", "Cat!"], True),
        ("", ["dog"], False),
        ("", ["(A)"], False),
        ("a.", ["(A)"], True),
        ("um", ["uh"], False),
        ("-3 dB", ["3 dB"], False),
        ("minus three dB", ["-3 dB"], True),
        ("C major", ["C# major"], False),
        ("C sharp major", ["C# major"], True),
        ("C", ["C++"], False),
        ("piano (left)", ["piano (right)"], False),
        ("\u0915\u093e", ["\u0915\u0940"], False),
        ("\u304b\u304d", ["\u304c\u304d"], False),
    ],
)
def test_an_exact_match_is_equal_to_any_reference_once_normalized(
    output: str, references: list[str], right: bool
) -> None:
    metric = ExactMatch()
    metric.update([output], [references], ["a"])
    assert metric.compute()["exact_match"].item() == right


def test_spaces_that_a_normalizer_leaves_at_the_end_do_not_matter() -> None:
    metric = ExactMatch("whisper_basic")
    metric.update(["Café."], [["café"]], ["a"])
    assert metric.compute()["exact_match"].item() == 1


def test_the_constant_baseline_is_the_answer_that_fits_most_items() -> None:
    references = [["Yes."], ["no"], ["yes", "Yes"], ["no", "yes"], ["maybe"]]
    assert constant_baseline(references) == ("yes", 0.6)
    assert constant_baseline(list(reversed(references))) == ("yes", 0.6)
    metric = ExactMatch()
    metric.update(["yes"] * 5, references, IDS[:5])
    assert metric.compute()["exact_match"].item() == constant_baseline(references).accuracy


def test_there_is_no_constant_baseline_without_items() -> None:
    with pytest.raises(ValueError, match="without items"):
        constant_baseline([])


def test_words_that_repeat_count_as_often_as_both_have_them() -> None:
    assert token_f1(["a", "a", "a", "b"], ["a", "a", "c"]) == pytest.approx(2 * 2 / 7)


@pytest.mark.parametrize(
    ("output", "references", "held"),
    [
        ("It was in 1976, I think.", ["1976"], True),
        ("a scat singer", ["cat"], False),
        ("the big red dog", ["big dog"], False),
        ("the big red dog", ["cat", "Red dog."], True),
        ("twenty one pilots", ["21"], True),
        ("", ["dog"], False),
        ("", ["uh"], False),
        ("uh, well", ["uh"], True),
        ("It fell by 3 dB.", ["-3 dB"], False),
        ("It is -3 dB.", ["3 dB"], False),
        ("It is C# major.", ["C major"], False),
        ("It is C++.", ["C++"], True),
        ("", ["(A)"], False),
    ],
)
def test_an_answer_is_held_where_its_words_stand_side_by_side(output: str, references: list[str], held: bool) -> None:
    metric = ContainsAnswer()
    metric.update([output], [references], ["a"])
    assert metric.compute()["contains_answer"].item() == held


def test_keywords_are_found_in_the_text_and_counted_among_those_given() -> None:
    metric = KeywordMatch()
    metric.update(
        ["1. Neural networks\n2. speech recognition\n3. cats", "It is about the wave theory of light."],
        [["neural networks", "Speech Recognition", "dogs"], ["wave theory", "wave theory"]],
        ["a", "b"],
    )
    values = {key: value.item() for key, value in metric.compute().items()}
    assert values == {"keyword_recall": 3 / 4, "keyword_precision": 2 / 4, "keywords_given": 2.0}


def test_no_keywords_have_no_precision() -> None:
    metric = KeywordMatch()
    metric.update([""], [["dog"]], ["a"])
    assert {key: value.item() for key, value in metric.compute().items()} == dict.fromkeys(metric.keys, 0.0)


@pytest.mark.parametrize("metric", [ExactMatch(), ExactMatch("squad"), TokenF1(), ContainsAnswer(), KeywordMatch()])
def test_an_empty_reference_is_refused_with_its_id(metric: ExactMatch) -> None:
    with pytest.raises(ValueError, match=r"item 'x': a reference must not be empty, got \['dog', ' '\]"):
        metric.update(["", ""], [["dog"], ["dog", " "]], ["w", "x"])


@pytest.mark.parametrize("metric", [ExactMatch("squad"), TokenF1(), ContainsAnswer("squad"), KeywordMatch("squad")])
def test_a_reference_that_the_normalizer_empties_is_compared_more_strictly(metric: ExactMatch) -> None:
    metric.update(["", "The"], [["the"], ["the"]], ["w", "x"])  # an article, which SQuAD's normalizer drops
    assert metric.items().stats[:, 0].sum().item() == 1


def test_keywords_that_the_normalizer_makes_one_are_two() -> None:
    metric = KeywordMatch("squad")
    metric.update(["C, Rust"], [["C", "C++", "c."]], ["a"])
    assert metric.compute()["keyword_recall"].item() == 0.5
    assert metric.compute()["keyword_precision"].item() == 0.5


def test_the_constant_baseline_keeps_answers_apart_as_the_metric_does() -> None:
    references = [["C major"], ["C# major"], ["C# major."], ["(A)"], ["D"]]
    assert constant_baseline(references) == ("c sharp major", 0.4)
    assert constant_baseline(references, "whisper_en") == ("c sharp major", 0.4)


@pytest.mark.parametrize(
    ("output", "reference", "held", "f1"),
    [
        ("答案是北京。", "北京", 1.0, 4 / 8),
        ("他住在東京都", "東京", 1.0, 4 / 8),
        ("北京", "北", 0.0, 2 / 3),
        ("北 京", "北", 1.0, 2 / 3),
        ("scat", "cat", 0.0, 0.0),
    ],
)
def test_answers_in_scripts_without_spaces_are_found_within_sentences(
    output: str, reference: str, held: float, f1: float
) -> None:
    assert ContainsAnswer().measure(output, [reference]) == (held, 1.0)
    assert TokenF1().measure(output, [reference])[0] == pytest.approx(f1)
