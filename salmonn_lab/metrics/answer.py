"""Free answers that are right or wrong: equal to a reference, sharing its words, or holding it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from salmonn_lab.metrics.distinct import LADDER_LABEL, Form, form_of, may_stand, merge_spellings
from salmonn_lab.metrics.item import ChoiceMetric, ItemMetric, Statistics, check_items, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

DEFAULT = "whisper_en_signs"
"""Normalizer of short answers, in which a sign may be all that tells two apart."""
EMPTY = "a reference must not be empty, got {}"


class Constant(NamedTuple):
    """The answer that scores best when it is given to every item, and its share of right items."""

    answer: str
    accuracy: float


class AnswerMetric(ItemMetric):
    """A metric of texts compared once they are normalized, each reference in a form that leaves something of it.

    Whisper's normalizer deletes `(A)` and "um"; such a reference is compared in the next stricter form (`distinct`).
    """

    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = DEFAULT, **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def compared(self) -> str:
        """Part of the signature that says how texts are compared: normalizer and ladder."""
        return f"norm:{self.normalizer.label}|else:{LADDER_LABEL}"

    def update(self, preds: Sequence[str], references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Add items.

        Raises:
            ValueError: beside the reasons of every metric, if a reference is empty: every empty output would equal it.
        """
        check_items(preds, references, ids)
        for id, refs in zip(ids, references, strict=True):
            if not all(map(str.strip, refs)):
                raise ValueError(f"item {id!r}: {EMPTY.format(list(refs))}")
        super().update(preds, references, ids)

    def form_of(self, reference: str) -> Form:
        """The form in which a reference is compared."""
        return form_of(frozenset((reference.strip(),)), self.normalizer)


class MeanMetric(AnswerMetric):
    """A score that is the mean of one number an item."""

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"{self.keys[0]}|{self.compared}|agg:mean|v2"

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {self.keys[0]: ratio(stats[..., 0], stats[..., 1])}


class ExactMatch(ChoiceMetric):
    """The share of outputs that equal one of their references once both are normalized.

    Where an item brings choices that the normalizer cannot keep apart, all are compared in the next stricter form.
    """

    columns = ("correct", "items")
    keys = ("exact_match",)

    def __init__(self, normalizer: str | Normalizer = DEFAULT, **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, ladder, aggregation, version."""
        return f"exact_match|norm:{self.normalizer.label}|else:{LADDER_LABEL}|agg:mean|v2"

    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Compare with each reference."""
        if not all(map(str.strip, references)):
            raise ValueError(EMPTY.format(list(references)))
        offered = frozenset(choice.strip() for choice in choices or ()) - {""}
        forms = [form_of(offered or frozenset((reference.strip(),)), self.normalizer) for reference in references]
        right = any(equals(prediction, *pair) for pair in zip(references, forms, strict=True))
        return (float(right), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {self.keys[0]: ratio(stats[..., 0], stats[..., 1])}


class TokenF1(MeanMetric):
    """The F1 of words against the nearest reference, averaged over items, as SQuAD has it."""

    columns = ("token_f1", "items")
    keys = ("token_f1",)

    def __init__(self, normalizer: str | Normalizer = "squad", **options: Any) -> None:
        super().__init__(normalizer, **options)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with each reference."""
        return (max(self._f1(prediction, reference) for reference in references), 1.0)

    def _f1(self, prediction: str, reference: str) -> float:
        form = self.form_of(reference)
        return token_f1(form.words(form(prediction)), form.words(form(reference)))


class ContainsAnswer(MeanMetric):
    """The share of outputs in which the words of some reference stand side by side.

    Words, not letters: "scat" does not hold "cat".
    """

    columns = ("held", "items")
    keys = ("contains_answer",)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Look for each reference."""
        return (float(any(self.holds(prediction, reference) for reference in references)), 1.0)

    def holds(self, prediction: str, reference: str) -> bool:
        """Tell whether the words of a reference stand side by side in an output."""
        form = self.form_of(reference)
        text, part = form(prediction), form(reference)
        return may_stand(part, text) and holds(form.words(text), form.words(part))


class KeywordMatch(AnswerMetric):
    """Keywords found: the share of all references that outputs hold, and of all given keywords that are references.

    An output is searched for each reference as `ContainsAnswer` does. What it gives as keywords is what commas,
    semicolons and line ends divide, numbers and bullets in front left out. Where outputs give three keywords each, the
    precision is the share of right ones among them. Keywords of an item that the normalizer cannot keep apart, as `C`
    and `C++`, are compared in the next stricter form.
    """

    columns = ("found", "references", "right", "given", "items")
    keys = ("keyword_recall", "keyword_precision", "keywords_given")

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"keywords|{self.compared}|agg:corpus|v2"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count keywords on both sides."""
        form = form_of(frozenset(merge_spellings(references)), self.normalizer)
        text = form(prediction)
        words = form.words(text)
        wanted = {form(keyword) for keyword in merge_spellings(references)}
        given = {keyword for entry in split_list(prediction) if (keyword := form(entry))}
        found = sum(may_stand(keyword, text) and holds(words, form.words(keyword)) for keyword in wanted)
        return (found, len(wanted), len(given & wanted), len(given), 1)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide; no keywords given have no precision to speak of, which is 0."""
        found, wanted, right, given, items = (stats[..., index] for index in range(5))
        return {
            "keyword_recall": ratio(found, wanted),
            "keyword_precision": right / given.clip(min=1),
            "keywords_given": ratio(given, items),
        }


def equals(prediction: str, reference: str, form: Form) -> bool:
    """Tell whether an output is a reference in some form, of which something is left."""
    return form(prediction) == form(reference) != ""


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


def constant_baseline(references: Sequence[Sequence[str]], normalizer: str | Normalizer = DEFAULT) -> Constant:
    """Return the best answer that ignores the audio: what a score must beat to mean anything.

    Args:
        references: the right answers of each item; one that differs from another in case, spaces and punctuation at
            the ends alone is the same answer.
        normalizer: as in the metric that the baseline stands beside; answers that it cannot keep apart are compared in
            the next stricter form.

    Raises:
        ValueError: there are no items.
    """
    if not references:
        raise ValueError("there is no best constant answer without items")
    labels = frozenset(merge_spellings({text for refs in references for text in refs}))
    form = form_of(labels, find(normalizer))
    counts = Counter(key for refs in references for key in sorted({form(text) for text in merge_spellings(refs)}))
    if not counts:
        raise ValueError("there is no best constant answer to items whose references are all empty")
    answer = min(counts, key=lambda text: (-counts[text], text))
    return Constant(answer, counts[answer] / len(references))


def normalized(normalizer: Normalizer, text: str) -> str:
    """Return a text as it is compared; Whisper's normalizers may leave spaces at the ends."""
    return normalizer(text).strip()


def normalized_set(normalizer: Normalizer, texts: Iterable[str]) -> set[str]:
    """Return texts as they are compared."""
    return {normalized(normalizer, text) for text in texts}
