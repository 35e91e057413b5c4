"""Benchmarks: the table of them, and how predictions are measured."""

from salmonn_lab.benchmarks.measures import METRICS, NUMBERS, TASKS, Measure, References
from salmonn_lab.benchmarks.scoring import (
    baseline,
    best_answer,
    find,
    measure,
    metrics_for,
    score,
    score_items,
    score_metrics,
    without_tools,
)
from salmonn_lab.benchmarks.table import BENCHMARKS, Benchmark, Published, Reported

__all__ = [
    "BENCHMARKS",
    "METRICS",
    "NUMBERS",
    "TASKS",
    "Benchmark",
    "Measure",
    "Published",
    "References",
    "Reported",
    "baseline",
    "best_answer",
    "find",
    "measure",
    "metrics_for",
    "score",
    "score_items",
    "score_metrics",
    "without_tools",
]
