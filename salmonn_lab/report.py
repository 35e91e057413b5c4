"""The command that reports on a run, or an experiment, from predictions: `python -m salmonn_lab.report DIR [OTHER]`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_report)

import base64
import io
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
from rich.markup import escape
from rich.table import Table

from salmonn_lab import analysis, benchmarks, console, pages, runs, study, study_pages, study_scores
from salmonn_lab.assets import AssetError, resolve
from salmonn_lab.batch import Example, Prediction, Score
from salmonn_lab.benchmarks import Benchmark, Published
from salmonn_lab.data.audio import SAMPLE_RATE, AudioError, read_audio
from salmonn_lab.data.features import Reader
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.experiment import SWEEP_FILE, load_experiment
from salmonn_lab.files import read_json, write_atomically
from salmonn_lab.metrics.health import KINDS, examine, health
from salmonn_lab.predictions import read_predictions
from salmonn_lab.progress import quiet_libraries

COLUMNS = ("benchmark", "metric", "before training", "after training", "95 % interval", "n", "baseline or published")
VERSION = 2
"""Of the layout of `report.json`; since 2 it has `curves`, and a result `edits`."""
WORST = 5
PLAYERS = command_line.PLAYERS
"""Clips that a report holds."""
AUDIO_BYTES = 11_000_000
"""Encoded audio that a report holds at most: a page of 20 MB leaves as much again for base64 and 5,000 items."""
METHOD = (
    "Intervals are of 95 %, by a BCa bootstrap of 1,000 draws of items with seed 0; Wilson's where fewer than five "
    "items are right or wrong, and over words, as if independent, where no word is wrong; a single item has none. "
    "Constant is the best answer that ignores the audio, ceiling the score were every output its own reference, "
    "detectable the difference from another, unrelated system that a test on these items would find 80 % of the time."
)


@dataclass(frozen=True)
class WorstItem:
    """An item that the headline score counts against the model."""

    id: str
    value: float
    references: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class BenchmarkResult:
    """What one benchmark gave, or why it was skipped. Health and worst items are those of the scores in `after`."""

    benchmark: str
    before: list[Score] | None = None
    """Scores of the model before training, the headline first; None where that was not measured."""
    after: list[Score] | None = None
    health: Mapping[str, int] = field(default_factory=dict)
    """Outputs that break each rule."""
    worst: tuple[WorstItem, ...] = ()
    baseline: float | None = None
    """What the best answer that ignores the audio scores on the headline."""
    baseline_policy: str | None = None
    """That answer in words, such as "always the first choice"; None where nobody wrote it down."""
    published: Published | None = None
    skipped: str | None = None
    """The reason."""
    manifest: str = ""
    """What was asked, as in `Benchmark.manifest`."""

    def __post_init__(self) -> None:
        signatures = {score.metric: score.signature for score in self.before or ()}
        for score in self.after or ():
            before = signatures.get(score.metric, score.signature)
            if before != score.signature:
                raise ValueError(
                    f"{self.benchmark}: {score.metric} before and after do not compare: {before} and {score.signature}"
                )

    def compares(self, before: BenchmarkResult) -> bool:
        """Whether the scores of an earlier result of the same benchmark have the same signatures."""
        signatures = {score.metric: score.signature for score in before.after or ()}
        return all(signatures.get(score.metric, score.signature) == score.signature for score in self.after or ())

    def since(self, before: BenchmarkResult) -> BenchmarkResult:
        """Return this result with that of the model before training beside it.

        Raises:
            ValueError: if they are of different benchmarks, or their signatures differ.
        """
        if before.benchmark != self.benchmark:
            raise ValueError(f"a result of {before.benchmark} is no earlier result of {self.benchmark}")
        return replace(self, before=before.after)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; nan is null."""
        return {key: without_nan(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Any) -> BenchmarkResult:
        """Return the result that `to_json` was called on.

        Raises:
            ValueError: the record is anything else; the key is named.
        """
        known = {entry.name: entry for entry in fields(cls)}
        check_object(record, "", known, {"benchmark", "before", "after", "worst", "published"})
        for key, kinds in RESULT_KINDS.items():
            if key in record and not is_kind(record[key], kinds):
                raise ValueError(f"{key} must not be {shown_json(record[key])}")
        if not all(is_kind(count, (int,)) for count in record.get("health", {}).values()):
            raise ValueError(f"health must hold counts, got {shown_json(record['health'])}")
        published = record["published"]
        if published is not None:
            check_object(published, "published", PUBLISHED_KINDS)
            published = Published(number(published["value"]), published["source"])
        return cls(
            **{
                **record,
                "before": read_score_rows(record["before"], "before"),
                "after": read_score_rows(record["after"], "after"),
                "worst": tuple(
                    read_worst(item, f"worst[{index}]") for index, item in enumerate(as_list(record["worst"], "worst"))
                ),
                "published": published,
            }
        )


NUMBER = (int, float, type(None))
RESULT_KINDS = {
    "benchmark": (str,),
    "health": (dict,),
    "baseline": NUMBER,
    "baseline_policy": (str, type(None)),
    "skipped": (str, type(None)),
    "manifest": (str,),
}
SCORE_KINDS = {
    **{"benchmark": (str,), "metric": (str,), "value": NUMBER, "low": NUMBER, "high": NUMBER},
    **{"count": (int,), "signature": (str,)},
}
WORST_KINDS = {"id": (str,), "value": NUMBER, "references": (list,), "output": (str,)}
PUBLISHED_KINDS = {"value": NUMBER, "source": (str,)}


def read_score_rows(rows: Any, where: str) -> list[Score] | None:
    """Scores in a record of a file of scores, None where it has none; ValueError names what is not in order."""
    if rows is None:
        return None
    scores = []
    for index, row in enumerate(as_list(rows, where)):
        check_object(row, f"{where}[{index}]", SCORE_KINDS)
        scores.append(Score(**row | {key: number(row[key]) for key in ("value", "low", "high")}))
    return scores


def read_worst(row: Any, where: str) -> WorstItem:
    """Item in a record of a file of scores; ValueError names what is not in order."""
    check_object(row, where, WORST_KINDS)
    if not all(isinstance(text, str) for text in row["references"]):
        raise ValueError(f"{where}.references must hold strings, got {shown_json(row['references'])}")
    return WorstItem(row["id"], number(row["value"]), tuple(row["references"]), row["output"])


def check_object(value: Any, where: str, known: Mapping[str, Any], required: Collection[str] | None = None) -> None:
    """Refuse what is no object of the known keys, all of them unless `required` names those that must be there.

    Where a key's value in `known` is a tuple, it says of which types its value is.
    """
    prefix = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'an entry'} must be an object, got {shown_json(value)}")
    for key in value:
        if key not in known:
            raise ValueError(f"unknown key {prefix}{key}")
    for key in known if required is None else required:
        if key not in value:
            raise ValueError(f"missing key {prefix}{key}")
    for key, kinds in known.items():
        if isinstance(kinds, tuple) and key in value and not is_kind(value[key], kinds):
            raise ValueError(f"{prefix}{key} must not be {shown_json(value[key])}")


def as_list(value: Any, where: str) -> list[Any]:
    """A value that is a list; ValueError where it is anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {shown_json(value)}")
    return value


def is_kind(value: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a value of JSON is of one of some types; true and false are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def shown_json(value: Any) -> str:
    """A value as a message holds it: as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(value: float | None) -> float:
    """A number of a file of scores, where null stands for nan."""
    return math.nan if value is None else value


def measure(benchmark: Benchmark, predictions: Sequence[Prediction]) -> BenchmarkResult:
    """Return everything that the report says of a benchmark's predictions."""
    unique = list({prediction.id: prediction for prediction in predictions}.values())
    kind = KINDS.get(benchmark.task, "text")
    counts = health(examine(prediction, kind) for prediction in unique)
    blind = benchmarks.best_answer(benchmark, unique)
    return BenchmarkResult(
        benchmark.name,
        after=benchmarks.score(benchmark, predictions),
        health={name: count.broken for name, count in counts.items() if count.judged},
        worst=worst_items(benchmark, unique),
        baseline=None if blind is None else blind.value,
        baseline_policy=None if blind is None else blind.policy,
        published=benchmark.published,
        manifest=benchmark.manifest,
    )


def worst_items(benchmark: Benchmark, predictions: Sequence[Prediction], count: int = WORST) -> tuple[WorstItem, ...]:
    """Return the items with the worst headline scores, the worst first, those without fault left out."""
    values = benchmarks.score_items(benchmark, predictions)
    sign, perfect = (1, 1.0) if benchmark.higher_is_better else (-1, 0.0)
    faulty = [prediction for prediction in predictions if values[prediction.id] != perfect]
    faulty.sort(key=lambda prediction: (sign * values[prediction.id], prediction.id))
    return tuple(WorstItem(item.id, values[item.id], item.references, item.text) for item in faulty[:count])


def write_scores(path: Path, results: Iterable[BenchmarkResult]) -> None:
    """Write results as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_text([result.to_json() for result in results]))


def read_scores(path: Path) -> list[BenchmarkResult]:
    """Read what `write_scores` wrote.

    Raises:
        ValueError: if the file holds anything else.
        FileNotFoundError: there is no such file.
    """
    try:
        return [result_at(index, record) for index, record in enumerate(as_list(read_json(path), "it"))]
    except ValueError as error:
        raise ValueError(
            f"{path} is not a file of scores: {str(error).removeprefix(f'{path}:').strip()}; python -m "
            "salmonn_lab.evaluate --rescore makes it anew from the predictions"
        ) from None


def result_at(index: int, record: Any) -> BenchmarkResult:
    """Result that an entry of a file of scores is; ValueError names the entry."""
    try:
        return BenchmarkResult.from_json(record)
    except ValueError as error:
        raise ValueError(f"[{index}]: {error}") from None


def score_rows(results: Iterable[BenchmarkResult]) -> list[tuple[str, ...]]:
    """Return a line of text for each score, in the order of `COLUMNS`."""
    rows = []
    for result in results:
        if result.skipped is not None:
            rows.append((result.benchmark, "skipped", *[""] * (len(COLUMNS) - 2)))
        before = {score.metric: score for score in result.before or ()}
        after = {score.metric: score for score in result.after or ()}
        for index, metric in enumerate(after | before):
            shown = after.get(metric) or before[metric]
            ends = (shown.low, shown.high)
            interval = "" if any(map(math.isnan, ends)) else " to ".join(shown_as(metric, end) for end in ends)
            values = [shown_as(metric, scores[metric].value) if metric in scores else "" for scores in (before, after)]
            rows.append(
                (
                    result.benchmark,
                    metric,
                    *values,
                    interval,
                    str(shown.count),
                    comparison(result) if index == 0 else "",
                )
            )
    return rows


def comparison(result: BenchmarkResult) -> str:
    """Return what a headline score is to be held against."""
    constant = ""
    if result.baseline is not None:
        constant = f"constant answer {pages.with_policy(percent(result.baseline), result.baseline_policy)}"
    source = result.published
    published = "" if source is None else f"published {percent(source.value)} ({source.source})"
    return ", ".join(filter(None, (constant, published)))


def shown_as(metric: str, value: float) -> str:
    """Return a score as it is printed: a percentage, where it is a share."""
    return f"{value:.2f}" if metric in benchmarks.NUMBERS else percent(value)


def percent(value: float) -> str:
    """Return a share as it is printed."""
    return "nan" if math.isnan(value) else f"{100 * value:.1f} %"


def summary_table(results: Iterable[BenchmarkResult], title: str = "Results") -> Table:
    """Return the scores as a table for the terminal."""
    rows = [[escape(cell) for cell in row] for row in score_rows(results)]
    return console.table(escape(title), COLUMNS, rows)


def without_nan(value: Any) -> Any:
    """Return a value as JSON has it: lists for tuples, null for what is not a number."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any) -> str:
    """Return JSON to read and to search, where only lone surrogates, which no file can hold, are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    return pages.SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def write_report(folder: Path, other: Path | None = None, players: int = PLAYERS) -> Path:
    """Write `report.json` of a folder's predictions, and what is read of it: `.html`, `.md`, `.tex`, `.csv`.

    With another run, the pages go to `against_<its name>/` within the folder.

    Args:
        folder: a run, or one of its `variants/`.
        other: one that answered some of the same items.
        players: how many of the worst items can be listened to.

    Returns:
        the page for browsers.

    Raises:
        FileNotFoundError: there is no run, or it has no predictions.
        ValueError: a benchmark of the predictions is not known any more, or the two runs do not compare.
    """
    report = build(folder, other, players)
    for remark in report["remarks"]:
        console.console.print(escape(remark), soft_wrap=True)
    target = folder if other is None else folder / f"against_{other.name}"
    target.mkdir(exist_ok=True)
    write_atomically(target / "report.json", json_text(report))
    for suffix, render in RENDERERS.items():
        write_atomically(target / f"report.{suffix}", render(report))
    return target / "report.html"


def write_study(folder: Path) -> Path:
    """Write `report.json` of an experiment's finished runs, `scores.jsonl`, and the pages of its report.

    Where no run is finished here, as in a fresh clone, they are made of the `scores.jsonl` that lies in the folder.

    Returns:
        the page for browsers.

    Raises:
        FileNotFoundError: the folder holds no experiment, or neither a finished run of it nor scores.
        ValueError: its sweep.py or its scores are not in order, or its runs do not compare.
    """
    experiment = load_experiment(folder)
    if not any(run.done() for run in experiment.planned):
        if not (folder / study_scores.SCORES).is_file():
            raise FileNotFoundError(
                f"{folder} has no finished run, and no {study_scores.SCORES}: start python -m salmonn_lab.sweep "
                f"{folder} --run"
            )
        console.console.print(
            f"no run of {folder} is here: its report is made again of {study_scores.SCORES}, what that lacks as in "
            f"{study_scores.REPORT}",
            soft_wrap=True,
        )
        return write_study_pages(folder, study_scores.recorded_study(experiment))
    found = study.study(experiment)
    lines = [json.dumps(without_nan(line), ensure_ascii=False) for line in study.score_lines(experiment, found)]
    write_atomically(folder / "scores.jsonl", "".join(f"{line}\n" for line in lines))
    return write_study_pages(folder, found)


def write_study_pages(folder: Path, found: study.Study) -> Path:
    """Write a study's `report.json` and the pages made of it; return the page for browsers."""
    report = without_nan(asdict(found))
    write_atomically(folder / "report.json", json_text(report))
    for suffix, render in study_pages.RENDERERS.items():
        write_atomically(folder / f"report.{suffix}", render(report))
    return folder / "report.html"


RENDERERS = {
    "html": pages.render_html,
    "md": pages.render_markdown,
    "tex": pages.render_latex,
    "csv": pages.render_csv,
}


def build(folder: Path, other: Path | None, players: int) -> dict[str, Any]:
    """Return all that a report says, as JSON has it."""
    run = owner(folder)
    recorded = run.provenance() if run.provenance_file.is_file() else {}
    stored = stored_results(folder)
    answers, others = read_all(folder), {} if other is None else read_all(other)
    if not answers and not (folder / runs.SCORES).is_file():
        raise FileNotFoundError(f"{folder} has no predictions: measure it with python -m salmonn_lab.evaluate")
    ordered = [name for name in stored if name in answers] + [name for name in answers if name not in stored]
    remarks: list[str] = []
    results, comparisons = [], []
    clips: dict[str, str] = {}
    data = run.config().data
    read = partial(read_audio, max_seconds=data.max_seconds, channels=data.channels)
    for name in ordered:
        benchmark = find_benchmark(name, run, stored.get(name))
        examples = read_examples(benchmark, remarks)
        before = {score.metric: score.value for score in (stored[name].before or ())} if name in stored else {}
        with about(folder / runs.PREDICTIONS / f"{name}.jsonl"):
            result = analysis.analyze(benchmark, answers[name], examples, before)
        if benchmark.count not in (None, result.count):
            remarks.append(f"{name}: {result.count} of {benchmark.count} published items were answered")
        remarks += disagreements(benchmark, answers[name], examples)
        results.append(embed(result, examples, clips, players // len(ordered), remarks, read))
        if name in others:
            with about(folder / runs.PREDICTIONS / f"{name}.jsonl"):
                comparisons.append(analysis.compare(benchmark, answers[name], others[name]))
    if other is not None and not comparisons:
        raise ValueError(f"{folder} and {other} have no benchmark in common")
    report = {
        "version": VERSION,
        "title": name_of(folder) if folder == run.folder else f"{name_of(run.folder)}: {name_of(folder)}",
        "other": other.name if other else None,
        "method": METHOD,
        "results": [asdict(result) for result in results],
        "comparisons": [asdict(comparison) for comparison in analysis.corrected(comparisons)],
        "skipped": [
            {"benchmark": name, "reason": result.skipped}
            for name, result in stored.items()
            if result.skipped is not None
        ],
        "remarks": remarks,
        "seconds": recorded.get("seconds", {}),
        "peak_memory_gib": recorded.get("peak_memory_gib"),
        "provenance": list(run.facts().items()) if recorded else [],
        "config": run.config_text(),
        "curves": [
            {"metric": metric, "points": points}
            for metric, points in study.read_curves(folder / study.METRICS_FILE).items()
        ],
        "audio": clips,
    }
    plain: dict[str, Any] = without_nan(report)
    return plain


def owner(folder: Path) -> runs.Run:
    """Return the run that a folder is, or that it is a variant of."""
    whole = folder.resolve()
    inside = whole.parent.name == "variants" and not (folder / runs.CONFIG).is_file()
    return runs.find(whole.parents[1] if inside else folder)


def name_of(folder: Path) -> str:
    """A folder's name, however it is asked for, such as by `.`."""
    return folder.resolve().name


@contextmanager
def about(predictions: Path) -> Iterator[None]:
    """Name a file of predictions in errors of scoring what it holds, which name an item alone."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{predictions}: {error}") from error


def is_experiment(folder: Path) -> bool:
    """Tell whether a report is of an experiment, whose sweep.py is run to list what it asks for.

    In a folder of a run, or of one of its variants, such a file is not looked at.
    """
    whole = folder.resolve()
    places = [whole, whole.parents[1]] if whole.parent.name == "variants" else [whole]
    return (folder / SWEEP_FILE).is_file() and not any((place / runs.CONFIG).is_file() for place in places)


def stored_results(folder: Path) -> dict[str, BenchmarkResult]:
    """Return what the folder's `scores.json` holds by benchmark, nothing where it has none."""
    path = folder / runs.SCORES
    return {result.benchmark: result for result in read_scores(path)} if path.is_file() else {}


def read_all(folder: Path) -> dict[str, list[Prediction]]:
    """Return the predictions of a run by benchmark, those that each file is named after."""
    files = sorted((folder / runs.PREDICTIONS).glob("*.jsonl"))
    found = {file.stem: read_predictions(file, file.stem) for file in files}
    return {name: predictions for name, predictions in found.items() if predictions}


def disagreements(
    benchmark: Benchmark, predictions: Sequence[Prediction], examples: Mapping[str, Example]
) -> list[str]:
    """Sentences on answers that are not those to a manifest's examples; they are scored as they are.

    Args:
        benchmark: is named.
        predictions: each id once.
        examples: of the manifest by id, empty where it is not there.
    """
    if not examples:
        return []
    name, answered = benchmark.name, {prediction.id: prediction for prediction in predictions}
    lost = [id for id in examples if id not in answered]
    strange = [id for id in answered if id not in examples]
    edited = [
        id
        for id, prediction in answered.items()
        if id in examples and prediction.references != references_of(examples[id])
    ]
    remarks = []
    if lost:
        there = len(examples) - len(lost)
        remarks.append(f"{name}: {there} of the {len(examples)} examples of the manifest were answered")
    if strange:
        remarks.append(f"{name}: {len(strange)} answers are to ids that the manifest lacks, such as '{strange[0]}'")
    if edited:
        remarks.append(
            f"{name}: the manifest has other references for {len(edited)} answers, such as '{edited[0]}', than those "
            "stored beside them, which they are scored by"
        )
    return remarks


def references_of(example: Example) -> tuple[str, ...]:
    """The texts that are right for an example."""
    return example.references or (example.target,)


def find_benchmark(name: str, run: runs.Run, stored: BenchmarkResult | None) -> Benchmark:
    """Return the benchmark that a file of predictions answers: of the table, or a manifest that the run names."""
    if name in benchmarks.BENCHMARKS:
        return benchmarks.BENCHMARKS[name]
    manifests = [*([stored.manifest] if stored else []), *run.config().evaluation.benchmarks]
    for manifest in manifests:
        if Path(manifest).stem == name:
            return benchmarks.find(manifest)
    raise ValueError(f"there is no benchmark '{name}' any more, and {run.folder} does not say what its manifest was")


def read_examples(benchmark: Benchmark, remarks: list[str]) -> dict[str, Example]:
    """Return the examples of a benchmark by id; where its data is not here, nothing, and a remark says so."""
    try:
        path = Path(resolve(benchmark.manifest))
    except (FileNotFoundError, AssetError) as error:
        remarks.append(f"{benchmark.name}: no durations and no audio: {error}")
        return {}
    if not path.is_file():
        remarks.append(f"{benchmark.name}: no durations and no audio: there is no {path}")
        return {}
    return {example.id: example for example in read_manifest(path)}


def embed(
    result: analysis.Result,
    examples: Mapping[str, Example],
    clips: dict[str, str],
    players: int,
    remarks: list[str],
    read: Reader,
) -> analysis.Result:
    """Return a result whose worst items name a clip, which is added to those of the report."""
    shown, unread = [], 0
    for place, item in enumerate(result.items):
        if place < players and item.weight > 0 and item.id in examples:
            example = examples[item.id]
            key = " ".join(f"{part.path}@{part.offset:g}+{part.duration or 0:g}" for part in example.audio)
            try:
                if key not in clips and sum(map(len, clips.values())) * 3 // 4 < AUDIO_BYTES:
                    clips[key] = encode(example, read)
            except AudioError:
                unread += 1
            item = replace(item, audio=key if key in clips else None)
        shown.append(item)
    if unread:
        remarks.append(f"{result.benchmark}: {unread} clips could not be read")
    return replace(result, items=tuple(shown))


def encode(example: Example, read: Reader = read_audio) -> str:
    """Return a clip as `read` reads it, as MP3 in base64: small, played by every browser, and equal every time."""
    file = io.BytesIO()
    samples = read(example.audio).numpy()
    soundfile.write(file, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.7)
    return base64.b64encode(file.getvalue()).decode("ascii")


def main() -> None:
    """Run the command."""
    options = command_line.check_report(sys.argv[1:])
    quiet_libraries()
    if is_experiment(options.run):
        if options.other is not None:
            raise ValueError(f"{options.run} is an experiment, with a baseline of its own: leave {options.other} out")
        console.console.print(f"report: {write_study(options.run)}", soft_wrap=True)
        return
    for folder in filter(None, (options.run, options.other)):
        owner(folder)
    console.console.print(f"report: {write_report(options.run, options.other, options.players)}", soft_wrap=True)


if __name__ == "__main__":
    console.run_command(main)
