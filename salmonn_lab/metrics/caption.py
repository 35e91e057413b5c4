"""How much of its references a caption repeats: the longest common subsequence, and shared words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

BETA = 1.2
"""How much more recall weighs than precision in ROUGE-L, as in the COCO caption evaluation."""


class CaptionOverlap(ItemMetric):
    """ROUGE-L in the COCO form, and the F1 of words against the nearest reference, both averaged over items.

    ROUGE-L takes the best precision and the best recall, even where they are those of different references. The COCO
    tools tokenize with PTB first; ours splits the normalized text at spaces, which the signature says.
    """

    columns = ("rouge_l", "token_f1", "items")
    keys = ("rouge_l_coco", "token_f1")
    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "whisper_basic", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, tokenizer, aggregation, version."""
        return f"caption_overlap|norm:{self.normalizer.label}|tok:space|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with every reference."""
        words = self.normalizer(prediction).split()
        texts = [self.normalizer(reference).split() for reference in references]
        return (rouge_l_coco(words, texts), max(token_f1(words, text) for text in texts), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {key: ratio(stats[..., index], stats[..., 2]) for index, key in enumerate(self.keys)}


def rouge_l_coco(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return ROUGE-L of one caption as `pycocoevalcap` does, 0 for an empty caption."""
    common = [(LCSseq.similarity(words, reference), len(reference)) for reference in references]
    precision = max(length for length, _ in common) / max(len(words), 1)
    recall = max(length / max(total, 1) for length, total in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def token_f1(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of two bags of words as SQuAD's evaluation does: 1 where both are empty, 0 where one is."""
    if not words or not reference:
        return float(not words and not reference)
    shared = (Counter(words) & Counter(reference)).total()
    return 2 * shared / (len(words) + len(reference))
