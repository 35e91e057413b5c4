"""Error rates: how many words or characters must be edited to turn the output into the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jiwer
import numpy as np

from salmonn_lab.metrics.item import ItemMetric, Statistics
from salmonn_lab.metrics.normalize import Normalizer, find


class ErrorRate(ItemMetric):
    """The corpus' word or character error rate as jiwer defines it: all edits over all reference units.

    An empty reference adds its insertions and no units; where every reference is empty, the rate is the number of
    insertions. Of several references the one with the fewest edits counts. `sub`, `del` and `ins` add up to the rate;
    how edits divide among them is jiwer's choice between equally short alignments.
    """

    columns = ("substitutions", "deletions", "insertions", "reference_units")
    higher_is_better = False

    def __init__(
        self,
        unit: Literal["word", "character"] = "word",
        normalizer: str | Normalizer = "whisper_en",
        **options: Any,
    ) -> None:
        if unit not in ("word", "character"):
            raise ValueError(f"unit must be word or character, got {unit!r}")
        super().__init__(**options)
        self.unit = unit
        self.normalizer = find(normalizer)

    @property
    def keys(self) -> tuple[str, ...]:
        """`wer` or `cer`, and the shares of substitutions, deletions and insertions."""
        return ("wer" if self.unit == "word" else "cer", "sub", "del", "ins")

    @property
    def signature(self) -> str:
        """Name, normalizer, aggregation, version."""
        return f"{self.keys[0]}|norm:{self.normalizer.label}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count the edits to the nearest reference."""
        output = self.normalizer(prediction)
        rows = [self._edits(self.normalizer(reference), output) for reference in references]
        return min(rows, key=lambda row: sum(row[:3]))

    def _edits(self, reference: str, output: str) -> list[int]:
        process = jiwer.process_words if self.unit == "word" else jiwer.process_characters
        edits = process(reference, output)
        return [edits.substitutions, edits.deletions, edits.insertions, len(edits.references[0])]

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide edits by reference units."""
        edits = stats[..., :3] / np.maximum(stats[..., 3:], 1)
        values = (edits.sum(axis=-1), *np.moveaxis(edits, -1, 0))
        return dict(zip(self.keys, values, strict=True))
