"""What holds for every metric: nothing that a model may write is beyond it, and a right answer is the best one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from every_metric import BY_ID, CHOICES, IDS, METRICS, REFERENCES, add, fresh
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.benchmarks import METRICS as TABLE
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric

PERFECT = {
    **dict.fromkeys(("wer", "cer", "cer_cjk", "per", "cpwer", "mer"), 0.0),
    **dict.fromkeys(("bleu", "chrf", "exact_match", "token_f1", "contains_answer", "accuracy"), 1.0),
    **dict.fromkeys(
        ("weighted_accuracy", "rouge_l_coco", "rouge_l_coco_ptb", "bleu_1", "keyword_recall", "slu_f1"), 1.0
    ),
    "rouge_l_google": 1.0,
}
"""The main score where each output is its item's first reference."""
OF_NUMBERS = ("option_likelihood", "perplexity", "eer")
"""They take what a model noted of its texts."""
NOT_OF_TEXTS = (*OF_NUMBERS, "diversity", "following_rate", "judge")
MEANS_OVER_REFERENCES = ("meteor", "spice", "spider", "cider_d", "sbert_sim", "fense")
WITH_CHOICES = ("accuracy", "label_accuracy", "multiple_choice", "multiple_choice_mmau", "multiple_choice_air_bench")
SLOW = ("meteor", "spice", "spider", "sbert_sim", "fense")


@pytest.mark.parametrize("kind", [kind for kind in METRICS if kind not in NOT_OF_TEXTS + MEANS_OVER_REFERENCES])
def test_the_first_reference_is_the_best_answer(kind: str) -> None:
    metric = fresh(kind)
    chosen = [i for i, refs in enumerate(REFERENCES) if refs[0].isascii() and "broken" not in refs[0]]
    if kind == "keywords":
        preds = [", ".join(refs) for refs in REFERENCES]
    elif kind == "multiple_choice_air_bench":
        preds = ["A"] * len(REFERENCES)
    else:
        preds = [refs[0] for refs in REFERENCES]
    add(metric, chosen, preds)
    assert metric.compute()[metric.keys[0]].item() == pytest.approx(PERFECT[metric.keys[0]], abs=1e-9)


def test_the_first_reference_beats_every_other_output_in_cider() -> None:
    right, other = CiderD(BY_ID), CiderD(BY_ID)
    add(right, range(10), [refs[0] for refs in REFERENCES])
    add(other, range(10), [f"{refs[0]} and more" for refs in REFERENCES])
    assert right.compute()["cider_d"] > other.compute()["cider_d"] > 0


ANYTHING = st.text(
    st.sampled_from("aAb9 .,;:'\"|{}[]<>()\n\t\r\x00é今カ。\u3000🙂\u200d\u0301\ud800\udfff\u2028"), max_size=15
)
NEVER_EMPTY = ("exact_match", "token_f1", "contains_answer", "keywords", "item_accuracy")
"""They refuse an empty reference, which every empty output would equal."""
OPEN = [kind for kind in METRICS if kind not in (*WITH_CHOICES, *SLOW, *OF_NUMBERS)]


def remade(kind: str, references: dict[str, list[str]]) -> ItemMetric:
    makers: dict[str, Callable[[], ItemMetric]] = {"cider_d": lambda: CiderD(references)}
    return makers.get(kind, METRICS[kind])()


@pytest.mark.parametrize("kind", OPEN)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING), min_size=1, max_size=5))
def test_any_texts_can_be_measured_in_any_batches(kind: str, texts: list[tuple[str, str, str]]) -> None:
    if kind in NEVER_EMPTY:
        texts = [(pred, *(text if text.strip() else "x" for text in refs)) for pred, *refs in texts]  # type: ignore[misc]
    references = {str(i): list(refs) for i, (_, *refs) in enumerate(texts)}
    whole, parts = remade(kind, references), remade(kind, references)
    whole.update([text[0] for text in texts], list(references.values()), list(references))
    for i, (pred, *refs) in reversed(list(enumerate(texts))):
        parts.update([pred], [refs], [str(i)])
    assert np.isfinite(whole.items().stats.numpy()).all()
    assert (whole.items().stats == parts.items().stats).all()
    for key, value in whole.compute().items():
        assert value.item() == parts.compute()[key].item() or math.isnan(value.item())


@pytest.mark.parametrize("kind", [*SLOW, *WITH_CHOICES])
@pytest.mark.parametrize("text", ["", " ", "\ud800", "a\nb ||| c\r", "今天 🙂\u200d", "\x00", "'" * 50])
def test_a_strange_output_can_be_measured(kind: str, text: str) -> None:
    metric = fresh(kind)
    add(metric, range(5), [text] * len(REFERENCES))
    assert np.isfinite(metric.items().stats.numpy()).all()


@pytest.mark.parametrize("kind", METRICS)
def test_a_signature_names_a_version_and_does_not_change_with_items(kind: str) -> None:
    metric = fresh(kind)
    before = metric.signature
    add(metric, range(5))
    assert metric.signature == before == fresh(kind).signature
    assert "|" in before
    assert before.rpartition("|")[2].startswith("v")


def test_no_two_metrics_share_a_signature() -> None:
    signatures = [fresh(kind).signature for kind in METRICS]
    assert len(set(signatures)) == len(signatures)


def test_the_properties_are_tested_for_every_metric_of_the_benchmarks() -> None:
    skipped = ("meteor", "spice", "spider", "bleu_ja", "sbert_sim", "fense")  # need what may not be installed
    tested = {type(fresh(kind)) for kind in METRICS}
    for name in TABLE:
        if name not in skipped:
            assert type(TABLE[name](BY_ID)) in tested


def test_every_item_has_choices_that_hold_its_references() -> None:
    assert len(CHOICES) == len(IDS)
    assert all(set(refs) < set(choices) for refs, choices in zip(REFERENCES, CHOICES, strict=True))
