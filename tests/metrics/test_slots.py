"""SLU-F1 equals what SLURP's official script makes of the same slots."""

from __future__ import annotations

import pytest

from salmonn_lab.metrics.slots import Slot, SluF1, parse_slots


def scores(outputs: list[str], references: list[list[str]]) -> dict[str, float]:
    metric = SluF1()
    metric.update(outputs, references, [str(number) for number in range(len(outputs))])
    return {key: value.item() for key, value in metric.compute().items()}


def test_slots_are_read_from_entries_with_colons() -> None:
    assert parse_slots("date: tomorrow; time : 9:30 am\nplace:;  ; a dog") == [
        Slot("date", "tomorrow"),
        Slot("time", "9:30 am"),
        Slot("place", ""),
        Slot("", "a dog"),
    ]


def test_none_alone_is_no_slot() -> None:
    assert parse_slots("None.") == parse_slots(" none ") == []
    assert parse_slots("none: x") == [Slot("none", "x")]
    assert scores(["none", "date: today"], [["none"], ["date: today"]])["slu_f1"] == 1


def test_equal_slots_are_all_hits() -> None:
    assert set(scores(["Time: nine am; date: today"], [["date: today; time: nine am"]]).values()) == {1.0}


def test_a_nearly_right_filler_counts_in_part() -> None:
    # Half of the words differ, and two of eight characters: a hit, and as much of a miss on both sides.
    values = scores(["date: the day"], [["date: this day"]])
    assert values["word_f1"] == pytest.approx(2 / (2 + 0.5 + 0.5))
    distance = 2 / 8
    assert values["char_f1"] == pytest.approx(2 / (2 + 2 * distance))
    assert values["slu_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 * (0.5 + distance)))
    assert values["span_f1"] == 0


def test_slots_of_one_side_alone_are_misses() -> None:
    values = scores(["date: today; place: here"], [["date: today; time: now"]])
    assert values["slu_precision"] == values["slu_recall"] == values["slu_f1"] == 0.5


def test_an_empty_output_misses_every_slot_and_nothing_at_all_scores_nothing() -> None:
    assert scores(["", "date: today"], [["date: today"], ["date: today"]])["slu_recall"] == 0.5
    assert set(scores([""], [[""]]).values()) == {0.0}


def test_each_slot_takes_the_nearest_of_its_kind_once() -> None:
    values = scores(["name: ann; name: bob"], [["name: bob; name: ann"]])
    assert values["slu_f1"] == 1
    values = scores(["name: ann; name: ann"], [["name: ann; name: xyz"]])
    assert values["span_f1"] == 0.5
    assert values["word_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_of_several_references_the_nearest_counts() -> None:
    assert scores(["date: today"], [["date: tomorrow", "date: today"]])["slu_f1"] == 1
