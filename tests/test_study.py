"""The report of an experiment: what its runs say together, what they cost, and which of them are not there."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salmonn_lab import plots, study, study_pages, study_scores
from salmonn_lab.batch import Example, Prediction
from salmonn_lab.benchmarks import BENCHMARKS
from salmonn_lab.config import load_config, to_yaml
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.estimate import Work
from salmonn_lab.experiment import Experiment, Planned, assignments, load_experiment
from salmonn_lab.metrics.choice import Accuracy
from salmonn_lab.predictions import read_predictions, write_predictions
from salmonn_lab.report import json_text, main, without_nan, write_study

WORDS = ["red", "green", "blue", "black", "white", "pink", "gold", "brown", "lime", "plum"]
ITEMS = 60
BACKGROUND = "Few are cheap; many may hear more. " * 20
RIGHT = {1: 0.4, 2: 0.4, 4: 0.9}
"""The share of words that each number of queries gets right: 1 and 2 are the same but for luck, 4 is better."""


@pytest.fixture(scope="module", autouse=True)
def _works() -> Iterator[None]:
    def work_of(config: Any) -> Work:
        queries = config.model.bridge.num_queries
        return Work({"Whisper": 5 * 10**9, "Bridge": queries * 10**9, "LanguageModel": 10**10}, 30 * queries, 0.1, 1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "work_of", work_of)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Return the folder of an experiment with eight of nine runs done, and one that failed."""
    folder = tmp_path_factory.mktemp("done") / "queries"
    folder.mkdir()
    audio = next(iter(read_manifest(corpus))).audio
    write_manifest(
        folder / "numbers.jsonl", [Example(f"item-{index}", audio, "asr", " ".join(WORDS)) for index in range(ITEMS)]
    )
    (folder / "base.yaml").write_text(f"evaluation: {{benchmarks: ['{folder / 'numbers.jsonl'}']}}\n")
    (folder / "sweep.py").write_text(
        f'"""How many <queries> are enough?\n\n{BACKGROUND}\n"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
        f"SWEEP = Sweep(base={str(folder / 'base.yaml')!r}, baseline={{'model.bridge.num_queries': 1}},"
        " runs=grid({'model.bridge.num_queries': [1, 2, 4], 'seed': [0, 1, 2]}))\n"
    )
    experiment = load_experiment(folder)
    for run in experiment.planned[:-1]:
        finish(run)
    failed = experiment.planned[-1]
    failed.folder.mkdir()
    failed.failure.write_text(json.dumps({"code": 2, "error": "error: out of <memory>"}))
    return folder


@pytest.fixture
def experiment(tmp_path: Path, done: Path) -> Experiment:
    """Return a copy of it that a test may change."""
    return load_experiment(shutil.copytree(done, tmp_path / "queries"))


@pytest.fixture(scope="module")
def found(done: Path) -> study.Study:
    """Return what its runs say together."""
    return study.study(load_experiment(done))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, done: Path) -> Path:
    """Return a copy of it with its report, to be read alone."""
    folder = shutil.copytree(done, tmp_path_factory.mktemp("reported") / "queries")
    write_study(folder)
    return folder


def finish(run: Planned) -> None:
    """Write what `fit` leaves of a run."""
    (run.folder / "predictions").mkdir(parents=True)
    config = load_config(run.files, [*assignments(run.overrides), f"out_dir={run.folder}"])
    (run.folder / "config.yaml").write_text(to_yaml(config))
    queries, seed = run.overrides["model.bridge.num_queries"], run.overrides["seed"]
    record = {
        "git": "abc" if seed else "def-dirty",
        "libraries": {"torch": "2.0"},
        "seconds": {"training": 100.0 * queries + seed, "measuring after": 10.0},
        "peak_memory_gib": 1.0 + seed,
    }
    if seed:  # the first is from before parts were timed
        record["part_seconds"] = {"CPU": {"bridge": 50.0 * seed, "LLM": 40.0 * queries}}
    (run.folder / "provenance.json").write_text(json.dumps(record))
    (run.folder / "scores.json").write_text("[]")
    lines = ["step,train_loss,val_loss", *(f"{step},{5 / (step + queries)}," for step in range(300))]
    (run.folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    generator = np.random.default_rng([queries, seed])
    predictions = [
        Prediction(f"item-{index}", "numbers", "<SpeechHere>", said(generator, RIGHT[queries]), (" ".join(WORDS),))
        for index in range(ITEMS)
    ]
    write_predictions(run.folder / "predictions" / "numbers.jsonl", predictions)


def said(generator: np.random.Generator, right: float) -> str:
    return " ".join(word if generator.random() < right else "hm" for word in WORDS)


def written(experiment: Experiment) -> Any:
    write_study(experiment.folder)
    return content(experiment.folder)


def content(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_equal_settings_are_told_equal_and_a_better_one_better(found: study.Study) -> None:
    rows = {row.setting: row for row in found.comparisons}
    assert list(rows) == ["num_queries=2", "num_queries=4"]
    assert rows["num_queries=2"].p_holm > 0.05
    assert rows["num_queries=2"].low < 0 < rows["num_queries=2"].high
    assert rows["num_queries=4"].p_holm < 0.01
    assert rows["num_queries=4"].high < -0.3
    assert all(row.seeds for row in rows.values())
    assert rows["num_queries=4"].p_holm == pytest.approx(2 * rows["num_queries=4"].p)


def test_scores_are_means_over_seeds(found: study.Study) -> None:
    first = found.settings[0]
    score = first.scores[0]
    values = [single.value for single in score.seeds.values()]
    assert (score.benchmark, score.metric, len(values)) == ("numbers", "wer", 3)
    assert score.value == pytest.approx(np.mean(values))
    assert score.spread == pytest.approx(np.std(values, ddof=1))
    assert all(single.low < single.value < single.high for single in score.seeds.values())
    assert (first.baseline, first.done, first.planned) == (True, 3, 3)


def test_costs_are_means_over_runs_and_memory_is_the_most_of_any(found: study.Study) -> None:
    cost = found.settings[1].cost
    assert cost is not None
    assert cost.seconds == {"training": 201.0, "measuring after": 10.0}
    assert (cost.total_seconds, cost.memory_gib, cost.tokens) == (211.0, 3.0, 60)
    assert cost.part_seconds == {"CPU bridge": 75.0, "CPU LLM": 80.0}, "of the two runs that noted them"
    assert cost.gflops == {"Whisper": 5.0, "Bridge": 2.0, "LanguageModel": 10.0}


def test_missing_and_failed_runs_are_named(found: study.Study, experiment: Experiment) -> None:
    assert found.absent == (study.Absent("num_queries=4,seed=2", "failed", "error: out of <memory>"),)
    (experiment.planned[0].folder / "scores.json").unlink()
    states = {row.run: row.state for row in study.study(load_experiment(experiment.folder)).absent}
    assert states == {"num_queries=1,seed=0": "begun", "num_queries=4,seed=2": "failed"}


def test_facts_that_runs_do_not_share_are_told(found: study.Study) -> None:
    (row,) = found.differing
    assert row.fact == "git"
    assert set(row.values) == {"abc", "def-dirty"}
    assert row.values["def-dirty"] == ("num_queries=1,seed=0", "num_queries=2,seed=0", "num_queries=4,seed=0")


def test_only_items_that_every_run_answered_count(experiment: Experiment) -> None:
    path = experiment.planned[0].run.predictions / "numbers.jsonl"
    write_predictions(path, read_predictions(path)[:50])
    found = study.study(experiment)
    assert found.measurements[0].count == 50
    assert "numbers: every run answered 50 of 60 items; only they count" in found.remarks


def test_runs_with_other_references_do_not_compare(experiment: Experiment) -> None:
    path = experiment.planned[1].run.predictions / "numbers.jsonl"
    path.write_text(path.read_text().replace("lime plum", "lime rose"))
    with pytest.raises(ValueError, match=r"numbers: num_queries=1,seed=1 has other references for item"):
        study.study(experiment)


def test_one_seed_is_marked_as_knowing_of_items_alone(experiment: Experiment) -> None:
    for run in experiment.planned:
        if run.overrides["seed"] and run.run.scores.is_file():
            run.run.scores.unlink()
    found = written(load_experiment(experiment.folder))
    assert [row["seeds"] for row in found["comparisons"]] == [False, False]
    assert any(remark.startswith("one seed only: num_queries=1; num_queries=2") for remark in found["remarks"])
    page = (experiment.folder / "report.md").read_text(encoding="utf-8")
    assert study_pages.ITEMS_ALONE in page
    assert found["settings"][0]["scores"][0]["spread"] is None


def test_without_its_baseline_a_report_compares_nothing_and_says_so(experiment: Experiment) -> None:
    for run in experiment.planned[:3]:
        run.run.scores.unlink()
    found = written(load_experiment(experiment.folder))
    assert found["comparisons"] == []
    assert any("the baseline, num_queries=1, has no finished run" in remark for remark in found["remarks"])


def test_a_report_of_no_finished_run_is_refused(experiment: Experiment) -> None:
    for run in experiment.planned[:-1]:
        run.run.scores.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no finished run, and no scores\.jsonl: start python -m"):
        write_study(experiment.folder)


def test_scores_jsonl_holds_a_line_for_every_score_of_every_run(reported: Path) -> None:
    found = content(reported)
    lines = [json.loads(line) for line in (reported / "scores.jsonl").read_text().splitlines()]
    assert len(lines) == 8 * len(found["measurements"][0]["metrics"])
    headline = [line for line in lines if line["metric"] == "wer"]
    assert [(line["run"], line["seed"]) for line in headline[:2]] == [
        ("num_queries=1,seed=0", 0),
        ("num_queries=1,seed=1", 1),
    ]
    assert headline[0]["overrides"] == {"model.bridge.num_queries": 1}
    assert (headline[0]["git"], headline[0]["seconds"], headline[0]["count"]) == ("def-dirty", 110.0, ITEMS)


def test_pages_are_made_of_report_json_alone_and_say_the_same_numbers(reported: Path) -> None:
    found = content(reported)
    for suffix, render in study_pages.RENDERERS.items():
        assert render(found) == (reported / f"report.{suffix}").read_text(encoding="utf-8")
    score, difference = found["settings"][2]["scores"][0], found["comparisons"][1]
    text = f"{100 * score['value']:.1f} %"
    page, markdown, tex = (
        (reported / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md", "tex")
    )
    assert f'data-value="{score["value"]}"' in page
    assert text in page
    assert re.search(rf"\| num\\_queries=4 \| 2 of 3 \| {re.escape(text)} \|", markdown)
    assert f"{100 * difference['value']:+.1f}" in markdown
    assert f"{100 * score['value']:.1f}\\,\\%" in tex
    assert tex.count("*") == 2  # one in the comment that explains it
    rows = list(csv.DictReader(io.StringIO((reported / "report.csv").read_text(encoding="utf-8"))))
    (row,) = [row for row in rows if row["num_queries"] == "4" and row["metric"] == "wer"]
    assert (float(row["value"]), float(row["difference"])) == (score["value"], difference["value"])
    assert (row["seeds"], float(row["seconds"])) == ("2", found["settings"][2]["cost"]["total_seconds"])


def test_the_page_asks_for_nothing_and_shows_text_as_it_is(reported: Path) -> None:
    page = (reported / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", page)
    assert "<h1>How many &lt;queries&gt; are enough?</h1>" in page
    assert f"<p>{BACKGROUND.strip()}</p>" in page
    markdown = (reported / "report.md").read_text(encoding="utf-8")
    assert f"# queries\n\nHow many \\<queries\\> are enough?\n\n{BACKGROUND.strip()}\n\n## " in markdown
    assert "out of &lt;memory&gt;" in page
    assert page.count("<script") == page.count("</script>") == 1
    assert page.count('<svg class="plot"') == 4  # the score by queries, tokens and time, and the training loss
    assert page.count('class="curve"') == page.count('class="band"') == 3  # of each setting
    assert page.count("<circle") == 3 * 3 + 3 * 3  # marks, and keys in the table and in two legends


def test_a_report_is_made_again_byte_for_byte(experiment: Experiment, reported: Path) -> None:
    write_study(experiment.folder)
    first, again = (
        {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        for folder in (reported, experiment.folder)
    )
    assert first == again
    assert {"report.html", "report.md", "report.json", "report.tex", "report.csv", "scores.jsonl"} <= set(first)


def test_the_command_tells_an_experiment_from_a_run(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["report", str(experiment.folder)])
    main()
    assert f"report: {experiment.folder / 'report.html'}" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["report", str(experiment.folder), "other"])
    with pytest.raises(ValueError, match="is an experiment, with a baseline of its own"):
        main()


def test_what_a_model_costs_may_stay_unknown(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def work_of(config: Any) -> Work:
        raise OSError("no such\nfolder")

    monkeypatch.setattr(study, "work_of", work_of)
    found = written(experiment)
    assert "num_queries=1: its operations are not known: no such folder" in found["remarks"]
    assert found["settings"][0]["cost"]["tokens"] is None
    assert (experiment.folder / "report.html").read_text(encoding="utf-8").count('<svg class="plot"') == 3


def test_curves_are_thinned_by_means(experiment: Experiment) -> None:
    (curve,) = study.curves(experiment.planned[0])
    assert curve.metric == "train_loss"
    assert len(curve.points) <= study.CURVE_POINTS
    assert curve.points[0] == pytest.approx((1.0, np.mean([5 / (step + 1) for step in range(3)])))


def point(x: float, y: float, label: str = "") -> plots.Point:
    return plots.Point(x, y, math.nan, math.nan, label, "#000")


def test_the_front_holds_what_no_other_point_beats() -> None:
    points = [point(3, 0.1), point(1, 0.5), point(2, 0.5), point(2, 0.3), point(4, 0.1)]
    assert [(p.x, p.y) for p in plots.pareto(points, higher_is_better=False)] == [(1, 0.5), (2, 0.3), (3, 0.1)]
    assert [(p.x, p.y) for p in plots.pareto(points, higher_is_better=True)] == [(1, 0.5)]
    steps = [(1, 0.5), (2, 0.5), (2, 0.3), (3, 0.3), (3, 0.1)]
    assert plots.frontier(points, higher_is_better=False) == steps


def test_ticks_are_round_and_within_the_axis() -> None:
    assert plots.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert plots.ticks(0, 8.4) == [0, 2, 4, 6, 8]  # a number of queries is whole
    assert plots.ticks(-0.3, 9.7) == [0, 2, 4, 6, 8]
    assert plots.room([2.0, 2.0]) == pytest.approx((1.8, 2.2))
    assert plots.room([0.0, 0.0]) == (-1.0, 1.0)


def test_plots_escape_what_they_name() -> None:
    drawn = plots.scatter([point(1, 2, "<b>"), point(2, 3, '"')], [(1, 2), (2, 3)], "x & y", "z", str)
    assert "<b>" not in drawn
    assert "x &amp; y" in drawn


def answered(outputs: dict[str, list[str]]) -> study.Answers:
    """Answers of runs to items that are all the word dog."""
    metrics = {}
    for run, texts in outputs.items():
        metric = Accuracy(("dog", "cat"))
        metric.update(texts, [["dog"]] * len(texts), [str(index) for index in range(len(texts))])
        metrics[run] = {"accuracy": metric}
    return study.Answers(BENCHMARKS["quickstart_sounds"], metrics, len(next(iter(outputs.values()))))


def test_a_mean_over_seeds_of_perfect_runs_has_the_interval_of_one_and_no_fraction_leaves_0_to_1() -> None:
    perfect, near = ["dog"] * 40, ["dog"] * 30 + ["cat"] * 10
    score = study.setting_scores(answered({"a": perfect, "b": perfect}), ["a", "b"])[0]
    assert (score.value, score.low, score.high) == (1.0, pytest.approx(0.9124, abs=1e-4), 1.0)
    score = study.setting_scores(answered({"a": perfect, "b": near}), ["a", "b"])[0]
    assert (score.value, score.low, score.high) == (0.875, 0.0, 1.0)
    score = study.setting_scores(answered({"a": ["dog"]}), ["a"])[0]
    assert score.value == 1.0
    assert math.isnan(score.low)
    assert math.isnan(score.high)


def with_pairs(experiment: Experiment) -> Experiment:
    """The same experiment, whose sweep names a pair and labels."""
    path = experiment.folder / "sweep.py"
    text = path.read_text().replace(
        "runs=grid", "compare=[('two', 'num_queries=4')], labels={'num_queries=2': 'two'}, runs=grid"
    )
    path.write_text(text)
    return load_experiment(experiment.folder)


def test_a_pair_that_the_sweep_names_is_compared_and_corrected_with_the_others(experiment: Experiment) -> None:
    found = study.study(with_pairs(experiment))
    assert [(row.setting, row.against) for row in found.comparisons] == [
        ("two", "num_queries=1"),
        ("num_queries=4", "num_queries=1"),
        ("two", "num_queries=4"),
    ]
    base, better, pair = found.comparisons
    assert pair.value == pytest.approx(base.value - better.value)
    assert pair.p_holm < 0.01
    assert min(better.p_holm, pair.p_holm) == pytest.approx(3 * min(better.p, pair.p)), "three differences"
    for text, name in (
        (study_pages.render_markdown(as_json(found)), "md"),
        (study_pages.render_html(as_json(found)), "html"),
    ):
        assert f"{100 * pair.value:+.1f}" in text, name
    tex = study_pages.render_latex(as_json(found))
    assert "\ntwo $-$ num\\_queries=4 & +" in tex
    assert r"numbers (wer) $\downarrow$" in tex
    assert tex.count(r"\textbf{") == 1
    assert re.search(r"\nnum\\_queries=4 & \\textbf\{", tex)
    rows = list(csv.DictReader(io.StringIO(study_pages.render_csv(as_json(found)))))
    (row,) = [row for row in rows if row["against"] == "num_queries=4"]
    assert (row["setting"], float(row["difference"])) == ("two", pair.value)


def as_json(found: study.Study) -> Any:
    return json.loads(json_text(without_nan(asdict(found))))


def test_a_report_is_made_again_of_committed_scores(
    reported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(reported, tmp_path / "queries")
    shutil.rmtree(folder / "runs")
    write_study(folder)
    assert "no run of" in capsys.readouterr().err
    found, before = content(folder), content(reported)
    assert study_scores.MADE_OF_SCORES in found["remarks"]
    for key in ("comparisons", "measurements", "curves", "differing", "axes", "question", "absent"):
        assert found[key] == before[key], key
    assert [row["cost"] for row in found["settings"]] == [row["cost"] for row in before["settings"]]
    for row, known in zip(found["settings"], before["settings"], strict=True):
        for score, other in zip(row["scores"], known["scores"], strict=True):
            assert score["seeds"] == other["seeds"]
            assert [score[key] for key in ("value", "low", "high")] == pytest.approx(
                [other[key] for key in ("value", "low", "high")]
            )
    assert (folder / "scores.jsonl").read_bytes() == (reported / "scores.jsonl").read_bytes()
    pages = {file.name: file.read_bytes() for file in folder.glob("report.*")}
    write_study(folder)
    assert {file.name: file.read_bytes() for file in folder.glob("report.*")} == pages, "again, and nothing changes"


def test_of_scores_alone_differences_are_tested_and_marked(reported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(reported, tmp_path / "queries")
    shutil.rmtree(folder / "runs")
    (folder / "report.json").unlink()
    with pytest.raises(ValueError, match=r"there is no benchmark 'numbers' any more, and no report\.json"):
        write_study(folder)
    scores = (folder / "scores.jsonl").read_text().replace('"numbers"', '"quickstart_commands"')
    (folder / "scores.jsonl").write_text(scores)
    write_study(folder)
    found, before = content(folder), content(reported)
    assert all(row["from_scores"] for row in found["comparisons"])
    assert found["settings"][0]["cost"] is None
    for row, known in zip(found["comparisons"], before["comparisons"], strict=True):
        assert row["value"] == pytest.approx(known["value"])
        assert row["high"] - row["low"] > known["high"] - known["low"], "less is known"
    assert "‡" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_pair_named_after_the_runs_is_tested_on_scores_beside_the_stored_differences(
    reported: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(reported, tmp_path / "queries")
    shutil.rmtree(folder / "runs")
    experiment = with_pairs(load_experiment(folder))
    write_study(experiment.folder)
    found, before = content(folder), content(reported)
    assert [row["from_scores"] for row in found["comparisons"]] == [False, False, True]
    assert [row["p"] for row in found["comparisons"][:2]] == [row["p"] for row in before["comparisons"]]
    assert [row["setting"] for row in found["curves"][3:5]] == ["two", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ("3", "not a JSON object: got int"),
        ("{}", "the key 'run' is missing"),
        ('{"run": 3}', "run must not be 3"),
    ],
)
def test_a_line_of_scores_that_is_none_is_named(reported: Path, tmp_path: Path, line: str, message: str) -> None:
    folder = shutil.copytree(reported, tmp_path / "queries")
    shutil.rmtree(folder / "runs")
    with (folder / "scores.jsonl").open("a") as file:
        file.write(line + "\n")
    number = len((folder / "scores.jsonl").read_text().splitlines())
    with pytest.raises(ValueError, match=rf"scores\.jsonl:{number}: {message}"):
        write_study(folder)


def test_runs_of_settings_that_are_not_asked_for_any_more_are_named(reported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(reported, tmp_path / "queries")
    shutil.rmtree(folder / "runs")
    path = folder / "sweep.py"
    path.write_text(path.read_text().replace("[1, 2, 4]", "[1, 4]"))
    write_study(folder)
    assert any("num_queries=2,seed=0; num_queries=2,seed=1" in remark for remark in content(folder)["remarks"])
    path.write_text(
        path.read_text().replace("[1, 4]", "[1, 8]").replace("'model.bridge.num_queries': 1}", "'seed': 7}")
    )
    path.write_text(path.read_text().replace("[1, 8]", "[8]").replace("[0, 1, 2]", "[7]"))
    with pytest.raises(ValueError, match=r"no line is of a setting that .*sweep\.py asks for"):
        write_study(folder)


def test_curves_are_smoothed_and_summed_up_by_setting() -> None:
    flat = [(float(step), 2.0 + (-1) ** step) for step in range(48)]
    smooth = plots.smooth(flat)
    assert smooth[0] == (0.0, 3.0), "an end is what it is"
    assert all(abs(y - 2.0) <= 0.2 + 1e-9 for _, y in smooth[2:-2])
    assert plots.smooth([(0.0, 1.0), (1.0, 4.0), (2.0, 1.0)]) == [(0.0, 1.0), (1.0, 2.0), (2.0, 1.0)]
    line, band = plots.band([[(0.0, 0.0), (2.0, 2.0)], [(0.0, 2.0), (2.0, 2.0)]])
    assert line == [(0.0, 1.0), (2.0, 2.0)]
    assert band == [(0.0, 0.0, 2.0), (2.0, 2.0, 2.0)]


def test_a_line_of_metrics_that_holds_no_number_is_named(experiment: Experiment) -> None:
    path = experiment.planned[0].folder / "metrics.csv"
    path.write_text("step,train_loss\n1,2.0\n2,none\n")
    with pytest.raises(ValueError, match=r"metrics\.csv:3: step and train_loss must be numbers"):
        study.study(experiment)
