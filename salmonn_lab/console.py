"""The terminal: one rich console on standard error, and the progress bars and tables of the commands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True, highlight=False)
"""Messages and progress go to standard error; standard output is left to results."""


def progress() -> Progress:
    """Return a progress display with count, elapsed and remaining time; use it as a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
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


class StepLines(Callback):
    """Prints a line now and then where no terminal can draw a progress bar."""

    def __init__(self, name: str, every_seconds: float = 15.0) -> None:
        self.name, self.every_seconds = name, every_seconds
        self.started = self.printed = time.monotonic()
        self.first: int | None = None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Print step, loss and the time that is left."""
        done, total = trainer.global_step, trainer.max_steps
        values = {key: float(value) for key, value in trainer.progress_bar_metrics.items()}
        self._line(done, total, "  ".join(f"{key} {value:.3f}" for key, value in values.items()))

    def on_predict_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Print how many batches are done."""
        self._line(batch_idx + 1, int(sum(trainer.num_predict_batches)), "")

    def _line(self, done: int, total: int, values: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
        if now - self.printed < self.every_seconds and done != total:
            return
        self.printed = now
        share = f"{done}/{total}" if total > 0 else str(done)
        left = ""
        if total > done > self.first:
            left = f"  {(now - self.started) / (done - self.first) * (total - done):.0f} s left"
        console.print(f"{self.name} {share}  {values}{left}")


def progress_callbacks(name: str) -> list[Callback]:
    """Return Lightning's rich progress bar on a terminal, and lines of text elsewhere."""
    return [RichProgressBar()] if console.is_terminal else [StepLines(name), NoBar()]


class NoBar(ProgressBar):
    """Keeps Lightning from drawing its own bar into a log file."""

    def disable(self) -> None:
        """Do nothing."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command's main; what the user can mend ends it with one line on standard error and exit code 2.

    `SALMONN_LAB_TRACEBACK=1` in the environment shows where an error comes from instead.
    """
    try:
        command()
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("SALMONN_LAB_TRACEBACK"):
            raise
        console.print(f"[bold red]error:[/] {escape(' '.join(str(error).split()))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
