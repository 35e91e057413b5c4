"""Settings of several seeds: against Welch's test, against textbook quantiles, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from salmonn_lab.metrics import seeds
from salmonn_lab.metrics.item import Statistics
from salmonn_lab.metrics.seeds import outside, quantile, seed_differences, seed_means


def wer(sums: Statistics) -> dict[str, Statistics]:
    return {"wer": sums[..., 0] / sums[..., 1]}


def flat(rate: float, items: int = 50) -> Statistics:
    """Return rows of items that are all alike: nothing but the seed makes the score."""
    return np.tile([rate, 1.0], (items, 1))


@pytest.mark.parametrize(
    ("freedom", "distance"), [(1, 12.706205), (2, 4.302653), (4, 2.776445), (10, 2.228139), (200, 1.971896)]
)
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, distance: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(distance, abs=1e-5)
    assert outside(distance, freedom) == pytest.approx(0.05, abs=1e-6)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert quantile(0.95, 100_000) == pytest.approx(1.959964, abs=1e-4)
    assert outside(0.0, 7) == pytest.approx(1)
    assert outside(400.0, 5) < 1e-9


def test_where_only_seeds_scatter_it_is_welchs_test() -> None:
    a, b = ([flat(rate) for rate in rates] for rates in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    found = seed_differences(a, b, wer)["wer"]
    assert found.value == pytest.approx(-0.4)
    assert found.p == pytest.approx(0.0080499, abs=1e-6)
    assert (found.low, found.high) == pytest.approx(
        (-0.4 - 2.776445 * 0.0816497, -0.4 + 2.776445 * 0.0816497), abs=1e-5
    )


def test_where_only_items_scatter_the_interval_is_that_of_a_paired_mean() -> None:
    right = np.random.default_rng(0).random((2, 400)) < np.array([[0.7], [0.6]])
    a, b = (np.stack([row, np.ones(400)], axis=1).astype(float) for row in right)
    found = seed_differences([a], [b], wer)["wer"]
    difference = right[0].astype(float) - right[1]
    assert found.value == pytest.approx(difference.mean())
    assert (found.high - found.low) / 2 == pytest.approx(quantile(0.95, 399) * difference.std(ddof=1) / 20, rel=1e-9)
    assert not found.seeds


def test_the_spread_is_the_standard_deviation_over_seeds_and_unknown_of_one() -> None:
    found = seed_means([flat(rate) for rate in (0.1, 0.2, 0.3)], wer)["wer"]
    assert (found.value, found.spread) == pytest.approx((0.2, 0.1))
    assert (found.low, found.high) == pytest.approx(
        (0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5), abs=1e-5
    )
    assert math.isnan(seed_means([flat(0.1)], wer)["wer"].spread)


def test_seeds_that_scatter_widen_the_interval_of_a_mean() -> None:
    generator = np.random.default_rng(1)
    runs = study(generator, seed=1.0, hard=0.3)[0]
    alone, together = seed_means(runs[:1], wer)["wer"], seed_means(runs, wer)["wer"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_setting_does_not_differ_from_itself_and_the_order_of_seeds_says_nothing() -> None:
    runs = study(np.random.default_rng(2), seed=0.3)[0]
    found = seed_differences(runs, runs[::-1], wer)["wer"]
    assert (found.value, found.p) == (pytest.approx(0, abs=1e-15), pytest.approx(1))
    a, b = study(np.random.default_rng(3), seed=0.3, shift=0.5)
    there, back = seed_differences(a, b, wer)["wer"], seed_differences(b, a[::-1], wer)["wer"]
    assert (back.value, back.p) == pytest.approx((-there.value, there.p))


def test_runs_that_are_equal_to_the_last_bit_give_no_difference() -> None:
    run = study(np.random.default_rng(4))[0][0]
    found = seed_differences([run] * 3, [run] * 3, wer)["wer"]
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_without_any_scatter_is_as_sure_as_its_items_are_many() -> None:
    assert seed_differences([flat(1.0, 5)], [flat(0.0, 5)], wer)["wer"].p == 2 / 2**5
    assert seed_differences([flat(1.0, 1)], [flat(0.0, 1)], wer)["wer"].p == pytest.approx(1, nan_ok=True)


def test_a_single_run_is_taken_to_scatter_like_the_other_settings() -> None:
    a, b = study(np.random.default_rng(5), seed=1.0, hard=0.3)
    lonely, items = seed_differences(a[:1], b, wer)["wer"], seed_differences(a[:1], b[:1], wer)["wer"]
    assert lonely.seeds
    assert not items.seeds
    assert lonely.high - lonely.low > items.high - items.low


def test_runs_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no runs"):
        seed_means([], wer)
    with pytest.raises(ValueError, match="hold other items"):
        seed_means([flat(0.1, 3), flat(0.1, 4)], wer)
    with pytest.raises(ValueError, match="hold 3 and 4 items"):
        seed_differences([flat(0.1, 3)], [flat(0.1, 4)], wer)


def study(
    generator: np.random.Generator,
    seeds: tuple[int, int] = (3, 3),
    seed: float = 0.0,
    hard: float = 1.0,
    taste: float = 0.5,
    shift: float = 0.0,
    items: int = 150,
) -> tuple[list[Statistics], list[Statistics]]:
    """Return rows of transcripts of two settings.

    Args:
        generator: of everything.
        seeds: runs of each setting.
        seed: how much seeds scatter, in logits of the word error rate, as do the next.
        hard: how much items differ for all runs alike.
        taste: how much a run differs from item to item beyond that.
        shift: what the first setting is worse by.
        items: of the test set.
    """
    words, base = generator.integers(3, 31, items), generator.normal(-2, hard, items)
    settings: tuple[list[Statistics], list[Statistics]] = ([], [])
    for place, count in enumerate(seeds):
        for _ in range(count):
            logits = base + generator.normal(0, seed) + generator.normal(0, taste, items) + shift * (1 - place)
            edits = generator.binomial(words, 1 / (1 + np.exp(-logits)))
            settings[place].append(np.stack([edits, words], axis=1).astype(np.float64))
    return settings


CASES: dict[str, dict[str, object]] = {
    "items alone": {"seed": 0.0},
    "runs of one taste": {"seed": 0.0, "taste": 0.0},
    "a little of seeds": {"seed": 0.1},
    "seeds above all": {"seed": 0.6, "hard": 0.4},
    "two seeds": {"seed": 0.2, "seeds": (2, 2)},
    "five seeds": {"seed": 0.2, "seeds": (5, 5)},
}


def false_alarms(trials: int, **options: object) -> float:
    """Return how often two equal settings are told apart at the 5 % level."""
    generator = np.random.default_rng(13)
    return (
        sum(
            seed_differences(*study(generator, **options), wer)["wer"].p < 0.05  # type: ignore[arg-type]
            for _ in range(trials)
        )
        / trials
    )


@pytest.mark.slow
def test_equal_settings_are_rarely_told_apart_and_different_ones_are_found() -> None:
    assert all(false_alarms(60, **CASES[name]) <= 0.12 for name in ("items alone", "seeds above all"))
    generator = np.random.default_rng(14)
    found = [seed_differences(*study(generator, seed=0.05, shift=0.6), wer)["wer"] for _ in range(20)]
    assert sum(result.p < 0.05 for result in found) >= 18


@pytest.mark.slow
def test_the_items_of_one_seed_would_tell_equal_settings_apart_for_their_seeds() -> None:
    """What this file is for: over items alone, the luck of a seed is taken for the work of a setting."""
    assert false_alarms(60, seeds=(1, 1), seed=0.6, hard=0.4) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_tests_of_equal_settings_keep_their_level(name: str) -> None:
    assert false_alarms(2000, **CASES[name]) <= 0.07, name


@pytest.mark.slow
def test_intervals_of_a_mean_hold_the_truth() -> None:
    generator, held, trials = np.random.default_rng(15), 0, 1000
    options = {"seed": 0.3, "hard": 0.5, "taste": 0.3}
    large = [study(generator, (1, 0), **options, items=3000)[0][0] for _ in range(3000)]  # type: ignore[arg-type]
    truth = np.mean([wer(rows.sum(axis=0))["wer"] for rows in large])
    for _ in range(trials):
        found = seed_means(study(generator, (3, 0), **options)[0], wer)["wer"]  # type: ignore[arg-type]
        held += bool(found.low <= truth <= found.high)
    error = math.sqrt(0.95 * 0.05 / trials)  # of the simulation itself
    assert 0.92 - 2 * error <= held / trials <= 0.98 + 2 * error


def test_of_scores_alone_a_difference_knows_less_than_of_answers() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0.0, 0.4, 200)

    def run(right: float) -> np.ndarray:
        return np.stack([generator.normal(difficulty, 0.5) > -right, np.ones(200)], axis=1).astype(float)

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": sums[..., 0] / sums[..., 1]}

    a, b = ([run(right) for _ in range(3)] for right in (0.3, 0.0))
    exact = seeds.seed_differences(a, b, score)["accuracy"]

    def known(rows: np.ndarray) -> seeds.RunSummary:
        value = rows[:, 0].mean()
        half = 1.96 * np.sqrt(value * (1 - value) / 200)
        return seeds.RunSummary(value, value - half, value + half, 200)

    found = seeds.summary_difference(list(map(known, a)), list(map(known, b)))
    assert found.value == pytest.approx(exact.value)
    assert found.low < exact.low
    assert found.high > exact.high
    assert found.seeds
    mean = seeds.summary_mean(list(map(known, a)))
    assert mean.value == pytest.approx(seeds.seed_means(a, score)["accuracy"].value)


def test_of_one_score_each_a_difference_is_of_two_independent_samples() -> None:
    """0.6 and 0.4 of 100 items each: a standard error of sqrt(2 * 0.24 / 100) = 0.0693."""
    half = 1.959964 * 0.0489898
    one, other = seeds.RunSummary(0.6, 0.6 - half, 0.6 + half, 100), seeds.RunSummary(0.4, 0.4 - half, 0.4 + half, 100)
    found = seeds.summary_difference([one], [other])
    assert (found.value, found.seeds) == (pytest.approx(0.2), False)
    assert found.high - found.low == pytest.approx(2 * 1.972 * 0.0692820, rel=1e-3)
    with pytest.raises(ValueError, match="there are no runs"):
        seeds.summary_difference([one], [])
