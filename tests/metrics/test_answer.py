"""Right answers are found in what a model wrote, and nothing else is."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from salmonn_lab.metrics.answer import Accuracy, ExactMatch, constant_baseline, parse_choice
from salmonn_lab.metrics.caption import CaptionOverlap
from salmonn_lab.metrics.normalize import Normalizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_answer.json").read_text(encoding="utf-8"))
IDS = [str(number) for number in range(20)]


def squad(text: str) -> str:
    """Normalize as SQuAD's evaluation does."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def test_exact_match_and_token_f1_are_those_of_squad() -> None:
    case, normalizer = GOLDEN["squad"], Normalizer("squad", 1, squad)
    outputs = [item["prediction_text"] for item in case["preds"]]
    references = [item["answers"]["text"] for item in case["target"]]
    exact, overlap = ExactMatch(normalizer), CaptionOverlap(normalizer)
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
        ("", [""], True),
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
        Accuracy(["uh", "dog"]).update(["dog"], [["uh"]], ["a"])  # a filler: nothing is left of it


def test_malformed_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="an entry for each of the 2 items"):
        Accuracy(["a"]).update(["a", "a"], [["a"], ["a"]], ["x", "y"], [["a"]])
    with pytest.raises(ValueError, match="choices must be a list of texts"):
        Accuracy().update(["a"], [["a"]], ["x"], ["ab"])  # type: ignore[list-item]


def test_other_labels_give_another_signature() -> None:
    one, same, other = Accuracy(["a", "b"]), Accuracy(["B", "a."]), Accuracy(["a", "c"])
    assert one.signature == same.signature != other.signature
    assert re.fullmatch(r"accuracy\|parser:choice@1\|norm:whisper_en@1\|labels:2-\w{8}\|agg:mean\|v1", one.signature)


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
