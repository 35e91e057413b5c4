"""The terminal: one rich console on standard error, and the progress bars and tables of the commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import psutil
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from salmonn_lab.signals import ENDINGS, stops

console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
"""Messages and progress go to standard error; standard output is left to results."""
MENDABLE = (ValueError, OSError, FloatingPointError)
"""Errors that say what a user can change."""
CHILDREN_SECONDS = 3.0
"""How long a process has to end when the command that started it is stopped."""


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


def run_command(command: Callable[[], None], goes_on: str = "") -> None:
    """Run a command's main; what the user can mend ends it with one line on standard error and exit code 2.

    Ctrl-C ends it with one line and exit code 130, SIGTERM with 143, a closed terminal with 129, its processes with it.
    `SALMONN_LAB_TRACEBACK=1` in the environment shows where an error comes from instead.

    Args:
        command: the main.
        goes_on: how a command that was stopped goes on from there, for that line.
    """
    with stops:
        try:
            command()
        except BaseException as error:
            if (number := stopped_by(error)) is not None:
                end_children()
                if getattr(rank_zero_only, "rank", 0) == 0:
                    console.print("; ".join(filter(None, (ENDINGS[number], goes_on))), soft_wrap=True)
                sys.exit(128 + number)
            if not isinstance(error, MENDABLE) or os.environ.get("SALMONN_LAB_TRACEBACK"):
                raise
            console.print(f"[bold red]error:[/] {escape(' '.join(str(error).split()))}", soft_wrap=True)
            sys.exit(2)


def stopped_by(error: BaseException) -> signal.Signals | None:
    """Signal that is behind an error: Lightning turns it into exit code 1, a loader into the loss of its workers."""
    if stops.received is not None:
        return stops.received
    interrupted = isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    )
    return signal.SIGINT if interrupted else None


def end_children() -> None:
    """End the processes that this one has started, as those of other devices; those that stay are killed."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, timeout=CHILDREN_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            child.kill()
