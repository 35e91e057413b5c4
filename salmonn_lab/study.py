"""What an experiment's runs tell together: scores over seeds, differences from the baseline, costs, what is missing."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from salmonn_lab import analysis, benchmarks
from salmonn_lab.benchmarks import Benchmark
from salmonn_lab.clock import PART_SECONDS
from salmonn_lab.config import assignment, flatten
from salmonn_lab.estimate import Work, work_of
from salmonn_lab.experiment import SEED, Experiment, Overrides, Planned, short
from salmonn_lab.jobs import state_of
from salmonn_lab.metrics.item import ItemMetric
from salmonn_lab.metrics.seeds import SeedDifference, seed_differences, seed_means
from salmonn_lab.metrics.statistics import SAME, holm, metric_intervals
from salmonn_lab.predictions import read_predictions
from salmonn_lab.runs import Run

VERSION = 2
"""Of the layout of a study's `report.json`; since 2 a comparison names the setting that it is `against`."""
METRICS_FILE = "metrics.csv"
CURVES = ("align_loss", "train_loss", "val_loss")
"""Columns of `metrics.csv` that are drawn."""
CURVE_POINTS = 120
"""Points of a curve at most: each is the mean of as many steps as it takes."""
METHOD = (
    "Scores are means over seeds; the spread is their standard deviation. Intervals are of 95 % and, like the p-values "
    "of the differences, account for items and seeds at once: a two-way analysis of variance with both as random "
    "effects on jackknife values, with Satterthwaite's degrees of freedom; where no setting has a second seed, for "
    "items alone, which is marked; where neither items nor seeds differ, of one run. Holm's correction is over every "
    "difference of this report."
)


@dataclass(frozen=True)
class RunScore:
    """A score of one run, with its interval over items."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SettingScore:
    """A score of a setting: its mean over seeds, with an interval over items and seeds."""

    benchmark: str
    metric: str
    value: float
    low: float
    high: float
    spread: float | None
    """Over seeds; None of one seed."""
    seeds: Mapping[str, RunScore]
    """By run."""


@dataclass(frozen=True)
class Cost:
    """What a setting costs, its finished runs averaged."""

    seconds: Mapping[str, float]
    """By part of the run."""
    total_seconds: float
    part_seconds: Mapping[str, float]
    """Of training steps, by processor and part of the model, such as "CPU bridge" (clock.py)."""
    memory_gib: float | None
    """The most that a run held."""
    trainable: int | None
    """Weights that learn."""
    tokens: int | None
    """Of audio, for a clip of 10 s."""
    gflops: Mapping[str, float]
    """Of a training step on such a clip, by part of the model."""


@dataclass(frozen=True)
class Setting:
    """One combination of the axes."""

    name: str
    values: Mapping[str, str]
    """By axis; an axis that it does not set is left out."""
    baseline: bool
    planned: int
    done: int
    scores: tuple[SettingScore, ...]
    cost: Cost | None
    """None where no run is finished."""


@dataclass(frozen=True)
class Measurement:
    """A benchmark, and what is to be known to read its scores."""

    benchmark: str
    task: str
    headline: str
    higher_is_better: bool
    metrics: tuple[str, ...]
    """The headline first."""
    plain_numbers: tuple[str, ...]
    """Metrics that are no shares."""
    count: int
    """Items that every run answered."""
    signatures: Mapping[str, str]
    units: int | None = None
    """Words, characters or phones of their references, where the headline is a rate of those."""
    unit: str = "items"
    """The name of those."""


@dataclass(frozen=True)
class Comparison:
    """How much higher a setting's headline score is than another's, the baseline's unless the sweep names a pair."""

    benchmark: str
    setting: str
    against: str
    """The other setting."""
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: bool
    """Whether the scatter of seeds is in it."""
    from_scores: bool = False
    """Whether it is made of the scores of runs alone, whose items are then taken to differ between the settings."""


@dataclass(frozen=True)
class Curve:
    """How a loss of one run went."""

    run: str
    setting: str
    metric: str
    points: tuple[tuple[float, float], ...]
    """Steps and losses."""


@dataclass(frozen=True)
class Absent:
    """A run that is not there yet, or failed."""

    run: str
    state: str
    error: str


@dataclass(frozen=True)
class Differing:
    """A fact of their provenance in which runs differ."""

    fact: str
    values: Mapping[str, tuple[str, ...]]
    """Runs by value."""


@dataclass(frozen=True)
class Study:
    """Everything that the report says of an experiment."""

    title: str
    question: str
    method: str
    axes: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    absent: tuple[Absent, ...]
    differing: tuple[Differing, ...]
    background: str = ""
    remarks: tuple[str, ...] = field(default=())
    version: int = VERSION


@dataclass(frozen=True)
class Answers:
    """What the finished runs answered to one benchmark: metrics by run and name, of the items that all share."""

    benchmark: Benchmark
    metrics: Mapping[str, Mapping[str, ItemMetric]]
    count: int

    def rows(self, run: str, metric: str) -> Any:
        """Return a metric's rows [items, columns] of a run."""
        return analysis.rows_of(self.metrics[run][metric])


@dataclass(frozen=True)
class Variant:
    """Runs measured under other settings than they were trained with."""

    name: str
    values: Mapping[str, str]
    """By axis."""
    folders: Mapping[str, Path]
    """Of the predictions of each run."""


def study_of_variants(title: str, question: str, benchmark_names: Sequence[str], variants: Sequence[Variant]) -> Study:
    """Return what variants of the same runs tell, the first of which the others are compared with.

    Raises:
        ValueError: as in `study`.
    """
    remarks: list[str] = []
    by_setting = {variant.name: [f"{variant.name}: {run}" for run in variant.folders] for variant in variants}
    folders = {f"{variant.name}: {run}": folder for variant in variants for run, folder in variant.folders.items()}
    answers = read_answers(benchmark_names, folders, remarks)
    settings = [
        Setting(
            variant.name,
            variant.values,
            variant is variants[0],
            len(variant.folders),
            len(variant.folders),
            tuple(score for given in answers for score in setting_scores(given, by_setting[variant.name])),
            None,
        )
        for variant in variants
    ]
    return Study(
        title=title,
        question=question,
        method=METHOD,
        axes=tuple(dict.fromkeys(axis for variant in variants for axis in variant.values)),
        measurements=tuple(map(measurement, answers)),
        settings=tuple(settings),
        comparisons=corrected(compare(by_setting, with_baseline(by_setting, variants[0].name), answers)),
        curves=(),
        absent=(),
        differing=(),
        remarks=tuple(remarks),
    )


def study(experiment: Experiment) -> Study:
    """Return what an experiment's runs tell; those that are not there are named.

    Raises:
        ValueError: the runs of a benchmark do not compare, or a benchmark of theirs is not known any more.
    """
    remarks: list[str] = []
    finished = [run for run in experiment.planned if run.done()]
    names = list(dict.fromkeys(name for run in finished for name in run.config.evaluation.benchmarks))
    answers = read_answers(names, {run.name: run.run.predictions for run in finished}, remarks)
    by_setting = {
        setting: [run.name for run in planned if run.done()] for setting, planned in experiment.settings.items()
    }
    works = works_of(experiment, remarks)
    settings = tuple(
        describe(experiment, name, [run for run in planned if run.done()], len(planned), answers, works.get(name))
        for name, planned in experiment.settings.items()
    )
    if not any(setting.baseline and setting.done for setting in settings):
        remarks.append(f"the baseline, {experiment.baseline}, has no finished run, so nothing is compared with it")
    alone = [setting.name for setting in settings if setting.done == 1]
    if alone:
        remarks.append(f"one seed only: {'; '.join(alone)}")
    return Study(
        title=experiment.folder.resolve().name,
        question=experiment.question,
        background=experiment.background,
        method=METHOD,
        axes=short_axes(experiment),
        measurements=tuple(map(measurement, answers)),
        settings=settings,
        comparisons=corrected(compare(by_setting, compared(experiment), answers)),
        curves=tuple(curve for run in finished for curve in curves(run)),
        absent=tuple(absent(run) for run in experiment.planned if run not in finished),
        differing=differing(finished),
        remarks=tuple(remarks),
    )


def read_answers(names: Sequence[str], folders: Mapping[str, Path], remarks: list[str]) -> list[Answers]:
    """Return the answers of runs by benchmark.

    Args:
        names: of benchmarks, as in `benchmarks.find`.
        folders: of the predictions of each run.
        remarks: what is to be said of them is added here.

    Raises:
        ValueError: two runs have other references for an item, or their signatures differ.
    """
    found = []
    for name in names:
        benchmark = benchmarks.find(name)
        given = {}
        for run, folder in folders.items():
            path = folder / f"{benchmark.name}.jsonl"
            if path.is_file():
                given[run] = {prediction.id: prediction for prediction in read_predictions(path, benchmark.name)}
        if not given:
            remarks.append(f"{benchmark.name}: no run answered it; its data was not there")
            continue
        shared = set.intersection(*(set(items) for items in given.values()))
        most = max(len(items) for items in given.values())
        if len(shared) < most:
            remarks.append(f"{benchmark.name}: every run answered {len(shared)} of {most} items; only they count")
        if not shared:
            continue
        first = next(iter(given.values()))
        for run_name, items in given.items():
            for id in shared:
                if items[id].references != first[id].references:
                    raise ValueError(f"{benchmark.name}: {run_name} has other references for item '{id}'")
        measured = {
            run_name: benchmarks.measure(benchmark, [items[id] for id in sorted(shared)])
            for run_name, items in given.items()
        }
        found.append(Answers(benchmark, measured, len(shared)))
    return found


def measurement(answers: Answers) -> Measurement:
    """Return what is to be known to read a benchmark's scores."""
    metrics = next(iter(answers.metrics.values()))
    signatures = {key: metric.signature for metric in metrics.values() for key in metric.keys}
    headline = answers.benchmark.headline
    keys = (headline, *(key for key in signatures if key != headline))
    metric = next(metric for metric in metrics.values() if headline in metric.keys)
    column = metric.units(headline)
    units = None if column is None else int(analysis.rows_of(metric)[:, metric.columns.index(column)].sum())
    return Measurement(
        benchmark=answers.benchmark.name,
        task=answers.benchmark.task,
        headline=headline,
        higher_is_better=answers.benchmark.higher_is_better,
        metrics=keys,
        plain_numbers=tuple(key for key in keys if key in benchmarks.NUMBERS),
        count=answers.count,
        signatures=signatures,
        units=units,
        unit="items" if column is None else f"{getattr(metric, 'unit', 'word')}s",
    )


def describe(
    experiment: Experiment,
    name: str,
    finished: Sequence[Planned],
    planned: int,
    answers: Sequence[Answers],
    work: Work | None,
) -> Setting:
    """Return one row of the report."""
    scores = tuple(score for given in answers for score in setting_scores(given, [run.name for run in finished]))
    return Setting(
        name,
        axis_values(experiment, name),
        name == experiment.baseline,
        planned,
        len(finished),
        scores,
        cost_of(finished, work) if finished else None,
    )


def short_axes(experiment: Experiment) -> tuple[str, ...]:
    """Names of an experiment's axes."""
    return tuple(short(key, experiment.varying) for key in experiment.varying)


def axis_values(experiment: Experiment, name: str) -> dict[str, str]:
    """Values of a setting by axis; an axis that it does not set is left out."""
    overrides = experiment.settings[name][0].overrides
    return {
        short(key, experiment.varying): assignment("", overrides[key])[1:].strip('"')
        for key in experiment.varying
        if key in overrides
    }


def fraction_interval(low: float, high: float, *, at_most_one: bool) -> tuple[float, float]:
    """Interval of a fraction, which does not leave 0 to 1; that of an error rate may be above 1."""
    return max(low, 0.0), min(high, 1.0) if at_most_one else high


def setting_scores(answers: Answers, names: Sequence[str]) -> list[SettingScore]:
    """Return every score of a benchmark over the runs of a setting, the headline first.

    The equal error rate, which is not made of sums, is left to the reports of the runs.
    """
    names = [name for name in names if name in answers.metrics]
    found: list[SettingScore] = []
    for key, metric in answers.metrics[names[0]].items() if names else ():
        if not metric.summable:
            continue
        tables = [answers.rows(name, key) for name in names]
        singles = [
            (metric.score(rows.sum(axis=0)), metric_intervals(metric, rows, benchmarks.NUMBERS)) for rows in tables
        ]
        for score, value in seed_means(tables, metric.score).items():
            seeds = {
                name: RunScore(float(values[score]), *ranges[score])
                for name, (values, ranges) in zip(names, singles, strict=True)
            }
            spread = None if math.isnan(value.spread) else value.spread
            low, high = value.low, value.high
            if high - low <= SAME:  # no item and no seed differs
                low, high = singles[0][1][score]
            elif score not in benchmarks.NUMBERS:
                low, high = fraction_interval(low, high, at_most_one=metric.units(score) is None)
            found.append(SettingScore(answers.benchmark.name, score, value.value, low, high, spread, seeds))
    return sorted(found, key=lambda score: score.metric != answers.benchmark.headline)


def with_baseline(settings: Iterable[str], baseline: str) -> list[tuple[str, str]]:
    """Each setting and the baseline that it is compared with."""
    return [(setting, baseline) for setting in settings if setting != baseline]


def compared(experiment: Experiment) -> list[tuple[str, str]]:
    """The pairs of settings that an experiment compares: each with the baseline, then those that its sweep names."""
    pairs = with_baseline(experiment.settings, experiment.baseline)
    return list(dict.fromkeys([*pairs, *experiment.pairs]))


def compare(
    by_setting: Mapping[str, Sequence[str]], pairs: Sequence[tuple[str, str]], answers: Sequence[Answers]
) -> list[Comparison]:
    """How the headline scores of pairs of settings differ; `p_holm` is still `p`.

    Args:
        by_setting: the runs of each.
        pairs: of settings.
        answers: of the runs.
    """
    found = []
    for given in answers:
        key = next(
            name
            for name, metric in next(iter(given.metrics.values())).items()
            if given.benchmark.headline in metric.keys
        )
        for setting, against in pairs:
            ours, theirs = ([name for name in by_setting[one] if name in given.metrics] for one in (setting, against))
            if not ours or not theirs:
                continue
            metric = given.metrics[theirs[0]][key]
            for name in ours:
                if given.metrics[name][key].signature != metric.signature:
                    raise ValueError(
                        f"{given.benchmark.name}: {name} and {theirs[0]} do not compare: "
                        f"{given.metrics[name][key].signature} and {metric.signature}"
                    )
            result: SeedDifference = seed_differences(
                [given.rows(name, key) for name in ours], [given.rows(name, key) for name in theirs], metric.score
            )[given.benchmark.headline]
            found.append(
                Comparison(
                    given.benchmark.name,
                    setting,
                    against,
                    result.value,
                    result.low,
                    result.high,
                    result.p,
                    result.p,
                    result.seeds,
                )
            )
    return found


def corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons whose p-values account for there being several."""
    p_values = holm([comparison.p for comparison in comparisons])
    return tuple(replace(comparison, p_holm=p) for comparison, p in zip(comparisons, p_values, strict=True))


def works_of(experiment: Experiment, remarks: list[str]) -> dict[str, Work]:
    """Return what a clip costs each setting."""
    found = {}
    for setting, planned in experiment.settings.items():
        try:
            found[setting] = work_of(planned[0].config)
        except (ValueError, OSError) as error:
            remarks.append(f"{setting}: its operations are not known: {' '.join(str(error).split())}")
    return found


def cost_of(finished: Sequence[Planned], work: Work | None) -> Cost:
    """Return what a setting costs."""
    records = [run.run.provenance() for run in finished]
    seconds = means([record["seconds"] for record in records])
    by_part = means([flatten(record[PART_SECONDS]) for record in records if PART_SECONDS in record])
    memory = [record["peak_memory_gib"] for record in records if "peak_memory_gib" in record]
    return Cost(
        seconds,
        sum(seconds.values()),
        {part.replace(".", " "): value for part, value in by_part.items()},
        max(memory) if memory else None,
        work.trainable if work else None,
        work.tokens if work else None,
        {part: flops / 1e9 for part, flops in work.flops.items()} if work else {},
    )


def means(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name's numbers, 0 where one has none."""
    names = dict.fromkeys(name for count in counts for name in count)
    return {name: mean(count.get(name, 0.0) for count in counts) for name in names}


def curves(run: Planned) -> list[Curve]:
    """The losses that a run logged."""
    read = read_curves(run.folder / METRICS_FILE)
    return [Curve(run.name, run.setting, metric, points) for metric, points in read.items()]


def read_curves(path: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Steps and losses in a run's `metrics.csv` by column, each point the mean of some steps; none without the file.

    Raises:
        ValueError: a step or a loss in it is no number; the line is named.
    """
    if not path.is_file():
        return {}
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for metric in CURVES:
        points = [
            point
            for number, row in enumerate(rows, start=2)
            if row.get(metric) and math.isfinite((point := loss_at(row, metric, f"{path}:{number}"))[1])
        ]
        if points:
            size = math.ceil(len(points) / CURVE_POINTS)
            groups = [points[start : start + size] for start in range(0, len(points), size)]
            found[metric] = tuple(
                (mean(step for step, _ in group), mean(loss for _, loss in group)) for group in groups
            )
    return found


def loss_at(row: Mapping[str, str], metric: str, where: str) -> tuple[float, float]:
    """Step and loss of a line."""
    try:
        return float(row["step"]), float(row[metric])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{where}: step and {metric} must be numbers") from None


def absent(run: Planned) -> Absent:
    """Return what is to be said of a run that is not finished."""
    state = state_of(run)
    return Absent(run.name, state, run.error() if state == "failed" else "")


def differing(finished: Iterable[Planned]) -> tuple[Differing, ...]:
    """Return the facts that runs do not share: code, libraries, hardware, data, frozen weights.

    A fact that a run does not have, such as the weights of an encoder that it turns off, is no difference.
    """
    kinds = ("git", "salmonn_lab", "python", "libraries", "hardware", "manifests", "weights")
    facts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in finished:
        for key, value in flatten(run.run.provenance()).items():
            if key.split(".")[0] in kinds:
                facts[key][str(value)].append(run.name)
    return tuple(
        Differing(fact, {value: tuple(names) for value, names in values.items()})
        for fact, values in facts.items()
        if len(values) > 1
    )


def score_lines(experiment: Experiment, found: Study) -> list[dict[str, Any]]:
    """Return every score of every run as a line of `scores.jsonl`."""
    runs = {run.name: run for run in experiment.planned}
    counts = {row.benchmark: row for row in found.measurements}
    lines = []
    for setting in found.settings:
        for score in setting.scores:
            for name, value in score.seeds.items():
                run = runs[name]
                lines.append(
                    {
                        "run": name,
                        "setting": setting.name,
                        "seed": run.config.seed,
                        "overrides": overrides_of(run.overrides),
                        "benchmark": score.benchmark,
                        "metric": score.metric,
                        **asdict(value),
                        "count": counts[score.benchmark].count,
                        "signature": counts[score.benchmark].signatures[score.metric],
                        **provenance_of(run.run),
                    }
                )
    return lines


def overrides_of(overrides: Overrides) -> dict[str, Any]:
    """Return what a run sets, its seed left out."""
    return {key: json.loads(json.dumps(value)) for key, value in overrides.items() if key != SEED}


def provenance_of(run: Run) -> dict[str, Any]:
    """Return what a line of scores tells of where it comes from."""
    record = run.provenance()
    return {"git": record.get("git"), "seconds": sum(record["seconds"].values())}
