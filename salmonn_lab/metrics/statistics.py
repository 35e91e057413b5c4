"""The bootstrap: how far a score, or the difference of two, would move with another draw of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salmonn_lab.metrics.item import Statistics

Score = Callable[[Statistics], Mapping[str, Statistics]]
"""Turns summed rows [..., columns] into scores [...] by name: the `score` of an `ItemMetric`."""
BLOCK = 1 << 21
"""Drawn items at a time: bounds the memory of a bootstrap to some 50 MB, however many items there are."""


class Interval(NamedTuple):
    """Both ends of an interval; nan without items."""

    low: float
    high: float


class Difference(NamedTuple):
    """How much higher the first of two systems scores, with its interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def bootstrap(
    stats: Statistics, score: Score, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Return the percentile interval of each score: items are drawn with replacement, then their sums divided.

    Args:
        stats: [items, columns]; in one order of items for one interval, as `ItemMetric.items` gives them.
        score: turns summed rows into scores.
        samples: how many draws; percentiles of fewer than 1,000 are rough.
        seed: of the draws.
        level: the share of draws within the interval.
    """
    stats = check_stats(stats, samples, level)
    if len(stats) == 0:
        return dict.fromkeys(score(np.zeros(stats.shape[1])), Interval(np.nan, np.nan))
    draws = score(resample(stats, samples, seed))
    return {name: percentiles(values, level) for name, values in draws.items()}


def paired_bootstrap(
    a: Statistics, b: Statistics, score: Score, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Difference]:
    """Return how much higher `a` scores than `b`, which hold the rows of the same items in the same order.

    Both are measured on the same draws of items, so what makes an item hard for both cancels out. The p-value is twice
    the share of draws on the other side of no difference, counted so that it is never 0.

    Raises:
        ValueError: if the shapes differ.
    """
    a, b = check_stats(a, samples, level), check_stats(b, samples, level)
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same items: got rows of shapes {a.shape} and {b.shape}")
    columns = a.shape[1]
    if len(a) == 0:
        return dict.fromkeys(score(np.zeros(columns)), Difference(np.nan, np.nan, np.nan, np.nan))
    sums = resample(np.concatenate([a, b], axis=1), samples, seed)
    draws_a, draws_b = score(sums[:, :columns]), score(sums[:, columns:])
    whole_a, whole_b = score(a.sum(axis=0)), score(b.sum(axis=0))
    differences = {}
    for name in whole_a:
        draws = draws_a[name] - draws_b[name]
        tail = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
        p = min(1.0, 2 * (tail + 1) / (samples + 1))
        value = float(whole_a[name] - whole_b[name])
        differences[name] = Difference(value, *percentiles(draws, level), p)
    return differences


def resample(stats: Statistics, samples: int, seed: int) -> Statistics:
    """Return the summed rows of `samples` draws of as many items as there are: [samples, columns]."""
    generator = np.random.default_rng(seed)
    count = len(stats)
    sums = np.empty((samples, stats.shape[1]))
    rows = max(1, BLOCK // count)
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = generator.integers(count, size=(size, count), dtype=np.int32)
        drawn += np.arange(size, dtype=np.int32)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        sums[start : start + size] = times.astype(np.float64) @ stats
    return sums


def percentiles(values: NDArray[np.float64], level: float) -> Interval:
    """Return the interval that leaves equal shares of values on both sides."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def check_stats(stats: Statistics, samples: int, level: float) -> Statistics:
    """Return the rows as float64, or raise ValueError for what cannot be resampled."""
    stats = np.asarray(stats, dtype=np.float64)
    if stats.ndim != 2:
        raise ValueError(f"statistics must be [items, columns], got shape {stats.shape}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return stats
