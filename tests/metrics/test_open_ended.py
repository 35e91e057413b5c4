"""Variety and form of outputs that no reference can grade, and the speed at which they came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salmonn_lab.metrics.open_ended import RULES, Diversity, FollowingRate, FollowingRule
from salmonn_lab.metrics.timing import measure_speed

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_open_ended.json").read_text(encoding="utf-8"))
STORY = "A dog ran to the park. " * 4 + "Then it slept for a long time and dreamt of bones!"


def test_diversity_equals_the_golden_one() -> None:
    case = GOLDEN["diversity"]
    metric = Diversity()
    metric.update(case["stories"], [["x"], ["x"]], ["a", "b"])
    values = {key: value.item() for key, value in metric.compute().items()}
    for key in ("mean_unique_words", "distinct_1", "distinct_2"):
        assert values[key] == pytest.approx(case[key], abs=1e-9)
    assert values["mean_words"] == 8
    assert sorted(metric.items().stats[:, 0].tolist()) == sorted(case["unique_words_per_story"])


def test_another_story_of_the_same_words_does_not_lower_distinct_words() -> None:
    one, two = Diversity(), Diversity()
    one.update(["a dog barks"], [["x"]], ["a"])
    two.update(["a dog barks"] * 2, [["x"]] * 2, ["a", "b"])
    assert one.compute() == two.compute()


def test_an_empty_story_has_no_words() -> None:
    metric = Diversity()
    metric.update([""], [["x"]], ["a"])
    assert {value.item() for value in metric.compute().values()} == {0.0}


@pytest.mark.parametrize(
    ("rule", "text", "followed"),
    [
        ("story", STORY, True),
        ("story", "A dog barks.", False),
        ("story", "dog " * 100, False),
        ("keywords", "dogs, wave theory, light", True),
        ("keywords", "1. dogs\n2. cats\n3. birds", True),
        ("keywords", "dogs, cats", False),
        ("keywords", "the keywords of this talk are dogs, cats, birds", False),
        ("yes_no", "Yes.", True),
        ("yes_no", '"No", I say', True),
        ("yes_no", "Nobody", False),
        ("answer", "7", True),
        ("answer", "今天", True),
        ("answer", " ...", False),
    ],
)
def test_an_output_follows_its_rule_or_not(rule: str, text: str, followed: bool) -> None:
    metric = FollowingRate(rule)
    metric.update([text], [["x"]], ["a"])
    assert metric.compute()["following_rate"].item() == followed
    assert metric.signature == f"following_rate|rule:{RULES[rule].label}|agg:mean|v1"


def test_a_rule_may_be_given_and_an_unknown_one_is_refused() -> None:
    assert FollowingRate(FollowingRule("own", 3, str.isupper)).signature.startswith("following_rate|rule:own@3|")
    with pytest.raises(ValueError, match="no rule 'poem' of following; there are story, keywords"):
        FollowingRate("poem")


def test_speed_is_all_audio_over_all_work() -> None:
    case = GOLDEN["rtf"]
    speed = measure_speed(case["durations"], case["times"])
    assert speed.rtfx == pytest.approx(case["rtfx"], abs=1e-9)
    assert speed.seconds / speed.audio_seconds == pytest.approx(case["rtf_total"], abs=1e-9)
    assert speed.median == speed.p95 == 1


@pytest.mark.parametrize(
    ("durations", "seconds", "message"),
    [([], [], "got 0 durations"), ([1.0], [1.0, 2.0], "got 1 durations, 2 times"), ([1.0], [0.0], "must be positive")],
)
def test_speed_of_what_was_not_timed_is_refused(durations: list[float], seconds: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_speed(durations, seconds)
