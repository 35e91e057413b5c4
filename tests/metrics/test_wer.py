"""Error rates are jiwer's, item by item and over the corpus."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate, Stretch, align, assign

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_wer.json").read_text(encoding="utf-8"))


def rates(metric: ErrorRate, references: list[str], outputs: list[str]) -> dict[str, float]:
    metric.update(outputs, [[reference] for reference in references], [str(i) for i in range(len(outputs))])
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize("name", GOLDEN["wer"])
def test_rates_equal_the_golden_ones(name: str) -> None:
    case = GOLDEN["wer"][name]
    metric = ErrorRate("word", "exact")
    values = rates(metric, case["refs"], case["hyps"])
    assert values["wer"] == pytest.approx(case["corpus_wer"], abs=1e-9)
    for key, count in (("sub", "substitutions"), ("del", "deletions"), ("ins", "insertions")):
        assert values[key] == pytest.approx(case[count] / case["ref_words"], abs=1e-9)
    rows = dict(zip(metric.items().ids.tolist(), metric.items().stats.tolist(), strict=True))
    in_order = [rows[number] for number in metric._names]
    assert [sum(row[:3]) for row in in_order] == case["per_item_edits"]
    assert [row[3] for row in in_order] == case["per_item_ref_words"]
    characters = rates(ErrorRate("character", "exact"), case["refs"], case["hyps"])
    assert characters["cer"] == pytest.approx(case["corpus_cer"], abs=1e-9)
    more = rates(MatchRate("word", "exact"), case["refs"], case["hyps"])
    for key in ("mer", "wil", "wip"):
        assert more[key] == pytest.approx(case[key], abs=1e-9)
    assert more["ser"] == pytest.approx(case["sentence_error_rate"], abs=1e-9)
    assert more["mean_utterance"] == pytest.approx(case["mean_utterance_wer_nonempty_refs"], abs=1e-9)


def test_two_empty_texts_match_wholly() -> None:
    values = rates(MatchRate("word", "exact"), ["", ""], ["", "a b"])
    assert {key: values[key] for key in ("mer", "wil", "ser")} == {"mer": 1.0, "wil": 1.0, "ser": 0.5}
    alone = rates(MatchRate("word", "exact"), [""], [""])
    assert {key: alone[key] for key in ("mer", "wil", "wip", "ser")} == {"mer": 0, "wil": 0, "wip": 1, "ser": 0}
    assert math.isnan(alone["mean_utterance"])


def test_the_phone_error_rate_equals_the_golden_one() -> None:
    case = GOLDEN["per"]
    values = rates(ErrorRate("phone"), case["refs"], case["hyps"])
    assert values["per"] == pytest.approx(case["per"], abs=1e-9)
    assert values["sub"] + values["del"] + values["ins"] == pytest.approx(values["per"])


def test_phones_with_commas_in_small_letters_are_the_same_phones() -> None:
    assert rates(ErrorRate("phone"), ["DH AH0 K AE1 T"], ["dh, ah, k, ae, t."])["per"] == 0


@pytest.mark.parametrize("case", GOLDEN["cpwer"])
def test_the_concatenated_permutation_rate_equals_that_of_meeteval(case: dict[str, Any]) -> None:
    metric = PermutedErrorRate("exact")
    metric.update(["\n".join(case["hyps"])], [["\n".join(case["refs"])]], ["a"])
    assert metric.items().stats[0, 0] == case["errors"]
    assert metric.items().stats[0, 2] == case["length"]
    assert metric.compute()["cpwer"].item() == pytest.approx(case["error_rate"], abs=1e-9)


def test_both_orders_as_references_give_the_same_rate_as_one() -> None:
    one, both = PermutedErrorRate(), PermutedErrorRate()
    one.update(["a dog\nthe rain falls"], [["rain falls\na dog"]], ["a"])
    both.update(["a dog\nthe rain falls"], [["rain falls\na dog", "a dog\nrain falls"]], ["a"])
    assert one.items().stats.tolist() == both.items().stats.tolist() == [[1, 1, 4, 1, 1]]


def test_an_output_without_separator_is_also_held_against_the_best_order() -> None:
    metric = PermutedErrorRate("exact")
    metric.update(["d e f g a b c"], [["a b c\nd e f g"]], ["a"])
    values = {key: value.item() for key, value in metric.compute().items()}
    assert values == {"cpwer": 6 / 7, "wer_best_order": 0.0, "speaker_count_accuracy": 0.0}


def test_another_separator_is_part_of_the_signature() -> None:
    metric = PermutedErrorRate("exact", separator="|")
    metric.update(["c d|a b"], [["a b|c d"]], ["a"])
    assert metric.compute()["cpwer"].item() == 0
    assert metric.signature == "cpwer|norm:exact@1|sep:'|'|agg:corpus|v1"
    with pytest.raises(ValueError, match="separator must not be empty"):
        PermutedErrorRate(separator="")


def test_more_speakers_than_orders_can_be_tried_are_refused() -> None:
    with pytest.raises(ValueError, match="up to 6 speakers, got 7"):
        PermutedErrorRate().update(["a"], [["\n".join("abcdefg")]], ["x"])


PARTS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=4)


@settings(max_examples=100, deadline=None)
@given(PARTS, PARTS)
def test_the_assignment_is_the_best_of_all(speakers: list[list[str]], parts: list[list[str]]) -> None:
    size = max(len(speakers), len(parts))
    wanted, written = ([*texts, *[[]] * (size - len(texts))] for texts in (speakers, parts))
    totals = [
        sum(Levenshtein.distance(left, right) for left, right in zip(wanted, order, strict=True))
        for order in permutations(written)
    ]
    assert assign(speakers, parts) == min(totals)


def test_a_looping_output_of_many_parts_is_assigned_quickly() -> None:
    metric = PermutedErrorRate()
    metric.update(["\n".join(["the same words"] * 500)], [["a b\nthe same words"]], ["a"])
    assert metric.items().stats[0, 0] == 498 * 3 + 3


def test_an_alignment_names_what_happened_to_each_word() -> None:
    assert align(["the", "cat", "sat", "on", "mats"], ["a", "cat", "on", "mats", "now"]) == [
        Stretch("~", ["the"], ["a"]),
        Stretch("=", ["cat"], ["cat"]),
        Stretch("-", ["sat"], []),
        Stretch("=", ["on", "mats"], ["on", "mats"]),
        Stretch("+", [], ["now"]),
    ]
    assert align([], []) == []


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("ab "), max_size=12), st.text(st.sampled_from("ab "), max_size=12))
def test_an_alignment_has_the_edits_that_are_counted_and_all_words(reference: str, output: str) -> None:
    steps = align(reference.split(), output.split())
    metric = ErrorRate("word", "exact")
    counts = [sum(max(len(step.reference), len(step.output)) for step in steps if step.sign == sign) for sign in "~-+"]
    assert counts == list(metric.measure(output, [reference]))[:3]
    assert [word for step in steps for word in step.reference] == reference.split()
    assert [word for step in steps for word in step.output] == output.split()


@pytest.mark.parametrize(("output", "expected"), [("hello world", 'wer("","hello world")'), ("", 'wer("","")')])
def test_an_empty_reference_counts_as_in_jiwer(output: str, expected: str) -> None:
    assert rates(ErrorRate("word", "exact"), [""], [output])["wer"] == GOLDEN["wer_edge"][expected]


def test_padded_duplicates_count_once() -> None:
    case = GOLDEN["aggregate_duplicates"]
    metric = ErrorRate()
    references = [[" ".join("abcde")]] * 5
    outputs = [" ".join("abcde"[: 5 - edits]) for edits in case["edits"]]
    metric.update(outputs, references, [str(id) for id in case["ids"]])
    assert metric.compute()["wer"].item() == pytest.approx(case["expected_wer"], abs=1e-12)


# jiwer's default transform splits at single spaces only, so that a text with other white space is its own test below.
TEXTS = st.text(st.sampled_from("ab é今🙂 "), max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_any_texts_give_the_rates_of_jiwer_over_the_whole_corpus(pairs: list[tuple[str, str]]) -> None:
    references, outputs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    words = rates(ErrorRate("word", "exact"), references, outputs)
    # jiwer is given what our normalizer leaves: it strips only after it has looked for runs of spaces.
    stripped = [[text.strip() for text in texts] for texts in (references, outputs)]
    assert words["wer"] == pytest.approx(jiwer.process_words(*stripped).wer, abs=1e-12)
    assert words["sub"] + words["del"] + words["ins"] == pytest.approx(words["wer"])
    characters = rates(ErrorRate("character", "exact"), references, outputs)
    assert characters["cer"] == pytest.approx(jiwer.process_characters(*stripped).cer, abs=1e-12)


def test_the_default_normalizer_forgives_spelling_and_line_breaks() -> None:
    assert rates(ErrorRate(), ["The colour, twenty-one!"], ["the color\n21"])["wer"] == 0


def test_the_nearest_of_several_references_counts() -> None:
    metric = ErrorRate()
    metric.update(["the red dog"], [["cat", "the red dog barks", "dog"]], ["a"])
    assert metric.compute()["wer"].item() == 0.25


def test_an_equal_pair_has_no_errors_in_any_script() -> None:
    text = "Ünïcode 今天天气很好 🙂 здравствуйте مرحبا"
    assert rates(ErrorRate("word", "exact"), [text], [text]) == {"wer": 0, "sub": 0, "del": 0, "ins": 0}


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="unit must be one of word, character, phone, got 'letter'"):
        ErrorRate("letter")  # type: ignore[arg-type]


def test_the_signature_names_unit_normalizer_and_version() -> None:
    assert ErrorRate().signature == "wer|norm:whisper_en@2|agg:corpus|v1"
    assert ErrorRate("character", "exact").signature == "cer|norm:exact@1|agg:corpus|v1"
    assert ErrorRate("phone").signature == "per|norm:phones@1|agg:corpus|v1"
    assert MatchRate("character", "cjk").signature == "match_rate|unit:character|norm:cjk@2|v1"
