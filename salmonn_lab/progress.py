"""How far Lightning's loops are: a bar on a terminal, lines of text in a log file."""

from __future__ import annotations

import logging
import os
import time
import warnings
from typing import Any, NamedTuple

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.progress import Progress, TaskID
from transformers.utils import logging as transformers_logging

from salmonn_lab.console import console, progress
from salmonn_lab.signals import Stopped, stops


class Phase(NamedTuple):
    """A stretch of training whose steps take alike: alignment, which leaves the LLM out, or what follows."""

    name: str
    first: int
    """Optimizer steps before it."""
    end: int
    """Optimizer steps when it is over; 0 or less where nobody knows."""


def phase_of(name: str, step: int, module: Any) -> Phase:
    """Phase that an optimizer step belongs to.

    Args:
        name: of training as a whole.
        step: the step.
        module: the `Salmonn` that is trained; `total_steps` and `optim.align_steps` are read.
    """
    align = 0 if module.optim is None else module.optim.align_steps
    if align and step < align:
        return Phase(f"{name}: alignment", 0, min(align, module.total_steps) if module.total_steps > 0 else align)
    return Phase(name, align, module.total_steps)


class StepLines(Callback):
    """Prints a line now and then where no terminal can draw a progress bar."""

    def __init__(self, name: str, every_seconds: float = 15.0) -> None:
        self.name, self.every_seconds = name, every_seconds
        self.printed = time.monotonic()
        self.phase = ""
        self.done = 0
        """Steps at the last line, or at the start of a phase: those since then tell the pace."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Print step, loss and the time that is left of alignment or of what follows, each at its own pace."""
        values = {key: float(value) for key, value in trainer.progress_bar_metrics.items()}
        phase = phase_of(self.name, trainer.global_step - 1, module)
        said = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
        self._line(phase.name, trainer.global_step, phase.end, said)

    def on_predict_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Print how many batches are done."""
        self._line(self.name, batch_idx + 1, int(sum(trainer.num_predict_batches)), "")

    @rank_zero_only
    def _line(self, phase: str, done: int, total: int, values: str) -> None:
        now = time.monotonic()
        if phase != self.phase:
            self.phase, self.done, self.printed = phase, done, now
        if now - self.printed < self.every_seconds and done != total:
            return
        share = f"{done}/{total}" if total > 0 else str(done)
        left = ""
        if total > done > self.done:
            left = f"  {(now - self.printed) / (done - self.done) * (total - done):.0f} s left"
        console.print(f"{phase} {share}  {values}{left}")
        self.done, self.printed = done, now


class StepBar(ProgressBar):
    """Draws a bar on a terminal for each phase of training, for validation and for prediction."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._display: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def disable(self) -> None:
        """Draw nothing: this is not the first process."""
        self._display = None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Open the display in the first process."""
        super().setup(trainer, pl_module, stage)
        if trainer.is_global_zero and self._display is None:
            self._display = progress(bar_width=20)
            self._display.start()

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Close the display, which stays on the terminal as it is."""
        if self._display is not None:
            self._display.stop()
            self._display = None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the display before the error is told."""
        self.teardown(trainer, pl_module, "")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Advance the bar of alignment or of what follows, whose steps take longer."""
        phase = phase_of(self.name, trainer.global_step - 1, pl_module)
        shown = {"align_loss": "loss"} if phase.name != self.name else {"train_loss": "loss", "val_loss": "val"}
        metrics = trainer.progress_bar_metrics
        values = "  ".join(f"{shown[key]} {float(metrics[key]):.3f}" for key in shown if key in metrics)
        total = phase.end - phase.first if phase.end > 0 else None
        self._advance(phase.name, trainer.global_step - phase.first, total, values)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Advance the bar of validation."""
        if not trainer.sanity_checking:
            self._advance("validation", batch_idx + 1, int(sum(trainer.num_val_batches)), "")

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the bar of validation away: the next one has a time of its own."""
        task = self._tasks.pop("validation", None)
        if self._display is not None and task is not None:
            self._display.remove_task(task)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Advance the bar of prediction."""
        self._advance(self.name, batch_idx + 1, int(sum(trainer.num_predict_batches)), "")

    def _advance(self, name: str, done: int, total: int | None, values: str) -> None:
        if self._display is None:
            return
        if name not in self._tasks:
            # Steps of an earlier process took none of this one's time.
            self._tasks[name] = self._display.add_task(name, total=total, completed=done - 1)
        self._display.update(self._tasks[name], completed=done, description=f"{name}  {values}".rstrip())


def progress_callbacks(name: str) -> list[Callback]:
    """Bars on a terminal, lines of text elsewhere, and what lets a signal stop the loop."""
    return [StepBar(name), Stop()] if console.is_terminal else [StepLines(name), NoBar(), Stop()]


class Stop(Callback):
    """Lets a signal stop Lightning's loops at once, and a process whose parent was killed not go on alone.

    Lightning takes SIGTERM over, as a wish to end with exit code 0 after the next batch; on several devices its handler
    waits for processes that may be waiting themselves.
    """

    def __init__(self) -> None:
        self.parent = os.getppid()

    def on_sanity_check_start(self, *_: Any) -> None:
        """Put the command's handlers back."""
        stops.install()

    def on_train_start(self, *_: Any) -> None:
        """Put the command's handlers back."""
        stops.install()

    def on_validation_start(self, *_: Any) -> None:
        """Put the command's handlers back."""
        stops.install()

    def on_predict_start(self, *_: Any) -> None:
        """Put the command's handlers back."""
        stops.install()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop where a signal went unheard; `Stopped` is raised as in `look`."""
        self.look()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Stop where a signal went unheard; `Stopped` is raised as in `look`."""
        self.look()

    def on_predict_batch_end(self, *_: Any) -> None:
        """Stop where a signal went unheard; `Stopped` is raised as in `look`."""
        self.look()

    def look(self) -> None:
        """Look whether to go on.

        Raises:
            Stopped: a signal went unheard, or the process that started this one of several devices is gone.
        """
        stops.check()
        if getattr(rank_zero_only, "rank", 0) != 0 and os.getppid() != self.parent:
            raise Stopped("the first process of the run is gone")


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
