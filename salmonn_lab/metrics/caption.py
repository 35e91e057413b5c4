"""How much of its references a caption repeats: common subsequences, shared words, n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from rapidfuzz.distance import LCSseq

from salmonn_lab.metrics.answer import token_f1
from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

BETA = 1.2
"""How much more recall weighs than precision in ROUGE-L, as in the COCO caption evaluation."""
ORDER = 4
"""Longest n-gram of captioning BLEU."""
TINY, SMALL = 1e-15, 1e-9
"""What `pycocoevalcap` adds above and below each fraction of BLEU."""


class CaptionOverlap(ItemMetric):
    """ROUGE-L in the COCO form, and the F1 of words against the nearest reference, both averaged over items.

    ROUGE-L takes the best precision and the best recall, even where they are those of different references. The COCO
    tools tokenize with PTB first, as `RougeL` does (`rouge_l_coco_ptb`); here the normalized text is split at spaces.
    """

    columns = ("rouge_l", "token_f1", "items")
    keys = ("rouge_l_coco", "caption_f1")
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


class RougeL(ItemMetric):
    """ROUGE-L, averaged over items, in one of two forms that give different numbers.

    `coco` is that of caption evaluation: the best precision and the best recall over the references, recall weighing
    more, PTB tokens. `google` is that of summarization: the best F1 over the references, tokens as `rouge_score` makes
    them (ASCII letters and digits, not stemmed).
    """

    columns = ("rouge_l", "items")
    higher_is_better = True

    def __init__(
        self, form: Literal["coco", "google"] = "coco", normalizer: str | Normalizer | None = None, **options: Any
    ) -> None:
        """Build the metric.

        Args:
            form: see above; the score's name says it.
            normalizer: name of a normalizer, or one; None is the tokenizer that goes with the form.
            options: of torchmetrics.
        """
        if form not in ("coco", "google"):
            raise ValueError(f"form must be coco or google, got {form!r}")
        super().__init__(**options)
        self.form = form
        self.normalizer = find({"coco": "ptb_py", "google": "rouge"}[form] if normalizer is None else normalizer)

    @property
    def keys(self) -> tuple[str, ...]:
        """`rouge_l_coco_ptb` or `rouge_l_google`."""
        return ("rouge_l_coco_ptb" if self.form == "coco" else "rouge_l_google",)

    @property
    def signature(self) -> str:
        """Name, normalizer, tokenizer, aggregation, version."""
        return f"{self.keys[0]}|norm:{self.normalizer.label}|tok:space|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with every reference."""
        words = self.normalizer(prediction).split()
        texts = [self.normalizer(reference).split() for reference in references]
        if self.form == "coco":
            return (rouge_l_coco(words, texts), 1.0)
        return (max(rouge_l_google(words, text) for text in texts), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {self.keys[0]: ratio(stats[..., 0], stats[..., 1])}


class CaptionBleu(ItemMetric):
    """BLEU of one to four words over the corpus, as `pycocoevalcap` has it: PTB tokens, no smoothing to speak of.

    Of the references' lengths the closest counts, the shorter of two. Not comparable with sacrebleu's `bleu`.
    """

    columns = (
        *(f"matches_{order}" for order in range(1, ORDER + 1)),
        *(f"totals_{order}" for order in range(1, ORDER + 1)),
        "output_length",
        "reference_length",
    )
    keys = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "ptb_py", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, tokenizer, choice among the references' lengths, aggregation, version."""
        return f"caption_bleu|norm:{self.normalizer.label}|tok:space|len:closest|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count n-grams, those that some reference has too, and lengths."""
        words = self.normalizer(prediction).split()
        texts = [self.normalizer(reference).split() for reference in references]
        allowed: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            allowed |= count_ngrams(text)
        matches = [0] * ORDER
        for ngram, count in count_ngrams(words).items():
            matches[len(ngram) - 1] += min(count, allowed[ngram])
        totals = [max(0, len(words) - order) for order in range(ORDER)]
        closest = min((len(text) for text in texts), key=lambda length: (abs(length - len(words)), length))
        return (*matches, *totals, len(words), closest)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Multiply precisions and the penalty for short captions."""
        matches, totals = stats[..., :ORDER], stats[..., ORDER : 2 * ORDER]
        written, wanted = stats[..., 2 * ORDER], stats[..., 2 * ORDER + 1]
        precisions = np.cumprod((matches + TINY) / (totals + SMALL), axis=-1)
        length = (written + TINY) / (wanted + SMALL)
        with np.errstate(over="ignore"):
            penalty = np.where(length < 1, np.exp(1 - 1 / np.minimum(length, 1)), 1.0)
        roots = np.power(precisions, 1 / np.arange(1, ORDER + 1)) * penalty[..., None]
        return {key: roots[..., index] for index, key in enumerate(self.keys)}


def rouge_l_coco(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return ROUGE-L of one caption as `pycocoevalcap` does, 0 for an empty caption."""
    common = [(LCSseq.similarity(words, reference), len(reference)) for reference in references]
    precision = max(length for length, _ in common) / max(len(words), 1)
    recall = max(length / max(total, 1) for length, total in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def rouge_l_google(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence, 0 where either text is empty."""
    return 2 * LCSseq.similarity(words, reference) / max(len(words) + len(reference), 1)


def count_ngrams(words: Sequence[str], longest: int = ORDER) -> Counter[tuple[str, ...]]:
    """Return how often each n-gram of one to `longest` words occurs."""
    return Counter(chain.from_iterable(list_ngrams(words, longest)))


def list_ngrams(words: Sequence[str], longest: int = ORDER) -> list[Iterable[tuple[str, ...]]]:
    """Return the n-grams of each order from one word to `longest`, as they stand."""
    shifted = [words[start:] for start in range(longest)]
    return [zip(*shifted[:order], strict=False) for order in range(1, longest + 1)]
