"""SLU-F1: how well the slots of a spoken command are filled, where nearly right words count in part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from salmonn_lab.metrics.item import ItemMetric, Statistics
from salmonn_lab.metrics.normalize import Normalizer, find

NOTHING = re.compile(r"\W*none\W*", re.IGNORECASE)
"""What says that a command fills no slot."""


class Slot(NamedTuple):
    """A kind of slot and the words that fill it."""

    kind: str
    filler: str


class SluF1(ItemMetric):
    """SLU-F1 as SLURP's official script has it, micro-averaged, with its parts.

    Each slot of the output takes the nearest slot of its kind in the reference: a hit, and as much of a miss on both
    sides as the fillers differ, by word error rate (`word_f1`) and by characters (`char_f1`); slots of one side alone
    are whole misses. `slu_f1` is the F1 of both tables added up. `span_f1` counts equal fillers only. The official
    script leaves out recordings without a prediction; here an empty output misses all its slots.

    Outputs and references are texts: `kind: filler` entries, with semicolons or line ends between; an entry without a
    kind fills no slot of the reference, and `none` alone is no entry: not every command fills a slot. Of several
    references the one with the fewest misses counts.
    """

    columns = tuple(f"{table}_{kind}" for table in ("word", "char", "span") for kind in ("hits", "extra", "missed"))
    keys = ("slu_f1", "slu_precision", "slu_recall", "word_f1", "char_f1", "span_f1")
    higher_is_better = True

    def __init__(self, normalizer: str | Normalizer = "raw_lower", **options: Any) -> None:
        super().__init__(**options)
        self.normalizer = find(normalizer)

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"slu_f1|norm:{self.normalizer.label}|agg:micro|v2"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count hits and misses against each reference."""
        output = self._slots(prediction)
        rows = [self._count(self._slots(reference), output) for reference in references]
        return min(rows, key=lambda row: sum(row[1:3]) + sum(row[4:6]))

    def _slots(self, text: str) -> list[Slot]:
        return [Slot(self.normalizer(slot.kind), self.normalizer(slot.filler)) for slot in parse_slots(text)]

    def _count(self, wanted: list[Slot], written: list[Slot]) -> tuple[float, ...]:
        same = sum(min(wanted.count(slot), written.count(slot)) for slot in set(written))
        return (
            *match(wanted, written, word_distance),
            *match(wanted, written, character_distance),
            *(same, len(written) - same, len(wanted) - same),
        )

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Combine each table to an F1, and those of words and characters to SLU-F1; 0 without a hit."""
        hits, extra, missed = np.moveaxis(stats.reshape(*stats.shape[:-1], 3, 3), -1, 0)
        both = [counts[..., :2].sum(axis=-1) for counts in (hits, extra, missed)]
        f1 = share(2 * hits, extra + missed)
        return {
            "slu_f1": share(2 * both[0], both[1] + both[2]),
            "slu_precision": share(both[0], both[1]),
            "slu_recall": share(both[0], both[2]),
            **{key: f1[..., index] for index, key in enumerate(("word_f1", "char_f1", "span_f1"))},
        }


def share(part: Statistics, rest: Statistics) -> Statistics:
    """Return what a part is of itself and the rest, 0 where both are nothing."""
    whole = part + rest
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def parse_slots(text: str) -> list[Slot]:
    """Return the slots that are written in a text; what has no colon is the filler of a slot without a kind."""
    slots: list[Slot] = []
    if NOTHING.fullmatch(text):
        return slots
    for entry in re.split(r"[;\n]", text):
        kind, colon, filler = entry.partition(":")
        if entry.strip():
            slots.append(Slot(kind.strip(), filler.strip()) if colon else Slot("", entry.strip()))
    return slots


def match(
    wanted: Sequence[Slot], written: Sequence[Slot], distance: Callable[[str, str], float]
) -> tuple[float, float, float]:
    """Return hits, misses of the output and misses of the reference, each written slot taking the nearest left."""
    left = list(wanted)
    hits = extra = missed = 0.0
    for slot in written:
        same = [number for number, other in enumerate(left) if other.kind == slot.kind]
        if not same:
            extra += 1
            continue
        nearest = min(same, key=lambda number: distance(left[number].filler, slot.filler))
        apart = distance(left.pop(nearest).filler, slot.filler)
        hits, extra, missed = hits + 1, extra + apart, missed + apart
    return hits, extra, missed + len(left)


def word_distance(wanted: str, written: str) -> float:
    """Return the word error rate of a filler, which may exceed 1."""
    words = wanted.split()
    return Levenshtein.distance(words, written.split()) / max(len(words), 1)


def character_distance(wanted: str, written: str) -> float:
    """Return the edits between two fillers over the length of the longer one."""
    return Levenshtein.normalized_distance(wanted, written)
