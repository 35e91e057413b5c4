"""The command that measures a trained run: `python -m salmonn_lab.evaluate --run RUN [benchmarks=[...]]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from salmonn_lab import benchmarks, console, report, runs
from salmonn_lab.assets import resolve
from salmonn_lab.batch import Batch, Prediction
from salmonn_lab.config import RunConfig
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.modules import Benchmark as Examples
from salmonn_lab.data.modules import SpeechDataModule
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.predictions import read_predictions, write_predictions
from salmonn_lab.salmonn import Salmonn

HARDWARE_KEYS = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""What the trainer of a prediction takes over from that of the training."""


class PredictionWriter(Callback):
    """Appends each batch's predictions to one file per rank, flushed at once: a kill loses no finished batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, rank: int) -> Path:
        """Return the file of one rank."""
        return self.path.with_suffix(f".rank{rank}.jsonl")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: list[Prediction],  # type: ignore[override]
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the batch's lines."""
        with self.part(trainer.global_rank).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(prediction), ensure_ascii=False) + "\n" for prediction in outputs)


def data_module(config: RunConfig, model: Salmonn) -> SpeechDataModule:
    """Return a run's loaders; `config` is localized."""
    return SpeechDataModule(
        config.data,
        model.llm.tokenizer,
        template=config.model.llm.prompt_template,
        seed=config.seed,
        fixed_frames=1500 if config.model.bridge.span == "thirty_seconds" else None,
    )


def predict(
    model: Salmonn, data: SpeechDataModule, benchmark: benchmarks.Benchmark, path: Path, trainer_options: dict[str, Any]
) -> list[Prediction]:
    """Answer every example of a benchmark, and write the predictions in the manifest's order."""
    examples = read_manifest(resolve(benchmark.manifest))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PredictionWriter(path)
    for stale in path.parent.glob(f"{path.stem}.rank*.jsonl"):
        stale.unlink()
    model.benchmark, model.decoding = benchmark.name, DecodingConfig(**benchmark.decoding)
    trainer = lightning.Trainer(
        logger=False,
        callbacks=[writer, *console.progress_callbacks(benchmark.name)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{key: value for key, value in trainer_options.items() if key in HARDWARE_KEYS},
    )
    trainer.predict(model, data.predict_loader(Examples(examples)), return_predictions=False)
    trainer.strategy.barrier()
    parts = [writer.part(rank) for rank in range(trainer.world_size)]
    by_id = {prediction.id: prediction for part in parts for prediction in read_predictions(part)}
    predictions = [by_id[example.id] for example in examples]
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        write_predictions(path, predictions)
        for part in parts:
            part.unlink()
    return predictions


def measure(
    model: Salmonn, data: SpeechDataModule, names: Sequence[str], folder: Path, trainer_options: dict[str, Any]
) -> list[report.Measurement]:
    """Predict and score benchmarks; one whose data is not there is reported as skipped, with the reason."""
    measurements = []
    for name in names:
        benchmark = benchmarks.find(name)
        try:
            resolve(benchmark.manifest)
        except FileNotFoundError as error:
            console.console.print(f"{name}: skipped: {error}")
            measurements.append(report.Measurement(benchmark.name, skipped=str(error)))
            continue
        predictions = predict(model, data, benchmark, folder / f"{benchmark.name}.jsonl", trainer_options)
        measurements.append(report.measure(benchmark, predictions))
    return measurements
