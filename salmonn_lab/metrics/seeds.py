"""How a setting scores, and differs from another, when each was trained with several seeds.

All runs answer the same items, so what makes an item hard is shared by all of them, and what a seed does is shared by
all items: a crossed design, in which neither runs nor items alone are the sample. The variance of a mean over seeds is
that of a two-way analysis of variance with both as random effects (Brennan 2001, *Generalizability Theory*; Owen 2007,
"The pigeonhole bootstrap"): what items share, plus the scatter of the seeds, minus their interaction, which both
contain. A corpus score is no mean of its items; the jackknife tells what each item moves it by, and those numbers take
the items' place. Degrees of freedom are Satterthwaite's, as in Welch's test, so that a scatter known from three seeds
gives wide intervals.

Neither a bootstrap nor a permutation could do this with the usual three seeds: drawing three from three makes the
variance of seeds a third too small, and no exchange of three with three runs has a p-value below 0.1. Seeds of two
settings are not paired: the same seed draws other weights for another architecture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salmonn_lab.metrics.item import Statistics
from salmonn_lab.metrics.statistics import Score, check_stats

PLACES, WEIGHTS = np.polynomial.legendre.leggauss(96)
"""Of the quadrature of Student's distribution: good to 1e-9 wherever it is asked. They take longer than their use."""
NORMAL = 1e6
"""Degrees of freedom at which Student's distribution is the normal one, to 1e-6."""


class SeedMean(NamedTuple):
    """The mean score over seeds, with its interval, which covers other seeds and other items of the same kind."""

    value: float
    low: float
    high: float
    spread: float
    """Standard deviation over seeds; nan of one seed, whose interval covers other items alone."""


class SeedDifference(NamedTuple):
    """How much higher one setting scores than another, both averaged over seeds; with interval and two-sided p."""

    value: float
    low: float
    high: float
    p: float
    seeds: bool
    """Whether the scatter of seeds is in both; nothing is known of it where neither setting has a second seed."""


@dataclass(frozen=True)
class RunSummary:
    """What is known of a run whose answers are not there: its score, with the 95 % interval over its items."""

    value: float
    low: float
    high: float
    count: int
    """Items."""


class Part(NamedTuple):
    """One part of a variance, and the degrees of freedom that it is known with."""

    variance: float
    freedom: float


class Runs(NamedTuple):
    """What the variance of a mean over runs is made of."""

    scores: NDArray[np.float64]
    """[runs]"""
    pulls: NDArray[np.float64]
    """[runs, items]: what each item moves the score by, times the number of items; their mean is 0."""


def seed_means(runs: Sequence[Statistics], score: Score, level: float = 0.95) -> dict[str, SeedMean]:
    """Return the mean of each score over the runs of one setting.

    Args:
        runs: for each seed the rows [items, columns] of the same items in the same order.
        score: turns summed rows into scores.
        level: of the interval.

    Raises:
        ValueError: there are no runs, or they hold other items.
    """
    found = {}
    for name, measured in measure(runs, score).items():
        value, spread = float(measured.scores.mean()), scatter(measured)
        variance, freedom = combine(items_part(measured.pulls.mean(axis=0)), seed_parts([measured]))
        half = quantile(level, freedom) * math.sqrt(variance)
        found[name] = SeedMean(value, value - half, value + half, spread)
    return found


def seed_differences(
    a: Sequence[Statistics], b: Sequence[Statistics], score: Score, level: float = 0.95
) -> dict[str, SeedDifference]:
    """Return how much higher the runs of `a` score than those of `b`, as the file's first lines say.

    Where one of the two has a single run, its seeds are taken to scatter like the other's. The p-value is never below
    2 / 2^n of n items: a difference that is the same on every item has no variance to be judged by.

    Args:
        a: for each seed the rows [items, columns] of the same items in the same order, in `b` too.
        b: the setting to compare with, of as many seeds or not.
        score: turns summed rows into scores.
        level: of the interval.

    Raises:
        ValueError: there are no runs, or they hold other items.
    """
    found = {}
    ours, theirs = measure(a, score), measure(b, score)
    for name, one in ours.items():
        other = theirs[name]
        if one.pulls.shape[1] != other.pulls.shape[1]:
            raise ValueError(f"the runs hold {one.pulls.shape[1]} and {other.pulls.shape[1]} items")
        value = float(one.scores.mean() - other.scores.mean())
        parts = seed_parts([one, other])
        shared = items_part(one.pulls.mean(axis=0) - other.pulls.mean(axis=0))
        variance, freedom = combine(shared, parts)
        error = math.sqrt(variance)
        half = quantile(level, freedom) * error
        least = 2.0 ** (1 - one.pulls.shape[1])
        p = max(outside(abs(value) / error, freedom), least) if error > 0 else 1.0 if value == 0 else min(least, 1.0)
        p = math.nan if math.isnan(value) else min(p, 1.0)
        found[name] = SeedDifference(value, value - half, value + half, p, bool(parts))
    return found


def summary_mean(runs: Sequence[RunSummary], level: float = 0.95) -> SeedMean:
    """The mean score over the runs of one setting of which only scores are known.

    What items bring to it is read off the runs' own intervals, and taken to be shared by all runs.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("there are no runs")
    values = np.array([run.value for run in runs])
    variance, freedom = added(summary_items(runs), summary_seeds([runs]))
    half = quantile(level, freedom) * math.sqrt(variance)
    value = float(values.mean())
    return SeedMean(value, value - half, value + half, float(values.std(ddof=1)) if len(runs) > 1 else math.nan)


def summary_difference(a: Sequence[RunSummary], b: Sequence[RunSummary], level: float = 0.95) -> SeedDifference:
    """How much higher the runs of `a` score than those of `b`, of which only scores are known.

    The items of the two settings are taken to differ, so what makes an item hard for both is not taken out of their
    difference, as `seed_differences` does: the interval is mostly wider than its. Of a difference far from 0 the
    p-value may be smaller, for the degrees of freedom are known less well.

    Raises:
        ValueError: there are no runs.
    """
    if not a or not b:
        raise ValueError("there are no runs")
    value = float(np.mean([run.value for run in a]) - np.mean([run.value for run in b]))
    parts = summary_seeds([a, b])
    variance, freedom = added(joint([summary_items(a), summary_items(b)]), parts)
    error = math.sqrt(variance)
    half = quantile(level, freedom) * error
    least = 2.0 ** (1 - min(run.count for run in (*a, *b)))
    p = max(outside(abs(value) / error, freedom), least) if error > 0 else 1.0 if value == 0 else min(least, 1.0)
    p = math.nan if math.isnan(value) or math.isnan(error) else min(p, 1.0)
    return SeedDifference(value, value - half, value + half, p, bool(parts))


def summary_items(runs: Sequence[RunSummary]) -> Part:
    """Variance that other items would bring to the mean of runs, read off their intervals."""
    halves = [(run.high - run.low) / 2 for run in runs]
    normal = quantile(0.95, NORMAL)
    return Part(float(np.mean([(half / normal) ** 2 for half in halves])), max(runs[0].count - 1, 1))


def summary_seeds(settings: Sequence[Sequence[RunSummary]]) -> list[Part]:
    """Variance that seeds bring to the mean of each setting; nothing where none has a second run, as `seed_parts`."""
    several = [runs for runs in settings if len(runs) > 1]
    sources = [runs if len(runs) > 1 else several[0] for runs in settings if several]
    return [
        Part(float(np.var([run.value for run in source], ddof=1)) / len(runs), len(source) - 1)
        for runs, source in zip(settings, sources, strict=bool(several))
    ]


def added(items: Part, seeds: Sequence[Part]) -> Part:
    """Variance of all parts together; of what seeds and items bring together, which both contain, none is taken away.

    Where seeds bring the most of it, it is known no better than they are.
    """
    whole = joint([items, *seeds])
    of_seeds = joint(seeds)
    return whole._replace(freedom=min(whole.freedom, of_seeds.freedom)) if of_seeds.variance > items.variance else whole


def joint(parts: Sequence[Part]) -> Part:
    """Variance of independent parts together, with Satterthwaite's degrees of freedom."""
    total = sum(part.variance for part in parts)
    scale = sum(part.variance**2 / part.freedom for part in parts)
    return Part(total, max(1.0, total**2 / scale) if scale > 0 else 1.0)


def measure(runs: Sequence[Statistics], score: Score) -> dict[str, Runs]:
    """Return each score of each run, and what every item moves it by."""
    tables = [check_stats(rows) for rows in runs]
    if not tables:
        raise ValueError("there are no runs")
    if len(shapes := {table.shape for table in tables}) > 1:
        raise ValueError(f"the runs hold other items: got rows of shapes {', '.join(map(str, sorted(shapes)))}")
    count = len(tables[0])
    wholes = [score(table.sum(axis=0)) for table in tables]
    left_out = [score(table.sum(axis=0) - table) for table in tables]
    found = {}
    for name in wholes[0]:
        without = np.stack([part[name] for part in left_out])
        pulls = (count - 1) * (without.mean(axis=1, keepdims=True) - without)
        found[name] = Runs(np.array([float(whole[name]) for whole in wholes]), pulls)
    return found


def scatter(runs: Runs) -> float:
    """Return the standard deviation of the scores over seeds, nan of one."""
    return float(runs.scores.std(ddof=1)) if len(runs.scores) > 1 else math.nan


def items_part(pulls: NDArray[np.float64]) -> Part:
    """Return the variance that other items would bring to a contrast of which each item moves so much."""
    count = len(pulls)
    return Part(math.nan, 0) if count < 2 else Part(float((pulls**2).sum()) / (count * (count - 1)), count - 1)


def seed_parts(settings: Sequence[Runs]) -> list[tuple[Part, Part]]:
    """Return for each setting the variance that seeds bring to its mean, and the share of it that items bring too.

    The share is the interaction: that a seed is good at some items and bad at others. Nothing where no setting has a
    second run; a setting without one borrows from those that have.
    """
    several = [runs for runs in settings if len(runs.scores) > 1]
    parts = []
    for runs in settings if several else ():
        source = runs if len(runs.scores) > 1 else several[0]
        seeds, count = source.pulls.shape
        rest = source.pulls - source.pulls.mean(axis=0)
        freedom = (seeds - 1) * (count - 1)
        interaction = float((rest**2).sum()) / freedom / count if freedom else 0.0
        own = len(runs.scores)
        parts.append(
            (Part(float(source.scores.var(ddof=1)) / own, seeds - 1), Part(interaction / own, max(freedom, 1)))
        )
    return parts


def combine(items: Part, seeds: Sequence[tuple[Part, Part]]) -> Part:
    """Return the variance of all parts together: no less than that of items alone, nor than that of seeds alone."""
    own, shared = [part for part, _ in seeds], [part for _, part in seeds]
    of_seeds = sum(part.variance for part in own)
    total = items.variance + of_seeds - sum(part.variance for part in shared)
    total = max(total, items.variance, of_seeds) if not math.isnan(total) else math.nan
    scale = sum(part.variance**2 / part.freedom for part in (items, *own, *shared) if part.freedom)
    return Part(total, max(1.0, total**2 / scale) if scale > 0 else 1.0)


def outside(distance: float, freedom: float) -> float:
    """Return the share of Student's distribution that lies farther from 0 than `distance`, on either side.

    With t = sqrt(freedom) tan(x), the density becomes a power of the cosine, which a quadrature takes as it is.
    """
    if math.isnan(distance):
        return math.nan
    edge = math.atan(distance / math.sqrt(freedom))
    inside = float((np.cos((PLACES + 1) / 2 * edge) ** (freedom - 1)) @ WEIGHTS) / 2 * edge
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return max(0.0, 1 - 2 * constant * inside)


def quantile(level: float, freedom: float) -> float:
    """Return the distance from 0 within which so large a share of Student's distribution lies."""
    low, high = 0.0, 1.0
    while outside(high, freedom) > 1 - level:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2
