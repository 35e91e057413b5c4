"""The table of benchmarks: what is measured on which manifest, and how."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from salmonn_lab.batch import Prediction, Score
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.metrics.answer import Accuracy, ExactMatch, constant_baseline
from salmonn_lab.metrics.caption import CaptionOverlap
from salmonn_lab.metrics.item import ItemMetric, item_number
from salmonn_lab.metrics.statistics import bootstrap
from salmonn_lab.metrics.wer import ErrorRate

METRICS: dict[str, Callable[[Collection[str]], ItemMetric]] = {
    "wer": lambda labels: ErrorRate("word"),
    "wer_basic": lambda labels: ErrorRate("word", "whisper_basic"),
    "cer": lambda labels: ErrorRate("character", "whisper_basic"),
    "exact_match": lambda labels: ExactMatch(),
    "accuracy": lambda labels: Accuracy(labels),
    "caption_overlap": lambda labels: CaptionOverlap(),
}
"""Makes each metric, given the answers that a benchmark's references allow."""


@dataclass(frozen=True)
class Published:
    """A score that somebody else reported for SALMONN."""

    value: float
    source: str


@dataclass(frozen=True)
class Measure:
    """How the outputs of a kind of task are judged."""

    metrics: tuple[str, ...]
    """Names in `METRICS`."""
    headline: str
    """The key of the score that is shown first."""
    higher_is_better: bool


TRANSCRIPT = Measure(("wer",), "wer", higher_is_better=False)
ANSWER = Measure(("accuracy", "exact_match"), "accuracy", higher_is_better=True)
CAPTION = Measure(("caption_overlap",), "rouge_l_coco", higher_is_better=True)

TASKS: dict[str, Measure] = {
    "asr": TRANSCRIPT,
    "lyrics_recognition": TRANSCRIPT,
    "asr_de": Measure(("wer_basic",), "wer", higher_is_better=False),
    "asr_zh": Measure(("cer",), "cer", higher_is_better=False),
    **dict.fromkeys(("sound_label", "emotion_recognition", "gender_recognition", "speaker_verification"), ANSWER),
    **dict.fromkeys(("QA", "audio_QA", "spoken_QA", "inference_QA", "gender_QA"), ANSWER),
    **dict.fromkeys(("audiocaption", "audiocaption_v2", "music_description"), CAPTION),
}
"""How the tasks are judged; a task that is not here has no metric yet."""


@dataclass(frozen=True)
class Benchmark:
    """One row of the table."""

    name: str
    task: str
    manifest: str
    """A path, or `asset:NAME/FILE`, which the commands resolve."""
    metrics: tuple[str, ...]
    """Names in `METRICS`."""
    headline: str
    """The key of the score that is shown first."""
    higher_is_better: bool
    """Of the headline."""
    decoding: Mapping[str, int] = field(default_factory=lambda: {"max_new_tokens": 200, "num_beams": 4})
    """Keys of `DecodingConfig`; the default is the paper's."""
    published: Published | None = None
    licence: str = ""
    how_to_get: str = ""


def row(
    name: str, task: str, manifest: str, max_new_tokens: int, *, licence: str, how_to_get: str
) -> tuple[str, Benchmark]:
    """Return a row that is judged as its task is, and decoded greedily."""
    measure = TASKS[task]
    benchmark = Benchmark(
        name,
        task,
        manifest,
        measure.metrics,
        measure.headline,
        measure.higher_is_better,
        decoding={"max_new_tokens": max_new_tokens, "num_beams": 1},
        licence=licence,
        how_to_get=how_to_get,
    )
    return name, benchmark


QUICKSTART = {
    "licence": "Apache-2.0 (speech), GPL-2 (sound bank), MIT (birds)",
    "how_to_get": "python -m salmonn_lab.assets quickstart",
}
ASTERISK = {
    "licence": "CC BY-SA 3.0",
    "how_to_get": "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav, or unpack both with dpkg -x "
    "and let SALMONN_LAB_ASTERISK name the folder",
}

BENCHMARKS: dict[str, Benchmark] = dict(
    (
        row("quickstart_commands", "asr", "asset:quickstart/commands_test.jsonl", 24, **QUICKSTART),
        row("quickstart_open", "asr", "asset:quickstart/open_test.jsonl", 24, **QUICKSTART),
        row("quickstart_sounds", "sound_label", "asset:quickstart/sounds_test.jsonl", 12, **QUICKSTART),
        row("quickstart_captions", "audiocaption", "asset:quickstart/captions_test.jsonl", 24, **QUICKSTART),
        row("quickstart_questions", "QA", "asset:quickstart/questions_test.jsonl", 12, **QUICKSTART),
        row("asterisk", "asr", "asset:asterisk/asterisk_all.jsonl", 128, **ASTERISK),
        row("asterisk_test", "asr", "asset:asterisk/asterisk_test.jsonl", 80, **ASTERISK),
    )
)


def find(name_or_path: str | Path) -> Benchmark:
    """Return a benchmark of the table, or one made of a manifest, judged as the tasks in it are.

    Raises:
        ValueError: there is neither; or the manifest's tasks have no metric, or not the same ones; or its file is named
            as a benchmark of the table.
    """
    name = str(name_or_path)
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name)
    if path.suffix in (".json", ".jsonl") or path.is_file():
        return from_manifest(path)
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"no benchmark or manifest '{name}'; there are {', '.join(BENCHMARKS)}.{hint}")


def from_manifest(path: Path) -> Benchmark:
    """Return the benchmark that a manifest makes, named as its file."""
    if path.stem in BENCHMARKS:
        raise ValueError(f"{path}: '{path.stem}' is a benchmark of the table; give the manifest another name")
    tasks = sorted(read_manifest(path).column("task").unique().to_pylist())
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"{path}: there is no metric yet for task '{task}'; there are for {', '.join(TASKS)}")
    measure = TASKS[tasks[0]]
    if any(TASKS[task] != measure for task in tasks):
        raise ValueError(f"{path}: tasks {', '.join(tasks)} are not measured alike; give each a manifest of its own")
    return Benchmark(path.stem, tasks[0], str(path), measure.metrics, measure.headline, measure.higher_is_better)


def metrics_for(benchmark: Benchmark, labels: Collection[str] = ()) -> dict[str, ItemMetric]:
    """Return a benchmark's metrics, empty, by name.

    Args:
        benchmark: a row of the table.
        labels: the answers that are allowed where an item brings no choices of its own: all the references.
    """
    return {name: METRICS[name](labels) for name in benchmark.metrics}


def measure(benchmark: Benchmark, predictions: Iterable[Prediction]) -> dict[str, ItemMetric]:
    """Return a benchmark's metrics, filled.

    Accuracy reads an item's choices from `choices` in its meta; without them, any answer of the test set may be chosen.
    """
    predictions = list(predictions)
    metrics = metrics_for(benchmark, {text for prediction in predictions for text in prediction.references})
    texts = [prediction.text for prediction in predictions]
    references = [prediction.references for prediction in predictions]
    ids = [prediction.id for prediction in predictions]
    for metric in metrics.values():
        if isinstance(metric, Accuracy):
            metric.update(texts, references, ids, [prediction.meta.get("choices") for prediction in predictions])
        else:
            metric.update(texts, references, ids)
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
        intervals = bootstrap(stats, metric.score, samples, seed)
        values = metric.compute()
        scores += [
            Score(benchmark.name, key, float(values[key]), *intervals[key], len(stats), metric.signature)
            for key in metric.keys
        ]
    return sorted(scores, key=lambda score: score.metric != benchmark.headline)


def score_items(benchmark: Benchmark, predictions: Iterable[Prediction]) -> dict[str, float]:
    """Return the headline score of each item alone, by id."""
    predictions = list(predictions)
    metric = next(m for m in measure(benchmark, predictions).values() if benchmark.headline in m.keys)
    numbers, stats = metric.items()
    values = dict(zip(numbers.tolist(), metric.score(stats.numpy())[benchmark.headline].tolist(), strict=True))
    return {prediction.id: values[item_number(prediction.id)] for prediction in predictions}


def baseline(benchmark: Benchmark, predictions: Sequence[Prediction]) -> float | None:
    """Return what the best constant answer scores on the headline; None where that says nothing, as for transcripts."""
    references = list({prediction.id: prediction.references for prediction in predictions}.values())
    if benchmark.headline not in ("accuracy", "exact_match") or not references:
        return None
    return constant_baseline(references).accuracy
