"""What a run achieved: results as JSON, as a table for the terminal, and as a page to read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from salmonn_lab import benchmarks, console
from salmonn_lab.batch import Prediction, Score
from salmonn_lab.benchmarks import Benchmark, Published
from salmonn_lab.metrics.health import HEALTH_VERSION, RULES, health
from salmonn_lab.predictions import write_atomically

COLUMNS = ("benchmark", "metric", "before training", "after training", "95 % interval", "n", "baseline or published")
WORST = 5
LONGEST_CELL = 300
"""Characters of a reference or an output that the page shows."""


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
    """What the best constant answer scores on the headline."""
    published: Published | None = None
    skipped: str | None = None
    """The reason."""

    def __post_init__(self) -> None:
        signatures = {score.metric: score.signature for score in self.before or ()}
        for score in self.after or ():
            before = signatures.get(score.metric, score.signature)
            if before != score.signature:
                raise ValueError(
                    f"{self.benchmark}: {score.metric} before and after do not compare: {before} and {score.signature}"
                )

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

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and math.isnan(value) else value

        return {key: plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BenchmarkResult:
        """Return the result that `to_json` was called on."""

        def scores(rows: list[dict[str, Any]] | None) -> list[Score] | None:
            if rows is None:
                return None
            return [Score(**row | {key: number(row[key]) for key in ("value", "low", "high")}) for row in rows]

        def number(value: float | None) -> float:
            return math.nan if value is None else value

        worst = [
            WorstItem(item["id"], number(item["value"]), tuple(item["references"]), item["output"])
            for item in record["worst"]
        ]
        return cls(
            **{
                **record,
                "before": scores(record["before"]),
                "after": scores(record["after"]),
                "worst": tuple(worst),
                "published": record["published"] and Published(**record["published"]),
            }
        )


def measure(benchmark: Benchmark, predictions: Sequence[Prediction]) -> BenchmarkResult:
    """Return everything that the report says of a benchmark's predictions."""
    unique = list({prediction.id: prediction for prediction in predictions}.values())
    return BenchmarkResult(
        benchmark.name,
        after=benchmarks.score(benchmark, predictions),
        health=health(unique),
        worst=worst_items(benchmark, unique),
        baseline=benchmarks.baseline(benchmark, unique),
        published=benchmark.published,
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
    records = [result.to_json() for result in results]
    write_atomically(path, json.dumps(records, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_scores(path: Path) -> list[BenchmarkResult]:
    """Read what `write_scores` wrote.

    Raises:
        ValueError: if the file holds anything else.
        FileNotFoundError: there is no such file.
    """
    try:
        return [BenchmarkResult.from_json(record) for record in json.loads(path.read_text(encoding="utf-8"))]
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of scores: {error!r}") from None


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
            interval = f"{percent(shown.low)} to {percent(shown.high)}"
            values = [percent(scores[metric].value) if metric in scores else "" for scores in (before, after)]
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
    constant = "" if result.baseline is None else f"constant answer {percent(result.baseline)}"
    source = result.published
    published = "" if source is None else f"published {percent(source.value)} ({source.source})"
    return ", ".join(filter(None, (constant, published)))


def percent(value: float) -> str:
    """Return a share as it is printed."""
    return "nan" if math.isnan(value) else f"{100 * value:.1f} %"


def summary_table(results: Iterable[BenchmarkResult]) -> Table:
    """Return the scores as a table for the terminal."""
    rows = [[escape(cell) for cell in row] for row in score_rows(results)]
    return console.table("Results", COLUMNS, rows)


def write_report(folder: Path, results: Sequence[BenchmarkResult], provenance: Mapping[str, str]) -> Path:
    """Write `report.md` into a folder.

    Args:
        folder: of the run.
        results: as in its scores.json; nothing else goes into the numbers of the page.
        provenance: what the run was made from, a line each.
    """
    measured = [result for result in results if result.after or result.before]
    parts = [
        "# Results",
        table(COLUMNS, score_rows(results)),
        "The interval is that of the model after training, or else before: a percentile bootstrap over the items.",
        *health_strip(result for result in measured if result.health),
        *[part for result in measured if result.worst for part in worst_section(result)],
        *skipped_section(result for result in results if result.skipped is not None),
        *signature_section(measured),
        "## Provenance",
        "\n".join(f"- {plain(key)}: {plain(value)}" for key, value in provenance.items()) or "Not recorded.",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.md"
    write_atomically(path, "\n\n".join(parts) + "\n")
    return path


def health_strip(results: Iterable[BenchmarkResult]) -> list[str]:
    """Return the section that counts outputs that went wrong."""
    rows = []
    for result in results:
        count = (result.after or result.before or [])[0].count
        cells = [f"{number} ({percent(number / count)})" if count else "0" for number in result.health.values()]
        rows.append((result.benchmark, *cells, str(count)))
    if not rows:
        return []
    rules = f"Outputs that break a rule (rules@{HEALTH_VERSION}); an output may break several."
    return ["## Health", rules, table(("benchmark", *RULES, "n"), rows)]


def worst_section(result: BenchmarkResult) -> list[str]:
    """Return the section that shows a benchmark's worst items."""
    headline = (result.after or result.before or [])[0].metric
    rows = [
        (item.id, percent(item.value), " / ".join(item.references), item.output or "(empty)") for item in result.worst
    ]
    return [f"## Worst items of {plain(result.benchmark)}", table(("id", headline, "reference", "output"), rows)]


def skipped_section(results: Iterable[BenchmarkResult]) -> list[str]:
    """Return the section that says what was not measured, and why."""
    lines = [f"- {plain(result.benchmark)}: {plain(result.skipped or '')}" for result in results]
    return ["## Skipped", "\n".join(lines)] if lines else []


def signature_section(results: Iterable[BenchmarkResult]) -> list[str]:
    """Return the section that says how each score was made."""
    scores = [score for result in results for score in result.after or result.before or ()]
    lines = [f"- {plain(score.benchmark)} {plain(score.metric)}: `{score.signature}`" for score in scores]
    return ["## Signatures", "Only equal signatures compare.", "\n".join(lines)] if lines else []


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right-aligned unless they are texts."""
    texts = {"metric", "reference", "output", "baseline or published"}
    ruler = ["---" if index == 0 or column in texts else "---:" for index, column in enumerate(columns)]
    lines = [columns, ruler, *[[plain(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line, cut where it is very long."""
    short = text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
    return re.sub(r"([\\`*_\[\]<>|~&#$])", r"\\\1", " ".join(short.split()))
