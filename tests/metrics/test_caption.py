"""Caption overlap equals the COCO tools' on the same tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salmonn_lab.metrics.caption import CaptionOverlap, token_f1
from salmonn_lab.metrics.item import item_number

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_caption.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "outputs", "references", "normalizer"),
    [
        ("caption_mini", "ptb_cands", "ptb_refs", "exact"),
        ("caption_aac_readme", "cands", "refs", "whisper_basic"),
    ],
)
def test_rouge_l_equals_the_coco_tools(name: str, outputs: str, references: str, normalizer: str) -> None:
    case = GOLDEN[name]
    metric = CaptionOverlap(normalizer)
    ids = [str(index) for index in range(len(case[outputs]))]
    metric.update(case[outputs], case[references], ids)
    assert metric.compute()["rouge_l_coco"].item() == pytest.approx(case["rouge_l_coco"], abs=1e-9)
    numbers, stats = metric.items()
    rows = dict(zip(numbers.tolist(), stats[:, 0].tolist(), strict=True))
    assert [rows[item_number(id)] for id in ids] == pytest.approx(case["per_item"], abs=1e-9)


def test_a_caption_equal_to_a_reference_has_full_overlap_and_an_empty_one_none() -> None:
    metric = CaptionOverlap()
    metric.update(["A dog barks!", ""], [["rain", "a dog barks"], ["a dog barks"]], ["same", "empty"])
    rows = dict(zip(*(part.tolist() for part in metric.items()), strict=True))
    assert rows[item_number("same")] == [1, 1, 1]
    assert rows[item_number("empty")] == [0, 0, 1]


def test_an_empty_reference_gives_a_number() -> None:
    metric = CaptionOverlap()
    metric.update(["", "a dog"], [[""], [""]], ["both", "reference"])
    assert metric.compute()["token_f1"].item() == 0.5
    assert metric.compute()["rouge_l_coco"].item() == 0


def test_words_that_repeat_count_as_often_as_both_have_them() -> None:
    assert token_f1(["a", "a", "a", "b"], ["a", "a", "c"]) == pytest.approx(2 * 2 / 7)


def test_the_signature_says_that_tokens_are_not_those_of_ptb() -> None:
    assert CaptionOverlap().signature == "caption_overlap|norm:whisper_basic@1|tok:space|agg:mean|v1"
