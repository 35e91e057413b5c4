"""Training metrics as rows of `metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor

from salmonn_lab.files import naming, write_atomically

STEP = "step"


class MetricsCsv(Logger):
    """Appends metrics to `metrics.csv`, a row per call; a kill at any moment costs no row that was written.

    Lightning's logger deletes the file of an earlier process before it writes its own, and empties the file whenever a
    new column comes.
    """

    def __init__(self, folder: Path, *, flush_logs_every_n_steps: int = 10, prefix: str = "") -> None:
        """Take the folder.

        Args:
            folder: of the run.
            flush_logs_every_n_steps: rows wait in memory for at most so many steps.
            prefix: put before every column's name, with a hyphen.
        """
        super().__init__()
        self.folder = folder
        self.file = folder / "metrics.csv"
        self.every, self.prefix = flush_logs_every_n_steps, f"{prefix}-" if prefix else ""
        self._columns: list[str] = read_rows(self.file)[0]
        self._waiting: list[dict[str, Any]] = []

    @property
    def experiment(self) -> None:
        """Object of a logging library: none."""

    @property
    def name(self) -> str:
        """Name of the experiment: none."""
        return ""

    @property
    def version(self) -> str:
        """Version of the experiment: none."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run."""
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: a run's `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        row = {
            f"{self.prefix}{key}": value.item() if isinstance(value, Tensor) else value
            for key, value in metrics.items()
        }
        self._waiting.append({**row, STEP: 0 if step is None else step})
        if step is not None and (step + 1) % self.every == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that wait."""
        if not self._waiting:
            return
        columns = sorted({*self._columns, *(key for row in self._waiting for key in row)})
        if columns == self._columns:
            with naming(self.file), self.file.open("a", newline="", encoding="utf-8") as file:
                file.write(as_text(self._waiting, columns, header=False))
        else:
            rows = [*read_rows(self.file)[1], *self._waiting]
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, as_text(rows, columns, header=True))
            self._columns = columns
        self._waiting = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rows that wait."""
        self.save()


def rewind(file: Path, step: int, *, without: str | None = None) -> None:
    """Keep of a `metrics.csv` what was logged before an optimizer step, the one that training resumes with.

    Args:
        file: may be missing.
        step: the first step that is logged again.
        without: a column whose value at the last step that stays is dropped, as it will be logged again.
    """
    columns, rows = read_rows(file)
    kept = [row for row in rows if int(row[STEP]) < step]
    if without is not None:
        kept = [row for row in kept if not (row.get(without) and int(row[STEP]) == step - 1)]
    if kept != rows or (file.is_file() and not file.read_bytes().endswith(b"\n")):
        write_atomically(file, as_text(kept, columns, header=True) if kept else "")


def read_rows(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a `metrics.csv`, none where there is no file, without a last line that has no end."""
    if not file.is_file():
        return [], []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    reader = csv.DictReader(lines)
    return list(reader.fieldnames or ()), [row for row in reader if (row.get(STEP) or "").isdigit()]


def as_text(rows: list[dict[str, Any]], columns: list[str], *, header: bool) -> str:
    """Rows as lines of CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
