"""Error rates: how many words, characters or phones must be edited to turn the output into the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

Unit = Literal["word", "character", "phone"]
NAMES = {"word": "wer", "character": "cer", "phone": "per"}
NORMALIZER = {"word": "whisper_en", "character": "whisper_en", "phone": "phones"}
"""Of each unit, where none is named."""
SPLIT: dict[Unit, Callable[[str], list[str]]] = {
    "word": str.split,
    "character": lambda text: list(text.strip()),
    "phone": str.split,
}
"""Takes a normalized text apart into units."""
SIGNS = {"equal": "=", "replace": "~", "delete": "-", "insert": "+"}
"""Of rapidfuzz's names for what happens to units."""
MAXIMUM_SPEAKERS = 6
"""Beyond which the orders of speakers are too many to try."""


class Stretch(NamedTuple):
    """Neighbouring units of an alignment to which the same happened."""

    sign: str
    """`=`, `~` (substituted), `-` (missing) or `+` (added)."""
    reference: Sequence[str]
    """Empty where something was added."""
    output: Sequence[str]
    """Empty where something is missing."""


class ErrorRate(ItemMetric):
    """The corpus' word, character or phone error rate as jiwer defines it: all edits over all reference units.

    An empty reference adds its insertions and no units; where every reference is empty, the rate is the number of
    insertions. Of several references the one with the fewest edits counts. `sub`, `del` and `ins` add up to the rate;
    how edits divide among them is rapidfuzz's choice, and so jiwer's, between equally short alignments. Characters are
    those of the normalized text, spaces within it included; words and phones are what stands between white space.
    """

    columns: tuple[str, ...] = ("substitutions", "deletions", "insertions", "reference_units")
    higher_is_better = False

    def __init__(self, unit: Unit = "word", normalizer: str | Normalizer | None = None, **options: Any) -> None:
        """Build the metric.

        Args:
            unit: what is counted.
            normalizer: name of a normalizer, or one; None is Whisper's for English, and for phones that which drops
                stress digits and silences.
            options: of torchmetrics.
        """
        if unit not in NAMES:
            raise ValueError(f"unit must be one of {', '.join(NAMES)}, got {unit!r}")
        super().__init__(**options)
        self.unit = unit
        self.normalizer = find(NORMALIZER[unit] if normalizer is None else normalizer)

    @property
    def keys(self) -> tuple[str, ...]:
        """`wer`, `cer` or `per`, and the shares of substitutions, deletions and insertions."""
        return (NAMES[self.unit], "sub", "del", "ins")

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"{NAMES[self.unit]}|norm:{self.normalizer.label}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits to the nearest reference."""
        normalize, split = self.normalizer.function, SPLIT[self.unit]
        output = split(normalize(prediction))
        if len(references) == 1:
            return count_edits(split(normalize(references[0])), output)
        rows = [count_edits(split(normalize(reference)), output) for reference in references]
        return min(rows, key=lambda row: sum(row[:3]))

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide edits by reference units."""
        edits = stats[..., :3] / np.maximum(stats[..., 3:4], 1)
        values = (edits.sum(axis=-1), *np.moveaxis(edits, -1, 0))
        return dict(zip(self.keys, values, strict=True))


class MatchRate(ErrorRate):
    """What else one alignment says: match error rate, word information lost and preserved, sentences with an error.

    `mean_utterance` is the mean of the items' own error rates, over items whose reference is not empty: it weighs short
    utterances more than the corpus' rate does, and is not comparable with it.
    """

    columns = (*ErrorRate.columns, "wrong", "rates", "rated", "items")

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that jiwer uses, then those of the rates by item."""
        return ("mer", "wil", "wip", "ser", "mean_utterance")

    @property
    def signature(self) -> str:
        """Name, unit, normalizer, version."""
        return f"match_rate|unit:{self.unit}|norm:{self.normalizer.label}|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits to the nearest reference, and note the item's own rate."""
        row = super().measure(prediction, references)
        edits, units = sum(row[:3]), row[3]
        return (*row, float(edits > 0), edits / units if units else 0.0, float(units > 0), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Relate hits to both texts, and errors to items."""
        substitutions, deletions, insertions, units, wrong, rates, rated, items = np.moveaxis(stats, -1, 0)
        hits = units - substitutions - deletions
        edits, written = substitutions + deletions + insertions, units - deletions + insertions
        kept = np.where(units + written == 0, 1.0, hits / np.maximum(units, 1) * hits / np.maximum(written, 1))
        values = (edits / np.maximum(hits + edits, 1), 1 - kept, kept, ratio(wrong, items), ratio(rates, rated))
        return dict(zip(self.keys, values, strict=True))


class PermutedErrorRate(ItemMetric):
    """Word error rates of speech that overlaps, whatever the order in which the speakers are written down.

    `cpwer` is the concatenated minimum-permutation rate: what the separator divides in the output is matched with what
    it divides in the reference so that the fewest words are edited; what stays over on either side is all edits
    (Watanabe et al., 2020, and meeteval). An output without separators has one part, and loses the other speakers.
    `wer_best_order` ignores the separators of the output: it is the plain rate against the best order of the speakers,
    for models that write one after the other without a mark. `speaker_count_accuracy` is the share of items with as
    many parts as speakers; empty parts do not count.
    """

    columns = ("edits", "edits_best_order", "reference_words", "right_count", "items")
    keys = ("cpwer", "wer_best_order", "speaker_count_accuracy")
    higher_is_better = False

    def __init__(self, normalizer: str | Normalizer = "whisper_en", separator: str = "\n", **options: Any) -> None:
        """Build the metric.

        Args:
            normalizer: name of a normalizer, or one; applied to each part.
            separator: stands between speakers in outputs and references.
            options: of torchmetrics.
        """
        if not separator:
            raise ValueError("separator must not be empty")
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.separator = separator

    @property
    def signature(self) -> str:
        """Name, normalizer, separator, aggregation, version."""
        return f"cpwer|norm:{self.normalizer.label}|sep:{self.separator!r}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits of the best assignment; of several references that with the fewest counts."""
        parts = self._parts(prediction)
        return min((self._edits(self._parts(reference), parts) for reference in references), key=lambda row: row[:2])

    def _parts(self, text: str) -> list[list[str]]:
        """Return the words of each part that has any."""
        return [words for part in text.split(self.separator) if (words := self.normalizer(part).split())]

    def _edits(self, speakers: list[list[str]], parts: list[list[str]]) -> tuple[float, ...]:
        if len(speakers) > MAXIMUM_SPEAKERS:
            raise ValueError(f"a reference may have up to {MAXIMUM_SPEAKERS} speakers, got {len(speakers)}")
        written = [word for part in parts for word in part]
        orders = permutations(speakers)
        best = min(Levenshtein.distance([word for part in order for word in part], written) for order in orders)
        words = sum(map(len, speakers))
        return (assign(speakers, parts), best, words, float(len(speakers) == len(parts)), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide edits by reference words, right counts by items."""
        words = np.maximum(stats[..., 2], 1)
        values = (stats[..., 0] / words, stats[..., 1] / words, ratio(stats[..., 3], stats[..., 4]))
        return dict(zip(self.keys, values, strict=True))


def assign(speakers: Sequence[Sequence[str]], parts: Sequence[Sequence[str]]) -> int:
    """Return the fewest edits over all ways to give each speaker at most one part of the output, and none twice.

    A dynamic program over the parts and the set of speakers that have one: linear in the parts, of which a looping
    model may write hundreds.
    """
    # At first nobody has a part, and all words are deleted.
    best = {0: sum(map(len, speakers))}
    for part in parts:
        gains = [Levenshtein.distance(speaker, part) - len(speaker) for speaker in speakers]
        following: dict[int, int] = {}
        for taken, edits in best.items():
            steps = [(taken, edits + len(part))]  # nobody's: all its words are insertions
            steps += [
                (taken | 1 << number, edits + gain) for number, gain in enumerate(gains) if not taken >> number & 1
            ]
            for state, total in steps:
                following[state] = min(total, following.get(state, total))
        best = following
    return min(best.values())


def count_edits(reference: Sequence[str], output: Sequence[str]) -> tuple[int, int, int, int]:
    """Return the substitutions, deletions and insertions that turn the reference into the output, and its units."""
    units, lost = len(reference), len(reference) - len(output)
    count = Levenshtein.distance(reference, output)
    # What is beyond the difference of lengths is substitutions, and pairs of a deletion and an insertion: up to one, it
    # can only be a substitution, so that the alignment itself, which takes longer, need not be known.
    substitutions = count - abs(lost)
    if substitutions > 1:
        substitutions = [kind for kind, _, _ in Levenshtein.editops(reference, output).as_list()].count("replace")
    deletions = (count - substitutions + lost) // 2
    return substitutions, deletions, count - substitutions - deletions, units


def align(reference: Sequence[str], output: Sequence[str]) -> list[Stretch]:
    """Return the way from the units of a reference to those of an output: the alignment that `ErrorRate` counts."""
    return [
        Stretch(SIGNS[step.tag], reference[step.src_start : step.src_end], output[step.dest_start : step.dest_end])
        for step in Levenshtein.opcodes(reference, output)
    ]
