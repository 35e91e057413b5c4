"""Bootstrap intervals: against exact distributions, against references, and by how often they hold the truth."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from salmonn_lab.metrics.answer import ExactMatch
from salmonn_lab.metrics.item import Statistics
from salmonn_lab.metrics.statistics import Interval, bootstrap, paired_bootstrap, resample
from salmonn_lab.metrics.wer import ErrorRate

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_statistics.json").read_text(encoding="utf-8"))
WER, RIGHT = ErrorRate().score, ExactMatch().score


def rows(edits: list[int] | np.ndarray, words: list[int] | int) -> Statistics:
    zeros = np.zeros(len(edits))
    return np.stack([np.asarray(edits), zeros, zeros, np.broadcast_to(words, len(edits))], axis=1).astype(np.float64)


def answers(right: np.ndarray) -> Statistics:
    return np.stack([right, np.ones(len(right))], axis=1).astype(np.float64)


def test_draws_have_the_exact_distribution_of_all_resamples() -> None:
    case = GOLDEN["exact_bootstrap_3items"]
    draws = WER(resample(rows(case["edits"], case["ref_words"]), 27_000, seed=1))["wer"]
    for value in set(case["distribution"]):
        share = np.mean(np.abs(draws - value) < 1e-12)
        assert share == pytest.approx(case["distribution"].count(value) / 27, abs=0.01)


def test_the_interval_equals_the_golden_one() -> None:
    case = GOLDEN["bootstrap_500"]
    stats = rows(np.random.default_rng(1234).binomial(20, 0.1, 500), case["ref_words"])
    assert WER(stats.sum(axis=0))["wer"] == pytest.approx(case["wer"], abs=1e-9)
    low, high = bootstrap(stats, WER, samples=10_000)["wer"]
    assert low == pytest.approx(case["ci95_percentile"][0], abs=case["tolerance"])
    assert high == pytest.approx(case["ci95_percentile"][1], abs=case["tolerance"])


def test_the_spread_of_draws_is_that_of_the_delta_method() -> None:
    draws = WER(resample(rows(GOLDEN["edits_a"], GOLDEN["ref_words"]), 20_000, seed=0))["wer"]
    assert draws.std() == pytest.approx(GOLDEN["delta_method_se_a"], rel=0.1)


def test_95_percent_intervals_hold_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    trials, held = 400, 0
    for trial in range(trials):
        low, high = bootstrap(answers(generator.random(200) < 0.3), RIGHT, seed=trial)["exact_match"]
        held += low <= 0.3 <= high
    assert 0.91 <= held / trials <= 0.98


def test_an_interval_of_another_level_is_narrower() -> None:
    stats = answers(np.random.default_rng(0).random(300) < 0.5)
    wide, narrow = (bootstrap(stats, RIGHT, level=level)["exact_match"] for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    stats = rows(GOLDEN["edits_a"], GOLDEN["ref_words"])
    assert bootstrap(stats, WER, seed=3) == bootstrap(stats, WER, seed=3)
    assert bootstrap(stats, WER, seed=3) != bootstrap(stats, WER, seed=4)


def test_one_item_has_an_interval_without_width_and_no_item_has_none() -> None:
    assert bootstrap(rows([1], [4]), WER)["wer"] == Interval(0.25, 0.25)
    assert np.isnan(bootstrap(np.zeros((0, 4)), WER)["wer"]).all()
    assert np.isnan(paired_bootstrap(np.zeros((0, 4)), np.zeros((0, 4)), WER)["wer"]).all()


def test_many_blocks_draw_as_one_would() -> None:
    # 1 << 21 drawn items make a block: 3,000 samples of 2,000 items are three.
    stats = answers(np.random.default_rng(0).random(2000) < 0.5)
    draws = RIGHT(resample(stats, 3000, seed=0))["exact_match"]
    assert len(np.unique(draws)) > 50
    assert draws.mean() == pytest.approx(stats[:, 0].mean(), abs=0.002)
    assert draws.std() == pytest.approx(0.5 / np.sqrt(2000), rel=0.1)


def test_a_thousand_draws_of_ten_thousand_items_take_under_half_a_second() -> None:
    # Of the processor's time: that of the clock depends on what else the machine does.
    stats = rows(np.random.default_rng(0).binomial(20, 0.1, 10_000), 20)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        bootstrap(stats, WER)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


def test_a_paired_difference_is_that_of_the_two_scores() -> None:
    a, b = (rows(GOLDEN[name], GOLDEN["ref_words"]) for name in ("edits_a", "edits_b"))
    difference = paired_bootstrap(a, b, WER)["wer"]
    assert difference.value == pytest.approx(GOLDEN["diff"], abs=1e-9)
    assert difference.low <= difference.value <= difference.high
    assert difference.p > 0.1
    back = paired_bootstrap(b, a, WER)["wer"]
    assert (back.value, back.p) == pytest.approx((-difference.value, difference.p))


def test_a_system_does_not_differ_from_itself() -> None:
    stats = rows(GOLDEN["edits_a"], GOLDEN["ref_words"])
    assert paired_bootstrap(stats, stats, WER)["wer"] == (0, 0, 0, 1)


def test_a_clear_difference_has_a_small_p_that_is_never_zero() -> None:
    a, b = answers(np.ones(100)), answers(np.zeros(100))
    assert paired_bootstrap(a, b, RIGHT, samples=999)["exact_match"] == (1, 1, 1, pytest.approx(2 / 1000))


def test_pairing_finds_what_two_intervals_cannot() -> None:
    hard = np.random.default_rng(0).integers(0, 10, 200)
    a, b = rows(hard + (np.arange(200) % 4 == 0), 20), rows(hard, 20)
    one, other = bootstrap(a, WER)["wer"], bootstrap(b, WER)["wer"]
    assert one.low < other.high
    assert paired_bootstrap(a, b, WER)["wer"].p < 0.01


@pytest.mark.parametrize("options", [{"samples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        bootstrap(rows([1], [2]), WER, **options)  # type: ignore[arg-type]


def test_rows_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        paired_bootstrap(rows([1], [2]), rows([1, 2], [2, 2]), WER)
    with pytest.raises(ValueError, match=r"\[items, columns\]"):
        bootstrap(np.zeros(4), WER)
