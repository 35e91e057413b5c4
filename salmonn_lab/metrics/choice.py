"""Accuracy over closed sets of answers: labels, multiple choice, and the choice that a model finds likeliest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np

from salmonn_lab.metrics import parse
from salmonn_lab.metrics.answer import DEFAULT, EMPTY
from salmonn_lab.metrics.distinct import LADDER_LABEL, Form, check_choices, form_of
from salmonn_lab.metrics.item import ChoiceMetric, ItemMetric, Statistics, check_items, is_texts, per_item, ratio
from salmonn_lab.metrics.normalize import Normalizer, find, trimmed
from salmonn_lab.metrics.parse import OFFICIAL, PARSER, PARSERS, Parser, choose

MAXIMUM_LABELS = 64
"""Beyond which a table of confusions for each item fills the memory."""
MAXIMUM_CHOICES = len(ascii_uppercase)
YES_NO = ("yes", "no")
LETTER = re.compile(r"[(\[]([A-Z])[)\]]\.?|([A-Z])[.):]?")
PHRASINGS = {
    "ceiling_text": "{text}",
    "ceiling_letter": "{letter}",
    "ceiling_sentence": "The answer is {text}.",
    "ceiling_full": "The correct answer is ({letter}) {text}.",
}
"""Ways to give the right answer, by the score that says how many of them a parser accepts."""


class LabelMetric(ChoiceMetric):
    """A metric of answers from a closed set: an item's own choices, or else the labels of the metric.

    What an output chose is read by `parse.choose`. The members of a set are compared as the metric's normalizer leaves
    them, or where it makes two of them equal or one of them empty, in the next stricter form (`distinct.LADDER`).
    """

    def __init__(self, labels: Collection[str] = (), normalizer: str | Normalizer = DEFAULT, **options: Any) -> None:
        """Build the metric.

        Args:
            labels: the allowed answers of every item that brings no choices of its own, such as all the references of
                a test set; all that differ are kept apart.
            normalizer: name of a normalizer, or one.
            options: of torchmetrics.
        """
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.form, self.texts = self._compared(labels)
        self.labels = tuple(sorted(self.texts))

    @property
    def compared(self) -> str:
        """Part of the signature that says how outputs are read: parser, normalizer, ladder, the labels' own form."""
        form = "" if self.form.normalizer == self.normalizer else f"|labels_by:{self.form.normalizer.label}"
        labels = hash_labels(self.labels)
        return f"parser:{PARSER}|norm:{self.normalizer.label}|else:{LADDER_LABEL}|labels:{labels}{form}"

    def _compared(self, texts: Collection[str]) -> tuple[Form, dict[str, str]]:
        """Form in which some answers are compared, and the answers by what they are in it."""
        texts = frozenset(text.strip() for text in texts) - {""}
        form = form_of(texts, self.normalizer)
        return form, {form(text): text for text in texts}

    def read(
        self, prediction: str, references: Sequence[str], choices: Sequence[str] | None
    ) -> tuple[str | None, list[str], Form]:
        """What an output chose, and the right answers among those that are allowed, in the form they are compared in.

        Raises:
            ValueError: the item offers a choice twice, or an empty one; or none of the references is allowed.
        """
        if choices is not None:
            check_choices(choices)
        form, allowed = (self.form, self.texts) if choices is None else self._compared(choices)
        # Annotators' spellings of a label are one; but ".5" is no "5" where both are allowed.
        spellings = [(text,) if form.marks else (text, trimmed(text)) for text in references]
        found = (next((key for key in map(form, texts) if key in allowed), None) for texts in spellings)
        right = [key for key in found if key is not None]
        if not right:
            source = "labels" if choices is None else "choices"
            raise ValueError(f"none of the references {list(references)} is among the {source} {sorted(allowed)[:10]}")
        return choose(prediction, allowed, form), right, form


class Accuracy(LabelMetric):
    """The share of right answers where the allowed answers are known, and the share of outputs that chose one at all.

    An output that chose none, or several, is wrong.
    """

    columns = ("correct", "followed", "items")
    keys = ("accuracy", "following_rate")

    @property
    def signature(self) -> str:
        """Name, parser, normalizer, ladder, number and hash of the labels, aggregation, version."""
        return f"accuracy|{self.compared}|agg:mean|v2"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> tuple[float, ...]:
        """Read what an output chose, and compare."""
        chosen, right, _ = self.read(prediction, references, choices)
        return (float(chosen in right), float(chosen is not None), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide right items and parsed items by items."""
        return {key: ratio(stats[..., index], stats[..., 2]) for index, key in enumerate(self.keys)}


class ItemAccuracy(ChoiceMetric):
    """The share of right answers where each item alone says which are allowed: no answer depends on another item.

    An item with choices is read as `Accuracy` reads it, or by letter where all its choices are letters. Without
    choices, a reference `yes` or `no` allows these two; a letter, as in `(A)`, allows letters; any other reference must
    be equalled by the output once both are normalized, which is followed where it says anything.
    """

    columns = ("correct", "followed", "items")
    keys = ("accuracy", "following_rate")

    def __init__(self, normalizer: str | Normalizer = DEFAULT, **options: Any) -> None:
        super().__init__(**options)
        self.closed = Accuracy((), normalizer)

    @property
    def signature(self) -> str:
        """Name, what an item allows, parsers, normalizer, ladder, aggregation, version."""
        normalizer = self.closed.normalizer.label
        return (
            f"item_accuracy|allowed:choices,yes_no,letters,else_equal|parser:{PARSERS['letter'].label},{PARSER}|"
            f"norm:{normalizer}|else:{LADDER_LABEL}|agg:mean|v1"
        )

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> tuple[float, ...]:
        """Read the output as the item says."""
        if not all(map(str.strip, references)):
            raise ValueError(EMPTY.format(list(references)))
        answers = [letter_of(reference) for reference in references]
        offered = None if choices is None else [letter_of(choice) for choice in choices]
        if all(answers) if offered is None else offered and all(offered):
            return self._judge_letter(prediction, answers, choices, offered)
        if choices is None and all(reference.strip().lower() in YES_NO for reference in references):
            choices = YES_NO
        if choices is not None:
            return self.closed.judge(prediction, references, choices)
        forms = [form_of(frozenset((reference.strip(),)), self.closed.normalizer) for reference in references]
        right = any(form(prediction) == form(text) for form, text in zip(forms, references, strict=True))
        return (float(right), float(bool(prediction.strip())), 1.0)

    def _judge_letter(
        self,
        prediction: str,
        answers: Sequence[str | None],
        choices: Sequence[str] | None,
        offered: Sequence[str | None] | None,
    ) -> tuple[float, ...]:
        if choices is not None:
            check_choices(choices)
        letters = list(ascii_uppercase if offered is None else map(str, offered))
        if not set(answers) & set(letters):
            raise ValueError(f"none of the references {list(answers)} is among the choices {list(choices or ())[:10]}")
        (place,) = PARSERS["letter"](prediction, ascii_uppercase) or (None,)
        chosen = None if place is None or ascii_uppercase[place] not in letters else ascii_uppercase[place]
        return (float(chosen is not None and chosen in answers), float(chosen is not None), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide right items and parsed items by items."""
        return {key: ratio(stats[..., index], stats[..., 2]) for index, key in enumerate(self.keys)}


class LabelAccuracy(LabelMetric):
    """Scores of a classifier with few labels: plain, balanced, and by confusion.

    `weighted_accuracy` is the share of right items, `unweighted_accuracy` the mean recall of the labels, `macro_f1` the
    mean of their F1; labels that no reference has are left out of both means. An output that chose no label, or
    several, is wrong, has a column of its own in the confusion and lowers `following_rate`. An item's choices go before
    the labels; a choice that is no label is wrong, and in the same column, but followed.
    """

    keys = ("weighted_accuracy", "unweighted_accuracy", "macro_f1", "following_rate")

    def __init__(self, labels: Collection[str] = (), normalizer: str | Normalizer = DEFAULT, **options: Any) -> None:
        """Build the metric.

        Args:
            labels: all answers that are allowed.
            normalizer: name of a normalizer, or one.
            options: of torchmetrics.

        Raises:
            ValueError: there are more labels than `MAXIMUM_LABELS`.
        """
        super().__init__(labels, normalizer, **options)
        if len(self.labels) > MAXIMUM_LABELS:
            raise ValueError(f"labels must be at most {MAXIMUM_LABELS} for a confusion, got {len(self.labels)}")
        confusion = (f"{label}->{chosen}" for label in self.labels for chosen in (*self.labels, "<none>"))
        self.columns = (*confusion, "chose_no_label")

    @property
    def signature(self) -> str:
        """Name, parser, normalizer, ladder, number and hash of the labels, version."""
        return f"label_accuracy|{self.compared}|v2"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Find the item's place in the confusion; of several references one that was chosen, or else the first."""
        chosen, right, form = self.read(prediction, references, choices)
        # The item's choices may be compared in another form than the labels: what was chosen goes back to its text.
        texts = (*self.texts.values(), *references, *(choices or ()))
        names = {form(text): self.form(text) for text in texts}
        wanted = names[chosen if chosen in right else right[0]]
        if wanted not in self.labels:
            raise ValueError(f"none of the references {list(references)} is among the labels {list(self.labels[:10])}")
        row = np.zeros((len(self.labels), len(self.labels) + 1))
        name = None if chosen is None else names[chosen]
        row[self.labels.index(wanted), self.labels.index(name) if name in self.labels else -1] = 1
        return [*row.ravel().tolist(), float(name is not None and name not in self.labels)]

    def confusion(self, stats: Statistics) -> Statistics:
        """Items by reference and choice [..., labels, labels + 1], the last column those that chose no label."""
        return stats[..., :-1].reshape(*stats.shape[:-1], len(self.labels), len(self.labels) + 1)

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
            ratio(chosen.sum(axis=-1) + stats[..., -1], items),
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
        ladder = "" if self.parser.name in OFFICIAL else f"|else:{LADDER_LABEL}"
        return f"multiple_choice|parser:{self.parser.label}{ladder}|agg:mean|v2"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Read the output, and the right answer in each phrasing."""
        choices, right = place_answers(references, choices, twice=self.parser.name in OFFICIAL)
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
        return "option_likelihood|agg:mean|v2"

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


def place_answers(
    references: Sequence[str], choices: Sequence[str] | None, *, twice: bool = False
) -> tuple[Sequence[str], frozenset[int]]:
    """Return the choices of an item, and the positions of those that are right.

    A reference is the choice that it equals, or else the only one that it equals whatever the case.

    Args:
        references: the right answers.
        choices: of the item.
        twice: whether a choice may be offered twice, as official rules let it.

    Raises:
        ValueError: there are no choices, or too many, or equal ones, or none of the references is among them.
    """
    if choices is None or not is_texts(choices):
        raise ValueError(f"multiple choice needs the item's choices, a list of texts, got {choices!r}")
    if len(choices) > MAXIMUM_CHOICES:
        raise ValueError(f"an item may have up to {MAXIMUM_CHOICES} choices, got {len(choices)}")
    if not twice:
        check_choices(choices)
    offered = [choice.strip() for choice in choices]
    right: set[int] = set()
    for reference in map(str.strip, references):
        alike = [number for number, choice in enumerate(offered) if choice.casefold() == reference.casefold()]
        same = [number for number in alike if offered[number] == reference]
        if not same and len({offered[number] for number in alike}) > 1 and not twice:
            raise ValueError(f"the reference {reference!r} may be any of {[offered[number] for number in alike]}")
        right.update(same or alike)
    if not right:
        raise ValueError(f"none of the references {list(references)} is among the choices {list(choices)[:10]}")
    return choices, frozenset(right)


def letter_of(text: str) -> str | None:
    """The capital letter that a text is, alone or in brackets or before a full stop; None where it is anything else."""
    found = LETTER.fullmatch(text.strip())
    return found and (found[1] or found[2])


def hash_labels(labels: Sequence[str]) -> str:
    """Return the number and a hash of labels, which signatures show."""
    if not labels:
        return "none"
    digest = hashlib.blake2b("\n".join(labels).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{len(labels)}-{digest}"
