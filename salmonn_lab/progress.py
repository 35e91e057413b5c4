"""How far Lightning's loops are: a bar on a terminal, lines of text in a log file."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning_utilities.core.rank_zero import rank_zero_only
from transformers.utils import logging as transformers_logging

from salmonn_lab.console import console


class StepLines(Callback):
    """Prints a line now and then where no terminal can draw a progress bar."""

    def __init__(self, name: str, every_seconds: float = 15.0) -> None:
        self.name, self.every_seconds = name, every_seconds
        self.printed = time.monotonic()
        self.done: int | None = None
        """Steps at the last line, or at the start: those since then tell the pace, which alignment has another of."""

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

    @rank_zero_only
    def _line(self, done: int, total: int, values: str) -> None:
        now = time.monotonic()
        if self.done is None:
            self.done, self.printed = done, now
        if now - self.printed < self.every_seconds and done != total:
            return
        share = f"{done}/{total}" if total > 0 else str(done)
        left = ""
        if total > done > self.done:
            left = f"  {(now - self.printed) / (done - self.done) * (total - done):.0f} s left"
        console.print(f"{self.name} {share}  {values}{left}")
        self.done, self.printed = done, now


def progress_callbacks(name: str) -> list[Callback]:
    """Return Lightning's rich progress bar on a terminal, and lines of text elsewhere."""
    return [RichProgressBar()] if console.is_terminal else [StepLines(name), NoBar()]


class NoBar(ProgressBar):
    """Keeps Lightning from drawing its own bar into a log file."""

    def disable(self) -> None:
        """Do nothing."""


def quiet_libraries() -> None:
    """Keep hints and progress of libraries that a user of the commands cannot act on off the terminal."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the table of trainer.profiler
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # what it could do faster with more packages
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(transformers|lightning)\.")
