"""Finding a benchmark, and measuring predictions as its row says."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from salmonn_lab.assets import resolve
from salmonn_lab.batch import LIKELIHOOD, Prediction, Score
from salmonn_lab.benchmarks.blind import Blind, Item, best_blind
from salmonn_lab.benchmarks.measures import (
    BY_WRITING,
    LANGUAGE_OF_TASK,
    METRICS,
    NUMBERS,
    TASKS,
    UNNAMED,
    References,
    Writing,
    is_unspaced,
    measure_of,
    writing_of_language,
    writing_of_texts,
)
from salmonn_lab.benchmarks.table import BENCHMARKS, Benchmark
from salmonn_lab.data.manifest import Manifest, read_manifest
from salmonn_lab.metrics.choice import OptionLikelihood
from salmonn_lab.metrics.item import ChoiceMetric, ItemMetric, item_number
from salmonn_lab.metrics.likelihood import Perplexity
from salmonn_lab.metrics.statistics import metric_intervals
from salmonn_lab.metrics.verification import EqualErrorRate


def find(name_or_path: str | Path) -> Benchmark:
    """Return a benchmark of the table, or one made of a manifest, judged as the tasks in it are.

    Args:
        name_or_path: of the table; or a file, `asset:NAME/FILE` or `data:CORPUS/SPLIT`.

    Raises:
        FileNotFoundError: the corpus of `data:` was not prepared.
        ValueError: there is neither; or the manifest's tasks have no metric, or not the same ones; or its file is named
            as a benchmark of the table; or what scores it is not installed.
    """
    name = str(name_or_path)
    if name in BENCHMARKS:
        return scorable(BENCHMARKS[name])
    path = Path(resolve(name))
    if path.suffix in (".json", ".jsonl") or path.is_file():
        return scorable(from_manifest(name, path))
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"no benchmark or manifest '{name}'; there are {', '.join(BENCHMARKS)}.{hint}")


def scorable(benchmark: Benchmark) -> Benchmark:
    """Return a benchmark whose metrics can be made, which is better known before a model answers than after."""
    try:
        for name in benchmark.metrics:
            METRICS[name]({})
    except ImportError as error:
        raise ValueError(f"{benchmark.name}: {error}") from None
    return benchmark


def from_manifest(reference: str, path: Path) -> Benchmark:
    """Return the benchmark that the manifest at `path` makes, named as its file."""
    if path.stem in BENCHMARKS:
        raise ValueError(
            f"{path}: '{path.stem}' is a benchmark of the table; ask for it by its name, or give the manifest another"
        )
    manifest = read_manifest(path)
    tasks = sorted(manifest.column("task").unique().to_pylist())
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"{path}: there is no metric yet for task '{task}'; there are for {', '.join(TASKS)}")
    language = ""
    writing: Writing = "english"
    if any(task in BY_WRITING for task in tasks):
        language, writing = writing_of_manifest(path, manifest, tasks)
    measure = measure_of(tasks[0], writing)
    if any(measure_of(task, writing) != measure for task in tasks):
        raise ValueError(f"{path}: tasks {', '.join(tasks)} are not measured alike; give each a manifest of its own")
    return Benchmark(
        path.stem,
        tasks[0],
        reference,
        measure.metrics,
        measure.headline,
        measure.higher_is_better,
        language=language,
    )


def writing_of_manifest(path: Path, manifest: Manifest, tasks: Sequence[str]) -> tuple[str, Writing]:
    """The language of a manifest's transcripts, "" where nothing names it, and what its error rates count.

    The language is named by `language` in the examples' meta or by the task; else the references' scripts decide.

    Raises:
        ValueError: a language is no code, or some of the languages are measured otherwise than the others.
    """
    named: dict[str, Writing] = {}
    for id, text in zip(*(manifest.column(name).to_pylist() for name in ("id", "meta")), strict=True):
        language = json.loads(text).get("language") if '"language"' in text else None
        if language is None or (isinstance(language, str) and (language.lower() in UNNAMED or language in named)):
            continue
        try:
            named[language] = writing_of_language(language)
        except ValueError as error:
            raise ValueError(f"{path}: example '{id}': key 'meta.language' {error}") from None
    of_tasks = [LANGUAGE_OF_TASK[task] for task in tasks if task in LANGUAGE_OF_TASK]
    columns = (manifest.column(name).to_pylist() for name in ("target", "references"))
    texts = (" ".join([target, *more]) for target, more in zip(*columns, strict=True))
    if not named and not of_tasks:
        try:
            return "", writing_of_texts(texts)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; name each example's language as 'language' in its meta") from None
    writings = {**{language: writing_of_language(language) for language in of_tasks}, **named}
    if len(set(writings.values())) > 1:
        listed = ", ".join(f"{language} ({writing})" for language, writing in sorted(writings.items()))
        raise ValueError(f"{path}: the languages {listed} are not measured alike; give each a manifest of its own")
    languages = list(named or of_tasks)
    if "characters" not in writings.values() and is_unspaced(texts):
        raise ValueError(
            f"{path}: the references are in a script without spaces between words, the language is said to be "
            f"{', '.join(sorted(languages))}: 'language' in an example's meta is that of its transcript"
        )
    return (languages[0] if len(languages) == 1 else "mul"), writings[languages[0]]


def metrics_for(benchmark: Benchmark, references: References | None = None) -> dict[str, ItemMetric]:
    """Return a benchmark's metrics, empty, by name; a warning names those of `where_present` whose tools are not here.

    Args:
        benchmark: a row of the table.
        references: of every item of the test set.
    """
    metrics = {name: METRICS[name](references or {}) for name in benchmark.metrics}
    for name in benchmark.where_present:
        try:
            metrics[name] = METRICS[name](references or {})
        except FileNotFoundError as error:
            warnings.warn(f"{benchmark.name} is measured without {name}: {error}", stacklevel=2)
    # SPIDEr gives CIDEr-D too: a score stands in a report once.
    keys = {name: set(metric.keys) for name, metric in metrics.items()}
    return {
        name: metric for name, metric in metrics.items() if not any(keys[name] < others for others in keys.values())
    }


def measure(benchmark: Benchmark, predictions: Iterable[Prediction]) -> dict[str, ItemMetric]:
    """Return a benchmark's metrics, filled with these predictions alone: other processes are not asked for theirs.

    Accuracy reads an item's choices from `choices` in its meta; without them, any answer of the test set may be chosen.
    """
    predictions = list(predictions)
    metrics = metrics_for(benchmark, {prediction.id: prediction.references for prediction in predictions})
    texts = [prediction.text for prediction in predictions]
    references = [prediction.references for prediction in predictions]
    ids = [prediction.id for prediction in predictions]
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # a report is made by one process, while the others are done
        if isinstance(metric, ChoiceMetric):
            metric.update(texts, references, ids, [prediction.meta.get("choices") for prediction in predictions])
        else:
            metric.update(texts, references, ids)
    return metrics | likelihood_metrics(benchmark, predictions)


def likelihood_metrics(benchmark: Benchmark, predictions: Sequence[Prediction]) -> dict[str, ItemMetric]:
    """Return the metrics of what a model noted of references and choices, filled; none where it noted nothing.

    Trials of speaker verification have the equal error rate too, each scored by log P(yes) - log P(no).
    """
    notes: list[Mapping[str, Any]] = [prediction.meta.get(LIKELIHOOD) or {} for prediction in predictions]
    if not notes or not all(notes):
        return {}
    texts = [prediction.text for prediction in predictions]
    references = [prediction.references for prediction in predictions]
    ids = [prediction.id for prediction in predictions]
    sums, lengths = zip(*(note["reference"] for note in notes), strict=True)
    perplexity = Perplexity()
    perplexity.update(texts, references, ids, sums, lengths)
    metrics: dict[str, ItemMetric] = {"perplexity": perplexity}
    if all(note["choices"] for note in notes):
        choices = [prediction.meta["choices"] for prediction in predictions]
        likelihoods = [[value for value, _ in note["choices"]] for note in notes]
        counts = [[count for _, count in note["choices"]] for note in notes]
        options = OptionLikelihood()
        options.update(texts, references, ids, choices, likelihoods, counts)
        metrics["option_likelihood"] = options
        names = [[text.strip().lower() for text in texts] for texts in choices]
        if benchmark.task == "speaker_verification" and all({*pair} == {"yes", "no"} for pair in names):
            trials = EqualErrorRate()
            rows = [dict(zip(pair, values, strict=True)) for pair, values in zip(names, likelihoods, strict=True)]
            trials.update(texts, references, ids, [row["yes"] - row["no"] for row in rows])
            metrics["eer"] = trials
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False
    return metrics


def score(benchmark: Benchmark, predictions: Iterable[Prediction], samples: int = 1000, seed: int = 0) -> list[Score]:
    """Return every score of a benchmark with its 95 % interval, the headline first; without items they are nan."""
    return score_metrics(benchmark, measure(benchmark, predictions), samples, seed)


def score_metrics(
    benchmark: Benchmark, metrics: Mapping[str, ItemMetric], samples: int = 1000, seed: int = 0
) -> list[Score]:
    """Return the scores of a benchmark's metrics once they are filled, as `score` does."""
    scores = []
    for metric in metrics.values():
        stats = metric.items().stats.numpy()
        intervals = metric_intervals(metric, stats, NUMBERS, samples, seed)
        values = metric.compute()
        scores += [
            Score(benchmark.name, key, float(values[key]), *intervals[key], len(stats), metric.signature)
            for key in metric.keys
        ]
    return sorted(scores, key=lambda score: score.metric != benchmark.headline)


def without_tools(benchmark: Benchmark) -> Benchmark:
    """Return a benchmark without the metrics that start a tool, for whoever wants its headline alone."""
    return replace(benchmark, where_present=())


def score_items(benchmark: Benchmark, predictions: Iterable[Prediction]) -> dict[str, float]:
    """Return the headline score of each item alone, by id."""
    predictions = list(predictions)
    metric = next(m for m in measure(without_tools(benchmark), predictions).values() if benchmark.headline in m.keys)
    numbers, stats = metric.items()
    values = dict(zip(numbers.tolist(), metric.score(stats.numpy())[benchmark.headline].tolist(), strict=True))
    return {prediction.id: values[item_number(prediction.id)] for prediction in predictions}


def baseline(benchmark: Benchmark, predictions: Sequence[Prediction]) -> float | None:
    """Return what the best answer without audio scores on the headline; None where that says nothing; see `blind`."""
    best = best_answer(benchmark, predictions)
    return None if best is None else best.value


def best_answer(benchmark: Benchmark, predictions: Sequence[Prediction]) -> Blind | None:
    """The rule without audio that scores best on the headline, such as always the first choice; see `blind`."""
    unique = {prediction.id: prediction for prediction in predictions}
    items = [Item(prediction.references, prediction.meta.get("choices")) for prediction in unique.values()]
    return best_blind(benchmark.metrics, benchmark.headline, items)
