"""Finding a benchmark, and measuring predictions as its row says."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from salmonn_lab.assets import resolve
from salmonn_lab.batch import LIKELIHOOD, Prediction, Score
from salmonn_lab.benchmarks.measures import METRICS, TASKS, References
from salmonn_lab.benchmarks.table import BENCHMARKS, Benchmark
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.metrics.answer import constant_baseline
from salmonn_lab.metrics.choice import ChoiceMetric, OptionLikelihood
from salmonn_lab.metrics.item import ItemMetric, item_number
from salmonn_lab.metrics.likelihood import Perplexity
from salmonn_lab.metrics.statistics import bootstrap, bootstrap_rows
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
    tasks = sorted(read_manifest(path).column("task").unique().to_pylist())
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"{path}: there is no metric yet for task '{task}'; there are for {', '.join(TASKS)}")
    measure = TASKS[tasks[0]]
    if any(TASKS[task] != measure for task in tasks):
        raise ValueError(f"{path}: tasks {', '.join(tasks)} are not measured alike; give each a manifest of its own")
    return Benchmark(path.stem, tasks[0], reference, measure.metrics, measure.headline, measure.higher_is_better)


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
        if benchmark.task == "speaker_verification" and all({*names} == {"yes", "no"} for names in choices):
            trials = EqualErrorRate()
            rows = [dict(zip(names, values, strict=True)) for names, values in zip(choices, likelihoods, strict=True)]
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
        intervals = (
            bootstrap(stats, metric.score, samples, seed)
            if metric.summable
            else bootstrap_rows(stats, metric.score_rows, samples, seed)
        )
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
    """Return what the best constant answer scores on the headline; None where that says nothing, as for transcripts."""
    references = list({prediction.id: prediction.references for prediction in predictions}.values())
    if benchmark.headline not in ("accuracy", "weighted_accuracy", "exact_match") or not references:
        return None
    return constant_baseline(references).accuracy
