"""The command that lists the benchmarks, or tells all about one: `python -m salmonn_lab.benchmarks [NAME]`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from salmonn_lab import benchmarks
from salmonn_lab.assets import data_root, find_ready
from salmonn_lab.console import run_command, table
from salmonn_lab.known import check_benchmarks

if TYPE_CHECKING:
    from salmonn_lab.benchmarks import Benchmark

READY, DIFFERS, MISSING = "ready", "count differs", "not prepared"
COLUMNS = ("name", "metric", "state", "items", "published", "licence")

WIDTH = 130
"""Of what goes to a file or another command."""


def count_items(benchmark: Benchmark) -> int | None:
    """Return how many examples a benchmark's manifest has here; None where it is not here."""
    path = find_ready(benchmark.manifest)
    if path is None:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def state_of(benchmark: Benchmark, found: int | None) -> str:
    """Return whether a benchmark can be measured here, and on as many items as were published."""
    if found is None:
        return MISSING
    return DIFFERS if benchmark.count not in (None, found) else READY


def items_of(benchmark: Benchmark, found: int | None) -> str:
    """Return items found of items expected."""
    here = "-" if found is None else f"{found:,}"
    return here if benchmark.count is None else f"{here} of {benchmark.count:,}"


def shown(value: float, metric: str) -> str:
    """Return a score as it is printed: shares as percentages."""
    return f"{value:g}" if metric in benchmarks.NUMBERS else f"{100 * value:.1f} %"


def row_of(benchmark: Benchmark) -> tuple[str, ...]:
    """Return a line of the list."""
    found = count_items(benchmark)
    published = "" if benchmark.published is None else shown(benchmark.published.value, benchmark.headline)
    return (
        benchmark.name,
        benchmark.headline,
        state_of(benchmark, found),
        items_of(benchmark, found),
        published,
        benchmark.licence,
    )


def describe(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Return all that the table says of a benchmark, a name and a text each."""
    found = count_items(benchmark)
    tools = f"; where their tools are: {', '.join(benchmark.where_present)}" if benchmark.where_present else ""
    better = "higher" if benchmark.higher_is_better else "lower"
    lines = [
        ("name", benchmark.name),
        ("task", benchmark.task),
        ("language", benchmark.language or "not named"),
        ("state", f"{state_of(benchmark, found)}, {items_of(benchmark, found)} items"),
        ("manifest", benchmark.manifest),
        ("prompt", (benchmark.prompt or "the run's first prompt for the task").replace("\n", "\\n")),
        ("decoding", ", ".join(f"{key} {value}" for key, value in benchmark.decoding.items())),
        ("metrics", ", ".join(benchmark.metrics) + tools),
        ("headline", f"{benchmark.headline} ({better} is better)"),
    ]
    if benchmark.published:
        value = shown(benchmark.published.value, benchmark.headline)
        lines.append(("published", f"{value}: {benchmark.published.source}"))
    for other in benchmark.reported:
        lines.append(("reported", f"{other.metric} {shown(other.value, other.metric)}: {other.source}"))
    lines += [("licence", benchmark.licence), ("how to get", how_to_get(benchmark))]
    return lines


def how_to_get(benchmark: Benchmark) -> str:
    """Return where the data is, and how it becomes a manifest."""
    corpus, _, split = benchmark.manifest.removeprefix("data:").partition("/")
    if not benchmark.manifest.startswith("data:"):
        return benchmark.how_to_get
    return f"{benchmark.how_to_get}; then python -m salmonn_lab.prepare {corpus} --root DIR --split {split}"


def main() -> None:
    """List the benchmarks, or tell all about those that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.benchmarks",
        description=main.__doc__,
        epilog=f"Prepared manifests are looked for in {data_root()}; SALMONN_LAB_DATA names another folder. Any "
        "manifest is a benchmark too: python -m salmonn_lab.evaluate --run RUN 'benchmarks=[NAME or MANIFEST, ...]'",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="print the whole row: prompt, decoding, sources, ...")
    names = parser.parse_args().names
    check_benchmarks(names)
    output = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    for benchmark in map(benchmarks.find, names):
        for key, text in describe(benchmark):
            output.print(f"{key + ':':12}{text}", soft_wrap=True)
        output.print()
    if not names:
        listing = table(f"Benchmarks; manifests in {data_root()}", COLUMNS, map(row_of, benchmarks.BENCHMARKS.values()))
        for column in listing.columns:
            column.justify = "right" if column.header in ("items", "published") else "left"
            column.no_wrap = column.header != "licence"
        output.print(listing)


if __name__ == "__main__":
    run_command(main)
