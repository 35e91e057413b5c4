"""The report says what was measured, before and after, and nothing that was not."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from salmonn_lab.batch import Prediction, Score
from salmonn_lab.benchmarks import BENCHMARKS, Published
from salmonn_lab.report import (
    BenchmarkResult,
    WorstItem,
    measure,
    plain,
    read_scores,
    summary_table,
    worst_items,
    write_report,
    write_scores,
)

SCORE = Score("asterisk", "wer", 0.25, 0.2, 0.3125, 40, "wer|norm:whisper_en@1|agg:corpus|v1")
RESULT = BenchmarkResult(
    "asterisk",
    before=[Score("asterisk", "wer", 1.5, 1.25, 1.75, 40, SCORE.signature)],
    after=[SCORE, Score("asterisk", "sub", 0.125, 0.0, 0.25, 40, SCORE.signature)],
    health={"empty": 4, "looped": 0, "echoed": 1, "refused": 0},
    worst=(WorstItem("vm-full", 2.0, ("a|b", "c"), "<Speech> *x*\n`y`"), WorstItem("vm-low", 1.0, ("今天",), "")),
    baseline=0.125,
    published=Published(0.05, "the paper"),
)
SKIPPED = BenchmarkResult("quickstart_open", skipped="no [data] here: pip install x")


def predict(*rows: tuple[str, str]) -> list[Prediction]:
    return [Prediction(f"item-{i}", "b", "", text, (reference,)) for i, (text, reference) in enumerate(rows)]


def rows_of(page: str, first: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def page_of(folder: Path, *results: BenchmarkResult, **provenance: str) -> str:
    return write_report(folder, results, provenance).read_text(encoding="utf-8")


def test_results_read_back_equal(tmp_path: Path) -> None:
    results = [RESULT, SKIPPED, BenchmarkResult("empty", after=[])]
    write_scores(tmp_path / "run" / "scores.json", results)
    assert read_scores(tmp_path / "run" / "scores.json") == results
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["scores.json"]


def test_a_score_that_is_nan_is_null_in_the_file(tmp_path: Path) -> None:
    nothing = Score("b", "wer", math.nan, math.nan, math.nan, 0, "s")
    write_scores(tmp_path / "s.json", [BenchmarkResult("b", after=[nothing])])
    record = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)[0]["after"][0]
    assert (record["value"], record["low"], record["high"]) == (None, None, None)
    (result,) = read_scores(tmp_path / "s.json")
    assert result.after is not None
    assert math.isnan(result.after[0].value)
    assert "nan" in page_of(tmp_path, result)


@pytest.mark.parametrize("text", ["", "{", "{}x", "[1]", '[{"benchmark": "b"}]', "3", '{"a": 1}'])
def test_a_file_that_holds_no_scores_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=r"s.json is not a file of scores"):
        read_scores(tmp_path / "s.json")


def test_a_measured_benchmark_carries_scores_health_worst_items_and_baseline() -> None:
    outputs = predict(("dog", "dog"), ("", "dog"), ("cat", "dog"), ("the cat", "cat"))
    result = measure(BENCHMARKS["quickstart_sounds"], [*outputs, outputs[1]])
    assert result.after is not None
    assert result.after[0].metric == "accuracy"
    assert [(score.value, score.count) for score in result.after if score.metric == "accuracy"] == [(0.5, 4)]
    assert result.health == {"empty": 1, "looped": 0, "echoed": 0, "refused": 0}
    assert [item.id for item in result.worst] == ["item-1", "item-2"]
    assert result.baseline == 0.75
    assert result.before is result.skipped is None


def test_worst_items_are_the_farthest_from_perfect_in_a_fixed_order() -> None:
    rows = [("a b", "a b"), ("a x", "a b"), ("y x", "a b"), ("a z", "a b"), ("", "b"), ("a b c d", "a"), ("q", "r")]
    outputs = predict(*rows)
    worst = worst_items(BENCHMARKS["asterisk"], outputs)
    assert [(item.id, item.value) for item in worst] == [
        ("item-5", 3.0),
        ("item-2", 1.0),
        ("item-4", 1.0),
        ("item-6", 1.0),
        ("item-1", 0.5),
    ]
    assert worst == worst_items(BENCHMARKS["asterisk"], outputs[::-1])
    assert worst_items(BENCHMARKS["asterisk"], outputs[:1]) == ()
    assert worst_items(BENCHMARKS["asterisk"], outputs, count=1) == worst[:1]


def test_before_and_after_stand_side_by_side() -> None:
    after, before = (
        measure(BENCHMARKS["asterisk"], predict(("a", "a"))),
        measure(BENCHMARKS["asterisk"], predict(("b", "a"))),
    )
    joined = after.since(before)
    assert (joined.after, joined.before) == (after.after, before.after)
    assert joined.health == after.health


def test_scores_that_do_not_compare_are_refused() -> None:
    other = BenchmarkResult("asterisk", after=[Score("asterisk", "wer", 1, 1, 1, 40, "wer|norm:exact@1|agg:corpus|v1")])
    with pytest.raises(ValueError, match=r"asterisk: wer before and after do not compare: wer\|norm:exact@1"):
        RESULT.since(other)
    with pytest.raises(ValueError, match="a result of quickstart_open is no earlier result of asterisk"):
        RESULT.since(SKIPPED)


def test_the_page_shows_scores_before_and_after_with_interval_count_and_comparison(tmp_path: Path) -> None:
    page = page_of(tmp_path, RESULT, SKIPPED)
    assert rows_of(page, "asterisk")[:2] == [
        [
            "asterisk",
            "wer",
            "150.0 %",
            "25.0 %",
            "20.0 % to 31.2 %",
            "40",
            "constant answer 12.5 %, published 5.0 % (the paper)",
        ],
        ["asterisk", "sub", "", "12.5 %", "0.0 % to 25.0 %", "40", ""],
    ]


def test_the_page_shows_health_worst_items_skipped_signatures_and_provenance(tmp_path: Path) -> None:
    page = page_of(tmp_path, RESULT, SKIPPED, git="abc_def", seed="3")
    assert rows_of(page, "asterisk")[2] == ["asterisk", "4 (10.0 %)", "0 (0.0 %)", "1 (2.5 %)", "0 (0.0 %)", "40"]
    assert rows_of(page, "vm") == [
        ["vm-full", "200.0 %", r"a\|b / c", r"\<Speech\> \*x\* \`y\`"],
        ["vm-low", "100.0 %", "今天", "(empty)"],
    ]
    assert r"- quickstart\_open: no \[data\] here: pip install x" in page
    assert "- asterisk wer: `wer|norm:whisper_en@1|agg:corpus|v1`" in page
    assert "- git: abc\\_def\n- seed: 3\n" in page
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Results",
        "## Health",
        "## Worst items of asterisk",
        "## Skipped",
        "## Signatures",
        "## Provenance",
    ]


def test_every_table_row_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    page = page_of(tmp_path, RESULT, SKIPPED, BenchmarkResult("only_before", before=[SCORE]))
    for block in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        counts = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1


def test_a_page_of_nothing_has_no_empty_sections(tmp_path: Path) -> None:
    page = page_of(tmp_path / "new")
    assert re.findall(r"^#.*", page, flags=re.MULTILINE) == ["# Results", "## Provenance"]


def test_a_benchmark_measured_only_before_shows_its_interval(tmp_path: Path) -> None:
    page = page_of(tmp_path, BenchmarkResult("asterisk", before=[SCORE]))
    assert rows_of(page, "asterisk")[0][2:6] == ["25.0 %", "", "20.0 % to 31.2 %", "40"]


def test_a_very_long_output_is_cut_and_a_table_stays_one_line() -> None:
    assert plain("x" * 10_000) == "x" * 300 + "…"
    assert plain("a\n\n| b\r\tc") == r"a \| b c"


def test_the_terminal_shows_the_same_rows_and_takes_no_text_for_markup() -> None:
    stream = io.StringIO()
    odd = BenchmarkResult("[red]odd[/]", after=[SCORE])
    Console(file=stream, width=200).print(summary_table([RESULT, SKIPPED, odd]))
    text = stream.getvalue()
    assert "constant answer 12.5 %, published 5.0 % (the paper)" in text
    assert "[red]odd[/]" in text
    assert re.search(r"quickstart_open\s+│\s+skipped", text)
