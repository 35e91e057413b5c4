"""The equal error rate is where misses are as frequent as false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.metrics.verification import EqualErrorRate, equal_error_rate


def rate(scores: list[float], same: list[int]) -> float:
    return equal_error_rate(np.array(scores, dtype=np.float64), np.array(same, dtype=bool))


@pytest.mark.parametrize(
    ("scores", "same", "expected"),
    [
        ([3, 2, 1, 0], [1, 1, 0, 0], 0.0),
        ([0, 1, 2, 3], [1, 1, 0, 0], 1.0),
        ([3, 2, 1, 0], [1, 0, 1, 0], 0.5),
        ([5, 5, 5, 5], [1, 1, 0, 0], 0.5),
        ([9, 8, 7, 6, 5, 4], [1, 1, 0, 1, 0, 0], 1 / 3),
        ([4, 3, 2, 1, 0], [1, 1, 0, 1, 0], 1 / 3),
        ([1, 0], [1, 1], math.nan),
    ],
)
def test_these_scores_have_these_rates(scores: list[float], same: list[int], expected: float) -> None:
    assert rate(scores, same) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_the_rate_lies_on_the_curve_where_it_crosses_the_diagonal(trials: list[tuple[int, bool]]) -> None:
    scores, same = [float(score) for score, _ in trials], [int(label) for _, label in trials]
    if len(set(same)) < 2:
        return
    value = rate(scores, same)
    positives, negatives = sum(same), len(same) - sum(same)
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        alarms = sum(s >= threshold and not y for s, y in zip(scores, same, strict=True)) / negatives
        misses = sum(s < threshold and y for s, y in zip(scores, same, strict=True)) / positives
        points.append((alarms, misses))
    alarms, misses = zip(*points, strict=True)
    grid = np.interp(np.linspace(0, len(points) - 1, 4001), range(len(points)), alarms)
    other = np.interp(np.linspace(0, len(points) - 1, 4001), range(len(points)), misses)
    assert value == pytest.approx(grid[np.argmin(np.abs(grid - other))], abs=1e-3)


def test_swapping_speakers_and_signs_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    scores, same = generator.normal(size=200), generator.random(200) < 0.3
    assert equal_error_rate(scores, same) == pytest.approx(equal_error_rate(-scores, ~same), abs=1e-12)


def test_trials_without_score_or_with_another_reference_are_refused() -> None:
    metric = EqualErrorRate()
    with pytest.raises(ValueError, match="item 'x': a trial needs a score, got None"):
        metric.update([""], [["yes"]], ["x"])
    with pytest.raises(ValueError, match="item 'x': a trial needs a score, got nan"):
        metric.update([""], [["yes"]], ["x"], [math.nan])
    with pytest.raises(ValueError, match="must be yes or no, got 'maybe'"):
        metric.update([""], [["maybe"]], ["x"], [1.0])
    with pytest.raises(ValueError, match="only `update` takes"):
        metric.measure("yes", ["yes"])
