"""How far a score can be trusted: its interval, tests of two systems on the same items, and its power.

Everything takes the rows of an `ItemMetric` and its `score`, and so holds for any corpus metric: sums are drawn or
swapped first, and divided afterwards. Where items are not independent, as those of one speaker or of one recording are
not, `by_cluster` makes them one row, and everything here then draws and swaps whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import numpy as np

from salmonn_lab.metrics.item import ItemMetric, Statistics

Score = Callable[[Statistics], Mapping[str, Statistics]]
"""Turns summed rows [..., columns] into scores [...] by name: the `score` of an `ItemMetric`."""
BLOCK = 1 << 21
"""Drawn items at a time: bounds the memory of a bootstrap to some 50 MB, however many items there are."""
Method = Literal["bca", "percentile"]
"""How an interval is read off the draws. `percentile` cuts equal shares off both ends; `bca` shifts the cuts by how
biased and how skewed the score is, and so holds the truth more often where a few items make most of the errors: with
3 % of looping transcripts among 132, 93 % of the time instead of 91 %. On other data the two are equally good."""
SWAPS = 10_000
"""Swaps of a test: enough for a p-value of 0.05 to be good to 0.004, and to pass Holm's correction of 200 tests."""
FEW_EVENTS = 5
"""Right or wrong items below which draws of them give too narrow an interval."""
SAME = 1e-9
"""Differences that are equal to this share are equal: sums in another order differ in their last bits."""


class Interval(NamedTuple):
    """Both ends of an interval; nan where there is none, as of a single item."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


class Difference(NamedTuple):
    """How much higher the first of two systems scores, with its interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


class McNemar(NamedTuple):
    """The two-sided p-values of McNemar's test.

    `exact` keeps its level and is timid; `mid_p` is closer to its level and has not been seen to exceed it (Fagerland,
    Lydersen and Laake 2013); `corrected` is the chi-square form with Edwards' continuity correction.
    """

    exact: float
    mid_p: float
    corrected: float


def bootstrap(
    stats: Statistics,
    score: Score,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "bca",
) -> dict[str, Interval]:
    """Return the interval of each score: items are drawn with replacement, then their sums divided.

    Args:
        stats: [items, columns]; in one order of items for one interval, as `ItemMetric.items` gives them.
        score: turns summed rows into scores.
        samples: how many draws; fewer than 1,000 are rough.
        seed: of the draws.
        level: the share of draws within the interval.
        method: see `Method`.
    """
    stats = check_stats(stats, samples, level)
    check_method(method)
    if len(stats) < 2:
        return dict.fromkeys(score(np.zeros(stats.shape[1])), NO_INTERVAL)
    return intervals(stats, score, score(resample(stats, samples, seed)), level, method)


def bootstrap_rows(
    stats: Statistics, score_rows: Score, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Return what `bootstrap` does by percentiles, for a score that is made of all rows and not of their sum.

    Args:
        stats: [items, columns].
        score_rows: turns the rows of some items into scores: that of an `ItemMetric` which is not `summable`.
        samples: how many draws.
        seed: of the draws.
        level: the share of draws within the interval.
    """
    stats = check_stats(stats, samples, level)
    if len(stats) < 2:
        return dict.fromkeys(score_rows(stats), NO_INTERVAL)
    generator = np.random.default_rng(seed)
    draws = [score_rows(stats[generator.integers(len(stats), size=len(stats))]) for _ in range(samples)]
    ends = [50 * (1 - level), 50 * (1 + level)]
    return {name: Interval(*np.percentile([float(draw[name]) for draw in draws], ends).tolist()) for name in draws[0]}


def metric_intervals(
    metric: ItemMetric, stats: Statistics, plain_numbers: Collection[str] = (), samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """The 95 % interval of each of a metric's scores of some items: the bootstrap's where that can give one.

    Draws cannot tell of errors that no item has. Where all items score alike, and where fewer than `FEW_EVENTS` of
    them are right or wrong, the interval of a fraction of items is Wilson's; an error rate of 0 or 1 has the exact
    binomial (Clopper-Pearson) interval of its words, characters or phones, as if each were independent of the others.
    A single item has no interval, nor has a number that is no fraction and the same of every item. No interval of a
    fraction leaves 0 to 1.

    Args:
        metric: whose scores they are.
        stats: [items, columns]; or of clusters of items.
        plain_numbers: keys of scores that are no fractions.
        samples: draws.
        seed: of the draws.
    """
    if len(stats) < 2:
        return dict.fromkeys(metric.keys, NO_INTERVAL)
    if metric.summable:
        drawn, values = bootstrap(stats, metric.score, samples, seed), metric.score(stats)
    else:
        drawn, values = bootstrap_rows(stats, metric.score_rows, samples, seed), {}
    wholes = metric.score_rows(stats)
    found = {}
    for key in metric.keys:
        alone = np.asarray(values[key]) if key in values else np.full(len(stats), math.nan)
        column = metric.units(key)
        units = None if column is None else int(stats[:, metric.columns.index(column)].sum())
        found[key] = settled(drawn[key], float(wholes[key]), alone, units, key not in plain_numbers)
    return found


def settled(drawn: Interval, value: float, alone: Statistics, units: int | None, fraction: bool) -> Interval:
    """The interval of one score, as `metric_intervals` says.

    Args:
        drawn: by the bootstrap.
        value: of all items together.
        alone: of each item, [items]; nan where it has none.
        units: what an error rate is a fraction of; None for a fraction of items.
        fraction: whether the score is one, or an error rate.
    """
    flat = drawn.high - drawn.low <= SAME * max(1.0, abs(value))
    known = alone[~np.isnan(alone)]
    if units is not None and fraction:
        bounded = units > 0 and value <= 1
        return drawn if not flat else binomial(round(value * units), units) if bounded else NO_INTERVAL
    if not fraction or math.isnan(value) or ((known < -SAME) | (known > 1 + SAME)).any():
        return NO_INTERVAL if flat else drawn
    count = len(known) or len(alone)
    right = int((known == 1).sum())
    decided = bool(np.isin(known, (0, 1)).all()) and abs(right / count - value) <= SAME
    if flat or (decided and min(right, count - right) < FEW_EVENTS):
        return wilson(min(value, 1.0) * count, count)
    return clipped(drawn)


def clipped(interval: Interval) -> Interval:
    """The part of an interval that a fraction can reach, 0 to 1."""
    low, high = np.clip(interval, 0.0, 1.0).tolist()
    return Interval(low, high)


def binomial(events: int, count: int, level: float = 0.95) -> Interval:
    """The interval of a fraction of independent units: Clopper and Pearson's of none or all, Wilson's between.

    Of none in `count` the upper end is about 3.7 / `count`.

    Raises:
        ValueError: if there are more events than units, or a negative number of either.
    """
    if 0 < events < count or count == 0:
        return wilson(events, count, level)
    wilson(events, count, level)  # which refuses impossible counts
    least = ((1 - level) / 2) ** (1 / count)
    return Interval(0.0, 1 - least) if events == 0 else Interval(least, 1.0)


def paired_bootstrap(
    a: Statistics,
    b: Statistics,
    score: Score,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "bca",
) -> dict[str, Difference]:
    """Return how much higher `a` scores than `b`, which hold the rows of the same items in the same order.

    Both are measured on the same draws of items, so what makes an item hard for both cancels out. The p-value is twice
    the share of draws on the other side of no difference, counted so that it is never 0.

    Raises:
        ValueError: if the shapes differ.
    """
    pairs = side_by_side(check_stats(a, samples, level), check_stats(b, samples, level))
    difference = difference_of(score)
    values = difference(pairs.sum(axis=0))
    if len(pairs) < 2:
        alone = {name: float(value) if len(pairs) else np.nan for name, value in values.items()}
        return {name: Difference(value, np.nan, np.nan, np.nan) for name, value in alone.items()}
    draws = difference(resample(pairs, samples, seed))
    ranges = intervals(pairs, difference, draws, level, method)
    return {name: Difference(float(values[name]), *ranges[name], both_sides(draws[name])) for name in values}


def swap_test(a: Statistics, b: Statistics, score: Score, swaps: int = SWAPS, seed: int = 0) -> dict[str, float]:
    """Return the two-sided p-value that `a` and `b` score alike, by swapping whole rows between them.

    If the systems were alike, it would not matter which of them wrote which output of an item: the p-value is the share
    of swaps that put the scores at least as far apart as they are. Every possible swap is tried where there are no more
    than `swaps`; else as many random ones, the observed one counted among them, so that the p-value is never 0. Also
    known as approximate randomization (Riezler and Maxwell 2005), or sign-flip test where the score is a mean.

    Raises:
        ValueError: if the shapes differ.
    """
    a, b = check_stats(a, swaps), check_stats(b, swaps)
    columns = a.shape[1]
    pairs = side_by_side(a, b)
    if len(pairs) == 0:
        return dict.fromkeys(score(np.zeros(columns)), math.nan)
    difference, total = difference_of(score), pairs.sum(axis=0)
    moves = (b - a)[(a != b).any(axis=1)]  # a swap of equal rows changes nothing
    exact = len(moves) < 63 and 1 << len(moves) <= swaps
    count = 1 << len(moves) if exact else swaps
    observed = {name: abs(float(value)) for name, value in difference(total).items()}
    as_far = dict.fromkeys(observed, 0)
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // max(1, len(moves)))
    for start in range(0, count, block):
        size = min(block, count - start)
        if exact:
            chosen = (np.arange(start, start + size)[:, None] >> np.arange(len(moves))) & 1
        else:
            chosen = generator.integers(2, size=(size, len(moves)), dtype=np.int8)
        moved = chosen.astype(np.float64) @ moves
        for name, values in difference(total + np.concatenate([moved, -moved], axis=1)).items():
            as_far[name] += int(np.count_nonzero(np.abs(values) >= observed[name] * (1 - SAME)))
    return {
        name: math.nan if math.isnan(observed[name]) else (number if exact else number + 1) / (count + (not exact))
        for name, number in as_far.items()
    }


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Test whether two systems are right equally often.

    Args:
        only_a: items that only the first gets right.
        only_b: items that only the second gets right.

    Raises:
        ValueError: for a negative count.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts must not be negative, got {only_a} and {only_b}")
    count, fewer = only_a + only_b, min(only_a, only_b)
    if count == 0:
        return McNemar(1.0, 1.0, 1.0)
    ways = tail = 1
    for index in range(fewer):
        ways = ways * (count - index) // (index + 1)
        tail += ways
    # In whole numbers: 2 ** count is beyond a float from a thousand items on.
    exact = min(1.0, 2 * tail / 2**count)
    mid_p = exact - (ways / 2**count) * (0.5 if only_a == only_b else 1.0)
    chi_square = max(abs(only_a - only_b) - 1, 0) ** 2 / count
    return McNemar(exact, mid_p, math.erfc(math.sqrt(chi_square / 2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests corrected so that any false alarm among them stays at the level.

    Args:
        p_values: of all the tests that were looked at; nan for one that could not be made, which stays nan.

    Raises:
        ValueError: for a number that is no probability.
    """
    for p in p_values:
        if not math.isnan(p) and not 0 <= p <= 1:
            raise ValueError(f"a p-value must be between 0 and 1, got {p}")
    order = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda index: p_values[index])
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def wilson(successes: float, count: int, level: float = 0.95) -> Interval:
    """Return Wilson's interval of a share of independent items, which has width even where none or all succeed.

    Raises:
        ValueError: if there are more successes than items, or a negative number of either.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"successes must be between 0 and the count, got {successes} of {count}")
    if count == 0:
        return NO_INTERVAL
    z, share = normal_quantile((1 + level) / 2), successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == count else middle + half)


def standard_errors(
    stats: Statistics, score: Score, method: Literal["jackknife", "delta"] = "jackknife"
) -> dict[str, float]:
    """Return the standard error of each score, without drawing.

    Args:
        stats: [items, columns].
        score: turns summed rows into scores.
        method: `jackknife` leaves each item out in turn; `delta` takes the score for linear in the sums around what was
            observed, and is the lower one where single items matter.

    Returns:
        nan where there are fewer than two items.
    """
    stats = check_stats(stats)
    count = len(stats)
    if count < 2:
        return dict.fromkeys(score(np.zeros(stats.shape[1])), math.nan)
    total = stats.sum(axis=0)
    if method == "jackknife":
        left_out = score(total - stats)
        return {name: float(np.sqrt((count - 1) * values.var())) for name, values in left_out.items()}
    step = count * np.cbrt(np.finfo(np.float64).eps)  # where rounding and curvature weigh alike
    lean = (stats - total / count) * step
    above, below = score(total + lean), score(total - lean)
    slopes = {name: (above[name] - below[name]) / (2 * step) for name in above}
    return {name: float(np.sqrt(count / (count - 1) * (values**2).sum())) for name, values in slopes.items()}


def paired_standard_errors(a: Statistics, b: Statistics, score: Score) -> dict[str, float]:
    """Return the jackknife standard error of how much higher `a` scores than `b` on the same items."""
    return standard_errors(side_by_side(check_stats(a), check_stats(b)), difference_of(score))


def minimum_detectable_difference(standard_error: float, significance: float = 0.05, power: float = 0.8) -> float:
    """Return the true difference that a two-sided test would find with the given power.

    Args:
        standard_error: of the difference, as `paired_standard_errors` gives it; of a single system's score, times the
            root of 2, it tells what two unrelated systems must differ by.
        significance: the level of the test.
        power: the chance to find the difference.

    Raises:
        ValueError: for a significance or power that is no probability.
    """
    for name, value in (("significance", significance), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return (normal_quantile(1 - significance / 2) + normal_quantile(power)) * standard_error


def by_cluster(stats: Statistics, clusters: Sequence[Hashable]) -> Statistics:
    """Return the rows summed over the items of each cluster, in the order in which clusters first appear.

    Args:
        stats: [items, columns].
        clusters: what each item belongs to: its speaker, its recording.

    Raises:
        ValueError: if there is not one cluster for each item.
    """
    stats = check_stats(stats)
    if len(clusters) != len(stats):
        raise ValueError(f"there must be a cluster for each of {len(stats)} items, got {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    sums = np.zeros((len(numbers), stats.shape[1]))
    np.add.at(sums, index, stats)
    return sums


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


def side_by_side(a: Statistics, b: Statistics) -> Statistics:
    """Return the rows of two systems on the same items as one table, the columns of `a` first."""
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same items: got rows of shapes {a.shape} and {b.shape}")
    return np.concatenate([a, b], axis=1)


def difference_of(score: Score) -> Score:
    """Return what turns summed rows of two systems side by side into how much higher the first scores."""

    def difference(sums: Statistics) -> dict[str, Statistics]:
        first, second = np.split(sums, 2, axis=-1)
        a, b = score(first), score(second)
        return {name: a[name] - b[name] for name in a}

    return difference


def both_sides(draws: Statistics) -> float:
    """Return twice the smaller share of draws that lie at or beyond 0, the observation itself counted as one."""
    if np.isnan(draws).any():
        return math.nan
    tail = int(min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0)))
    return min(1.0, 2 * (tail + 1) / (len(draws) + 1))


def intervals(
    stats: Statistics, score: Score, draws: Mapping[str, Statistics], level: float, method: Method
) -> dict[str, Interval]:
    """Return the interval of each score from its draws; nan where the score of a draw is."""
    check_method(method)
    tails = ((1 - level) / 2, (1 + level) / 2)
    if method == "percentile":
        return {name: percentiles(values, tails) for name, values in draws.items()}
    total = stats.sum(axis=0)
    whole, left_out = score(total), score(total - stats)
    return {
        name: percentiles(values, corrected_tails(tails, values, float(whole[name]), left_out[name]))
        for name, values in draws.items()
    }


def check_method(method: str) -> None:
    """Raise ValueError for what is no `Method`."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")


def corrected_tails(
    tails: tuple[float, float], draws: Statistics, value: float, left_out: Statistics
) -> tuple[float, float]:
    """Return the shares of draws to cut off by BCa (Efron 1987): corrected for bias and for skewness.

    Args:
        tails: what a percentile interval cuts off.
        draws: the score of each draw.
        value: the score of all items.
        left_out: the score without each of the items.
    """
    if not np.isfinite(draws).all() or draws.min() == draws.max():
        return tails
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2
    bias = normal_quantile(min(max(below, 1), len(draws) - 1) / len(draws))
    leverage = left_out.mean() - left_out
    spread = (leverage**2).sum() ** 1.5
    skew = float((leverage**3).sum() / (6 * spread)) if spread > 0 else 0.0
    low, high = (bias + normal_quantile(share) for share in tails)
    tiny = np.finfo(np.float64).tiny
    return (
        normal_share(bias + low / max(1 - skew * low, tiny)),
        normal_share(bias + high / max(1 - skew * high, tiny)),
    )


def percentiles(values: Statistics, tails: tuple[float, float]) -> Interval:
    """Return the values that so large shares of them lie below; nan where one is."""
    low, high = np.quantile(values, tails)
    return Interval(float(low), float(high))


def normal_share(value: float) -> float:
    """Return the share of the standard normal distribution below a value."""
    return NormalDist().cdf(value)


def normal_quantile(share: float) -> float:
    """Return the value below which so large a share of the standard normal distribution lies."""
    return NormalDist().inv_cdf(share)


def check_stats(stats: Statistics, samples: int = 1, level: float = 0.5) -> Statistics:
    """Return the rows as float64, or raise ValueError for what cannot be resampled."""
    stats = np.asarray(stats, dtype=np.float64)
    if stats.ndim != 2:
        raise ValueError(f"statistics must be [items, columns], got shape {stats.shape}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return stats
