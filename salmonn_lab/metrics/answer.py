"""Answers that are right or wrong: exact match, and accuracy over closed sets of answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

PARSER = "choice@1"
"""Name and version of `parse_choice`, for signatures."""


class Constant(NamedTuple):
    """The answer that scores best when it is given to every item, and its share of right items."""

    answer: str
    accuracy: float


class ExactMatch(ItemMetric):
    """The share of outputs that equal one of their references once both are normalized."""

    columns = ("correct", "items")
    keys = ("exact_match",)
    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "whisper_en", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"exact_match|norm:{self.normalizer.label}|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with each reference."""
        right = normalized(self.normalizer, prediction) in normalized_set(self.normalizer, references)
        return (float(right), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide right items by items."""
        return {"exact_match": ratio(stats[..., 0], stats[..., 1])}


class Accuracy(ItemMetric):
    """The share of right answers where the allowed answers are known, and the share of outputs that chose one at all.

    What an output chose is read by `parse_choice`. An output that chose none, or several, is wrong.
    """

    columns = ("correct", "followed", "items")
    keys = ("accuracy", "following_rate")
    higher_is_better = True

    def __init__(
        self, labels: Collection[str] = (), normalizer: str | Normalizer = "whisper_en", **options: Any
    ) -> None:
        """Build the metric.

        Args:
            labels: the allowed answers of every item that brings no choices of its own, such as all the references of
                a test set.
            normalizer: name of a normalizer, or one.
            options: of torchmetrics.
        """
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.labels = frozenset(normalized_set(self.normalizer, labels))

    @property
    def signature(self) -> str:
        """Name, parser, normalizer, number and hash of the labels, aggregation, version."""
        digest = hashlib.blake2b("\n".join(sorted(self.labels)).encode(), digest_size=4).hexdigest()
        labels = f"{len(self.labels)}-{digest}" if self.labels else "none"
        return f"accuracy|parser:{PARSER}|norm:{self.normalizer.label}|labels:{labels}|agg:mean|v1"

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
    ) -> None:
        """Add items.

        Args:
            preds: what the model wrote.
            references: the right answers of each item.
            ids: what tells the items apart.
            choices: the allowed answers of each item; where None, the metric's labels.

        Raises:
            ValueError: beside the reasons of every metric, if an item has neither choices nor labels, or none of its
                references is among them.
        """
        check_items(preds, references, ids)
        choices = [None] * len(ids) if choices is None else choices
        if isinstance(choices, str) or len(choices) != len(ids):
            raise ValueError(f"choices must be a list with an entry for each of the {len(ids)} items, got {choices!r}")
        rows = []
        for id, pred, refs, allowed in zip(ids, preds, references, choices, strict=True):
            try:
                rows.append(self._row(pred, refs, allowed))
            except ValueError as error:
                raise ValueError(f"item {id!r}: {error}") from None
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Judge one item by the metric's labels."""
        return self._row(prediction, references, None)

    def _row(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> tuple[float, ...]:
        if isinstance(choices, str):
            raise ValueError(f"choices must be a list of texts, got the text {choices!r}")
        allowed = self.labels if choices is None else normalized_set(self.normalizer, choices)
        right = {answer for answer in normalized_set(self.normalizer, references) if answer and answer in allowed}
        if not right:
            source = "labels" if choices is None else "choices"
            raise ValueError(f"none of the references {list(references)} is among the {source} {sorted(allowed)[:10]}")
        chosen = parse_choice(normalized(self.normalizer, prediction), allowed)
        return (float(chosen in right), float(chosen is not None), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide right items and parsed items by items."""
        return {key: ratio(stats[..., index], stats[..., 2]) for index, key in enumerate(self.keys)}


def parse_choice(text: str, choices: Iterable[str]) -> str | None:
    """Return the one choice that a text makes; None where it makes none, or more than one.

    That is the choice it equals, else the only one whose words stand in it side by side. A choice that stands there
    only as part of a longer one does not count: "not sad" chooses "not sad", though "sad" is a choice too.

    Args:
        text: normalized.
        choices: normalized in the same way.
    """
    allowed = {choice for choice in choices if choice}
    if text in allowed:
        return text
    words = text.split()
    spans = [span for choice in allowed for span in occurrences(choice.split(), words)]
    whole = [span for span in spans if not any(contains(other, span) for other in spans)]
    found = {" ".join(words[span.start : span.stop]) for span in whole}
    return found.pop() if len(found) == 1 else None


def occurrences(part: Sequence[str], words: Sequence[str]) -> list[range]:
    """Return where some words stand side by side among others."""
    starts = range(len(words) - len(part) + 1)
    return [range(start, start + len(part)) for start in starts if words[start : start + len(part)] == part]


def contains(outer: range, inner: range) -> bool:
    """Tell whether a stretch lies within a longer one."""
    return outer.start <= inner.start and inner.stop <= outer.stop and len(outer) > len(inner)


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
