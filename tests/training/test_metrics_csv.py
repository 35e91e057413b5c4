"""Metrics of training are in their file whatever a kill cuts short, each step once."""

from __future__ import annotations

from pathlib import Path

import torch

from salmonn_lab.training.metrics_csv import MetricsCsv, read_rows, rewind


def log(folder: Path, *rows: tuple[dict[str, float], int]) -> None:
    logger = MetricsCsv(folder, flush_logs_every_n_steps=1)
    for values, step in rows:
        logger.log_metrics(values, step)
    logger.finalize("success")


def test_a_new_process_appends_to_what_an_earlier_one_wrote(tmp_path: Path) -> None:
    log(tmp_path, ({"train_loss": 2.0}, 0), ({"train_loss": 1.5}, 1))
    log(tmp_path, ({"train_loss": 1.25}, 2), ({"val_loss": 1.0, "epoch": 0}, 2))
    assert (tmp_path / "metrics.csv").read_text() == (
        "epoch,step,train_loss,val_loss\n,0,2.0,\n,1,1.5,\n,2,1.25,\n0,2,,1.0\n"
    )


def test_making_the_logger_leaves_the_file_alone(tmp_path: Path) -> None:
    log(tmp_path, ({"train_loss": 2.0}, 0))
    before = (tmp_path / "metrics.csv").read_bytes()
    MetricsCsv(tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_rows_wait_for_the_step_at_which_they_are_flushed(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path, flush_logs_every_n_steps=3)
    logger.log_metrics({"train_loss": torch.tensor(2.0)}, 0)
    logger.log_metrics({"train_loss": torch.tensor(1.0)}, 1)
    assert not (tmp_path / "metrics.csv").exists()
    logger.log_metrics({"train_loss": torch.tensor(0.5)}, 2)
    assert [row["train_loss"] for row in read_rows(tmp_path / "metrics.csv")[1]] == ["2.0", "1.0", "0.5"]


def test_rewinding_keeps_the_steps_before_and_drops_what_a_kill_tore(tmp_path: Path) -> None:
    log(tmp_path, *[({"train_loss": 1.0 / (step + 1)}, step) for step in range(4)])
    file = tmp_path / "metrics.csv"
    with file.open("a") as torn:
        torn.write("4,0.")
    rewind(file, 3)
    assert [row["step"] for row in read_rows(file)[1]] == ["0", "1", "2"]
    assert file.read_text().endswith("\n")
    rewind(file, 0)
    assert read_rows(file) == ([], [])


def test_rewinding_drops_the_validation_that_is_run_again_and_keeps_earlier_ones(tmp_path: Path) -> None:
    log(
        tmp_path,
        ({"train_loss": 2.0}, 0),
        ({"val_loss": 1.9}, 0),
        ({"train_loss": 1.0}, 1),
        ({"val_loss": 0.9}, 1),
    )
    rewind(tmp_path / "metrics.csv", 2, without="val_loss")
    rows = read_rows(tmp_path / "metrics.csv")[1]
    assert [row["val_loss"] for row in rows if row["val_loss"]] == ["1.9"]
    assert [row["train_loss"] for row in rows if row["train_loss"]] == ["2.0", "1.0"]


def test_a_file_that_is_not_there_stays_so(tmp_path: Path) -> None:
    rewind(tmp_path / "metrics.csv", 5)
    assert not (tmp_path / "metrics.csv").exists()
