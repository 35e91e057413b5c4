"""Error rates are jiwer's, item by item and over the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.metrics.wer import ErrorRate

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
    with pytest.raises(ValueError, match="unit must be word or character"):
        ErrorRate("phone")  # type: ignore[arg-type]


def test_the_signature_names_unit_normalizer_and_version() -> None:
    assert ErrorRate().signature == "wer|norm:whisper_en@1|agg:corpus|v1"
    assert ErrorRate("character", "exact").signature == "cer|norm:exact@1|agg:corpus|v1"
