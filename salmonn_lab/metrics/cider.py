"""CIDEr-D: how near a caption comes to its references in n-grams that few other clips have."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import mul
from typing import Any, NamedTuple

from salmonn_lab.metrics.caption import ORDER, list_ngrams
from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

SIGMA = 6.0
"""Spread in tokens of the penalty for another length."""


class Vector(NamedTuple):
    """A caption's weighted n-grams."""

    weights: tuple[dict[tuple[str, ...], float], ...]
    """By order."""
    norms: tuple[float, ...]
    bigrams: int
    """The measure of length in the published code."""


class CiderD(ItemMetric):
    """CIDEr-D, averaged over items: 0 to 10.

    An n-gram weighs the less the more items have it in a reference, so an item's score depends on everybody's
    references. They are given up front, which makes each row exact by itself, in any batch and on any rank, and lets
    slices and resamples keep the weights of the whole test set. Over one item alone all weights, and the score, are 0.
    """

    columns = ("cider_d", "items")
    keys = ("cider_d",)
    higher_is_better = True

    def __init__(
        self, references: Mapping[str, Sequence[str]], normalizer: str | Normalizer = "ptb_py", **options: Any
    ) -> None:
        """Count in how many items each n-gram occurs.

        Args:
            references: of every item of the test set, by id.
            normalizer: name of a normalizer, or one; the tokenizer of the COCO tools by default.
            options: of torchmetrics.
        """
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.references = {id: tuple(texts) for id, texts in references.items()}
        frequencies: Counter[tuple[str, ...]] = Counter()
        for texts in self.references.values():
            lists = (ngrams for text in texts for ngrams in list_ngrams(self.normalizer(text).split()))
            frequencies.update(set(chain.from_iterable(lists)))
        self.largest = math.log(max(len(self.references), 1))
        """The weight of what no reference has, or a single item's."""
        logarithms = {count: math.log(count) for count in set(frequencies.values())}
        self.weights = {ngram: self.largest - logarithms[count] for ngram, count in frequencies.items()}
        digest = hashlib.blake2b(digest_size=4)
        for id, texts in sorted(self.references.items()):
            digest.update(repr((id, texts)).encode("utf-8", "surrogatepass"))
        self.corpus = f"{len(self.references)}-{digest.hexdigest()}"

    @property
    def signature(self) -> str:
        """Name, normalizer, number and hash of the items that weigh the n-grams, aggregation, version."""
        return f"cider_d|norm:{self.normalizer.label}|tok:space|df:{self.corpus}|agg:mean|v1"

    def update(self, preds: Sequence[str], references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Add items.

        Raises:
            ValueError: beside the reasons of every metric, if an item has other references than those given up front.
        """
        check_items(preds, references, ids)
        self.check(references, ids)
        super().update(preds, references, ids)

    def check(self, references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Raise ValueError for references that the weights do not know."""
        for id, texts in zip(ids, references, strict=True):
            if self.references.get(id) != tuple(texts):
                raise ValueError(f"item {id!r} does not have the references that CIDEr-D was built with")

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Average the similarity to each reference."""
        output = self.weigh(prediction)
        similarities = [similarity(output, self.weigh(reference)) for reference in references]
        return (10 * sum(similarities) / len(similarities), 1.0)

    def weigh(self, text: str) -> Vector:
        """Return a caption's n-grams with their counts times their weights."""
        words = self.normalizer(text).split()
        weigh, rarest = self.weights.get, self.largest
        parts = tuple(
            {ngram: count * weigh(ngram, rarest) for ngram, count in Counter(ngrams).items()}
            for ngrams in list_ngrams(words)
        )
        norms = tuple(math.sqrt(sum(map(mul, part.values(), part.values()))) for part in parts)
        return Vector(parts, norms, max(len(words) - 1, 0))

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {"cider_d": ratio(stats[..., 0], stats[..., 1])}


def similarity(output: Vector, reference: Vector) -> float:
    """Return the mean over orders of the clipped cosine, less for another length."""
    total = 0.0
    for ours, theirs, norm, other_norm in zip(
        output.weights, reference.weights, output.norms, reference.norms, strict=True
    ):
        if norm and other_norm:
            # In the order of the output: that of a set differs from process to process, and with it the last bits.
            shared = sum([min(ours[ngram], theirs[ngram]) * theirs[ngram] for ngram in ours if ngram in theirs])
            total += shared / (norm * other_norm)
    return total / ORDER * math.exp(-((output.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))
