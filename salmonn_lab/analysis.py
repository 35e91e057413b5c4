"""What predictions tell beside their score: intervals, failures, slices, errors, and what differs from another run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from salmonn_lab import benchmarks
from salmonn_lab.batch import Example, Prediction, Score
from salmonn_lab.benchmarks import Benchmark, Published
from salmonn_lab.metrics.health import KINDS, RULES, examine, find_words, health
from salmonn_lab.metrics.item import ItemMetric, Statistics, item_number
from salmonn_lab.metrics.statistics import (
    SAME,
    McNemar,
    by_cluster,
    holm,
    mcnemar,
    metric_intervals,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_standard_errors,
    standard_errors,
    swap_test,
    wilson,
)
from salmonn_lab.metrics.timing import Speed, measure_speed
from salmonn_lab.metrics.wer import SPLIT, ErrorRate, Stretch, align

Floats = NDArray[np.float64]
FEW = 30
"""Items below which a slice is shown in grey."""
FEW_CLUSTERS = 20
"""Speakers or recordings below which an interval over them is too narrow."""
EDGES = (2.0, 5.0, 10.0, 20.0)
"""Seconds that divide clips by duration."""
WORST = (1, 5, 10, 20, 50)
"""How many of the worst items the report sums up."""
SHOWN = 15
"""Confusions of each kind."""
FLIPPED = 25
"""Items for each side of a comparison."""
MOST_VALUES = 20
"""Values of a key of the meta beyond which it divides the items into too many slices."""
SPEAKER_KEYS = ("speaker", "client_id", "voice")
"""Keys of the meta that name who speaks."""
ALIGNED = ("transcript", "phones", "translation")
"""Kinds of output whose words stand in the order of the reference's."""
VARIANTS = (
    ("wer", "wer_multilingual", "wer_basic", "wer_lower", "wer_gigaspeech", "wer_gigaspeech_punct"),
    ("cer", "cer_cjk"),
    (
        "multiple_choice",
        "multiple_choice_letter",
        "multiple_choice_text",
        "multiple_choice_first",
        "multiple_choice_mmau",
        "multiple_choice_air_bench",
    ),
)
"""Metrics that differ in normalizer or parser alone."""


@dataclass(frozen=True)
class Interval:
    """A score of some items with its 95 % interval."""

    count: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RuleCount:
    """How many outputs break a rule, its 95 % interval (Wilson), and the headline score without them."""

    rule: str
    version: int
    sees: str
    broken: int
    judged: int
    share: float
    low: float
    high: float
    without: float | None
    """None where no output breaks the rule, or all do."""
    left: int | None
    """What `without` is a score of, in the units of `Result.left_of`."""


@dataclass(frozen=True)
class Worst:
    """How much of the error some items make: what the score would gain were their outputs right, of all it could."""

    items: int
    share: float
    score: float
    """Were these outputs right."""


@dataclass(frozen=True)
class Slice:
    """The items that a key of the manifest divides off."""

    key: str
    name: str
    score: Interval
    few: bool
    """Under 30 items."""


@dataclass(frozen=True)
class Clusters:
    """The interval of the headline score over speakers or recordings, whose items are not independent."""

    key: str
    count: int
    low: float
    high: float
    few: bool
    """Too few for the interval to be wide enough."""


@dataclass(frozen=True)
class Alternative:
    """The headline score under another normalizer or parser."""

    metric: str
    signature: str
    score: Interval


@dataclass(frozen=True)
class Confusion:
    """What stands in the reference and what was written in its place; empty where nothing does."""

    kind: str
    reference: str
    output: str
    count: int


@dataclass(frozen=True)
class Item:
    """One output."""

    id: str
    value: float
    weight: float
    """What the headline score would gain were this output right, as a share of all that it could."""
    prompt: str
    references: tuple[str, ...]
    output: str
    broken: tuple[str, ...]
    """Rules."""
    seconds: float | None
    """Of audio."""
    meta: Mapping[str, str]
    alignment: tuple[tuple[str, str, str], ...] = ()
    """Stretches of `=`, `~` (substituted), `-` (missing) and `+` (added): a sign, then reference and output as the
    metric reads them."""
    audio: str | None = None
    """The key of the clip in the report."""


@dataclass(frozen=True)
class Result:
    """Everything that the report says of a benchmark."""

    benchmark: str
    task: str
    kind: str
    headline: str
    higher_is_better: bool
    plain_numbers: tuple[str, ...]
    """Scores that are not shares."""
    manifest: str
    decoding: Mapping[str, int]
    prompts: tuple[tuple[str, int], ...]
    """The commonest, and how often each was used."""
    count: int
    expected: int | None
    """Items as published; where nobody says, examples of the manifest, if that is there."""
    scores: tuple[Score, ...]
    before: Mapping[str, float]
    """Scores of the untrained model."""
    baseline: float | None
    """What the best answer that ignores the audio scores on the headline."""
    baseline_policy: str | None
    """That answer in words, such as "always the first choice"."""
    ceiling: float
    """The headline score were every output its first reference: what parser and normalizer leave to reach."""
    published: Published | None
    delta: float | None
    """How much higher the headline is than the published value."""
    detectable: float
    """How much another system, unrelated and as scattered, must differ for a test on these items to find it."""
    clusters: Clusters | None
    health: tuple[RuleCount, ...]
    sick: int
    """Outputs that break any rule."""
    without_sick: float | None
    left_sick: int | None
    """What `without_sick` is a score of."""
    left_of: int
    """What the headline score is a score of: the words, characters or phones of its references, else items."""
    unit: str
    """The name of those."""
    edits: Mapping[str, int]
    """Substitutions, deletions and insertions, where the headline is an error rate."""
    worst: tuple[Worst, ...]
    slices: tuple[Slice, ...]
    sensitivity: tuple[Alternative, ...]
    confusions: tuple[Confusion, ...]
    speed: Speed | None
    """Of the items whose length and time are known."""
    items: tuple[Item, ...]
    """Those that cost the most first."""


@dataclass(frozen=True)
class Flip:
    """An item on which two runs differ."""

    id: str
    prompt: str
    references: tuple[str, ...]
    value: float
    other_value: float
    output: str
    other_output: str


@dataclass(frozen=True)
class Comparison:
    """How much higher a run scores than another on the items that both answered."""

    benchmark: str
    metric: str
    higher_is_better: bool
    signature: str
    count: int
    only_here: int
    only_there: int
    """Items that only one of the runs answered, which are left out."""
    value: float
    other_value: float
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_swap: float
    p_holm: float
    """`p_swap` corrected for all benchmarks of the table."""
    mcnemar: McNemar | None
    """Where every item is right or wrong."""
    detectable: float
    better: int
    equal: int
    worse: int
    better_items: tuple[Flip, ...] = field(default=())
    worse_items: tuple[Flip, ...] = field(default=())


class Measured(NamedTuple):
    """A benchmark's predictions, and the rows of its headline metric in their order, which is that of `items`."""

    benchmark: Benchmark
    predictions: list[Prediction]
    metrics: dict[str, ItemMetric]
    metric: ItemMetric
    rows: Statistics
    parsed: list[bool | None]

    def score(self, sums: Statistics) -> dict[str, Statistics]:
        """Return the headline score of summed rows."""
        return {self.benchmark.headline: self.metric.score(sums)[self.benchmark.headline]}

    def values(self, sums: Statistics) -> Floats:
        """Return the headline score of summed rows, bare."""
        return np.asarray(self.score(sums)[self.benchmark.headline], dtype=np.float64)

    def value(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> float:
        """Return the headline score of some items."""
        return float(self.values(self.rows[chosen].sum(axis=0)))

    @property
    def unit(self) -> str:
        """What the headline is a fraction of: "words", "characters", "phones" or "items"."""
        column = self.metric.units(self.benchmark.headline)
        return "items" if column is None else f"{getattr(self.metric, 'unit', 'word')}s"

    def size(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> int:
        """How many of those some items have."""
        column = self.metric.units(self.benchmark.headline)
        rows = self.rows[chosen]
        return len(rows) if column is None else int(rows[:, self.metric.columns.index(column)].sum())

    def interval(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> Interval:
        """Return the headline score of some items with its interval."""
        rows = self.rows[chosen]
        low, high = metric_intervals(self.metric, rows, benchmarks.NUMBERS)[self.benchmark.headline]
        return Interval(len(rows), self.value(chosen), low, high)


def measure(benchmark: Benchmark, predictions: Sequence[Prediction]) -> Measured:
    """Return a benchmark's metrics, filled, beside the predictions, each id once, in the order of the metrics' rows."""
    unique = sorted({prediction.id: prediction for prediction in predictions}.values(), key=place)
    metrics = benchmarks.measure(benchmark, unique)
    metric = next(metric for metric in metrics.values() if benchmark.headline in metric.keys)
    parsed: list[bool | None] = [None] * len(unique)
    for other in metrics.values():
        if "following_rate" in other.keys:
            parsed = [bool(share) for share in other.score(rows_of(other))["following_rate"]]
            break
    return Measured(benchmark, unique, metrics, metric, rows_of(metric), parsed)


def place(prediction: Prediction) -> int:
    """Return what a metric orders its items by."""
    return item_number(prediction.id)


def rows_of(metric: ItemMetric) -> Statistics:
    """Return a metric's rows [items, columns]."""
    rows: Statistics = metric.items().stats.cpu().numpy()
    return rows


def analyze(
    benchmark: Benchmark,
    predictions: Sequence[Prediction],
    examples: Mapping[str, Example],
    before: Mapping[str, float],
) -> Result:
    """Return everything that the report says of a benchmark.

    Args:
        benchmark: how the predictions are judged.
        predictions: at least one.
        examples: the manifest's by id, empty where it is not there; durations and meta come from it.
        before: scores of the untrained model.

    Raises:
        ValueError: there are no predictions.
    """
    if not predictions:
        raise ValueError(f"{benchmark.name}: there are no predictions to report on")
    measured = measure(benchmark, predictions)
    scores = tuple(benchmarks.score_metrics(benchmark, measured.metrics))
    kind = KINDS.get(benchmark.task, "text")
    outputs = [with_meta(prediction, examples.get(prediction.id)) for prediction in measured.predictions]
    judged = [examine(output, kind, parsed) for output, parsed in zip(outputs, measured.parsed, strict=True)]
    alignments = [align_nearest(measured.metric, output) if kind in ALIGNED else [] for output in outputs]
    gold = gold_rows(measured)
    blind = benchmarks.best_answer(benchmark, measured.predictions)
    seconds = [example_seconds(examples.get(output.id)) for output in outputs]
    sick = np.array([any(broken.values()) for broken in judged])
    error = standard_errors(measured.rows, measured.score)[benchmark.headline]
    return Result(
        benchmark=benchmark.name,
        task=benchmark.task,
        kind=kind,
        headline=benchmark.headline,
        higher_is_better=benchmark.higher_is_better,
        plain_numbers=tuple(score.metric for score in scores if score.metric in benchmarks.NUMBERS),
        manifest=benchmark.manifest,
        decoding=benchmark.decoding,
        prompts=tuple(Counter(output.prompt for output in outputs).most_common(3)),
        count=len(outputs),
        expected=benchmark.count or len(examples) or None,
        scores=scores,
        before=before,
        baseline=None if blind is None else blind.value,
        baseline_policy=None if blind is None else blind.policy,
        ceiling=float(measured.values(gold.sum(axis=0))),
        published=benchmark.published,
        delta=scores[0].value - benchmark.published.value if benchmark.published else None,
        detectable=minimum_detectable_difference(math.sqrt(2) * error),
        clusters=cluster_interval(measured, outputs, examples),
        health=rule_counts(measured, judged),
        sick=int(sick.sum()),
        without_sick=measured.value(~sick) if 0 < sick.sum() < len(sick) else None,
        left_sick=measured.size(~sick) if 0 < sick.sum() < len(sick) else None,
        left_of=measured.size(),
        unit=measured.unit,
        edits=edit_counts(measured),
        worst=worst_shares(measured, gold),
        slices=slices(measured, outputs, seconds),
        sensitivity=sensitivity(measured),
        confusions=confusions(measured, kind, alignments),
        speed=speed(outputs, seconds),
        items=items(measured, outputs, judged, gold, seconds, alignments),
    )


def edit_counts(measured: Measured) -> dict[str, int]:
    """Edits of all outputs by kind, nothing where the headline is no error rate."""
    if type(measured.metric) is not ErrorRate:
        return {}
    return {name: int(count) for name, count in zip(ErrorRate.columns[:3], measured.rows.sum(axis=0)[:3], strict=True)}


def with_meta(prediction: Prediction, example: Example | None) -> Prediction:
    """Return a prediction that knows all that the manifest says of its example."""
    return prediction if example is None else replace(prediction, meta={**example.meta, **prediction.meta})


def example_seconds(example: Example | None) -> float | None:
    """Return how long a clip is, where the manifest says so."""
    return None if example is None else example.duration


def gold_rows(measured: Measured) -> Statistics:
    """Return the headline rows that the items would have, were every output its first reference."""
    name = next(name for name, metric in measured.metrics.items() if metric is measured.metric)
    outputs = [replace(prediction, text=prediction.references[0]) for prediction in measured.predictions]
    alone = replace(benchmarks.without_tools(measured.benchmark), metrics=(name,))
    return rows_of(benchmarks.measure(alone, outputs)[name])


def gains(measured: Measured, gold: Statistics) -> Floats:
    """Return for each item what the headline would gain were its output right, as a share of all that it could gain."""
    total = measured.rows.sum(axis=0)
    now, best = measured.values(total), measured.values(gold.sum(axis=0))
    if not abs(best - now) > 0:
        return np.zeros(len(measured.rows))
    return np.asarray((measured.values(total - measured.rows + gold) - now) / (best - now))


def worst_order(measured: Measured, gained: Floats) -> list[int]:
    """Return the places of the items, those that cost the most first, equals by id."""
    ids = [prediction.id for prediction in measured.predictions]
    return sorted(range(len(ids)), key=lambda place: (-round(float(gained[place]), 12), ids[place]))


def worst_shares(measured: Measured, gold: Statistics) -> tuple[Worst, ...]:
    """Return how much of the error the worst items make together, for a few numbers of items."""
    gained = gains(measured, gold)
    order = worst_order(measured, gained)
    faulty = int(np.count_nonzero(gained > SAME))
    if not faulty:
        return ()
    total = measured.rows.sum(axis=0)
    now, best = float(measured.values(total)), float(measured.values(gold.sum(axis=0)))
    mended = measured.values(total + (gold - measured.rows)[order].cumsum(axis=0))
    counts = sorted({count for count in WORST if count < faulty} | {faulty})
    return tuple(
        Worst(count, (float(mended[count - 1]) - now) / (best - now), float(mended[count - 1])) for count in counts
    )


def rule_counts(measured: Measured, judged: Sequence[Mapping[str, bool | None]]) -> tuple[RuleCount, ...]:
    """Return how many outputs break each rule, and what the score is without them."""
    found = []
    for name, count in health(judged).items():
        part = count.broken / count.judged if count.judged else math.nan
        broken = np.array([bool(row[name]) for row in judged])
        some = 0 < count.broken < len(judged)
        without, left = (measured.value(~broken), measured.size(~broken)) if some else (None, None)
        rule = RULES[name]
        found.append(RuleCount(name, rule.version, rule.sees, *count, part, *wilson(*count), without, left))
    return tuple(found)


def cluster_interval(
    measured: Measured, outputs: Sequence[Prediction], examples: Mapping[str, Example]
) -> Clusters | None:
    """Return the interval over speakers, or over clips that several items share; None where items are independent."""
    for key in SPEAKER_KEYS:
        if all(isinstance(output.meta.get(key), str | int) for output in outputs):
            names: list[Any] = [output.meta[key] for output in outputs]
            break
    else:
        if not all(output.id in examples for output in outputs):
            return None
        key, names = "recording", [examples[output.id].audio[0].path for output in outputs]
    count = len(set(names))
    if not 1 < count < len(names):
        return None
    rows = by_cluster(measured.rows, names)
    low, high = metric_intervals(measured.metric, rows, benchmarks.NUMBERS)[measured.benchmark.headline]
    return Clusters(key, count, low, high, count < FEW_CLUSTERS)


def slices(measured: Measured, outputs: Sequence[Prediction], seconds: Sequence[float | None]) -> tuple[Slice, ...]:
    """Return the headline score of the items by duration and by each key of the meta that divides them into a few."""
    divisions: dict[str, list[str | None]] = {"duration": [duration_name(value) for value in seconds]}
    for key in sorted({key for output in outputs for key in output.meta}):
        names = [slice_name(output.meta.get(key)) for output in outputs]
        if 1 < len(set(filter(None, names))) <= MOST_VALUES and 2 * sum(map(bool, names)) >= len(names):
            divisions[key] = names
    found = []
    for key, names in divisions.items():
        present = {name for name in names if name}
        if key == "duration":
            order = [name for edge in (0.0, *EDGES) if (name := duration_name(edge)) in present]
        elif all(map(str.isdecimal, present)):
            order = sorted(sorted(present), key=int)  # 01 and 1 are two names
        else:
            order = sorted(present)
        for name in order:
            chosen = np.array([other == name for other in names])
            if chosen.sum() < len(names):
                found.append(Slice(key, name, measured.interval(chosen), bool(chosen.sum() < FEW)))
    return tuple(found)


def duration_name(seconds: float | None) -> str | None:
    """Return the name of the slice that a clip's length falls into."""
    if seconds is None:
        return None
    above = next((edge for edge in EDGES if seconds < edge), None)
    below = max((edge for edge in (0.0, *EDGES) if edge <= seconds), default=0.0)
    return f"{below:g} s and more" if above is None else f"{below:g} to {above:g} s"


def slice_name(value: Any) -> str | None:
    """Return what a value of the meta is called; None for what does not divide items, such as a list or a fraction."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int) and value != "" else None


def sensitivity(measured: Measured) -> tuple[Alternative, ...]:
    """Return the headline score under the other normalizers or parsers that there are for its metric."""
    name = next(name for name, metric in measured.metrics.items() if metric is measured.metric)
    family = next((family for family in VARIANTS if name in family), ())
    found = []
    for other in family:
        if other in benchmarks.METRICS:
            alone = replace(benchmarks.without_tools(measured.benchmark), metrics=(other,))
            try:
                variant = measured if other == name else measure(alone, measured.predictions)
            except ValueError:  # an official rule measures what others refuse, such as a choice that is offered twice
                continue
            found.append(Alternative(other, variant.metric.signature, variant.interval()))
    return tuple(found) if len(found) > 1 else ()


def units(metric: ItemMetric, text: str) -> list[str]:
    """Return what the metric aligns: words, or characters where it counts those, as it reads them."""
    normalizer: Callable[[str], str] | None = getattr(metric, "normalizer", None)
    return find_words(text) if normalizer is None else SPLIT[getattr(metric, "unit", "word")](normalizer(text))


def align_nearest(metric: ItemMetric, prediction: Prediction) -> list[Stretch]:
    """Return the alignment of an output with the nearest reference, in the metric's units."""
    written = units(metric, prediction.text)
    wanted = min(
        (units(metric, reference) for reference in prediction.references),
        key=lambda words: Levenshtein.distance(words, written),
    )
    return align(wanted, written)


def confusions(measured: Measured, kind: str, alignments: Sequence[Sequence[Stretch]]) -> tuple[Confusion, ...]:
    """Return the commonest confusions: of words where outputs are aligned, else of whole answers."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for sign, wanted, written in chain.from_iterable(alignments):
        if sign == "~":
            counts.update(("substitution", *pair) for pair in zip(wanted, written, strict=True))
        elif sign == "-":
            counts.update(("deletion", word, "") for word in wanted)
        elif sign == "+":
            counts.update(("insertion", "", word) for word in written)
    if kind == "answer":
        best = 1.0 if measured.benchmark.higher_is_better else 0.0
        for prediction, value in zip(measured.predictions, measured.values(measured.rows), strict=True):
            if value != best:
                texts = (prediction.references[0], prediction.text)
                words = [" ".join(find_words(text)) for text in texts]
                counts["answer", words[0], words[1]] += 1
    found = []
    for name in ("substitution", "deletion", "insertion", "answer"):
        ranked = sorted(
            ((count, key) for key, count in counts.items() if key[0] == name), key=lambda row: (-row[0], row[1])
        )
        found += [Confusion(*key, count) for count, key in ranked[:SHOWN]]
    return tuple(found)


def speed(outputs: Sequence[Prediction], seconds: Sequence[float | None]) -> Speed | None:
    """Return how fast outputs came, where predictions record it and durations are known."""
    pairs = [
        (audio, work)
        for output, audio in zip(outputs, seconds, strict=True)
        if audio and (work := output.generation.seconds)
    ]
    return measure_speed(*zip(*pairs, strict=True)) if pairs else None


def items(
    measured: Measured,
    outputs: Sequence[Prediction],
    judged: Sequence[Mapping[str, bool | None]],
    gold: Statistics,
    seconds: Sequence[float | None],
    alignments: Sequence[Sequence[Stretch]],
) -> tuple[Item, ...]:
    """Return every output, those that cost the most first."""
    gained, values = gains(measured, gold), measured.values(measured.rows)
    joint = "" if getattr(measured.metric, "unit", "") == "character" else " "
    found = []
    for place in worst_order(measured, gained):
        output = outputs[place]
        steps = alignments[place]
        faulty = any(sign != "=" for sign, _, _ in steps)
        found.append(
            Item(
                output.id,
                float(values[place]),
                max(float(gained[place]), 0.0),
                output.prompt,
                output.references,
                output.text,
                tuple(name for name, broken in judged[place].items() if broken),
                seconds[place],
                {key: name for key, value in sorted(output.meta.items()) if (name := slice_name(value))},
                tuple((sign, joint.join(wanted), joint.join(written)) for sign, wanted, written in steps if faulty),
            )
        )
    return tuple(found)


def compare(benchmark: Benchmark, here: Sequence[Prediction], there: Sequence[Prediction]) -> Comparison:
    """Return how much higher the first predictions score, on the items that both hold; `p_holm` is still `p_swap`.

    Raises:
        ValueError: they have no item in common, or hold different references for one.
    """
    ours, theirs = ({prediction.id: prediction for prediction in predictions} for predictions in (here, there))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError(f"{benchmark.name}: the two runs have no item in common")
    for id in shared:
        if ours[id].references != theirs[id].references:
            raise ValueError(f"{benchmark.name}: item '{id}' has other references in the other run")
    a, b = (
        measure(benchmarks.without_tools(benchmark), [predictions[id] for id in shared])
        for predictions in (ours, theirs)
    )
    headline, sign = benchmark.headline, 1 if benchmark.higher_is_better else -1
    difference = paired_bootstrap(a.rows, b.rows, a.score)[headline]
    p_swap = swap_test(a.rows, b.rows, a.score)[headline]
    values, others = a.values(a.rows), b.values(b.rows)
    ahead = sign * (values - others)
    right = np.stack([values, others]) == 1
    decided = np.isin(values, (0, 1)).all() and np.isin(others, (0, 1)).all() and benchmark.higher_is_better
    order = sorted(range(len(shared)), key=lambda place: (-abs(ahead[place]), a.predictions[place].id))
    flips = {
        place: flip(a.predictions[place], b.predictions[place], float(values[place]), float(others[place]))
        for place in order
    }
    return Comparison(
        benchmark=benchmark.name,
        metric=headline,
        higher_is_better=benchmark.higher_is_better,
        signature=a.metric.signature,
        count=len(shared),
        only_here=len(ours) - len(shared),
        only_there=len(theirs) - len(shared),
        value=a.value(),
        other_value=b.value(),
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p_bootstrap=difference.p,
        p_swap=p_swap,
        p_holm=p_swap,
        mcnemar=mcnemar(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())) if decided else None,
        detectable=minimum_detectable_difference(paired_standard_errors(a.rows, b.rows, a.score)[headline]),
        better=int((ahead > 0).sum()),
        equal=int((ahead == 0).sum()),
        worse=int((ahead < 0).sum()),
        better_items=tuple([flips[place] for place in order if ahead[place] > 0][:FLIPPED]),
        worse_items=tuple([flips[place] for place in order if ahead[place] < 0][:FLIPPED]),
    )


def flip(ours: Prediction, theirs: Prediction, value: float, other_value: float) -> Flip:
    """Return an item as both runs answered it."""
    return Flip(ours.id, ours.prompt, ours.references, value, other_value, ours.text, theirs.text)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons whose p-values account for there being several."""
    p_values = holm([comparison.p_swap for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, p_values, strict=True)]
