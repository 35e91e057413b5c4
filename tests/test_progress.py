"""The lines of a log file: how far a loop is, and how long it will take at the pace it has now."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from salmonn_lab import progress


def test_the_time_left_follows_the_pace_of_the_last_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = progress.StepLines("training", every_seconds=10)
    trainer: Any = SimpleNamespace(global_step=0, max_steps=200, progress_bar_metrics={"train_loss": 1.5})
    for step in range(1, 201):
        clock[0] += 0.1 if step <= 100 else 1.0  # the second half is ten times slower
        trainer.global_step = step
        lines.on_train_batch_end(trainer)
    said = [line.split() for line in capsys.readouterr().err.splitlines()]
    left = {int(line[1].split("/")[0]): float(line[-3]) for line in said if line[-1] == "left"}
    slow = {step: seconds for step, seconds in left.items() if step > 115}
    assert len(slow) > 5
    assert all(seconds == pytest.approx(200 - step, abs=0.6) for step, seconds in slow.items()), "not the mean of both"
    assert said[-1][:4] == ["training", "200/200", "train_loss", "1.500"]


@pytest.mark.filterwarnings("ignore")
def test_quiet_libraries_still_show_the_table_of_a_profiler(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    loud = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.pytorch.profilers")}
    request.addfinalizer(lambda: [logging.getLogger(name).setLevel(level) for name, level in loud.items()])
    progress.quiet_libraries()
    options: dict[str, Any] = {
        "profiler": "simple",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    trainer = lightning.Trainer(max_steps=2, accelerator="cpu", default_root_dir=tmp_path, **options)
    trainer.fit(BoringModel())
    assert "run_training_batch" in caplog.text
    assert "max_steps" not in caplog.text, "a hint that nobody can act on"
