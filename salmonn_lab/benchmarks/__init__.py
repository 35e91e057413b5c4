"""Benchmarks: the table of them, and how predictions are measured."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
HOMES = ("table", "measures", "scoring")


def __getattr__(name: str) -> Any:
    """Import a name where it is asked for: to read the command line of this package takes no metric."""
    if name in __all__:
        for home in HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
