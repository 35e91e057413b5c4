"""What the report says of predictions follows from them: errors, slices, failures, confusions, differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from salmonn_lab import analysis, benchmarks, pages
from salmonn_lab.analysis import Result, analyze, compare, corrected
from salmonn_lab.batch import GENERATION, LIKELIHOOD, Example, Prediction, Segment
from salmonn_lab.benchmarks import BENCHMARKS, Published
from salmonn_lab.metrics.health import KINDS

ASR, SOUNDS = BENCHMARKS["asterisk"], BENCHMARKS["quickstart_sounds"]
Rows = Sequence[tuple[str, str]]


def predict(rows: Rows, meta: Sequence[Mapping[str, object]] = ()) -> list[Prediction]:
    more = meta or [{}] * len(rows)
    return [
        Prediction(f"item-{index}", "b", "What is said?", text, (reference,), more[index])
        for index, (text, reference) in enumerate(rows)
    ]


def examples(seconds: Sequence[float | None], path: str = "{}.flac") -> dict[str, Example]:
    return {
        f"item-{index}": Example(f"item-{index}", (Segment(path.format(index)),), "asr", "x", duration=length)
        for index, length in enumerate(seconds)
    }


def result(rows: Rows, **options: object) -> Result:
    return analyze(ASR, predict(rows), {}, {}, **options)  # type: ignore[arg-type]


ROWS = [("a b c d", "a b c d"), ("a x c d", "a b c d"), ("x y z q w", "a b c d"), ("", "a b c d")]


def test_health_knows_what_every_measured_task_asks_for() -> None:
    assert benchmarks.TASKS.keys() <= KINDS.keys()


def test_the_headline_and_its_interval_are_those_of_the_scores() -> None:
    found = result(ROWS)
    assert (found.scores[0].metric, found.scores[0].value) == ("wer", (1 + 5 + 4) / 16)
    assert list(found.scores) == benchmarks.score(ASR, predict(ROWS))
    assert (found.count, found.ceiling, found.baseline, found.delta) == (4, 0.0, None, None)


def test_what_a_model_noted_of_likelihoods_is_scored_and_changes_nothing_else() -> None:
    noted = [{LIKELIHOOD: {"reference": [-2.0, 2], "choices": []}} for _ in ROWS]
    found, plain = analyze(ASR, predict(ROWS, noted), {}, {}), result(ROWS)
    assert found.scores[: len(plain.scores)] == plain.scores
    assert {score.metric for score in found.scores[len(plain.scores) :]} == {"perplexity", "bits_per_byte"}
    assert (found.ceiling, found.worst, found.sensitivity) == (plain.ceiling, plain.worst, plain.sensitivity)


def test_the_worst_items_make_the_share_of_the_edits_that_they_have() -> None:
    found = result(ROWS)
    assert [(row.items, row.share) for row in found.worst] == [(1, pytest.approx(0.5)), (3, pytest.approx(1))]
    assert [row.score for row in found.worst] == pytest.approx([5 / 16, 0])
    assert [item.id for item in found.items] == ["item-2", "item-3", "item-1", "item-0"]
    assert [item.value for item in found.items] == [1.25, 1.0, 0.25, 0.0]
    assert [item.weight for item in found.items] == pytest.approx([0.5, 0.4, 0.1, 0.0])


def test_a_long_transcript_with_many_edits_costs_more_than_a_short_one_that_is_all_wrong() -> None:
    rows = [("x", "a"), ("a b c d x y z w", "a b c d e f g h")]
    assert [item.id for item in result(rows).items] == ["item-1", "item-0"]


def test_perfect_outputs_have_no_worst_items_and_an_interval_with_width() -> None:
    found = analyze(SOUNDS, predict([("dog", "dog"), ("cat", "cat")] * 10), examples([1.0, 3.0] * 10), {})
    assert found.worst == found.confusions == ()
    assert {item.weight for item in found.items} == {0.0}
    assert [(row.score.value, row.score.high) for row in found.slices] == [(1.0, 1.0)] * 2
    assert all(0.6 < row.score.low < 0.8 for row in found.slices)


def test_an_alignment_shows_what_the_metric_counts() -> None:
    (item,) = result([("The big dogs bark!", "the dog barks loudly")]).items
    assert item.alignment[0] == ("=", "the", "the")
    signs = [sign for sign, _, _ in item.alignment]
    assert "=" in signs[:1]
    assert sum(len(wanted.split()) for sign, wanted, _ in item.alignment) == 4
    assert sum(len(written.split()) for sign, _, written in item.alignment) == 4
    assert result([("same", "same")]).items[0].alignment == ()


def test_health_counts_outputs_and_gives_the_score_without_them() -> None:
    found = result([*ROWS, ("no no no no no no", "a b c d")])
    rules = {row.rule: row for row in found.health}
    assert (rules["looped"].broken, rules["looped"].judged, rules["looped"].share) == (1, 5, 0.2)
    assert rules["looped"].without == result(ROWS).scores[0].value
    assert rules["empty"].without == pytest.approx((1 + 5 + 6) / 16)
    assert (rules["refused"].without, rules["truncated"].judged) == (None, 0)
    assert math.isnan(rules["truncated"].share)
    assert (found.sick, found.without_sick) == (2, pytest.approx(6 / 12))
    assert (found.left_sick, found.left_of, found.unit) == (12, 20, "words")
    assert (rules["looped"].left, rules["refused"].left) == (16, None)


def test_a_score_without_most_of_the_words_is_not_shown() -> None:
    long = " ".join(f"x{chr(97 + index % 26)}{chr(97 + index // 26)}" for index in range(98))
    found = asdict(result([("no no no no no no", long), ("a b", "a b")]))
    assert (found["without_sick"], found["left_sick"], found["left_of"]) == (0.0, 2, 100)
    (line,) = (line for line in pages.health_section([found])[-1].splitlines() if line.startswith("| asterisk"))
    assert "| 2 of 100 words left |" in line
    assert "0.0 %" not in line.split("|")[-3]
    found = asdict(result([("no no no no no no", "x y"), (long, long)]))
    assert pages.shown_without(found["without_sick"], found["left_sick"], found) == "0.0 % (98 of 100 words)"
    answers = asdict(analyze(SOUNDS, predict([("dog", "dog"), ("a thing", "cat"), ("dog", "dog")]), {}, {}))
    assert pages.shown_without(answers["without_sick"], answers["left_sick"], answers) == "100.0 % (2 of 3 items)"


def test_what_the_metric_cannot_parse_breaks_a_rule() -> None:
    found = analyze(SOUNDS, predict([("dog", "dog"), ("a thing", "cat"), ("dog", "cat")]), {}, {})
    rules = {row.rule: row for row in found.health}
    assert (rules["unparsed"].broken, rules["unparsed"].judged, rules["unparsed"].without) == (1, 3, 0.5)
    assert {item.id: item.broken for item in found.items}["item-1"] == ("unparsed",)
    assert found.baseline == pytest.approx(2 / 3)


def test_slices_divide_by_duration_and_meta_and_say_when_they_are_small() -> None:
    rows = [("a", "a"), ("b", "a")] * 30
    meta = [
        {
            "gender": "female" if index % 2 else "male",
            "id": index,
            "loud": index < 10,
            "one": "x",
            "list": ["y"],
            "words": 9 + index % 2,
        }
        for index in range(60)
    ]
    found = analyze(ASR, predict(rows, meta), examples([0.5, 3.0, 25.0] * 20), {})
    assert [(row.key, row.name, row.score.count, row.few) for row in found.slices] == [
        ("duration", "0 to 2 s", 20, True),
        ("duration", "2 to 5 s", 20, True),
        ("duration", "20 s and more", 20, True),
        ("gender", "female", 30, False),
        ("gender", "male", 30, False),
        ("loud", "no", 50, False),
        ("loud", "yes", 10, True),
        ("words", "9", 30, False),
        ("words", "10", 30, False),
    ]
    values = {row.name: row.score.value for row in found.slices}
    assert (values["female"], values["male"]) == (1.0, 0.0)


def test_no_slice_holds_all_items() -> None:
    assert analyze(ASR, predict(ROWS), examples([1.0] * 4), {}).slices == ()


def test_items_of_one_speaker_widen_the_interval() -> None:
    rows = [("a" if speaker % 3 else "b", "a") for speaker in range(30) for _ in range(10)]
    meta = [{"speaker": f"s{index // 10}"} for index in range(300)]
    found = analyze(ASR, predict(rows, meta), {}, {})
    assert found.clusters is not None
    assert (found.clusters.key, found.clusters.count, found.clusters.few) == ("speaker", 30, False)
    assert found.clusters.high - found.clusters.low > 2 * (found.scores[0].high - found.scores[0].low)


def test_items_that_share_a_recording_are_a_cluster_and_items_of_their_own_are_not() -> None:
    shared = analyze(ASR, predict(ROWS), examples([1.0] * 4, "one.flac") | examples([1.0] * 2), {})
    assert shared.clusters is not None
    assert (shared.clusters.key, shared.clusters.count, shared.clusters.few) == ("recording", 3, True)
    assert analyze(ASR, predict(ROWS), examples([1.0] * 4), {}).clusters is None
    assert result(ROWS).clusters is None


def test_confusions_count_words_of_transcripts_and_whole_answers() -> None:
    found = result([("a x", "a b"), ("a x", "a b"), ("a", "a b"), ("a b c", "a b")])
    assert [(row.kind, row.reference, row.output, row.count) for row in found.confusions] == [
        ("substitution", "b", "x", 2),
        ("deletion", "b", "", 1),
        ("insertion", "", "c", 1),
    ]
    answers = analyze(SOUNDS, predict([("Dog!", "cat"), ("dog", "cat"), ("cat", "cat"), ("dog", "dog")]), {}, {})
    assert [(row.kind, row.reference, row.output, row.count) for row in answers.confusions] == [
        ("answer", "cat", "dog", 2)
    ]


def test_sensitivity_shows_the_headline_under_other_normalizers_the_own_one_first() -> None:
    found = result([("It's colour", "it is color"), ("a", "a")])
    assert found.sensitivity[0].score.value == found.scores[0].value == 0.0
    assert found.sensitivity[0].signature == found.scores[0].signature
    assert {row.metric: row.score.value for row in found.sensitivity}["wer_basic"] > 0
    interval = result(ROWS).sensitivity[0].score
    assert (interval.low, interval.high) == (result(ROWS).scores[0].low, result(ROWS).scores[0].high)


def test_the_published_value_is_told_with_the_difference() -> None:
    found = analyze(replace(ASR, published=Published(0.125, "a paper")), predict(ROWS), {}, {"wer": 2.0})
    assert found.delta == 0.5
    assert found.before == {"wer": 2.0}


def test_speed_is_that_of_items_whose_time_and_length_are_known() -> None:
    meta: list[Mapping[str, object]] = [{GENERATION: {"seconds": seconds}} for seconds in (0.5, 1.0, 1.5)]
    found = analyze(ASR, predict(ROWS, [*meta, {}]), examples([2.0, 4.0, None, 8.0]), {}).speed
    assert found is not None
    assert (found.count, found.audio_seconds, found.seconds, found.rtfx, found.median) == (2, 6.0, 1.5, 4.0, 0.75)
    assert result(ROWS).speed is None


def test_no_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="asterisk: there are no predictions"):
        analyze(ASR, [], {}, {})


def test_a_repeated_prediction_counts_once() -> None:
    assert analyze(ASR, predict(ROWS) * 2, {}, {}) == result(ROWS)


def test_two_runs_are_compared_on_the_items_that_both_answered() -> None:
    here = predict([("a", "a"), ("b", "a"), ("a", "a"), ("a", "a")])
    there = [*predict([("a", "a"), ("a", "a"), ("x", "a"), ("y z", "a")])[1:], Prediction("new", "b", "", "", ("a",))]
    found = compare(ASR, here, there)
    assert (found.count, found.only_here, found.only_there) == (3, 1, 1)
    assert (found.value, found.other_value, found.difference) == (1 / 3, 1.0, pytest.approx(-2 / 3))
    assert (found.better, found.equal, found.worse) == (2, 0, 1)
    assert [flip.id for flip in found.better_items] == ["item-3", "item-2"]
    assert [(flip.id, flip.output, flip.other_output) for flip in found.worse_items] == [("item-1", "b", "a")]
    assert found.p_swap == 6 / 8
    assert found.mcnemar is None
    back = compare(ASR, there, here)
    assert (back.difference, back.p_swap) == (-found.difference, found.p_swap)


def test_answers_that_are_right_or_wrong_are_compared_by_mcnemar_too() -> None:
    here = predict([("dog", "dog")] * 8 + [("cat", "dog"), ("cat", "cat")])
    there = predict([("cat", "dog")] * 7 + [("dog", "dog")] * 2 + [("cat", "cat")])
    found = compare(SOUNDS, here, there)
    assert found.mcnemar is not None
    assert found.mcnemar == pytest.approx((0.0703125, 0.0390625, 0.0770998717), abs=1e-9)
    assert found.p_swap == pytest.approx(found.mcnemar.exact)


def test_runs_that_do_not_compare_are_refused() -> None:
    here = predict(ROWS)
    with pytest.raises(ValueError, match="no item in common"):
        compare(ASR, here, [replace(one, id="x" + one.id) for one in here])
    with pytest.raises(ValueError, match="'item-0' has other references"):
        compare(ASR, here, [replace(one, references=("z",)) for one in here])


def test_several_comparisons_are_corrected_for_their_number() -> None:
    one = compare(ASR, predict(ROWS), predict(ROWS))
    table = corrected([replace(one, p_swap=p) for p in (0.01, 0.04)])
    assert [row.p_holm for row in table] == [0.02, 0.04]
    assert (one.difference, one.p_swap, one.p_bootstrap, one.equal) == (0, 1, 1, 4)


def test_a_thousand_items_are_analyzed_in_seconds() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(["red", "green", "blue", "grey", "black"], 12)) for _ in range(2000)]
    found = analyze(ASR, predict(list(zip(texts[::2], texts[1::2], strict=True))), examples([3.0] * 1000), {})
    assert len(found.items) == 1000
    assert sum(item.weight for item in found.items) == pytest.approx(1)
    assert analysis.WORST[-1] in [row.items for row in found.worst]
