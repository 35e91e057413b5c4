"""Error rates: how many words, characters or phones must be edited to turn the output into the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise, permutations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import LCSseq, Levenshtein

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import Normalizer, find

Counts = NDArray[np.int64]
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
AT_ONCE = 256
"""Items that are measured together: with the words of ten thousand in memory, Python looks for garbage among them."""
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

    def units(self, key: str) -> str | None:
        """Column of the reference's words, characters or phones."""
        return "reference_units"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits to the nearest reference."""
        (row,) = self.measure_all([prediction], [references]).tolist()
        numbers: list[float] = row
        return numbers

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Count the edits of all items at once, of each to its nearest reference."""
        rows = np.empty((len(preds), len(ErrorRate.columns)))
        for start in range(0, len(preds), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            rows[some] = self._count(preds[some], references[some])
        return rows

    def _count(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Counts:
        """Return what `count_edits` does, of each item to its nearest reference, the first of several."""
        normalize, split = self.normalizer.function, SPLIT[self.unit]
        written = list(map(split, map(normalize, preds)))
        wanted = list(map(split, map(normalize, chain.from_iterable(references))))
        if len(wanted) == len(written):
            return count_edits(wanted, written)
        sizes = [len(refs) for refs in references]
        rows = count_edits(wanted, [output for output, size in zip(written, sizes, strict=True) for _ in range(size)])
        edits, starts = rows[:, :3].sum(axis=1), np.cumsum([0, *sizes])
        nearest = [start + int(edits[start:end].argmin()) for start, end in pairwise(starts.tolist())]
        return rows[nearest]

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

    def units(self, key: str) -> str | None:
        """None: `mer` and `wil` are fractions of a number that the output has a part in, the others of the items."""
        return None

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Count the edits of all items at once, and note each one's own rate."""
        counts = super().measure_all(preds, references)
        edits, units = counts[:, :3].sum(axis=1), counts[:, 3]
        rates = np.where(units > 0, edits / np.maximum(units, 1), 0.0)
        return np.column_stack([counts, edits > 0, rates, units > 0, np.ones(len(counts))])

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
    many parts as speakers; empty parts do not count. Counted in characters, for languages without spaces between words,
    the first two are `cpcer` and `cer_best_order`.
    """

    columns = ("edits", "edits_best_order", "reference_words", "right_count", "items")
    higher_is_better = False

    def __init__(
        self,
        normalizer: str | Normalizer = "whisper_en",
        separator: str = "\n",
        unit: Literal["word", "character"] = "word",
        **options: Any,
    ) -> None:
        """Build the metric.

        Args:
            normalizer: name of a normalizer, or one; applied to each part.
            separator: stands between speakers in outputs and references.
            unit: what is counted.
            options: of torchmetrics.
        """
        if not separator:
            raise ValueError("separator must not be empty")
        if unit not in ("word", "character"):
            raise ValueError(f"unit must be word or character, got {unit!r}")
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.separator = separator
        self.unit: Unit = unit

    @property
    def keys(self) -> tuple[str, ...]:
        """The rate of the best assignment, that of the best order, and how often the number of speakers is right."""
        rate = NAMES[self.unit]
        return (f"cp{rate}", f"{rate}_best_order", "speaker_count_accuracy")

    def units(self, key: str) -> str | None:
        """Column of the reference's words, but for the number of speakers, which is of items."""
        return None if key == "speaker_count_accuracy" else "reference_words"

    @property
    def signature(self) -> str:
        """Name, normalizer, separator, aggregation, version."""
        return f"{self.keys[0]}|norm:{self.normalizer.label}|sep:{self.separator!r}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits of the best assignment; of several references that with the fewest counts."""
        parts = self._parts(prediction)
        return min((self._edits(self._parts(reference), parts) for reference in references), key=lambda row: row[:2])

    def _parts(self, text: str) -> list[list[str]]:
        """Return the words of each part that has any."""
        return [words for part in text.split(self.separator) if (words := SPLIT[self.unit](self.normalizer(part)))]

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


def count_edits(references: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]]) -> Counts:
    """Return the edits that turn each reference into its output, as rapidfuzz divides them.

    Returns:
        [pairs, 4]: substitutions, deletions, insertions, units of the reference.
    """
    units = np.fromiter(map(len, references), np.int64, len(references))
    lost = units - np.fromiter(map(len, outputs), np.int64, len(outputs))
    edits = pairwise_scores(references, outputs, Levenshtein.distance)
    # What is beyond the difference of lengths is substitutions, and pairs of a deletion and an insertion. An alignment
    # of that many edits keeps `longer length - edits` units, and one more for each pair. Where no alignment whatever
    # keeps more, there are no pairs, and the alignment itself, which takes longer, need not be known.
    substitutions = edits - np.abs(lost)
    unsure = np.flatnonzero(substitutions > 1)
    chosen = [references[place] for place in unsure.tolist()], [outputs[place] for place in unsure.tolist()]
    kept = pairwise_scores(*chosen, LCSseq.similarity)
    most = np.maximum(units, units - lost)[unsure] - edits[unsure]
    for place in unsure[kept > most].tolist():
        steps = Levenshtein.editops(references[place], outputs[place]).as_list()
        substitutions[place] = [kind for kind, _, _ in steps].count("replace")
    deletions = (edits - substitutions + lost) // 2
    return np.column_stack([substitutions, deletions, edits - substitutions - deletions, units])


def pairwise_scores(
    first: Sequence[Sequence[str]], second: Sequence[Sequence[str]], scorer: Callable[..., int]
) -> NDArray[np.int64]:
    """Return a score of rapidfuzz for each pair, in one call: Python's part takes as long as a score of some words."""
    return np.asarray(process.cpdist(first, second, scorer=scorer, dtype=np.int64), dtype=np.int64)


def align(reference: Sequence[str], output: Sequence[str]) -> list[Stretch]:
    """Return the way from the units of a reference to those of an output: the alignment that `ErrorRate` counts."""
    return [
        Stretch(SIGNS[step.tag], reference[step.src_start : step.src_end], output[step.dest_start : step.dest_end])
        for step in Levenshtein.opcodes(reference, output)
    ]
