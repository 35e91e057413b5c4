"""The report says what was measured, before and after, and nothing that was not."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from salmonn_lab import benchmarks, pages, report, study_pages
from salmonn_lab.batch import Example, Prediction, Score, Segment
from salmonn_lab.benchmarks import BENCHMARKS, Published
from salmonn_lab.config import RunConfig, to_yaml
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import DataConfig
from salmonn_lab.predictions import read_predictions, write_predictions
from salmonn_lab.report import (
    BenchmarkResult,
    WorstItem,
    encode,
    measure,
    read_scores,
    score_rows,
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
    manifest="asset:asterisk/asterisk_all.jsonl",
)
SKIPPED = BenchmarkResult("quickstart_open", skipped="no [data] here: pip install x")
HOSTILE = (
    "</script><script>alert(1)</script><!--",
    '" onmouseover="alert(1)" \'x\' <img src=x onerror=alert(1)>',
    "lone \ud800 surrogate \udfff and \u2028 line",
    "{{ 7 * 7 }} {% raw %} &amp; &lt;b&gt; |pipe| `tick` $x_1$ \\end{tabular}",
    "今天天气很好",
)


def predict(*rows: tuple[str, str]) -> list[Prediction]:
    return [Prediction(f"item-{i}", "b", "", text, (reference,)) for i, (text, reference) in enumerate(rows)]


def make_run(folder: Path, corpus: Path, outputs: list[str], **meta: object) -> Path:
    """Write a run that answered the five clips of the corpus."""
    (folder / "predictions").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(RunConfig(out_dir=str(folder))))
    (folder / "provenance.json").write_text(
        json.dumps({"git": "abc<b>", "seconds": {"training": 2.5}, "peak_memory_gib": 1.25})
    )
    predictions = [
        Prediction(example.id, "corpus", "<SpeechHere> What is said?\n", text, (example.target,), meta)
        for example, text in zip(read_manifest(corpus), outputs, strict=False)
    ]
    write_predictions(folder / "predictions" / "corpus.jsonl", predictions)
    write_scores(folder / "scores.json", [measure(benchmarks.find(str(corpus)), predictions), SKIPPED])
    return folder


@pytest.fixture
def run(tmp_path: Path, corpus: Path) -> Path:
    return make_run(tmp_path / "run", corpus, ["one two", "tree", "four five six six", "", "eight nine"])


def report_of(page: Path) -> Any:
    return json.loads((page.parent / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


class Cells(HTMLParser):
    """The rows of a table by its id: each cell's attributes and text."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self.table, self.inside, self.rows = table, False, []  # type: ignore[var-annotated]
        self.cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "table":
            self.inside = found.get("id") == self.table
        if self.inside and tag == "tr":
            self.rows.append([])
        if self.inside and tag in ("td", "th"):
            self.cell = []
            self.rows[-1].append((found, self.cell))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)


def cells_of(page: Path, table: str) -> list[list[tuple[dict[str, str], str]]]:
    parser = Cells(table)
    parser.feed(page.read_text(encoding="utf-8"))
    return [[(attrs, "".join(text).strip()) for attrs, text in row] for row in parser.rows]


def data_of(page: Path) -> Any:
    """Return what the page's script reads."""
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_results_read_back_equal(tmp_path: Path) -> None:
    results = [RESULT, SKIPPED, BenchmarkResult("empty", after=[])]
    write_scores(tmp_path / "run" / "scores.json", results)
    assert read_scores(tmp_path / "run" / "scores.json") == results
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["scores.json"]


def test_scores_of_before_manifests_were_recorded_are_still_read(tmp_path: Path) -> None:
    record = RESULT.to_json()
    del record["manifest"]
    (tmp_path / "s.json").write_text(json.dumps([record]))
    assert read_scores(tmp_path / "s.json")[0].manifest == ""


def test_lone_surrogates_are_written_and_read_back(tmp_path: Path) -> None:
    odd = BenchmarkResult("b", after=[SCORE], worst=(WorstItem("i", 1.0, ("\ud800",), 'a"\udfff\\'),))
    write_scores(tmp_path / "s.json", [odd])
    assert read_scores(tmp_path / "s.json") == [odd]


def test_a_score_that_is_nan_is_null_in_the_file(tmp_path: Path) -> None:
    nothing = Score("b", "wer", math.nan, math.nan, math.nan, 0, "s")
    write_scores(tmp_path / "s.json", [BenchmarkResult("b", after=[nothing])])
    record = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)[0]["after"][0]
    assert (record["value"], record["low"], record["high"]) == (None, None, None)
    (result,) = read_scores(tmp_path / "s.json")
    assert result.after is not None
    assert math.isnan(result.after[0].value)


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
    assert result.health["empty"] == 1
    assert sum(result.health.values()) == 1
    assert "truncated" not in result.health
    assert [item.id for item in result.worst] == ["item-1", "item-2"]
    assert (result.baseline, result.baseline_policy) == (0.75, "always 'dog'")
    assert result.before is result.skipped is None


def test_the_rule_that_reaches_the_baseline_stands_beside_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    choices = [["a piano & a flute", "a cat"], ["it", "a loud dog"], ["rain", "a storm"]]
    answers = ["a cat", "it", "rain"]
    rows = [
        {"id": f"i{n}", "audio": "a.wav", "task": "QA", "target": answers[n], "meta": {"choices": choices[n]}}
        for n in range(3)
    ]
    manifest = tmp_path / "asked.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = [Prediction(f"i{n}", "asked", "", "it", (answers[n],), {"choices": choices[n]}) for n in range(3)]
    result = measure(benchmarks.find(str(manifest)), outputs)
    assert (result.baseline, result.baseline_policy) == (1.0, "always the shortest choice")
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(RunConfig(out_dir=str(run))))
    write_predictions(run / "predictions" / "asked.jsonl", outputs)
    write_scores(run / "scores.json", [result])
    assert read_scores(run / "scores.json")[0].baseline_policy == "always the shortest choice"
    assert "constant answer 100.0 % (always the shortest choice)" in score_rows([result])[0][-1]

    page = write_report(run)
    assert report_of(page)["results"][0]["baseline_policy"] == "always the shortest choice"
    assert re.search(r'data-value="1.0">100.0 % <span [^>]*>\(always the shortest choice\)</span>', page.read_text())
    assert "| 100.0 % (always the shortest choice) |" in page.with_suffix(".md").read_text()
    assert r"& 100.0\,\% (always the shortest choice) &" in page.with_suffix(".tex").read_text()
    row = next(csv.DictReader(page.with_suffix(".csv").read_text().splitlines()))
    assert (row["baseline"], row["baseline_policy"]) == ("1.0", "always the shortest choice")


def test_scores_of_a_file_without_the_rule_are_read_and_shown_without_it(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.json", [RESULT])
    records = json.loads((tmp_path / "s.json").read_text())
    del records[0]["baseline_policy"]
    (tmp_path / "s.json").write_text(json.dumps(records))
    (result,) = read_scores(tmp_path / "s.json")
    assert result.baseline_policy is None
    assert score_rows([result])[0][-1] == "constant answer 12.5 %, published 5.0 % (the paper)"


def test_a_long_rule_is_shortened_and_no_word_of_it_becomes_a_range() -> None:
    assert pages.with_policy("5.0 %", f"always '{'a dog ' * 20}'") == (
        "5.0 % (always 'a dog a dog a dog a dog a dog a dog a dog a dog a...)"
    )
    assert pages.latex("5.0 % (always '5 to_6')", ranges=False) == r"5.0\,\% (always '5 to\_6')"


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


def test_an_interval_that_does_not_exist_is_an_empty_cell() -> None:
    alone = Score("b", "wer", 0.25, math.nan, math.nan, 1, "s")
    assert score_rows([BenchmarkResult("b", after=[alone])]) == [("b", "wer", "", "25.0 %", "", "1", "")]


@pytest.mark.filterwarnings("ignore")
def test_a_report_of_one_item_shows_no_interval_and_never_nan(run: Path, tmp_path: Path) -> None:
    path = run / "predictions" / "corpus.jsonl"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for page in (write_report(run), write_report(run, other)):
        (result,) = report_of(page)["results"]
        assert {(score["low"], score["high"]) for score in result["scores"]} == {(None, None)}
        assert [row[3][1] for row in cells_of(page, "scores-table")[1:]] == [""] * 4
        visible = re.sub(r"(?s)<script.*?</script>|<[^>]+>", " ", page.read_text(encoding="utf-8"))
        for text in (visible, page.with_suffix(".md").read_text(), page.with_suffix(".tex").read_text()):
            assert not re.search(r"\bnan\b|– to –|\(\s*\)|–--–", text)


@pytest.mark.filterwarnings("ignore")
def test_every_number_of_the_tables_is_one_of_report_json(run: Path) -> None:
    page = write_report(run)
    report = report_of(page)
    (result,) = report["results"]
    rows = cells_of(page, "scores-table")
    assert [text for _, text in rows[0][:4]] == ["Benchmark", "Metric", "Score", "95 % interval"]
    assert len(rows) - 1 == len(result["scores"]) == 4
    for row, score in zip(rows[1:], result["scores"], strict=True):
        assert row[0][1] == "corpus"
        assert row[1][1].split()[0] == score["metric"]
        assert float(row[2][0]["data-value"]) == score["value"]
        assert row[2][1] == f"{100 * score['value']:.1f} %"
        assert (float(row[3][0]["data-value"]), float(row[3][0]["data-high"])) == (score["low"], score["high"])
        assert row[3][1] == f"{100 * score['low']:.1f} % to {100 * score['high']:.1f} %"
        assert int(row[5][1]) == score["count"] == 5
    health = cells_of(page, "health-table")
    counts = dict(zip([text for _, text in health[0]], [text for _, text in health[1]], strict=True))
    assert counts["empty"] == "1"
    assert counts["truncated"] == counts["unparsed"] == "–"
    left = f"({result['left_sick']} of {result['left_of']} words)"
    assert counts["without"] == f"{100 * result['without_sick']:.1f} % {left}"
    items = data_of(page)["items"]["corpus"]
    assert [
        {key: item[key] for key in report_item} for item, report_item in zip(items, result["items"], strict=True)
    ] == (result["items"])
    assert [item["shown"] for item in items] == [f"{100 * item['value']:.1f} %" for item in result["items"]]
    assert data_of(page)["audio"] == report["audio"]


def test_report_json_agrees_with_scores_json_and_says_what_was_skipped(run: Path) -> None:
    report = report_of(write_report(run))
    stored = {result.benchmark: result for result in read_scores(run / "scores.json")}
    found = [Score(**score) for score in report["results"][0]["scores"]]
    assert found == stored["corpus"].after
    assert report["skipped"] == [{"benchmark": "quickstart_open", "reason": SKIPPED.skipped}]
    assert report["seconds"] == {"training": 2.5}
    assert report["peak_memory_gib"] == 1.25
    assert report["remarks"] == []
    assert ["git", "abc<b>"] in report["provenance"]


def test_the_worst_items_can_be_heard_and_no_more_than_asked_for(run: Path, corpus: Path) -> None:
    page = write_report(run, players=2)
    report = report_of(page)
    heard = [item["audio"] for item in report["results"][0]["items"]]
    assert [key is not None for key in heard] == [True, True, False, False, False]
    assert set(heard[:2]) == set(report["audio"])
    assert report_of(write_report(run, players=0))["audio"] == {}
    example = {example.id: example for example in read_manifest(corpus)}[report["results"][0]["items"][0]["id"]]
    assert report["audio"][heard[0]] == encode(example) == encode(example)


def test_a_player_plays_what_the_run_hears(run: Path, corpus: Path) -> None:
    data = DataConfig(min_seconds=0.0, max_seconds=0.25)
    (run / "config.yaml").write_text(to_yaml(RunConfig(out_dir=str(run), data=data)))
    (audio,) = report_of(write_report(run, players=1))["audio"].values()
    assert soundfile.info(io.BytesIO(base64.b64decode(audio))).frames == 4_000


def test_perfect_items_have_no_player(run: Path) -> None:
    items = report_of(write_report(run))["results"][0]["items"]
    assert {item["weight"] > 0: item["audio"] is not None for item in items} == {True: True, False: False}


def test_a_report_is_made_again_byte_for_byte(run: Path) -> None:
    first = {file.name: file.read_bytes() for file in write_report(run).parent.glob("report.*")}
    assert set(first) == {"report.json", "report.html", "report.md", "report.tex", "report.csv"}
    assert {file.name: file.read_bytes() for file in write_report(run).parent.glob("report.*")} == first


def test_pages_are_made_of_report_json_alone(run: Path) -> None:
    page = write_report(run)
    report = report_of(page)
    assert pages.render_html(report) == page.read_text(encoding="utf-8")
    assert pages.render_markdown(report) == page.with_suffix(".md").read_text(encoding="utf-8")


def test_a_page_asks_for_nothing_else(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    without_clips = re.sub(r'"audio":\{.*?\}', "", text)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", without_clips)
    assert re.findall(r'(?:src|href)="([^"]*)"', without_clips)[0] == "data:,"
    assert all(link.startswith("#") for link in re.findall(r'(?:src|href)="([^"]*)"', without_clips)[1:])
    assert "default-src 'none'" in text


def test_hostile_text_is_shown_and_not_run(tmp_path: Path, corpus: Path) -> None:
    folder = tmp_path / "evil<script>alert(2)</script>"
    manifest = tmp_path / "corpus.jsonl"
    audio = next(iter(read_manifest(corpus))).audio
    write_manifest(
        manifest,
        [Example(f"c{i}</script>'\"", audio, "asr", "plain words", meta={"k<b>": f"v<i>{i % 2}"}) for i in range(4)],
    )
    run = make_run(folder, manifest, [text.replace("\ud800", "").replace("\udfff", "") for text in HOSTILE])
    page = write_report(run)
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text
    assert "<b>" not in re.sub(r"<p class=\"warn\"><b>[\w]+</b>", "", text)
    assert 'onmouseover="' not in text
    assert "49 {%" not in text
    assert sorted(item["output"] for item in data_of(page)["items"]["corpus"]) == sorted(
        item["output"] for item in report_of(page)["results"][0]["items"]
    )


def test_lone_surrogates_reach_report_json_and_become_marks_in_the_pages(run: Path) -> None:
    report = report_of(write_report(run))
    item = report["results"][0]["items"][0]
    item["output"] = HOSTILE[2]
    report["title"] = "\ud800 title"
    for render in (pages.render_html, pages.render_markdown, pages.render_latex, pages.render_csv):
        render(report).encode("utf-8")
    text = pages.render_html(report)
    assert "\ufffd title" in text
    (found,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(found)["items"]["corpus"][0]["output"] == HOSTILE[2]


def test_the_markdown_page_shows_scores_health_worst_items_and_provenance(run: Path) -> None:
    text = write_report(run).with_suffix(".md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# run",
        "## Health",
        "## corpus",
        "## Skipped",
        "## Signatures",
        "## Provenance",
    ]
    assert "| corpus | wer |  | 60.0 % |" in text
    assert "| clip-3 | 100.0 % | seven | (empty) |" in text
    assert r"- quickstart\_open: no \[data\] here: pip install x" in text
    assert r"- git: abc\<b\>" in text


def test_every_markdown_row_has_as_many_cells_as_its_head(run: Path) -> None:
    text = write_report(run).with_suffix(".md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) >= 3
    for block in blocks:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_very_long_output_is_cut_and_a_table_stays_one_line() -> None:
    assert pages.plain("x" * 10_000) == "x" * 300 + "…"
    assert pages.plain("a\n\n| b\r\tc") == r"a \| b c"


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    assert pages.latex(r"a_b & 50 % of $x^2$ {~\end}") == (
        r"a\_b \& 50\,\% of \$x\textasciicircum{}2\$ \{\textasciitilde{}\textbackslash{}end\}"
    )


def test_the_tables_for_papers_hold_the_scores(run: Path) -> None:
    page = write_report(run)
    tex = page.with_suffix(".tex").read_text(encoding="utf-8")
    assert r"corpus & wer $\downarrow$ & 60.0\,\% & " in tex
    assert tex.count(r"\\") == 2
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    scores = report_of(page)["results"][0]["scores"]
    assert [(row["metric"], float(row["value"]), row["signature"]) for row in rows] == [
        (score["metric"], score["value"], score["signature"]) for score in scores
    ]


def test_numbers_are_shown_in_their_unit() -> None:
    result = {"headline": "cider_d", "plain_numbers": ["cider_d"]}
    assert pages.shown(0.8963, result) == "0.896"
    assert pages.shown(0.8963, result, "rouge_l_coco") == "89.6 %"
    assert pages.shown(None, result) == "–"
    assert (pages.signed(-0.0123, result), pages.signed(0.5, result | {"plain_numbers": []})) == ("-0.012", "+50.0")
    assert [pages.p_value(p) for p in (0.5, 0.001, 0.0009, None)] == ["0.500", "0.001", "< 0.001", "–"]


def test_another_run_is_compared_in_a_folder_of_its_own(run: Path, tmp_path: Path, corpus: Path) -> None:
    other = make_run(tmp_path / "other", corpus, ["one two", "three", "four five six", "seven"])
    page = write_report(run, other)
    assert page == run / "against_other" / "report.html"
    report = report_of(page)
    (comparison,) = report["comparisons"]
    assert (comparison["count"], comparison["only_here"], comparison["only_there"]) == (4, 1, 0)
    assert (comparison["value"], comparison["other_value"]) == (3 / 4, 0)
    assert (comparison["better"], comparison["equal"], comparison["worse"]) == (0, 1, 3)
    row = cells_of(page, "against-table")[1]
    assert [text for _, text in row[2:5]] == ["75.0 %", "0.0 %", "+75.0"]
    assert float(row[6][0]["data-value"]) == comparison["p_swap"] == 0.25
    assert "1 items were answered only here" in page.read_text(encoding="utf-8")
    assert "## Against other" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert report_of(write_report(run))["comparisons"] == []


def test_a_run_with_fewer_answers_than_examples_says_so(tmp_path: Path, corpus: Path) -> None:
    report = report_of(write_report(make_run(tmp_path / "run", corpus, ["one", "two"])))
    assert report["remarks"] == ["corpus: 2 of the 5 examples of the manifest were answered"]


def test_a_score_of_fewer_items_than_were_published_says_so_on_every_page(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALMONN_LAB_DATA", str(tmp_path))
    folder = make_run(tmp_path / "run", corpus, ["one two", "three", "four five six", "seven", "eight nine"])
    answers = predict(("he said no", "HE SAID NO"), ("one", "TWO"))
    answers = [replace(prediction, benchmark="librispeech_test_clean") for prediction in answers]
    write_predictions(folder / "predictions" / "librispeech_test_clean.jsonl", answers)
    page = write_report(folder)
    report = report_of(page)
    counts = {result["benchmark"]: (result["count"], result["expected"]) for result in report["results"]}
    assert counts == {"corpus": (5, 5), "librispeech_test_clean": (2, 2_620)}
    assert "librispeech_test_clean: 2 of 2620 published items were answered" in report["remarks"]
    shown = {row[0][1]: row[5][1] for row in cells_of(page, "scores-table")[1:]}
    assert shown == {"corpus": "5", "librispeech_test_clean": "2 of expected 2620"}
    assert "| 2 of expected 2620 |" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert "& 2 of expected 2620 &" in page.with_suffix(".tex").read_text(encoding="utf-8")
    rows = list(csv.DictReader(page.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["benchmark"], row["count"], row["expected"]) for row in rows} == {
        ("corpus", "5", "5"),
        ("librispeech_test_clean", "2", "2620"),
    }


def test_a_clip_that_is_gone_is_remarked_on(tmp_path: Path, corpus: Path) -> None:
    manifest = tmp_path / "corpus.jsonl"
    write_manifest(manifest, [Example("a", (Segment(str(tmp_path / "gone.flac")),), "asr", "x")])
    report = report_of(write_report(make_run(tmp_path / "run", manifest, ["y"])))
    assert report["remarks"] == ["corpus: 1 clips could not be read"]
    assert report["audio"] == {}


def test_answers_that_are_not_those_to_the_manifest_are_said(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", corpus, ["one two", "three", "four", "seven"])
    path = folder / "predictions" / "corpus.jsonl"
    first, second, *rest = read_predictions(path)
    write_predictions(path, [replace(first, id="clip-9"), replace(second, references=("tree",)), *rest])
    page = write_report(folder)
    remarks = [
        "corpus: 3 of the 5 examples of the manifest were answered",
        "corpus: 1 answers are to ids that the manifest lacks, such as 'clip-9'",
        "corpus: the manifest has other references for 1 answers, such as 'clip-1', than those stored beside them, "
        "which they are scored by",
    ]
    assert report_of(page)["remarks"] == remarks
    said = " ".join(capsys.readouterr().err.split())
    assert all(remark in said for remark in remarks)


def test_predictions_that_are_not_in_order_are_refused_with_file_and_line(run: Path) -> None:
    path = run / "predictions" / "corpus.jsonl"
    lines = path.read_text().splitlines()
    for record, message in (
        ({**json.loads(lines[1]), "references": "turn on the light"}, r":2: key 'references' must be a list of one"),
        (json.loads(lines[0]), r":2: key 'id': 'clip-0' was already used at .*corpus\.jsonl:1"),
        (
            {**json.loads(lines[1]), "benchmark": "asterisk"},
            r":2: key 'benchmark' must be 'corpus' here, got 'asterisk'",
        ),
    ):
        path.write_text("\n".join([lines[0], json.dumps(record), *lines[2:]]) + "\n")
        with pytest.raises(ValueError, match=rf"corpus\.jsonl{message}"):
            write_report(run)


def test_what_cannot_be_scored_is_named_by_its_file(tmp_path: Path, corpus: Path) -> None:
    note = {"likelihood": {"reference": [-1.0, 2], "choices": [[-1.0, 2]]}, "choices": ["other"]}
    folder = make_run(tmp_path / "run", corpus, ["one", "two"])
    path = folder / "predictions" / "corpus.jsonl"
    write_predictions(path, [replace(prediction, meta=note) for prediction in read_predictions(path)])
    with pytest.raises(ValueError, match=r"corpus\.jsonl: item 'clip-0': none of the references"):
        write_report(folder)


@pytest.mark.parametrize("variant", [False, True])
def test_a_sweep_file_in_a_run_is_not_executed(
    run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, variant: bool
) -> None:
    folder = run
    if variant:
        folder = make_run(run / "variants" / "model.lora.scale=2", corpus, ["one two"])
        (folder / "config.yaml").unlink()
    planted = folder / "sweep.py"
    planted.write_text(f"import pathlib\npathlib.Path({str(folder / 'executed')!r}).touch()\n")
    for words in ([str(folder)], [".", "--players", "0"]):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["report", *words])
        report.main()
    assert not (folder / "executed").exists()
    assert report_of(folder / "report.html")["results"][0]["benchmark"] == "corpus"


def test_cells_that_a_spreadsheet_would_work_out_are_texts(run: Path) -> None:
    result = report_of(write_report(run))
    (row,) = result["results"]
    for text in ("=1+1", "+cmd", "-cmd", "@SUM(1)", "\tx", "\r=x", "\n+x", "＝1"):
        row["benchmark"] = text
        for score in row["scores"]:
            score["value"] = -0.5
        cells = next(csv.DictReader(io.StringIO(pages.render_csv(result), newline="")))
        assert (cells["benchmark"], cells["value"]) == ("'" + re.sub("[\r\n]", " ", text), "-0.5")
    assert pages.csv_cells(["-0.5", "1e-3", -1, None, "plain", "-x"]) == ["-0.5", "1e-3", -1, None, "plain", "'-x"]


def test_cells_of_an_experiment_are_texts_too() -> None:
    score = {"benchmark": "=b", "metric": "wer", "value": -0.5, "low": 0.0, "high": 1.0, "spread": None}
    study = {
        "axes": ["=axis", "lr"],
        "measurements": [{"benchmark": "=b", "headline": "wer", "count": 5, "signatures": {"wer": "@s"}}],
        "comparisons": [],
        "settings": [
            {"name": "=HYPERLINK(1)", "values": {"=axis": "=2", "lr": "-1"}, "done": 1, "scores": [score], "cost": None}
        ],
    }
    head, row = csv.reader(io.StringIO(study_pages.render_csv(study)))
    assert head[:3] == ["setting", "'=axis", "lr"]
    assert row[:6] == ["'=HYPERLINK(1)", "'=2", "-1", "'=b", "wer", "-0.5"]
    assert row[11] == "'@s"


def test_a_row_of_latex_is_one_line_whatever_the_names(run: Path) -> None:
    result = report_of(write_report(run))
    result["results"][0]["benchmark"] = "a\nb\r\u2028c\x00\x1b\\input{x}"
    rows = [line for line in pages.render_latex(result).splitlines() if "wer" in line]
    assert len(rows) == 1
    assert rows[0].startswith(r"a b c\textbackslash{}input\{x\} & wer $\downarrow$ & ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": {"a": 1}}, r"\[0\]: after must be a list, got {\"a\": 1}"),
        ({"after": [3]}, r"\[0\]: after\[0\] must be an object, got 3"),
        ({"after": [{**SCORE.__dict__, "count": "5"}]}, r"\[0\]: after\[0\]\.count must not be \"5\""),
        ({"after": [{**SCORE.__dict__, "value": True}]}, r"\[0\]: after\[0\]\.value must not be true"),
        ({"before": [{"benchmark": "b"}]}, r"\[0\]: missing key before\[0\]\.metric"),
        ({"worst": [{"id": 1, "value": 1, "references": [], "output": ""}]}, r"\[0\]: worst\[0\]\.id must not be 1"),
        ({"health": {"empty": "no"}}, r"\[0\]: health must hold counts"),
        ({"published": {"value": "5", "source": ""}}, r"\[0\]: published\.value must not be \"5\""),
        ({"benchmark": None}, r"\[0\]: benchmark must not be null"),
        ({"baseline_policy": 3}, r"\[0\]: baseline_policy must not be 3"),
        ({"extra": 1}, r"\[0\]: unknown key extra"),
        ({"before": [{**SCORE.__dict__, "signature": "wer|other"}]}, r"\[0\]: asterisk: wer before and after do not"),
    ],
)
def test_scores_of_another_shape_are_refused_with_file_key_and_remedy(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "s.json").write_text(json.dumps([{**RESULT.to_json(), **change}]))
    with pytest.raises(ValueError, match=rf"s\.json is not a file of scores: {message}.*--rescore makes it anew"):
        read_scores(tmp_path / "s.json")


def test_a_run_whose_files_are_torn_is_refused_with_the_file(run: Path) -> None:
    for name, content, message in (
        ("provenance.json", b'{"seconds": {"training": 2', r"provenance\.json:1: malformed JSON"),
        ("provenance.json", b"[1]", r"provenance\.json: expected a JSON object, got list"),
        ("provenance.json", b'{"seconds": [1]}', r"provenance\.json: key 'seconds' must be an object"),
        ("provenance.json", b'{"seconds": {"a": NaN}}', r"provenance\.json: key 'seconds.a' must be a number from 0"),
        ("provenance.json", b'{"peak_memory_gib": "x"}', r"provenance\.json: key 'peak_memory_gib' must be a number"),
        (
            "provenance.json",
            b'{"git": ' + b"[" * 3000 + b"]" * 3000 + b"}",
            r"provenance\.json: its JSON is nested too",
        ),
        (
            "provenance.json",
            b'{"git": ' + b"9" * 5000 + b"}",
            r"provenance\.json: it holds a number of more than 4,300",
        ),
        ("provenance.json", b'{"git": ' + b"9" * 400 + b"}", r"provenance\.json: holds a number of 400 digits"),
        ("config.yaml", b"\xff\xfe", r"config\.yaml"),
        ("config.yaml", b"[1]", r"config\.yaml: expected `key: value` lines"),
        ("config.yaml", b"a: [", r"config\.yaml"),
    ):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(content)
        (run / "scores.json").unlink(missing_ok=True)  # so that the configuration is needed to find the manifest
        if name == "provenance.json":
            write_scores(run / "scores.json", [BenchmarkResult("corpus", skipped="x")])
        with pytest.raises(ValueError, match=message):
            write_report(run)
        (run / name).write_bytes(kept)


def test_a_variant_of_a_run_has_a_report_too(run: Path, corpus: Path) -> None:
    folder = run / "variants" / "model.lora.scale=2.0"
    make_run(folder, corpus, ["one two"])
    (folder / "config.yaml").unlink()
    report = report_of(write_report(folder))
    assert report["title"] == "run: model.lora.scale=2.0"
    assert report["results"][0]["count"] == 1


def test_a_run_in_which_all_was_skipped_has_a_report(run: Path) -> None:
    (run / "predictions" / "corpus.jsonl").unlink()
    write_scores(run / "scores.json", [SKIPPED])
    page = write_report(run)
    assert report_of(page)["results"] == []
    assert "no [data] here" in page.read_text(encoding="utf-8")


def test_folders_without_what_a_report_needs_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run"):
        write_report(tmp_path / "nothing")
    (run / "scores.json").unlink()
    with pytest.raises(ValueError, match="there is no benchmark 'corpus' any more"):
        write_report(run)
    (run / "predictions" / "corpus.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="has no predictions"):
        write_report(run)


def test_the_terminal_shows_the_same_rows_and_takes_no_text_for_markup() -> None:
    stream = io.StringIO()
    odd = BenchmarkResult("[red]odd[/]", after=[SCORE])
    Console(file=stream, width=200).print(summary_table([RESULT, SKIPPED, odd]))
    text = stream.getvalue()
    assert "constant answer 12.5 %, published 5.0 % (the paper)" in text
    assert "[red]odd[/]" in text
    assert re.search(r"quickstart_open\s+│\s+skipped", text)


def test_scores_that_are_no_shares_are_shown_as_numbers() -> None:
    rows = score_rows([BenchmarkResult("b", after=[Score("b", "mean_unique_words", 82.57, 80.0, 85.5, 3, "s")])])
    assert rows[0][3:5] == ("82.57", "80.00 to 85.50")


def test_an_error_rate_comes_with_its_words_and_edits(run: Path) -> None:
    page = write_report(run)
    (result,) = report_of(page)["results"]
    assert result["edits"] == {"substitutions": 2, "deletions": 1, "insertions": 0}
    assert result["left_of"] == 5, "the normalizer makes one word of a number's digits"
    told = "5 words, 2 substitutions, 1 deletions, 0 insertions"
    assert told in page.read_text(encoding="utf-8")
    assert told in page.with_suffix(".md").read_text(encoding="utf-8")


def test_whiskers_of_a_metric_share_one_scale(run: Path) -> None:
    result = report_of(write_report(run))["results"][0]
    wild = json.loads(json.dumps(result)) | {"benchmark": "wild"}
    for score in wild["scores"]:
        if score["metric"] == "wer":
            score |= {"low": 1.0, "value": 2.0, "high": 4.0}
    assert pages.whisker_ends([result])["wer"] == 1.0
    assert pages.whisker_ends([result, wild])["wer"] == 4.0
    assert pages.whisker_ends([result, wild])["sub"] == 1.0


def test_colours_of_the_alignment_are_explained(run: Path) -> None:
    assert "<del>missing or replaced</del>" in write_report(run).read_text(encoding="utf-8")


def test_a_run_shows_its_learning_curves(run: Path) -> None:
    assert 'id="learning"' not in write_report(run).read_text(encoding="utf-8")
    lines = ["step,train_loss,val_loss", *(f"{step},{5 / (step + 1)}," for step in range(300)), "299,,0.5"]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    page = write_report(run)
    assert [(row["metric"], len(row["points"])) for row in report_of(page)["curves"]] == [
        ("train_loss", 100),
        ("val_loss", 1),
    ]
    text = page.read_text(encoding="utf-8")
    assert text.count('class="curve"') == text.count('class="faint"') == 1


def test_a_table_of_two_runs_for_papers_has_the_better_in_bold(tmp_path: Path, corpus: Path) -> None:
    good = make_run(tmp_path / "good", corpus, ["one two", "three", "four five six", "seven", "eight nine"])
    bad = make_run(tmp_path / "bad", corpus, ["one", "tree", "four", "", "eight"])
    tex = write_report(bad, good).with_suffix(".tex").read_text(encoding="utf-8")
    assert r"& good & Difference \\" in tex
    (row,) = [line for line in tex.splitlines() if line.startswith("corpus")]
    assert r"\textbf{0.0\,\%} & +" in row
    assert row.count("textbf") == 1
