"""A study made again of an experiment's committed `scores.jsonl`, where its runs are not here.

What the scores lack (costs, learning curves, provenance, exact intervals) is taken from the `report.json` beside them,
as far as its scores are the same ones. A difference that it does not hold is tested on the scores of the runs alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmonn_lab import benchmarks
from salmonn_lab.experiment import Experiment
from salmonn_lab.files import read_json_object
from salmonn_lab.metrics.seeds import RunSummary, summary_difference, summary_mean
from salmonn_lab.study import (
    METHOD,
    Absent,
    Comparison,
    Cost,
    Curve,
    Differing,
    Measurement,
    RunScore,
    Setting,
    SettingScore,
    Study,
    axis_values,
    compared,
    corrected,
    fraction_interval,
    overrides_of,
    short_axes,
)

SCORES = "scores.jsonl"
REPORT = "report.json"
KINDS: dict[str, tuple[type, ...]] = {
    "run": (str,),
    "overrides": (dict,),
    "benchmark": (str,),
    "metric": (str,),
    "value": (int, float, type(None)),
    "low": (int, float, type(None)),
    "high": (int, float, type(None)),
    "count": (int,),
    "signature": (str,),
}
"""Keys of a line that are read, and the types of their values."""
ERROR_RATES = ("wer", "cer", "per", "cpwer")
"""What the signatures of rates begin with that may be above 1."""
MADE_OF_SCORES = "made of scores.jsonl, for no run of this experiment is here"
SCORES_METHOD = (
    "A difference marked ‡ is of runs whose answers are not here: it is tested on their scores and the intervals of "
    "these, as if the two settings had answered different items, which mostly makes its interval wider."
)


@dataclass(frozen=True)
class Line:
    """A line of `scores.jsonl`: a score of a run."""

    setting: str
    run: str
    benchmark: str
    metric: str
    score: RunScore
    count: int
    signature: str


@dataclass(frozen=True)
class Earlier:
    """What an earlier report of the experiment says, its settings under the names that they have now."""

    record: Mapping[str, Any]
    names: Mapping[str, str]
    """Of the settings, by their names in that report."""

    def settings(self) -> dict[str, Mapping[str, Any]]:
        """Its settings by name."""
        known = self.record.get("settings", ())
        return {self.names[row["name"]]: row for row in known if row["name"] in self.names}

    def baseline(self) -> str | None:
        """The name of its baseline, None where there is none."""
        return next((row["name"] for row in self.record.get("settings", ()) if row["baseline"]), None)


def recorded_study(experiment: Experiment) -> Study:
    """What the committed scores of an experiment's runs tell together.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a line of them, or the report beside them, is not in order; or no line is of a setting that the
            sweep asks for.
    """
    path = experiment.folder / SCORES
    lines, strange = read_lines(path, experiment)
    if not lines:
        raise ValueError(f"{path}: no line is of a setting that {experiment.file} asks for")
    try:
        return make(experiment, lines, strange, read_earlier(experiment))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{experiment.folder / REPORT} is not the report of an experiment: {error!r}") from None


def make(experiment: Experiment, lines: Sequence[Line], strange: Sequence[str], earlier: Earlier) -> Study:
    """Study of lines of scores; `strange` are the runs of which it has lines that the sweep does not ask for."""
    measurements = measurements_of(lines, earlier)
    settings = tuple(setting_of(experiment, name, lines, measurements, earlier) for name in experiment.settings)
    comparisons = corrected(list(comparisons_of(experiment, lines, measurements, settings, earlier)))
    record = earlier.record
    remarks = [remark for remark in record.get("remarks", ()) if not remark.startswith((MADE_OF_SCORES, SCORES))]
    remarks.append(MADE_OF_SCORES)
    if strange:
        remarks.append(f"{SCORES} holds runs that {experiment.file.name} does not ask for: {'; '.join(strange)}")
    there = {line.run for line in lines}
    states = {row["run"]: row for row in record.get("absent", ())}
    method = METHOD
    if any(comparison.from_scores for comparison in comparisons):
        method = f"{METHOD} {SCORES_METHOD}"
    return Study(
        title=experiment.folder.resolve().name,
        question=experiment.question,
        background=experiment.background,
        method=method,
        axes=short_axes(experiment),
        measurements=tuple(measurements.values()),
        settings=settings,
        comparisons=comparisons,
        curves=tuple(
            Curve(row["run"], earlier.names[row["setting"]], row["metric"], tuple(map(tuple, row["points"])))
            for row in record.get("curves", ())
            if row["setting"] in earlier.names
        ),
        absent=tuple(
            Absent(run.name, *(states[run.name][key] for key in ("state", "error")))
            if run.name in states
            else Absent(run.name, "missing", "")
            for run in experiment.planned
            if run.name not in there and run.name.partition("~")[0] not in there
        ),
        differing=tuple(
            Differing(row["fact"], {value: tuple(runs) for value, runs in row["values"].items()})
            for row in record.get("differing", ())
        ),
        remarks=tuple(remarks),
    )


def read_lines(path: Path, experiment: Experiment) -> tuple[list[Line], list[str]]:
    """Lines of a file of scores that are of the experiment's settings, and the runs that the other lines are of."""
    names = {mark(overrides_of(planned[0].overrides)): name for name, planned in experiment.settings.items()}
    found: list[Line] = []
    strange: dict[str, None] = {}
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not UTF-8: {error.reason}") from None
    for number, text in enumerate(texts, start=1):
        record = read_line(text, f"{path}:{number}")
        setting = names.get(mark(record["overrides"]))
        if setting is None:
            strange[record["run"]] = None
            continue
        value, low, high = (math.nan if record[key] is None else record[key] for key in ("value", "low", "high"))
        score = RunScore(float(value), float(low), float(high))
        rest = (record[key] for key in ("count", "signature"))
        found.append(Line(setting, record["run"], record["benchmark"], record["metric"], score, *rest))
    return found, list(strange)


def read_line(text: str, where: str) -> dict[str, Any]:
    """Object that a line of a file of scores is."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object: got {type(record).__name__}")
    for key, kinds in KINDS.items():
        if key not in record:
            raise ValueError(f"{where}: the key '{key}' is missing")
        if not isinstance(record[key], kinds) or isinstance(record[key], bool):
            raise ValueError(f"{where}: {key} must not be {record[key]!r:.60}")
    return record


def mark(overrides: Mapping[str, Any]) -> str:
    """Text that is equal where overrides are."""
    return json.dumps(overrides, sort_keys=True)


def read_earlier(experiment: Experiment) -> Earlier:
    """What the `report.json` of an experiment says, nothing where it has none."""
    path = experiment.folder / REPORT
    record = read_json_object(path) if path.is_file() else {}
    now = {mark(axis_values(experiment, name)): name for name in experiment.settings}
    names = {row["name"]: now[mark(row["values"])] for row in record.get("settings", ()) if mark(row["values"]) in now}
    return Earlier(record, names)


def measurements_of(lines: Sequence[Line], earlier: Earlier) -> dict[str, Measurement]:
    """What is to be known to read the scores of each benchmark."""
    known = {row["benchmark"]: row for row in earlier.record.get("measurements", ())}
    found = {}
    for name in dict.fromkeys(line.benchmark for line in lines):
        own = [line for line in lines if line.benchmark == name]
        if name in known:
            task, headline, higher = (known[name][key] for key in ("task", "headline", "higher_is_better"))
        elif name in benchmarks.BENCHMARKS:
            row = benchmarks.BENCHMARKS[name]
            task, headline, higher = row.task, row.headline, row.higher_is_better
        else:
            raise ValueError(f"there is no benchmark '{name}' any more, and no {REPORT} that says how it is read")
        keys = dict.fromkeys(line.metric for line in own)
        keys = {headline: None} | keys
        found[name] = Measurement(
            benchmark=name,
            task=task,
            headline=headline,
            higher_is_better=higher,
            metrics=tuple(keys),
            plain_numbers=tuple(key for key in keys if key in benchmarks.NUMBERS),
            count=min(line.count for line in own),
            signatures={line.metric: line.signature for line in own},
            units=known.get(name, {}).get("units"),
            unit=known.get(name, {}).get("unit", "items"),
        )
    return found


def setting_of(
    experiment: Experiment,
    name: str,
    lines: Sequence[Line],
    measurements: Mapping[str, Measurement],
    earlier: Earlier,
) -> Setting:
    """Row of a setting."""
    own = [line for line in lines if line.setting == name]
    row = earlier.settings().get(name)
    scores = tuple(
        setting_score(measurement, metric, chosen, row)
        for measurement in measurements.values()
        for metric in measurement.metrics
        if (chosen := [line for line in own if (line.benchmark, line.metric) == (measurement.benchmark, metric)])
    )
    cost = row["cost"] if row else None
    return Setting(
        name,
        axis_values(experiment, name),
        name == experiment.baseline,
        len(experiment.settings[name]),
        len({line.run for line in own}),
        scores,
        None if cost is None else Cost(**cost),
    )


def setting_score(
    measurement: Measurement, metric: str, lines: Sequence[Line], earlier: Mapping[str, Any] | None
) -> SettingScore:
    """Score of a setting: as the earlier report has it where that is of the same scores, else made of these."""
    seeds = {line.run: line.score for line in lines}
    mean = summary_mean([summary(line) for line in lines])
    low, high, spread = mean.low, mean.high, None if math.isnan(mean.spread) else mean.spread
    known = score_of(earlier, measurement.benchmark, metric) if earlier else None
    if known and same_scores(known["seeds"], seeds):
        low, high = (math.nan if known[end] is None else known[end] for end in ("low", "high"))
    if metric not in measurement.plain_numbers:
        low, high = fraction_interval(low, high, at_most_one=is_share(measurement, metric))
    return SettingScore(measurement.benchmark, metric, mean.value, low, high, spread, seeds)


def is_share(measurement: Measurement, metric: str) -> bool:
    """Whether a score is a share of items, which 1 bounds; an error rate is not."""
    return measurement.signatures[metric].partition("|")[0] not in ERROR_RATES


def score_of(setting: Mapping[str, Any], benchmark: str, metric: str) -> Mapping[str, Any] | None:
    """Score in a setting of a report, None where it has none."""
    return next((row for row in setting["scores"] if (row["benchmark"], row["metric"]) == (benchmark, metric)), None)


def same_scores(known: Mapping[str, Any], scores: Mapping[str, RunScore]) -> bool:
    """Whether a report's scores of runs are those of the lines."""
    values = {run: math.nan if row["value"] is None else row["value"] for run, row in known.items()}
    return values.keys() == scores.keys() and all(
        math.isclose(value, scores[run].value, abs_tol=1e-12) for run, value in values.items()
    )


def summary(line: Line) -> RunSummary:
    """Score of a run, as a setting's interval is made of it."""
    return RunSummary(line.score.value, line.score.low, line.score.high, line.count)


def comparisons_of(
    experiment: Experiment,
    lines: Sequence[Line],
    measurements: Mapping[str, Measurement],
    settings: Sequence[Setting],
    earlier: Earlier,
) -> Iterable[Comparison]:
    """The differences of the pairs that the experiment compares: the earlier report's, where its scores are the same.

    Yields:
        comparisons whose `p_holm` is still `p`.

    Raises:
        ValueError: two settings have other signatures.
    """
    known = {}
    unchanged = [setting.name for setting in settings if is_unchanged(setting, earlier)]
    for row in earlier.record.get("comparisons", ()):
        pair = [earlier.names.get(row["setting"]), earlier.names.get(row.get("against", earlier.baseline()))]
        if all(name in unchanged for name in pair):
            known[row["benchmark"], *pair] = row
    for measurement in measurements.values():
        for one, other in compared(experiment):
            ours, theirs = (
                [
                    line
                    for line in lines
                    if (line.setting, line.benchmark, line.metric)
                    == (name, measurement.benchmark, measurement.headline)
                ]
                for name in (one, other)
            )
            if not ours or not theirs:
                continue
            if len(signatures := {line.signature for line in (*ours, *theirs)}) > 1:
                told = " and ".join(sorted(signatures))
                raise ValueError(f"{measurement.benchmark}: {one} and {other} do not compare: {told}")
            if row := known.get((measurement.benchmark, one, other)):
                value, low, high, p = (
                    math.nan if row[key] is None else row[key] for key in ("value", "low", "high", "p")
                )
                alone = row.get("from_scores", False)
                made = Comparison(measurement.benchmark, one, other, value, low, high, p, p, row["seeds"], alone)
            else:
                result = summary_difference([summary(line) for line in ours], [summary(line) for line in theirs])
                ends = (result.value, result.low, result.high, result.p, result.p)
                made = Comparison(measurement.benchmark, one, other, *ends, seeds=result.seeds, from_scores=True)
            yield made


def is_unchanged(setting: Setting, earlier: Earlier) -> bool:
    """Whether an earlier report has a setting with the same scores of the same runs."""
    row = earlier.settings().get(setting.name)
    if row is None:
        return False
    known = [score_of(row, score.benchmark, score.metric) for score in setting.scores]
    return all(
        found is not None and same_scores(found["seeds"], score.seeds)
        for found, score in zip(known, setting.scores, strict=True)
    )
