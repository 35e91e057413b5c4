"""Verification by a score: where false alarms are as frequent as misses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, per_item

ANSWERS = {"yes": 1.0, "no": 0.0}
"""References: whether both clips are of one speaker."""


class EqualErrorRate(ItemMetric):
    """The error rate at the threshold where as many pairs of one speaker are refused as pairs of two are accepted.

    Between two thresholds the rates are interpolated. The threshold depends on all scores, so rows do not add up: each
    is a trial, and the scores are made of all of them, still equal to the last bit in any order, batch and rank.
    """

    columns = ("score", "same")
    keys = ("eer",)
    higher_is_better = False
    summable = False

    @property
    def signature(self) -> str:
        """Name, version."""
        return "eer|v1"

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        scores: Sequence[float] | None = None,
    ) -> None:
        """Add trials.

        Args:
            preds: ignored.
            references: `yes` (one speaker) or `no` of each trial.
            ids: what tells the trials apart.
            scores: of each trial, higher where one speaker is likelier, such as log P(yes) - log P(no).

        Raises:
            ValueError: beside the reasons of every metric, if a trial has no score, or its reference is neither.
        """
        check_items(preds, references, ids)
        rows = []
        for id, refs, score in zip(ids, references, per_item("scores", scores, ids), strict=True):
            if refs[0].strip().lower() not in ANSWERS:
                raise ValueError(f"item {id!r}: the reference of a trial must be yes or no, got {refs[0]!r}")
            if score is None or np.isnan(score):
                raise ValueError(f"item {id!r}: a trial needs a score, got {score!r}")
            rows.append((float(score), ANSWERS[refs[0].strip().lower()]))
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Refuse: a trial needs a score, which `update` takes."""
        raise ValueError("the equal error rate is measured from scores, which only `update` takes")

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Refuse: there is no equal error rate of summed rows."""
        raise ValueError("the equal error rate is made of all trials, not of their sum: use `score_rows`")

    def score_rows(self, stats: Statistics) -> dict[str, Statistics]:
        """Find the rate of some trials; nan where all are of one kind."""
        return {"eer": np.float64(equal_error_rate(stats[:, 0], stats[:, 1] > 0))}  # type: ignore[dict-item]


def equal_error_rate(scores: Statistics, same: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """Return the rate at which misses equal false alarms.

    Args:
        scores: of the trials, higher where one speaker is likelier.
        same: whether they are of one speaker.
    """
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        return float("nan")
    # Trials of one score are accepted together: one threshold for each different score, from the highest down.
    _, place = np.unique(-scores, return_inverse=True)
    accepted = np.cumsum(np.bincount(place, weights=same)) / positives
    alarms = np.append(0.0, np.cumsum(np.bincount(place, weights=~same)) / negatives)
    misses = 1 - np.append(0.0, accepted)
    after = int(np.argmax(alarms >= misses))  # the last threshold accepts everything, so there is one; never the first
    ahead, behind = misses[after - 1] - alarms[after - 1], alarms[after] - misses[after]
    part = ahead / (ahead + behind)
    return float(alarms[after - 1] + part * (alarms[after] - alarms[after - 1]))
