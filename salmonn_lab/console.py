"""The terminal: one rich console on standard error, and the progress bars and tables of the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
"""Messages and progress go to standard error; standard output is left to results."""
MENDABLE = (ValueError, OSError, FloatingPointError)
"""Errors that say what a user can change."""


def progress(*, bar_width: int = 40) -> Progress:
    """Progress display with count, elapsed and remaining time, to be used as a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table of strings for printing; the first column is left-aligned, the others right-aligned."""
    result = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        result.add_row(*row)
    return result


def run_command(command: Callable[[], None]) -> None:
    """Run a command's main; what the user can mend ends it with one line on standard error and exit code 2.

    `SALMONN_LAB_TRACEBACK=1` in the environment shows where an error comes from instead.
    """
    try:
        command()
    except MENDABLE as error:
        if os.environ.get("SALMONN_LAB_TRACEBACK"):
            raise
        console.print(f"[bold red]error:[/] {escape(' '.join(str(error).split()))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
