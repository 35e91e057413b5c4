"""The lines of a log file: how far a loop is, and how long it will take at the pace it has now."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from rich.console import Console

from salmonn_lab import progress


def test_the_time_left_follows_the_pace_of_the_last_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = progress.StepLines("training", every_seconds=10)
    trainer: Any = SimpleNamespace(global_step=0, progress_bar_metrics={"train_loss": 1.5})
    module = SimpleNamespace(total_steps=200, optim=None)
    for step in range(1, 201):
        clock[0] += 0.1 if step <= 100 else 1.0  # the second half is ten times slower
        trainer.global_step = step
        lines.on_train_batch_end(trainer, module)
    said = [line.split() for line in capsys.readouterr().err.splitlines()]
    left = {int(line[1].split("/")[0]): float(line[-3]) for line in said if line[-1] == "left"}
    slow = {step: seconds for step, seconds in left.items() if step > 115}
    assert len(slow) > 5
    assert all(seconds == pytest.approx(200 - step, abs=0.6) for step, seconds in slow.items()), "not the mean of both"
    assert said[-1][:4] == ["training", "200/200", "train_loss", "1.500"]


def test_alignment_has_a_time_of_its_own_and_the_rest_is_not_foretold_by_its_pace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = progress.StepLines("training", every_seconds=15)
    trainer: Any = SimpleNamespace(global_step=0, progress_bar_metrics={})
    module = SimpleNamespace(total_steps=1100, optim=SimpleNamespace(align_steps=1000))
    started: dict[int, float] = {}
    for step in range(1, 1101):
        clock[0] += 0.05 if step <= 1000 else 2.0
        trainer.global_step, started[step] = step, clock[0]
        lines.on_train_batch_end(trainer, module)
    lines_said = [line.split() for line in capsys.readouterr().err.splitlines()]
    aligning = [line for line in lines_said if line[1] == "alignment"]
    assert {line[2].split("/")[1] for line in aligning} == {"1000"}
    for line in aligning:
        if line[-1] == "left":
            step = int(line[2].split("/")[0])
            assert float(line[-3]) == pytest.approx(started[1000] - started[step], abs=1.0)
    training = [line for line in lines_said if line[1] != "alignment" and line[-1] == "left"]
    assert len(training) > 5
    for line in training:
        step = int(line[1].split("/")[0])
        assert float(line[-3]) == pytest.approx(started[1100] - started[step], abs=1.0)


class Trained(BoringModel):
    """Three steps of alignment, then four of training."""

    optim = SimpleNamespace(align_steps=3)
    total_steps = 7


@pytest.mark.filterwarnings("ignore")
def test_a_terminal_shows_a_bar_for_each_phase_and_what_a_command_has_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("salmonn_lab.console.console", screen)
    monkeypatch.setattr(progress, "console", screen)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "default_root_dir": tmp_path}
    trainer = lightning.Trainer(
        max_steps=7,
        accelerator="cpu",
        limit_val_batches=2,
        callbacks=progress.progress_callbacks("training"),
        **options,
    )
    trainer.fit(Trained())
    last = screen.file.getvalue().rsplit("training: alignment", 1)[1]  # type: ignore[attr-defined]
    assert "3/3" in last
    assert "4/4" in last.split("training")[1]


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
