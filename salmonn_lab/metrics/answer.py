"""Free answers that are right or wrong: equal to a reference, sharing its words, or holding it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import Normalizer, find


class Constant(NamedTuple):
    """The answer that scores best when it is given to every item, and its share of right items."""

    answer: str
    accuracy: float


class MeanMetric(ItemMetric):
    """A score that is the mean of one number an item, of texts compared once they are normalized."""

    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "whisper_en", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"{self.keys[0]}|norm:{self.normalizer.label}|agg:mean|v1"

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {self.keys[0]: ratio(stats[..., 0], stats[..., 1])}


class ExactMatch(MeanMetric):
    """The share of outputs that equal one of their references once both are normalized."""

    columns = ("correct", "items")
    keys = ("exact_match",)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with each reference."""
        right = normalized(self.normalizer, prediction) in normalized_set(self.normalizer, references)
        return (float(right), 1.0)


class TokenF1(MeanMetric):
    """The F1 of words against the nearest reference, averaged over items, as SQuAD has it."""

    columns = ("token_f1", "items")
    keys = ("token_f1",)

    def __init__(self, normalizer: str | Normalizer = "squad", **options: Any) -> None:
        super().__init__(normalizer, **options)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with each reference."""
        words = self.normalizer(prediction).split()
        return (max(token_f1(words, self.normalizer(reference).split()) for reference in references), 1.0)


class ContainsAnswer(MeanMetric):
    """The share of outputs in which the words of some reference stand side by side.

    Words, not letters: "scat" does not hold "cat". A reference of which nothing is left once it is normalized is held
    only by an output of which nothing is left either.
    """

    columns = ("held", "items")
    keys = ("contains_answer",)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Look for each reference."""
        words = self.normalizer(prediction).split()
        return (float(any(holds(words, self.normalizer(reference).split()) for reference in references)), 1.0)


class KeywordMatch(ItemMetric):
    """Keywords found: the share of all references that outputs hold, and of all given keywords that are references.

    An output is searched for each reference as `ContainsAnswer` does. What it gives as keywords is what commas,
    semicolons and line ends divide, numbers and bullets in front left out. Where outputs give three keywords each, the
    precision is the share of right ones among them.
    """

    columns = ("found", "references", "right", "given", "items")
    keys = ("keyword_recall", "keyword_precision", "keywords_given")
    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "whisper_en", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"keywords|norm:{self.normalizer.label}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count keywords on both sides."""
        words = self.normalizer(prediction).split()
        wanted = {keyword for keyword in normalized_set(self.normalizer, references) if keyword}
        given = {keyword for keyword in normalized_set(self.normalizer, split_list(prediction)) if keyword}
        found = sum(holds(words, keyword.split()) for keyword in wanted)
        return (found, len(wanted), len(given & wanted), len(given), 1)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide; no keywords given have no precision to speak of, which is 0."""
        found, wanted, right, given, items = (stats[..., index] for index in range(5))
        return {
            "keyword_recall": ratio(found, wanted),
            "keyword_precision": right / given.clip(min=1),
            "keywords_given": ratio(given, items),
        }


def split_list(text: str) -> list[str]:
    """Return the entries of a list that is written out, without the marks in front of them."""
    return [re.sub(r"^\s*(?:\d+[.)]|[-*\u2022])\s*", "", entry) for entry in re.split(r"[,;\n]", text)]


def token_f1(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of two bags of words as SQuAD's evaluation does: 1 where both are empty, 0 where one is."""
    if not words or not reference:
        return float(not words and not reference)
    shared = (Counter(words) & Counter(reference)).total()
    return 2 * shared / (len(words) + len(reference))


def holds(words: Sequence[str], part: Sequence[str]) -> bool:
    """Tell whether some words stand side by side among others; no words stand only where there are no others."""
    return bool(occurrences(part, words)) if part else not words


def occurrences(part: Sequence[str], words: Sequence[str]) -> list[range]:
    """Return where some words stand side by side among others."""
    starts = range(len(words) - len(part) + 1)
    return [range(start, start + len(part)) for start in starts if words[start : start + len(part)] == part]


def constant_baseline(references: Sequence[Sequence[str]], normalizer: str | Normalizer = "whisper_en") -> Constant:
    """Return the best answer that ignores the audio: what a score must beat to mean anything.

    Args:
        references: the right answers of each item.
        normalizer: as in the metric that the baseline stands beside.

    Raises:
        ValueError: there are no items.
    """
    if not references:
        raise ValueError("there is no best constant answer without items")
    chosen = find(normalizer)
    counts = Counter(answer for refs in references for answer in sorted(normalized_set(chosen, refs)))
    answer = min(counts, key=lambda text: (-counts[text], text))
    return Constant(answer, counts[answer] / len(references))


def normalized(normalizer: Normalizer, text: str) -> str:
    """Return a text as it is compared; Whisper's normalizers may leave spaces at the ends."""
    return normalizer(text).strip()


def normalized_set(normalizer: Normalizer, texts: Iterable[str]) -> set[str]:
    """Return texts as they are compared."""
    return {normalized(normalizer, text) for text in texts}
