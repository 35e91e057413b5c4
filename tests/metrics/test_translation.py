"""Translation scores are sacrebleu's, with its signatures."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.metrics import translation
from salmonn_lab.metrics.translation import Bleu, Chrf

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_translation.json").read_text(encoding="utf-8"))
MECAB = find_spec("MeCab") is not None and find_spec("ipadic") is not None


def fill(metric: Bleu | Chrf, outputs: list[str], references: list[list[str]]) -> float:
    metric.update(outputs, references, [str(number) for number in range(len(outputs))])
    return metric.compute()[metric.keys[0]].item()


@pytest.mark.parametrize("name", GOLDEN["bleu"])
def test_bleu_equals_the_golden_one_and_bears_its_signature(name: str) -> None:
    case: dict[str, Any] = GOLDEN["bleu"][name]
    if case["tokenize"] == "ja-mecab" and not MECAB:
        pytest.skip("mecab-python3 and ipadic are not installed")
    metric = Bleu(case["tokenize"], references_per_item=len(case["refs_per_set"]), **case["opts"])
    assert 100 * fill(metric, case["hyps"], list(map(list, zip(*case["refs_per_set"], strict=True)))) == pytest.approx(
        case["score"], abs=1e-9
    )
    stats = metric.items().stats.numpy().sum(axis=0)
    assert stats[8:].tolist() == [case["sys_len"], case["ref_len"]]
    expected = case["signature"].replace("version:2.6.0", f"version:{sacrebleu.__version__}")
    assert metric.library_signature == expected
    assert metric.signature == f"bleu|{expected}|agg:corpus|v1"


def test_japanese_without_its_tokenizer_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs MeCab .*pip install 'salmonn-lab\[japanese\]'"):
        Bleu("ja-mecab")


def test_unknown_tokenizers_and_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="tokenize must be one of 13a, intl, zh, char, ja-mecab, none, got 'spm'"):
        Bleu("spm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="references_per_item must be at least 1, got 0"):
        Bleu(references_per_item=0)
    with pytest.raises(ValueError, match="word_order must be at least 0"):
        Chrf(word_order=-1)


def test_another_number_of_references_than_the_signature_says_is_refused() -> None:
    with pytest.raises(ValueError, match="the signature says 1 references per item, got 2"):
        Bleu().update(["a"], [["a", "b"]], ["x"])
    metric = Bleu(references_per_item=None)
    metric.update(["a b c d", "e"], [["a b c d", "b"], ["e"]], ["x", "y"])
    assert metric.library_signature.startswith("nrefs:var|")
    assert metric.compute()["bleu"].item() == pytest.approx(1)


SENTENCES = st.text(st.sampled_from("ab .é今"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SENTENCES, SENTENCES, SENTENCES), min_size=1, max_size=4))
def test_any_corpus_has_the_scores_of_sacrebleu(texts: list[tuple[str, str, str]]) -> None:
    outputs, references = [text[0] for text in texts], [list(text[1:]) for text in texts]
    sets = [list(column) for column in zip(*references, strict=True)]
    assert 100 * fill(Bleu(references_per_item=2), outputs, references) == pytest.approx(
        sacrebleu.corpus_bleu(outputs, sets, force=True).score, abs=1e-9
    )
    for order in (0, 2):
        metric = Chrf(word_order=order, references_per_item=2)
        expected = sacrebleu.corpus_chrf(outputs, sets, word_order=order)
        assert 100 * fill(metric, outputs, references) == pytest.approx(expected.score, abs=1e-9)


def test_chrf_bears_sacrebleus_signature() -> None:
    library = sacrebleu.CHRF()
    library.corpus_score(["a"], [["a"]])
    assert Chrf().library_signature == str(library.get_signature())
    assert Chrf(word_order=2).keys == ("chrf++",)


def test_resampled_sums_are_scored_each() -> None:
    metric = Bleu()
    fill(metric, ["a b c d e", "a b x d e"], [["a b c d e"], ["a b c d e"]])
    stats = metric.items().stats.numpy()
    scores = metric.score(np.stack([stats[[0, 0]].sum(axis=0), stats[[1, 1]].sum(axis=0)]))["bleu"]
    # Smoothing depends on the counts, so twice the item is not the item.
    expected = [sacrebleu.corpus_bleu([text] * 2, [["a b c d e"] * 2]).score for text in ("a b c d e", "a b x d e")]
    assert sorted(100 * scores) == pytest.approx(sorted(expected))
