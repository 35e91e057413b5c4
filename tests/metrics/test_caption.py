"""Caption scores equal those of the COCO tools and of rouge_score, on tokens that equal CoreNLP's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salmonn_lab.metrics.caption import CaptionBleu, CaptionOverlap, RougeL
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric, item_number
from salmonn_lab.metrics.treebank import tokenize_caption

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "metrics_caption.json").read_text(encoding="utf-8"))
TOKENS = json.loads((FOLDER / "metrics_treebank.json").read_text(encoding="utf-8"))["tokens"]
CASES = ("caption_mini", "caption_aac_readme", "caption_example_1")


def captions(name: str) -> tuple[list[str], list[list[str]]]:
    """Return outputs and references of a golden case."""
    if name != "caption_example_1":
        return GOLDEN[name]["cands"], GOLDEN[name]["refs"]
    with (FOLDER / "caption_example_1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"caption_{number}" for number in range(1, 6)]
    return [row["caption_predicted"] for row in rows], [[row[c] for c in columns if row[c]] for row in rows]


def fill(metric: ItemMetric, outputs: list[str], references: list[list[str]]) -> dict[str, float]:
    metric.update(outputs, references, [str(number) for number in range(len(outputs))])
    return {key: value.item() for key, value in metric.compute().items()}


def in_order(metric: ItemMetric, count: int) -> list[float]:
    """Return the first number of each item's row, in the order of the case."""
    rows = dict(zip(metric.items().ids.tolist(), metric.items().stats[:, 0].tolist(), strict=True))
    return [rows[item_number(str(number))] for number in range(count)]


def cider(references: list[list[str]]) -> CiderD:
    return CiderD({str(number): texts for number, texts in enumerate(references)})


@pytest.mark.parametrize("text", TOKENS)
def test_captions_are_tokenized_as_corenlp_does(text: str) -> None:
    assert tokenize_caption(text) == TOKENS[text]


def test_the_golden_captions_have_their_tokens() -> None:
    case = GOLDEN["caption_mini"]
    assert [tokenize_caption(text) for text in case["cands"]] == case["ptb_cands"]
    assert [[tokenize_caption(text) for text in texts] for texts in case["refs"]] == case["ptb_refs"]


@pytest.mark.parametrize("name", CASES)
def test_rouge_l_equals_the_coco_tools_and_rouge_score(name: str) -> None:
    case, (outputs, references) = GOLDEN[name], captions(name)
    coco = RougeL("coco")
    assert fill(coco, outputs, references)["rouge_l_coco_ptb"] == pytest.approx(case["rouge_l_coco"], abs=1e-9)
    if "per_item" in case:
        assert in_order(coco, len(outputs)) == pytest.approx(case["per_item"]["rouge_l_coco"], abs=1e-9)
    if "ptb_cands" in case:  # rouge_score was given what PTB had made of the captions
        outputs, references = case["ptb_cands"], case["ptb_refs"]
    google = fill(RougeL("google"), outputs, references)
    assert google["rouge_l_google"] == pytest.approx(case["rouge_score_rougeL_bestF1"], abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_bleu_of_captions_equals_the_coco_tools(name: str) -> None:
    values = fill(CaptionBleu(), *captions(name))
    for key in CaptionBleu.keys:
        assert values[key] == pytest.approx(GOLDEN[name][key], abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_cider_d_equals_the_coco_tools(name: str) -> None:
    case, (outputs, references) = GOLDEN[name], captions(name)
    metric = cider(references)
    assert fill(metric, outputs, references)["cider_d"] == pytest.approx(case["cider_d"], abs=1e-9)
    rows = in_order(metric, len(outputs))
    expected = case["per_item"]["cider_d"] if "per_item" in case else case["first5_cider_d"]
    assert rows[: len(expected)] == pytest.approx(expected, abs=1e-9)


def test_cider_d_of_a_slice_keeps_the_weights_of_all_items() -> None:
    outputs, references = captions("caption_mini")
    metric = cider(references)
    metric.update(outputs[:2], references[:2], ["0", "1"])
    assert in_order(metric, 2) == pytest.approx(GOLDEN["caption_mini"]["per_item"]["cider_d"][:2], abs=1e-9)


def test_cider_d_refuses_references_that_its_weights_do_not_know() -> None:
    metric = CiderD({"a": ["x y"], "b": ["z"]})
    for id, texts in (("a", ["x"]), ("c", ["x y"])):
        with pytest.raises(ValueError, match=f"item '{id}' does not have the references that CIDEr-D was built with"):
            metric.update(["x"], [texts], [id])


def test_cider_d_of_another_corpus_has_another_signature() -> None:
    one, same, other = CiderD({"a": ["x"], "b": ["y"]}), CiderD({"b": ["y"], "a": ["x"]}), CiderD({"a": ["x"]})
    assert one.signature == same.signature != other.signature
    assert one.signature.startswith("cider_d|norm:ptb_py@1|tok:space|df:2-")


def test_one_item_alone_has_no_weights() -> None:
    assert fill(cider([["a dog"]]), ["a dog"], [["a dog"]]) == {"cider_d": 0}


def test_an_empty_caption_has_no_bleu() -> None:
    assert set(fill(CaptionBleu(), [""], [["a dog"]]).values()) == {0}
    resampled = CaptionBleu().score(np.zeros((3, 10)))
    assert all(np.isfinite(values).all() for values in resampled.values())


@pytest.mark.parametrize(
    ("name", "outputs", "references", "normalizer"),
    [
        ("caption_mini", "ptb_cands", "ptb_refs", "exact"),
        ("caption_aac_readme", "cands", "refs", "whisper_basic"),
    ],
)
def test_overlap_has_rouge_l_of_the_coco_tools(name: str, outputs: str, references: str, normalizer: str) -> None:
    case: dict[str, Any] = GOLDEN[name]
    metric = CaptionOverlap(normalizer)
    values = fill(metric, case[outputs], case[references])
    assert values["rouge_l_coco"] == pytest.approx(case["rouge_l_coco"], abs=1e-9)
    assert in_order(metric, len(case[outputs])) == pytest.approx(case["per_item"]["rouge_l_coco"], abs=1e-9)


def test_a_caption_equal_to_a_reference_has_full_overlap_and_an_empty_one_none() -> None:
    metric = CaptionOverlap()
    metric.update(["A dog barks!", ""], [["rain", "a dog barks"], ["a dog barks"]], ["same", "empty"])
    rows = dict(zip(*(part.tolist() for part in metric.items()), strict=True))
    assert rows[item_number("same")] == [1, 1, 1]
    assert rows[item_number("empty")] == [0, 0, 1]


def test_an_empty_reference_gives_a_number() -> None:
    metric = CaptionOverlap()
    metric.update(["", "a dog"], [[""], [""]], ["both", "reference"])
    assert metric.compute()["caption_f1"].item() == 0.5
    assert metric.compute()["rouge_l_coco"].item() == 0


def test_the_signature_says_how_captions_are_tokenized() -> None:
    assert CaptionOverlap().signature == "caption_overlap|norm:whisper_basic@1|tok:space|agg:mean|v1"
    assert RougeL().signature == "rouge_l_coco_ptb|norm:ptb_py@1|tok:space|agg:mean|v1"
    with pytest.raises(ValueError, match="form must be coco or google, got 'lsum'"):
        RougeL("lsum")  # type: ignore[arg-type]
