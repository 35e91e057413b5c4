"""The table of benchmarks: what is measured on which manifest, and how."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salmonn_lab.batch import Prediction, Score
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.metrics.answer import ContainsAnswer, ExactMatch, KeywordMatch, TokenF1, constant_baseline
from salmonn_lab.metrics.caption import CaptionBleu, CaptionOverlap, RougeL
from salmonn_lab.metrics.choice import Accuracy, ChoiceMetric, LabelAccuracy, MultipleChoice
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric, item_number
from salmonn_lab.metrics.java import Meteor, Spice, Spider
from salmonn_lab.metrics.open_ended import Diversity, FollowingRate
from salmonn_lab.metrics.slots import SluF1
from salmonn_lab.metrics.statistics import bootstrap
from salmonn_lab.metrics.translation import Bleu, Chrf
from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate

References = Mapping[str, Sequence[str]]
"""The references of every item of a test set, by id."""

METRICS: dict[str, Callable[[References], ItemMetric]] = {
    "wer": lambda references: ErrorRate("word"),
    "wer_basic": lambda references: ErrorRate("word", "whisper_basic"),
    "wer_gigaspeech": lambda references: ErrorRate("word", "gigaspeech"),
    "wer_lower": lambda references: ErrorRate("word", "lower_punct"),
    "match_rate": lambda references: MatchRate("word"),
    "cer": lambda references: ErrorRate("character", "whisper_basic"),
    "cer_cjk": lambda references: ErrorRate("character", "cjk"),
    "per": lambda references: ErrorRate("phone"),
    "cpwer": lambda references: PermutedErrorRate(),
    "bleu": lambda references: Bleu("13a", references_per_item=references_per_item(references)),
    "bleu_zh": lambda references: Bleu("zh", references_per_item=references_per_item(references)),
    "bleu_ja": lambda references: Bleu("ja-mecab", references_per_item=references_per_item(references)),
    "chrf": lambda references: Chrf(references_per_item=references_per_item(references)),
    "exact_match": lambda references: ExactMatch(),
    "token_f1": lambda references: TokenF1(),
    "contains_answer": lambda references: ContainsAnswer(),
    "accuracy": lambda references: Accuracy(labels_of(references)),
    "label_accuracy": lambda references: LabelAccuracy(labels_of(references)),
    "multiple_choice": lambda references: MultipleChoice("letter_or_text"),
    "multiple_choice_letter": lambda references: MultipleChoice("letter"),
    "multiple_choice_text": lambda references: MultipleChoice("text"),
    "multiple_choice_first": lambda references: MultipleChoice("first"),
    "multiple_choice_mmau": lambda references: MultipleChoice("mmau"),
    "multiple_choice_air_bench": lambda references: MultipleChoice("air_bench"),
    "caption_overlap": lambda references: CaptionOverlap(),
    "rouge_l_coco": lambda references: RougeL("coco"),
    "rouge_l_google": lambda references: RougeL("google"),
    "caption_bleu": lambda references: CaptionBleu(),
    "cider_d": CiderD,
    "meteor": lambda references: Meteor(),
    "spice": lambda references: Spice(),
    "spider": lambda references: Spider(CiderD(references)),
    "keywords": lambda references: KeywordMatch(),
    "slu_f1": lambda references: SluF1(),
    "diversity": lambda references: Diversity(),
    "following_story": lambda references: FollowingRate("story"),
    "following_answer": lambda references: FollowingRate("answer"),
    "following_keywords": lambda references: FollowingRate("keywords"),
}
"""Makes each metric, given the references of the test set.

What needs more than texts is built where that is at hand: option likelihoods and the equal error rate (a model's
scores), sentence similarity (an encoder), ratings (a judge).
"""


NUMBERS = frozenset(("cider_d", "spice", "spider", "judge_rating", "mean_unique_words", "mean_words", "keywords_given"))
"""Scores that are no shares, and are not shown as percentages."""


def labels_of(references: References) -> set[str]:
    """Return the answers that are allowed where an item brings no choices of its own: all the references."""
    return {text for texts in references.values() for text in texts}


def references_per_item(references: References) -> int | None:
    """Return how many references every item has, None where that varies, 1 where there are no items."""
    counts = {len(texts) for texts in references.values()} or {1}
    return counts.pop() if len(counts) == 1 else None


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
OVERLAP = Measure(("caption_overlap",), "rouge_l_coco", higher_is_better=True)
CAPTION = Measure(("caption_overlap", "cider_d", "caption_bleu"), "rouge_l_coco", higher_is_better=True)
FREE_ANSWER = Measure(("contains_answer", "token_f1", "exact_match"), "contains_answer", higher_is_better=True)
"""SALMONN had another model judge these; holding a reference is the strictest rule that needs none."""

TASKS: dict[str, Measure] = {
    "asr": TRANSCRIPT,
    "lyrics_recognition": TRANSCRIPT,
    "asr_de": Measure(("wer_basic",), "wer", higher_is_better=False),
    "asr_zh": Measure(("cer",), "cer", higher_is_better=False),
    "phone_recognition": Measure(("per",), "per", higher_is_better=False),
    "speech_separation": Measure(("cpwer",), "cpwer", higher_is_better=False),
    "translation_ec": Measure(("bleu_zh", "chrf"), "bleu", higher_is_better=True),
    "translation_en2de": Measure(("bleu", "chrf"), "bleu", higher_is_better=True),
    "translation_en2ja": Measure(("bleu_ja", "chrf"), "bleu", higher_is_better=True),
    **dict.fromkeys(("sound_label", "emotion_recognition", "gender_recognition", "speaker_verification"), ANSWER),
    **dict.fromkeys(("QA", "audio_QA", "spoken_QA", "inference_QA", "gender_QA"), ANSWER),
    **dict.fromkeys(("audiocaption", "audiocaption_v2", "music_description", "audio_speech_description"), CAPTION),
    "keywords": Measure(("keywords", "following_keywords"), "keyword_precision", higher_is_better=True),
    **dict.fromkeys(("slot_filling", "speech_query"), FREE_ANSWER),
    "audio_story_telling": Measure(("diversity", "following_story"), "mean_unique_words", higher_is_better=True),
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
    name: str,
    task: str,
    manifest: str,
    max_new_tokens: int,
    measure: Measure | None = None,
    *,
    licence: str,
    how_to_get: str,
) -> tuple[str, Benchmark]:
    """Return a row that is judged as its task is, or as `measure` says, and decoded greedily."""
    measure = measure or TASKS[task]
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


QUICKSTART: dict[str, Any] = {
    "licence": "Apache-2.0 (speech), GPL-2 (sound bank), MIT (birds)",
    "how_to_get": "python -m salmonn_lab.assets quickstart",
}
ASTERISK: dict[str, Any] = {
    "licence": "CC BY-SA 3.0",
    "how_to_get": "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav, or unpack both with dpkg -x "
    "and let SALMONN_LAB_ASTERISK name the folder",
}

BENCHMARKS: dict[str, Benchmark] = dict(
    (
        row("quickstart_commands", "asr", "asset:quickstart/commands_test.jsonl", 24, **QUICKSTART),
        row("quickstart_open", "asr", "asset:quickstart/open_test.jsonl", 24, **QUICKSTART),
        row("quickstart_sounds", "sound_label", "asset:quickstart/sounds_test.jsonl", 12, **QUICKSTART),
        row("quickstart_captions", "audiocaption", "asset:quickstart/captions_test.jsonl", 24, OVERLAP, **QUICKSTART),
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


def metrics_for(benchmark: Benchmark, references: References | None = None) -> dict[str, ItemMetric]:
    """Return a benchmark's metrics, empty, by name.

    Args:
        benchmark: a row of the table.
        references: of every item of the test set.
    """
    return {name: METRICS[name](references or {}) for name in benchmark.metrics}


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
