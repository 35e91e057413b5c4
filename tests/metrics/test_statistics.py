"""Intervals and tests: against exact distributions, against references, and by how often they hold the truth."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from salmonn_lab.metrics.choice import Accuracy, MultipleChoice
from salmonn_lab.metrics.item import ItemMetric, Statistics
from salmonn_lab.metrics.open_ended import Diversity
from salmonn_lab.metrics.statistics import (
    Interval,
    Method,
    binomial,
    bootstrap,
    bootstrap_rows,
    by_cluster,
    holm,
    mcnemar,
    metric_intervals,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_standard_errors,
    resample,
    standard_errors,
    swap_test,
    wilson,
)
from salmonn_lab.metrics.translation import Bleu, Chrf
from salmonn_lab.metrics.verification import EqualErrorRate
from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_statistics.json").read_text(encoding="utf-8"))


def texts(metric: ItemMetric, *pairs: tuple[str, str]) -> ItemMetric:
    metric.update([output for output, _ in pairs], [[wanted] for _, wanted in pairs], list(map(str, range(len(pairs)))))
    return metric


def interval_of(metric: ItemMetric, key: str, plain_numbers: tuple[str, ...] = ()) -> Interval:
    return metric_intervals(metric, metric.items().stats.numpy(), plain_numbers)[key]


def wer(sums: Statistics) -> dict[str, Statistics]:
    with np.errstate(invalid="ignore"):
        return {"wer": sums[..., 0] / sums[..., 1]}


def share_right(sums: Statistics) -> dict[str, Statistics]:
    return {"exact_match": wer(sums)["wer"]}


def rows(edits: list[int] | np.ndarray, words: list[int] | np.ndarray | int) -> Statistics:
    return np.stack([np.asarray(edits), np.broadcast_to(words, len(edits))], axis=1).astype(np.float64)


def answers(right: np.ndarray) -> Statistics:
    return np.stack([right, np.ones(len(right))], axis=1).astype(np.float64)


def test_draws_have_the_exact_distribution_of_all_resamples() -> None:
    case = GOLDEN["exact_bootstrap_3items"]
    draws = wer(resample(rows(case["edits"], case["ref_words"]), 27_000, seed=1))["wer"]
    for value in set(case["distribution"]):
        share = np.mean(np.abs(draws - value) < 1e-12)
        assert share == pytest.approx(case["distribution"].count(value) / 27, abs=0.01)


def test_the_golden_corpus_has_the_golden_scores() -> None:
    case = GOLDEN["bootstrap_500"]
    stats = rows(np.random.default_rng(1234).binomial(20, 0.1, 500), case["ref_words"])
    assert wer(stats.sum(axis=0))["wer"] == pytest.approx(case["wer"], abs=1e-9)
    for name in ("a", "b"):
        stats = rows(GOLDEN[f"edits_{name}"], GOLDEN["ref_words"])
        assert wer(stats.sum(axis=0))["wer"] == pytest.approx(GOLDEN[f"wer_{name}"], abs=1e-9)


def test_the_spread_of_draws_is_that_of_the_delta_method() -> None:
    draws = wer(resample(rows(GOLDEN["edits_a"], GOLDEN["ref_words"]), 20_000, seed=0))["wer"]
    assert draws.std() == pytest.approx(GOLDEN["delta_method_se_a"], rel=0.1)


def test_an_interval_of_another_level_is_narrower() -> None:
    stats = answers(np.random.default_rng(0).random(300) < 0.5)
    wide, narrow = (bootstrap(stats, share_right, level=level)["exact_match"] for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    stats = rows(GOLDEN["edits_a"], GOLDEN["ref_words"])
    assert bootstrap(stats, wer, seed=3) == bootstrap(stats, wer, seed=3)
    assert bootstrap(stats, wer, seed=3) != bootstrap(stats, wer, seed=4)


def test_one_item_has_no_interval_and_neither_have_none() -> None:
    for edits in (0, 1, 4):
        assert np.isnan(bootstrap(rows([edits], [4]), wer)["wer"]).all()
        assert np.isnan(bootstrap_rows(rows([edits], [4]), lambda some: wer(some.sum(axis=0)))["wer"]).all()
    found = paired_bootstrap(rows([1], [4]), rows([2], [4]), wer)["wer"]
    assert found.value == -0.25
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isnan(bootstrap(np.zeros((0, 2)), wer)["wer"]).all()
    assert np.isnan(paired_bootstrap(np.zeros((0, 2)), np.zeros((0, 2)), wer)["wer"]).all()


def test_many_blocks_draw_as_one_would() -> None:
    # 1 << 21 drawn items make a block: 3,000 samples of 2,000 items are three.
    stats = answers(np.random.default_rng(0).random(2000) < 0.5)
    draws = share_right(resample(stats, 3000, seed=0))["exact_match"]
    assert len(np.unique(draws)) > 50
    assert draws.mean() == pytest.approx(stats[:, 0].mean(), abs=0.002)
    assert draws.std() == pytest.approx(0.5 / np.sqrt(2000), rel=0.1)


def test_a_thousand_draws_of_ten_thousand_items_take_under_a_second() -> None:
    # Of the processor's time: that of the clock depends on what else the machine does.
    # Rows as wide as those of an error rate and BLEU together.
    stats = np.tile(rows(np.random.default_rng(0).binomial(20, 0.1, 10_000), 20), 7)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        bootstrap(stats, wer)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


def test_a_paired_difference_is_that_of_the_two_scores() -> None:
    a, b = (rows(GOLDEN[name], GOLDEN["ref_words"]) for name in ("edits_a", "edits_b"))
    difference = paired_bootstrap(a, b, wer)["wer"]
    assert difference.value == pytest.approx(GOLDEN["diff"], abs=1e-9)
    assert difference.low <= difference.value <= difference.high
    assert difference.p > 0.1
    back = paired_bootstrap(b, a, wer)["wer"]
    assert (back.value, back.p) == pytest.approx((-difference.value, difference.p))


def test_a_system_does_not_differ_from_itself() -> None:
    stats = rows(GOLDEN["edits_a"], GOLDEN["ref_words"])
    assert paired_bootstrap(stats, stats, wer)["wer"] == (0, 0, 0, 1)


def test_a_clear_difference_has_a_small_p_that_is_never_zero() -> None:
    a, b = answers(np.ones(100)), answers(np.zeros(100))
    assert paired_bootstrap(a, b, share_right, samples=999)["exact_match"] == (1, 1, 1, pytest.approx(2 / 1000))


def test_pairing_finds_what_two_intervals_cannot() -> None:
    hard = np.random.default_rng(0).integers(0, 10, 200)
    a, b = rows(hard + (np.arange(200) % 4 == 0), 20), rows(hard, 20)
    one, other = bootstrap(a, wer)["wer"], bootstrap(b, wer)["wer"]
    assert one.low < other.high
    assert paired_bootstrap(a, b, wer)["wer"].p < 0.01


@pytest.mark.parametrize("options", [{"samples": 0}, {"level": 1.0}, {"level": 0.0}, {"method": "normal"}])
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        bootstrap(rows([1], [2]), wer, **options)  # type: ignore[arg-type]


def test_rows_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        paired_bootstrap(rows([1], [2]), rows([1, 2], [2, 2]), wer)
    with pytest.raises(ValueError, match=r"\[items, columns\]"):
        bootstrap(np.zeros(4), wer)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_both_methods_give_the_golden_interval_of_symmetric_data(method: Method) -> None:
    case = GOLDEN["bootstrap_500"]
    stats = rows(np.random.default_rng(1234).binomial(20, 0.1, 500), case["ref_words"])
    interval = bootstrap(stats, wer, samples=10_000, method=method)["wer"]
    assert interval == pytest.approx(case["ci95_percentile"], abs=case["tolerance"])


def test_bca_reaches_further_to_where_the_errors_are_skewed() -> None:
    stats = rows(np.r_[np.arange(100) % 3, 60, 80], 20)
    plain, corrected = (bootstrap(stats, wer, method=method)["wer"] for method in ("percentile", "bca"))
    assert plain.low <= corrected.low < wer(stats.sum(axis=0))["wer"] < plain.high < corrected.high


def test_standard_errors_equal_the_golden_ones() -> None:
    stats = rows(GOLDEN["edits_a"], GOLDEN["ref_words"])
    assert standard_errors(stats, wer)["wer"] == pytest.approx(GOLDEN["jackknife_se_a"], abs=1e-9)
    assert standard_errors(stats, wer, "delta")["wer"] == pytest.approx(GOLDEN["delta_method_se_a"], abs=1e-9)
    assert math.isnan(standard_errors(stats[:1], wer)["wer"])


def test_the_swap_test_tries_every_swap_of_a_few_items_and_equals_the_golden_p() -> None:
    a, b = (rows(GOLDEN[name], GOLDEN["ref_words"]) for name in ("edits_a", "edits_b"))
    assert swap_test(a, b, wer)["wer"] == pytest.approx(GOLDEN["exact_sign_flip_p_two_sided"], abs=1e-9)
    assert swap_test(b, a, wer, seed=5)["wer"] == pytest.approx(GOLDEN["exact_sign_flip_p_two_sided"], abs=1e-9)


def test_the_swap_test_draws_swaps_of_many_items_and_agrees_with_trying_all() -> None:
    generator = np.random.default_rng(2)
    a, b = (rows(generator.binomial(20, rate, 13), generator.integers(8, 20, 13)) for rate in (0.3, 0.15))
    exact, drawn = swap_test(a, b, wer, swaps=8192)["wer"], swap_test(a, b, wer, swaps=8191)["wer"]
    assert exact != drawn == pytest.approx(exact, abs=0.015)
    assert exact * 8192 == round(exact * 8192)
    assert drawn * 8192 == round(drawn * 8192)


def test_the_swap_test_swaps_reference_lengths_with_their_edits() -> None:
    # The same edits over other words: swapping edits alone would never move the scores.
    a, b = rows([2, 2, 2, 2], [5, 5, 5, 5]), rows([2, 2, 2, 2], [50, 50, 50, 50])
    assert swap_test(a, b, wer)["wer"] == pytest.approx(2 / 16)


def test_the_swap_test_of_right_answers_is_mcnemars_exact_test() -> None:
    only_a, only_b = GOLDEN["mcnemar_exact"]["b"], GOLDEN["mcnemar_exact"]["c"]
    right = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(40)]
    p = swap_test(answers(right), answers(np.r_[1 - right[:17], right[17:]]), share_right, swaps=1 << 17)["exact_match"]
    assert p == pytest.approx(GOLDEN["mcnemar_exact"]["p"], abs=1e-9)


def test_the_swap_test_of_equal_or_absent_rows_says_so() -> None:
    stats = answers(np.ones(200))
    assert swap_test(stats, stats, share_right)["exact_match"] == 1
    assert math.isnan(swap_test(np.zeros((0, 2)), np.zeros((0, 2)), share_right)["exact_match"])
    assert math.isnan(swap_test(np.zeros((3, 2)), stats[:3] * 0, share_right)["exact_match"])


def test_mcnemar_equals_the_golden_p() -> None:
    case = GOLDEN["mcnemar_exact"]
    assert mcnemar(case["b"], case["c"]).exact == pytest.approx(case["p"], abs=1e-9)
    assert mcnemar(case["c"], case["b"]) == mcnemar(case["b"], case["c"])


def test_the_forms_of_mcnemar_equal_the_published_example() -> None:
    # Fagerland, Lydersen and Laake 2013, table 1: one patient got worse, seven got better.
    assert mcnemar(1, 7) == pytest.approx((0.0703125, 0.0390625, 0.0770998717), abs=1e-9)
    assert mcnemar(3, 3) == pytest.approx((1, 1 - 0.5 * math.comb(6, 3) / 64, 1))
    assert mcnemar(0, 0) == (1, 1, 1)
    assert 0 <= mcnemar(0, 5000).exact < 1e-300
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar(-1, 2)


def test_holm_corrects_from_the_smallest_p_and_never_lets_a_larger_one_pass_it() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, 0.9, math.nan]) == pytest.approx([0.4, 0.9, math.nan], nan_ok=True)
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.5])


def test_wilson_equals_the_golden_intervals() -> None:
    assert wilson(7, 10) == pytest.approx(GOLDEN["wilson95_7_of_10"], abs=1e-9)
    assert wilson(0, 20) == pytest.approx(GOLDEN["wilson95_0_of_20"], abs=1e-9)
    assert wilson(20, 20) == pytest.approx([1 - high for high in reversed(GOLDEN["wilson95_0_of_20"])], abs=1e-9)
    assert wilson(0.5, 1) == pytest.approx((0.0546, 0.9454), abs=1e-4)
    assert wilson(0, 0) == pytest.approx((math.nan, math.nan), nan_ok=True)
    with pytest.raises(ValueError, match="between 0 and the count"):
        wilson(3, 2)


def test_clusters_are_summed_in_the_order_they_appear() -> None:
    stats = rows([1, 2, 4, 8], [10, 20, 40, 80])
    assert by_cluster(stats, ["b", "a", "b", "a"])[:, 0].tolist() == [5, 10]
    assert by_cluster(stats, ["b", "a", "b", "a"])[:, 1].tolist() == [50, 100]
    assert by_cluster(stats[:0], []).shape == (0, 2)
    with pytest.raises(ValueError, match="a cluster for each of 4 items, got 3"):
        by_cluster(stats, ["a", "b", "c"])


def test_the_detectable_difference_is_found_as_often_as_promised() -> None:
    generator = np.random.default_rng(3)
    spread = 0.1
    smallest = minimum_detectable_difference(spread, power=0.8)
    assert smallest == pytest.approx(2.8016 * spread, abs=1e-4)
    found = np.abs(generator.normal(smallest, spread, 20_000)) > 1.959964 * spread
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match="power must be between"):
        minimum_detectable_difference(1.0, power=1.0)


def test_the_paired_standard_error_is_small_where_the_systems_agree() -> None:
    hard = np.random.default_rng(0).integers(0, 10, 200)
    a, b = rows(hard + (np.arange(200) % 4 == 0), 20), rows(hard, 20)
    paired = paired_standard_errors(a, b, wer)["wer"]
    draws = paired_bootstrap(a, b, wer, samples=4000)["wer"]
    assert paired == pytest.approx((draws.high - draws.low) / (2 * 1.96), rel=0.1)
    assert paired < 0.3 * standard_errors(a, wer)["wer"]


def speech(generator: np.random.Generator, items: int, *, loops: float = 0.02) -> Statistics:
    """Return rows of transcripts: of 3 to 30 words, 5 % of them wrong, and now and then a loop."""
    words = generator.integers(3, 31, items)
    edits = generator.binomial(words, 0.05) + (generator.random(items) < loops) * generator.integers(5, 40, items)
    return rows(edits, words)


def speech_truth(loops: float = 0.02) -> float:
    return 0.05 + loops * 22 / 16.5


def choices(generator: np.random.Generator, items: int) -> Statistics:
    return answers(generator.random(items) < 0.3)


def voices(generator: np.random.Generator, speakers: int, each: int) -> tuple[Statistics, list[int]]:
    """Return rows of transcripts of speakers who are understood well or badly, 10 % of their words on average."""
    rates = np.repeat(generator.beta(2, 18, speakers), each)
    return rows(generator.binomial(10, rates), 10), np.repeat(np.arange(speakers), each).tolist()


def coverage(trials: int) -> dict[str, float]:
    """Return how often nominal 95 % intervals hold the truth."""
    generator, held = np.random.default_rng(11), dict.fromkeys(("speech", "choices", "items", "clusters"), 0)
    for trial in range(trials):
        low, high = bootstrap(speech(generator, 500), wer, seed=trial)["wer"]
        held["speech"] += low <= speech_truth() <= high
        low, high = bootstrap(choices(generator, 200), share_right, seed=trial)["exact_match"]
        held["choices"] += low <= 0.3 <= high
        stats, speakers = voices(generator, 60, 20)
        low, high = bootstrap(stats, wer, seed=trial)["wer"]
        held["items"] += low <= 0.1 <= high
        low, high = bootstrap(by_cluster(stats, speakers), wer, seed=trial)["wer"]
        held["clusters"] += low <= 0.1 <= high
    return {name: count / trials for name, count in held.items()}


def false_alarms(trials: int) -> dict[str, float]:
    """Return how often each test of two equal systems rejects at the 5 % level."""
    generator = np.random.default_rng(12)
    names = ("bootstrap", "swaps", "swaps of clusters", "mid_p", "exact")
    fired = dict.fromkeys(names, 0)
    for trial in range(trials):
        hard = generator.beta(1, 9, 300)
        words = generator.integers(3, 31, 300)
        a, b = (rows(generator.binomial(words, hard), words) for _ in "ab")
        fired["bootstrap"] += paired_bootstrap(a, b, wer, seed=trial)["wer"].p < 0.05
        fired["swaps"] += swap_test(a, b, wer, swaps=1000, seed=trial)["wer"] < 0.05
        rates = np.repeat(generator.beta(2, 18, (2, 40)), 8, axis=1)
        a, b = (by_cluster(rows(generator.binomial(10, rate), 10), np.repeat(np.arange(40), 8)) for rate in rates)
        fired["swaps of clusters"] += swap_test(a, b, wer, swaps=1000, seed=trial)["wer"] < 0.05
        right = generator.random((2, 400)) < 0.6
        p = mcnemar(int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum()))
        fired["mid_p"] += p.mid_p < 0.05
        fired["exact"] += p.exact < 0.05
    return {name: count / trials for name, count in fired.items()}


@pytest.mark.slow
def test_intervals_hold_the_truth_and_tests_of_equal_systems_rarely_fire() -> None:
    held, fired = coverage(120), false_alarms(150)
    assert min(held[name] for name in ("speech", "choices", "clusters")) >= 0.90
    assert held["items"] < 0.85
    assert max(fired.values()) <= 0.09
    assert min(fired[name] for name in ("bootstrap", "swaps", "mid_p")) > 0


@pytest.mark.slow
def test_nominal_95_percent_intervals_hold_92_to_98_percent() -> None:
    held = coverage(2000)
    assert all(0.92 <= held[name] <= 0.98 for name in ("speech", "choices", "clusters")), held
    assert held["items"] < 0.80, held


@pytest.mark.slow
def test_tests_of_equal_systems_fire_3_to_7_percent_at_the_5_percent_level() -> None:
    fired = false_alarms(2000)
    assert all(0.03 <= share <= 0.07 for name, share in fired.items() if name != "exact"), fired
    assert fired["exact"] <= fired["mid_p"], fired


def test_drawing_rows_gives_the_interval_of_drawing_sums() -> None:
    generator = np.random.default_rng(0)
    stats = np.column_stack([generator.integers(0, 3, 400), generator.integers(3, 9, 400)]).astype(float)
    of_rows = bootstrap_rows(stats, lambda some: wer(some.sum(axis=0)), 2000)["wer"]
    assert of_rows == pytest.approx(bootstrap(stats, wer, 2000, method="percentile")["wer"], abs=0.004)
    none_right = bootstrap_rows(stats, lambda some: {"wer": np.asarray(math.nan)}, 10)["wer"]
    assert np.isnan(none_right).all()


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (40, 40, 0.9124, 1.0),
        (0, 40, 0.0, 0.0876),
        (39, 40, 0.8712, 0.9956),
        (2, 40, 0.0138, 0.1650),
        (2, 2, 0.3424, 1.0),
        (1, 2, 0.0945, 0.9055),
    ],
)
def test_a_fraction_of_items_that_are_nearly_all_right_or_wrong_has_the_interval_of_wilson(
    right: int, count: int, low: float, high: float
) -> None:
    metric = texts(Accuracy(("dog", "cat")), *[("dog", "dog")] * right, *[("dog", "cat")] * (count - right))
    assert interval_of(metric, "accuracy") == pytest.approx((low, high), abs=1e-4)
    assert interval_of(metric, "accuracy") == pytest.approx(wilson(right, count))
    assert interval_of(metric, "following_rate") == pytest.approx(wilson(count, count))


def test_a_fraction_of_many_right_and_wrong_items_keeps_the_interval_of_the_bootstrap() -> None:
    metric = texts(Accuracy(("dog", "cat")), *[("dog", "dog")] * 30, *[("dog", "cat")] * 10)
    assert interval_of(metric, "accuracy") == bootstrap(metric.items().stats.numpy(), metric.score)["accuracy"]
    metric = texts(ErrorRate(), *[("a b c", "a b c")] * 20, *[("a x c", "a b c")] * 8)
    assert interval_of(metric, "wer") == bootstrap(metric.items().stats.numpy(), metric.score)["wer"]


def test_an_error_rate_of_none_of_its_words_is_bounded_by_how_many_there_are() -> None:
    metric = texts(ErrorRate(), *[("a b c d", "a b c d")] * 25)
    for key in metric.keys:
        assert interval_of(metric, key) == pytest.approx((0.0, 0.03622), abs=1e-5)  # 1 - 0.025 ** (1 / 100)
    characters = texts(ErrorRate("character", "exact"), *[("abcd", "abcd")] * 25)
    assert interval_of(characters, "cer") == interval_of(metric, "wer")
    speakers = texts(PermutedErrorRate(), *[("a b\nc d", "a b\nc d")] * 25)
    assert interval_of(speakers, "cpwer") == interval_of(metric, "wer")
    assert interval_of(speakers, "speaker_count_accuracy") == wilson(25, 25)
    assert interval_of(texts(MatchRate(), *[("a b", "a b")] * 25), "ser") == wilson(0, 25)


def test_an_error_rate_of_all_words_and_one_that_every_item_has_have_width() -> None:
    lost = texts(ErrorRate(), *[("", "a b c d")] * 25)
    assert interval_of(lost, "wer") == pytest.approx((0.96378, 1.0), abs=1e-5)
    assert interval_of(lost, "sub") == pytest.approx((0.0, 0.03622), abs=1e-5)
    equal = texts(ErrorRate(), *[("a b c x", "a b c d")] * 25)
    assert interval_of(equal, "wer") == wilson(25, 100)
    looped = texts(ErrorRate(), *[("a a a", "a")] * 5)
    assert np.isnan(interval_of(looped, "wer")).all()


def test_perfect_texts_have_an_interval_below_1_and_a_number_that_never_varies_has_none() -> None:
    same = [("the big dog barks loudly", "the big dog barks loudly")] * 10
    for metric in (texts(Bleu(), *same), texts(Chrf(), *same)):
        assert interval_of(metric, metric.keys[0]) == pytest.approx(wilson(10, 10))
    words = texts(Diversity(), *same)
    assert np.isnan(interval_of(words, "mean_words", ("mean_words",))).all()


def test_a_fraction_of_some_items_has_their_interval() -> None:
    metric = MultipleChoice("letter")
    metric.update(["A", "A", "?", "?"], [["x"]] * 4, list("abcd"), [["x", "y"]] * 4)
    assert interval_of(metric, "accuracy") == wilson(2, 4)
    assert interval_of(metric, "accuracy_of_parsed").low < 0.5


def test_an_equal_error_rate_without_error_has_width() -> None:
    metric = EqualErrorRate()
    metric.update([""] * 20, [["yes"]] * 10 + [["no"]] * 10, list(map(str, range(20))), [1.0] * 10 + [-1.0] * 10)
    assert interval_of(metric, "eer") == wilson(0, 20)


@pytest.mark.parametrize("outputs", [[], ["a"]])
def test_no_item_and_one_item_have_no_interval(outputs: list[str]) -> None:
    metric = texts(ErrorRate(), *[(output, "a") for output in outputs])
    assert all(np.isnan(interval_of(metric, key)).all() for key in metric.keys)
    trials = EqualErrorRate()
    trials.update(outputs, [["yes"]] * len(outputs), outputs, [1.0] * len(outputs))
    assert np.isnan(interval_of(trials, "eer")).all()


def test_the_exact_binomial_interval_of_none_and_all() -> None:
    assert binomial(0, 40) == pytest.approx((0, 0.0881), abs=1e-4)
    assert binomial(40, 40) == pytest.approx((0.9119, 1), abs=1e-4)
    assert binomial(3, 40) == wilson(3, 40)
    assert np.isnan(binomial(0, 0)).all()
    with pytest.raises(ValueError, match="successes must be between 0 and the count, got 3 of 2"):
        binomial(3, 2)
