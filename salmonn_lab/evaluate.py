"""The command that measures a trained run: `python -m salmonn_lab.evaluate --run RUN [benchmarks=[...]]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback

from salmonn_lab import benchmarks, report, runs
from salmonn_lab.assets import resolve
from salmonn_lab.batch import Batch, Prediction
from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.console import console, run_command
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.modules import Benchmark as Examples
from salmonn_lab.data.modules import SpeechDataModule, benchmark_clips
from salmonn_lab.encode import examples_of, fill, predicting_trainer
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.predictions import append_predictions, read_predictions, write_predictions
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import Salmonn


class PredictionWriter(Callback):
    """Appends each batch's predictions to one file per rank, flushed at once: a kill loses no finished batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, rank: int | Literal["*"]) -> Path:
        """Return the file of one rank, or the pattern of all."""
        return self.path.with_suffix(f".rank{rank}.jsonl")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: list[Prediction],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the batch's lines."""
        append_predictions(self.part(trainer.global_rank), outputs)


def data_module(config: RunConfig, model: Salmonn) -> SpeechDataModule:
    """Return a run's loaders; `config` is localized."""
    return SpeechDataModule(
        config.data,
        model.llm.tokenizer,
        template=config.model.llm.prompt_template,
        seed=config.seed,
        fixed_frames=1500 if config.model.bridge.span == "thirty_seconds" else None,
        warm_up_batches=config.optim.align_steps * config.trainer.get("accumulate_grad_batches", 1),
        warm_up_tasks=tuple(config.optim.align),
    )


def predict(
    model: Salmonn, data: SpeechDataModule, benchmark: benchmarks.Benchmark, path: Path, trainer_options: dict[str, Any]
) -> list[Prediction]:
    """Answer every example of a benchmark, and write the predictions in the manifest's order."""
    examples = read_manifest(resolve(benchmark.manifest))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PredictionWriter(path)
    model.benchmark, model.decoding = benchmark.name, DecodingConfig(**benchmark.decoding)
    trainer = predicting_trainer(trainer_options, benchmark.name, writer)
    writer.part(trainer.global_rank).unlink(missing_ok=True)  # of a call that was stopped
    data.trainer = trainer  # the loader splits the examples among the trainer's ranks
    trainer.predict(model, data.predict_loader(Examples(examples)), return_predictions=False)
    trainer.strategy.barrier()
    parts = [writer.part(rank) for rank in range(trainer.world_size)]
    by_id = {prediction.id: prediction for part in parts if part.is_file() for prediction in read_predictions(part)}
    predictions = [by_id[example.id] for example in examples]
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        write_predictions(path, predictions)
        for part in path.parent.glob(writer.part("*").name):
            part.unlink()
    return predictions


def measure(
    model: Salmonn, data: SpeechDataModule, names: Sequence[str], folder: Path, trainer_options: dict[str, Any]
) -> list[report.BenchmarkResult]:
    """Predict and score benchmarks; one whose data is not there is reported as skipped, with the reason.

    Raises:
        ValueError: if two of them have the same name, as manifests of two folders may.
    """
    rows = [benchmarks.find(name) for name in names]
    for name in {row.name for row in rows}:
        if len(same := [row.manifest for row in rows if row.name == name]) > 1:
            raise ValueError(f"evaluation.benchmarks: {' and '.join(same)} are both named '{name}'; rename one")
    results = []
    for benchmark in rows:
        try:
            resolve(benchmark.manifest)
        except FileNotFoundError as error:
            console.print(f"{benchmark.name}: skipped: {error}")
            results.append(report.BenchmarkResult(benchmark.name, skipped=str(error)))
            continue
        predictions = predict(model, data, benchmark, folder / f"{benchmark.name}.jsonl", trainer_options)
        results.append(report.measure(benchmark, predictions))
    return results


def publish(run: runs.Run, folder: Path, results: Sequence[report.BenchmarkResult]) -> None:
    """Write scores and report into a folder, beside what was measured before training, and print the table.

    What the folder already holds of other benchmarks stays in its scores and its report.
    """
    earlier = {result.benchmark: result for result in report.read_scores(run.before)} if run.before.is_file() else {}
    joined = [result.since(earlier[result.benchmark]) if result.benchmark in earlier else result for result in results]
    scores, new = folder / runs.SCORES, {result.benchmark for result in results}
    kept = [result for result in report.read_scores(scores) if result.benchmark not in new] if scores.is_file() else []
    report.write_scores(scores, [*kept, *joined])
    page = report.write_report(folder)
    console.print(report.summary_table(joined))
    console.print(f"report: {page}")


def destination(run: runs.Run, checkpoint: Path | None, overrides: Sequence[str]) -> Path:
    """Return where results go: a run's own folder, or one of its `variants/` where the model is not as it was trained.

    A variant is named after what differs, such as `model.lora.scale=2.0`.
    """
    changes = [key for key in overrides if not key.startswith(("benchmarks=", "evaluation.", "features=", "trainer."))]
    name = ",".join([*([checkpoint.stem] if checkpoint else []), *sorted(changes)])
    return run.folder / "variants" / re.sub(r"[^\w.,=-]+", "_", name) if name else run.folder


def main() -> None:
    """Run the command."""
    quiet_libraries()
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.evaluate",
        description="Measure a trained run on benchmarks; predictions, scores and report land in its folder, or in "
        "one of its variants/ where another checkpoint or other settings are asked for.",
        epilog="Example: python -m salmonn_lab.evaluate --run runs/quickstart benchmarks=[asterisk]",
    )
    parser.add_argument("--run", required=True, help="the run's folder")
    parser.add_argument("--checkpoint", type=Path, help="another checkpoint than the run's last.ckpt")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="benchmarks=[NAME or MANIFEST, ...], model.lora.scale=2.0, trainer.devices=2",
    )
    options = parser.parse_intermixed_args(sys.argv[1:])
    run = runs.find(options.run)
    folder = destination(run, options.checkpoint, options.overrides)
    overrides = [f"evaluation.{key}" if key.startswith("benchmarks=") else key for key in options.overrides]
    config = load_config([run.config_file], overrides)
    local = runs.localize(config)
    model = runs.load_model(run, options.checkpoint, local.model)
    data = data_module(local, model)
    if config.features is not None:
        data.features = fill(local, model.encoders, benchmark_clips(examples_of(config.evaluation.benchmarks)))
    results = measure(model, data, config.evaluation.benchmarks, folder / runs.PREDICTIONS, config.trainer)
    if runs.first_process():
        publish(run, folder, results)


if __name__ == "__main__":
    run_command(main)
