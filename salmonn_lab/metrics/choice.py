"""Accuracy over closed sets of answers: labels, multiple choice, and the choice that a model finds likeliest."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Sequence
from string import ascii_uppercase
from typing import Any, TypeVar

import numpy as np

from salmonn_lab.metrics import parse
from salmonn_lab.metrics.answer import normalized, normalized_set
from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, ratio
from salmonn_lab.metrics.normalize import Normalizer, find
from salmonn_lab.metrics.parse import PARSER, Parser, parse_choice

Value = TypeVar("Value")
MAXIMUM_LABELS = 64
"""Beyond which a table of confusions for each item fills the memory."""
MAXIMUM_CHOICES = len(ascii_uppercase)
PHRASINGS = {
    "ceiling_text": "{text}",
    "ceiling_letter": "{letter}",
    "ceiling_sentence": "The answer is {text}.",
    "ceiling_full": "The correct answer is ({letter}) {text}.",
}
"""Ways to give the right answer, by the score that says how many of them a parser accepts."""


class ChoiceMetric(ItemMetric):
    """A metric whose items may bring the answers that are allowed."""

    higher_is_better = True

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
            choices: the allowed answers of each item; where None, those of the metric.

        Raises:
            ValueError: beside the reasons of every metric, if an item has no choices at all, or none of its references
                is among them.
        """
        check_items(preds, references, ids)
        choices = per_item("choices", choices, ids)
        rows = []
        for id, pred, refs, allowed in zip(ids, preds, references, choices, strict=True):
            try:
                if isinstance(allowed, str):
                    raise ValueError(f"choices must be a list of texts, got the text {allowed!r}")
                rows.append(self.judge(pred, refs, allowed))
            except ValueError as error:
                raise ValueError(f"item {id!r}: {error}") from None
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Judge one item by the metric's own choices."""
        return self.judge(prediction, references, None)

    @abstractmethod
    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Return the row of one item, which may bring its choices."""


class Accuracy(ChoiceMetric):
    """The share of right answers where the allowed answers are known, and the share of outputs that chose one at all.

    What an output chose is read by `parse_choice`. An output that chose none, or several, is wrong.
    """

    columns = ("correct", "followed", "items")
    keys = ("accuracy", "following_rate")

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
        labels = hash_labels(sorted(self.labels))
        return f"accuracy|parser:{PARSER}|norm:{self.normalizer.label}|labels:{labels}|agg:mean|v1"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> tuple[float, ...]:
        """Read what an output chose, and compare."""
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


class LabelAccuracy(ItemMetric):
    """Scores of a classifier with few labels: plain, balanced, and by confusion.

    `weighted_accuracy` is the share of right items, `unweighted_accuracy` the mean recall of the labels, `macro_f1` the
    mean of their F1; labels that no reference has are left out of both means. An output that chose no label, or
    several, is wrong, has a column of its own in the confusion and lowers `following_rate`.
    """

    keys = ("weighted_accuracy", "unweighted_accuracy", "macro_f1", "following_rate")
    higher_is_better = True

    def __init__(
        self, labels: Collection[str] = (), normalizer: str | Normalizer = "whisper_en", **options: Any
    ) -> None:
        """Build the metric.

        Args:
            labels: all answers that are allowed.
            normalizer: name of a normalizer, or one.
            options: of torchmetrics.

        Raises:
            ValueError: there are more labels than `MAXIMUM_LABELS`.
        """
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.labels = tuple(sorted(label for label in normalized_set(self.normalizer, labels) if label))
        if len(self.labels) > MAXIMUM_LABELS:
            raise ValueError(f"labels must be at most {MAXIMUM_LABELS} for a confusion, got {len(self.labels)}")
        self.columns = tuple(f"{label}->{chosen}" for label in self.labels for chosen in (*self.labels, "<none>"))

    @property
    def signature(self) -> str:
        """Name, parser, normalizer, number and hash of the labels, version."""
        labels = hash_labels(self.labels)
        return f"label_accuracy|parser:{PARSER}|norm:{self.normalizer.label}|labels:{labels}|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Find the item's place in the confusion; of several references one that was chosen, or else the first."""
        right = [label for reference in references if (label := normalized(self.normalizer, reference)) in self.labels]
        if not right:
            raise ValueError(f"none of the references {list(references)} is among the labels {list(self.labels[:10])}")
        chosen = parse_choice(normalized(self.normalizer, prediction), self.labels)
        row = np.zeros((len(self.labels), len(self.labels) + 1))
        column = len(self.labels) if chosen is None else self.labels.index(chosen)
        row[self.labels.index(chosen if chosen in right else right[0]), column] = 1
        flat: list[float] = row.ravel().tolist()
        return flat

    def confusion(self, stats: Statistics) -> Statistics:
        """Return items by reference and choice [..., labels, labels + 1], the last column those that chose nothing."""
        return stats.reshape(*stats.shape[:-1], len(self.labels), len(self.labels) + 1)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Derive all scores from the confusion."""
        confusion = self.confusion(stats)
        right = np.diagonal(confusion[..., :-1], axis1=-2, axis2=-1)
        wanted, chosen = confusion.sum(axis=-1), confusion[..., :-1].sum(axis=-2)
        items, present = wanted.sum(axis=-1), wanted > 0
        recalls = np.where(present, right / np.maximum(wanted, 1), 0.0)
        f1 = np.where(present, 2 * right / np.maximum(wanted + chosen, 1), 0.0)
        labels = present.sum(axis=-1)
        values = (
            ratio(right.sum(axis=-1), items),
            ratio(recalls.sum(axis=-1), labels),
            ratio(f1.sum(axis=-1), labels),
            ratio(chosen.sum(axis=-1), items),
        )
        return dict(zip(self.keys, values, strict=True))


class MultipleChoice(ChoiceMetric):
    """Accuracy of multiple choice as a named parser reads it, with what the parser and the choices alone give.

    An output that the parser does not understand is wrong, and lowers `following_rate`; `accuracy_of_parsed` leaves it
    out, as AIR-Bench does. The ceilings are the accuracies that right answers would get, put in the ways of
    `PHRASINGS`; `best_position` is that of always giving the choice at the best place.
    """

    columns = (
        "correct",
        "parsed",
        "items",
        *PHRASINGS,
        *(f"answer_at_{position}" for position in range(MAXIMUM_CHOICES)),
    )
    keys = ("accuracy", "following_rate", "accuracy_of_parsed", *PHRASINGS, "best_position")

    def __init__(self, parser: str | Parser = "letter_or_text", **options: Any) -> None:
        super().__init__(**options)
        self.parser = parse.find(parser)

    @property
    def signature(self) -> str:
        """Name, parser, aggregation, version."""
        return f"multiple_choice|parser:{self.parser.label}|agg:mean|v1"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Read the output, and the right answer in each phrasing."""
        choices, right = place_answers(references, choices)
        chosen = self.parser(prediction, choices)
        answer = min(right)
        ceilings = (
            phrasing.format(letter=ascii_uppercase[answer], text=choices[answer]) for phrasing in PHRASINGS.values()
        )
        return (
            float(bool(chosen & right)),
            float(bool(chosen)),
            1.0,
            *(float(bool(self.parser(text, choices) & right)) for text in ceilings),
            *(float(position in right) for position in range(MAXIMUM_CHOICES)),
        )

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide by items; the best position is that with the most right answers."""
        correct, parsed, items = (stats[..., index] for index in range(3))
        ceilings = stats[..., 3 : 3 + len(PHRASINGS)]
        return {
            "accuracy": ratio(correct, items),
            "following_rate": ratio(parsed, items),
            "accuracy_of_parsed": correct / np.maximum(parsed, 1),
            **{key: ratio(ceilings[..., index], items) for index, key in enumerate(PHRASINGS)},
            "best_position": ratio(stats[..., 3 + len(PHRASINGS) :].max(axis=-1), items),
        }


class OptionLikelihood(ItemMetric):
    """The share of items whose right choice is the likeliest to the model, in sum and by length.

    Nothing is parsed, so nothing is unparsed. `accuracy_likelihood` takes the log-likelihood of each whole choice,
    which favours short ones; `accuracy_likelihood_normalized` divides it by the choice's length. Where the right choice
    is as likely as a wrong one, the item is wrong: a model that cannot tell has not chosen.
    """

    columns = ("correct", "correct_normalized", "items")
    keys = ("accuracy_likelihood", "accuracy_likelihood_normalized")
    higher_is_better = True

    @property
    def signature(self) -> str:
        """Name, aggregation, version."""
        return "option_likelihood|agg:mean|v1"

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
        log_likelihoods: Sequence[Sequence[float]] | None = None,
        lengths: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Add items.

        Args:
            preds: ignored.
            references: the right answers of each item.
            ids: what tells the items apart.
            choices: of each item.
            log_likelihoods: of each choice of each item, summed over its tokens.
            lengths: of each choice of each item in tokens, which the normalized score divides by.

        Raises:
            ValueError: beside the reasons of every metric, if something is not there for each choice of each item, or
                is no number, or none of the references is among the choices.
        """
        check_items(preds, references, ids)
        rows = []
        for id, refs, texts, values, tokens in zip(
            ids,
            references,
            per_item("choices", choices, ids),
            per_item("log_likelihoods", log_likelihoods, ids),
            per_item("lengths", lengths, ids),
            strict=True,
        ):
            try:
                texts, right = place_answers(refs, texts)
                if values is None or tokens is None or not len(texts) == len(values) == len(tokens):
                    raise ValueError(f"each of the {len(texts)} choices needs a log-likelihood and a length")
                sums, sizes = np.asarray(values, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
                if np.isnan(sums).any() or not (sizes > 0).all():
                    raise ValueError("log-likelihoods must be numbers, and lengths positive")
            except ValueError as error:
                raise ValueError(f"item {id!r}: {error}") from None
            rows.append((float(likeliest(sums) <= right), float(likeliest(sums / sizes) <= right), 1.0))
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Refuse: an item needs log-likelihoods, which `update` takes."""
        raise ValueError("option likelihood is measured from log_likelihoods, which only `update` takes")

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide right items by items."""
        return {key: ratio(stats[..., index], stats[..., 2]) for index, key in enumerate(self.keys)}


def likeliest(values: Statistics) -> frozenset[int]:
    """Return the positions of the highest value."""
    return frozenset(np.flatnonzero(values == values.max()).tolist())


def place_answers(references: Sequence[str], choices: Sequence[str] | None) -> tuple[Sequence[str], frozenset[int]]:
    """Return the choices of an item, and the positions of those that are right, whatever their case.

    Raises:
        ValueError: there are no choices, or too many, or none of the references is among them.
    """
    if choices is None or isinstance(choices, str):
        raise ValueError(f"multiple choice needs the item's choices, a list of texts, got {choices!r}")
    if len(choices) > MAXIMUM_CHOICES:
        raise ValueError(f"an item may have up to {MAXIMUM_CHOICES} choices, got {len(choices)}")
    answers = {reference.strip().casefold() for reference in references}
    right = frozenset(number for number, choice in enumerate(choices) if choice.strip().casefold() in answers)
    if not right:
        raise ValueError(f"none of the references {list(references)} is among the choices {list(choices)[:10]}")
    return choices, right


def per_item(name: str, values: Sequence[Value] | None, ids: Sequence[str]) -> Sequence[Value | None]:
    """Return a value for each item, None for all where none are given; refuse another number of them."""
    if values is None:
        return [None] * len(ids)
    if isinstance(values, str) or len(values) != len(ids):
        raise ValueError(f"{name} must be a list with an entry for each of the {len(ids)} items, got {values!r}")
    return values


def hash_labels(labels: Sequence[str]) -> str:
    """Return the number and a hash of labels, which signatures show."""
    if not labels:
        return "none"
    digest = hashlib.blake2b("\n".join(labels).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{len(labels)}-{digest}"
