"""The command that measures a trained run: `python -m salmonn_lab.evaluate --run RUN [benchmarks=[...]]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback
from rich.markup import escape
from rich.table import Table
from torch.utils.data import DataLoader

from salmonn_lab import benchmarks, report, runs
from salmonn_lab.assets import resolve
from salmonn_lab.batch import Batch, Example, Prediction
from salmonn_lab.config import RunConfig, flatten, load_config
from salmonn_lab.console import MENDABLE, console, run_command, table
from salmonn_lab.data.counterfactual import WAVEFORMS, Heard, altered, shuffled
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.modules import Benchmark as Examples
from salmonn_lab.data.modules import SpeechDataModule, benchmark_clips
from salmonn_lab.encode import examples_of, fill, predicting_trainer
from salmonn_lab.model.fingerprint import hash_weights
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.predictions import Answers, read_predictions
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import Salmonn

CODE = ("salmonn-lab", "torch", "transformers", "peft")
"""Packages whose next version may answer otherwise."""
DEAF: dict[Heard, Literal["whisper", "audio_encoder"]] = {
    "no_whisper": "whisper",
    "no_audio_encoder": "audio_encoder",
}
"""The encoder that each way of hearing turns off."""
HOW = ("benchmarks=", "evaluation.before=", "evaluation.benchmarks=", "evaluation.likelihood=", "features=", "trainer.")
"""What overrides begin with that say how a model is measured, not what it is."""


class PredictionWriter(Callback):
    """Keeps each batch's predictions as soon as they are there: a kill loses no finished batch."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

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
        self.answers.append(trainer.global_rank, outputs)


class MissingAnswers(lightning.LightningDataModule):
    """Loads the examples of a benchmark that have no answer yet.

    Which ones those are is read once all processes of the trainer run, and before any of them answers.
    """

    def __init__(
        self, data: SpeechDataModule, benchmark: benchmarks.Benchmark, answers: Answers, *, heard: Heard, again: bool
    ) -> None:
        super().__init__()
        self.data, self.benchmark, self.answers, self.heard, self.again = data, benchmark, answers, heard, again

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return a loader, or none where every answer is there."""
        trainer = self.trainer
        assert trainer is not None
        if trainer.is_global_zero and (remark := self.answers.prepare(again=self.again)):
            console.print(f"{self.benchmark.name}: {remark}")
        trainer.strategy.barrier()
        examples: Sequence[Example] = read_manifest(resolve(self.benchmark.manifest))
        answered = self.answers.read()
        if self.heard == "shuffled":
            examples = shuffled(examples)
        missing = [example for example in examples if example.id not in answered]
        if trainer.is_global_zero and answered:
            hint = "" if missing else "; --again answers them anew"
            console.print(f"{self.benchmark.name}: {len(answered)} of {len(examples)} answers are there already{hint}")
        if not missing:
            return []
        self.data.trainer = trainer  # the loader splits the examples among the trainer's processes
        loader = self.data.predict_loader(Examples(missing, self.benchmark.prompt))
        if trainer.is_global_zero:
            console.print(f"{self.benchmark.name}: {len(missing)} to answer, the longest first, {len(loader)} batches")
        return [loader]


def data_module(config: RunConfig, model: Salmonn) -> SpeechDataModule:
    """Return a run's loaders; `config` is localized."""
    return SpeechDataModule(
        config.data,
        model.llm.tokenizer,
        template=model.llm.prompt_template,
        seed=config.seed,
        fixed_frames=1500 if config.model.bridge.span == "thirty_seconds" else None,
        warm_up_batches=config.optim.align_steps * config.trainer.get("accumulate_grad_batches", 1),
        warm_up_tasks=tuple(config.optim.align),
    )


def model_provenance(model: Salmonn, data: SpeechDataModule, options: dict[str, Any]) -> dict[str, Any]:
    """Return all that a model's answers depend on, whatever the benchmark: what is equal gives equal answers.

    How many devices there are of which kind, and what shares a batch, does not count.
    """
    return {
        "model": asdict(model.config),
        "weights": {"learned": hash_weights(model.trainable_state()), **model.fingerprints()},
        "data": {key: getattr(data.config, key) for key in ("min_seconds", "max_seconds", "channels")},
        "frames": None if data.features is None else data.features.storage,
        "trainer": {"precision": runs.settle_precision(options).get("precision")},
        "likelihood": model.likelihood,
        "version": {name: version(name) for name in CODE},
    }


def benchmark_provenance(benchmark: benchmarks.Benchmark, data: SpeechDataModule) -> dict[str, Any]:
    """Return all that answers depend on besides the model: the examples, what is asked, and how text is generated."""
    path = Path(resolve(benchmark.manifest))
    if benchmark.prompt is not None:
        asked = {"every task": benchmark.prompt}
    else:
        tasks = sorted(read_manifest(path).column("task").unique().to_pylist())
        data.prompts.check_tasks(tasks, benchmark.name)
        asked = {task: data.prompts.prompts[task][0] for task in tasks}
    return {
        "manifest": runs.file_hash(path),
        "prompt": {task: data.template.replace("{}", prompt) for task, prompt in asked.items()},
        "decoding": asdict(DecodingConfig(**benchmark.decoding)),
    }


@contextmanager
def hearing(model: Salmonn, data: SpeechDataModule, heard: Heard) -> Iterator[None]:
    """Let a model hear something in place of clips meanwhile.

    Raises:
        ValueError: it has no encoder that `heard` turns off.
    """
    read, features = data.read, data.features
    model.deafen(DEAF.get(heard))
    if heard in WAVEFORMS:
        data.read, data.features = altered(read, heard), None
    try:
        yield
    finally:
        data.read, data.features = read, features
        model.deafen(None)


def predict(
    model: Salmonn,
    data: SpeechDataModule,
    benchmark: benchmarks.Benchmark,
    answers: Answers,
    trainer_options: dict[str, Any],
    *,
    heard: Heard,
    again: bool,
) -> list[Prediction]:
    """Answer what is not answered yet of a benchmark, and return all predictions, in the manifest's order."""
    model.benchmark, model.decoding = benchmark.name, DecodingConfig(**benchmark.decoding)
    trainer = predicting_trainer(trainer_options, benchmark.name, PredictionWriter(answers))
    missing = MissingAnswers(data, benchmark, answers, heard=heard, again=again)
    with hearing(model, data, heard):
        trainer.predict(model, datamodule=missing, return_predictions=False)
    trainer.strategy.barrier()
    by_id = answers.read()
    predictions = [by_id[example.id] for example in read_manifest(resolve(benchmark.manifest))]
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        answers.finish(predictions)
    return predictions


def measure(
    model: Salmonn,
    data: SpeechDataModule,
    names: Sequence[str],
    folder: Path,
    trainer_options: dict[str, Any],
    *,
    heard: Heard = "clip",
    again: bool = False,
) -> list[report.BenchmarkResult]:
    """Predict and score benchmarks; one whose data is not there is reported as skipped, with the reason.

    What the folder holds of the same model's answers to the same benchmark, decoded in the same way, is kept, whether
    it is all or as much as there was when the answering was stopped.

    Args:
        model: answers.
        data: makes loaders for it.
        names: as in `benchmarks.find`.
        folder: of the predictions.
        trainer_options: as the training had them.
        heard: what the model hears in place of clips.
        again: answer anew what is complete.

    Raises:
        ValueError: if two of them have the same name, as manifests of two folders may; or the model has no encoder that
            `heard` turns off.
        OSError: if predictions cannot be written, as on a full disk; those that are written are kept.
    """
    results, made_from = [], model_provenance(model, data, trainer_options)
    for benchmark in find_benchmarks(names):
        try:
            resolve(benchmark.manifest)
        except FileNotFoundError as error:
            console.print(f"{benchmark.name}: skipped: {error}")
            results.append(report.BenchmarkResult(benchmark.name, skipped=str(error)))
            continue
        provenance = flatten(made_from | benchmark_provenance(benchmark, data) | {"heard": heard})
        answers = Answers(folder / f"{benchmark.name}.jsonl", provenance)
        predictions = predict(model, data, benchmark, answers, trainer_options, heard=heard, again=again)
        results.append(report.measure(benchmark, predictions))
    return results


def find_benchmarks(names: Sequence[str]) -> list[benchmarks.Benchmark]:
    """Return benchmarks by name or manifest.

    Raises:
        ValueError: if two of them have the same name, as manifests of two folders may.
    """
    rows = [benchmarks.find(name) for name in names]
    for name in {row.name for row in rows}:
        if len(same := [row.manifest for row in rows if row.name == name]) > 1:
            raise ValueError(f"evaluation.benchmarks: {' and '.join(same)} are both named '{name}'; rename one")
    return rows


def rescore(run: runs.Run, folder: Path, names: Sequence[str] = ()) -> list[report.BenchmarkResult]:
    """Score the predictions that a folder holds; no model is loaded.

    Those of the model before training are scored again too, so that both compare whatever changed in a metric.

    Args:
        run: whose folder it is.
        folder: the run's own, or one of its variants.
        names: as in `benchmarks.find`; none is all that there are.

    Raises:
        FileNotFoundError: there are no predictions, or none of a benchmark that is named.
    """
    if before := rescore_files(run, run.predictions_before, run.before, names):
        report.write_scores(run.before, joined(run.before, before))
    results = rescore_files(run, folder / runs.PREDICTIONS, folder / runs.SCORES, names)
    scored = {result.benchmark for result in results}
    lost = [f" of {benchmark.name}" for benchmark in find_benchmarks(names) if benchmark.name not in scored]
    if lost or not results:
        raise FileNotFoundError(f"{folder} has no predictions{', nor'.join(lost)}: measure it without --rescore first")
    return results


def rescore_files(run: runs.Run, folder: Path, scores: Path, names: Sequence[str]) -> list[report.BenchmarkResult]:
    """Score the files of predictions in a folder, in the order of their earlier scores; as in `rescore`."""
    stored = {result.benchmark: result for result in read_results(scores)}
    there = {file.stem: file for file in sorted(folder.glob("*.jsonl"))}
    if names:
        rows = [benchmark for benchmark in find_benchmarks(names) if benchmark.name in there]
    else:
        ordered = [name for name in stored if name in there] + [name for name in there if name not in stored]
        rows = [report.find_benchmark(name, run, stored.get(name)) for name in ordered]
    return [report.measure(benchmark, read_predictions(there[benchmark.name])) for benchmark in rows]


def read_results(scores: Path) -> list[report.BenchmarkResult]:
    """Return the results in a file of scores, none where there is no file."""
    return report.read_scores(scores) if scores.is_file() else []


def joined(scores: Path, results: Sequence[report.BenchmarkResult]) -> list[report.BenchmarkResult]:
    """Return the results in a file of scores, the given ones in place of those of the same benchmarks or after them."""
    return list({result.benchmark: result for result in [*read_results(scores), *results]}.values())


def publish(run: runs.Run, folder: Path, results: Sequence[report.BenchmarkResult]) -> list[report.BenchmarkResult]:
    """Write scores and report into a folder, beside what was measured before training, and print the table.

    What the folder already holds of other benchmarks stays in its scores and its report.

    Returns:
        the results, with what was measured before training.
    """
    earlier = {result.benchmark: result for result in read_results(run.before)}
    results = [result.since(earlier[result.benchmark]) if result.benchmark in earlier else result for result in results]
    scores = folder / runs.SCORES
    report.write_scores(scores, joined(scores, results))
    page = report.write_report(folder)
    console.print(report.summary_table(results, f"Results of {folder}"))
    console.print(f"report: {page}", soft_wrap=True)
    return results


def headline_table(measured: Mapping[str, Sequence[report.BenchmarkResult]]) -> Table:
    """Return a line for each run's headline score on each benchmark, those of a benchmark together."""
    rows = [(run, *report.score_rows([result])[0]) for run, results in measured.items() for result in results]
    escaped = [[escape(cell) for cell in row] for row in sorted(rows, key=lambda row: row[1])]
    return table(f"Results of {len(measured)} runs", ("run", *report.COLUMNS), escaped)


def destination(run: runs.Run, checkpoint: Path | None, overrides: Sequence[str]) -> Path:
    """Return where results go: a run's own folder, or one of its `variants/` where the model is not as it was trained.

    A variant is named after what differs, such as `model.lora.scale=2.0`.
    """
    changes = [key for key in overrides if not key.startswith(HOW)]
    name = ",".join([*([checkpoint.stem] if checkpoint else []), *sorted(changes)])
    return run.folder / "variants" / re.sub(r"[^\w.,=-]+", "_", name) if name else run.folder


def ready(run: runs.Run, checkpoint: Path | None, config: RunConfig) -> tuple[Salmonn, SpeechDataModule]:
    """Return a run's model and its loaders, the frames of what it will hear stored where it has a store."""
    local = runs.localize(config)
    model = runs.load_model(run, checkpoint, local.model)
    model.likelihood = config.evaluation.likelihood
    data = data_module(local, model)
    if config.features is not None and config.evaluation.audio not in WAVEFORMS:
        data.features = fill(local, model.encoders, benchmark_clips(examples_of(config.evaluation.benchmarks)))
    return model, data


def evaluate(
    run: runs.Run, checkpoint: Path | None, overrides: Sequence[str], *, again: bool
) -> list[report.BenchmarkResult]:
    """Measure a run on the benchmarks of its configuration, with `overrides`, and publish what comes out."""
    config = load_config([run.config_file], overrides)
    model, data = ready(run, checkpoint, config)
    names, heard = config.evaluation.benchmarks, config.evaluation.audio
    folder = destination(run, checkpoint, overrides)
    results = measure(model, data, names, folder / runs.PREDICTIONS, config.trainer, heard=heard, again=again)
    return publish(run, folder, results) if runs.first_process() else results


def evaluate_stored(place: Path, checkpoint: Path | None, overrides: Sequence[str]) -> list[report.BenchmarkResult]:
    """Score what a run, or one of its variants, has answered; without `benchmarks` among the overrides, all of it."""
    run = report.owner(place)
    config = load_config([run.config_file], overrides)
    folder = destination(run, checkpoint, overrides) if place == run.folder else place
    chosen = any(override.startswith("evaluation.benchmarks=") for override in overrides)
    return publish(run, folder, rescore(run, folder, config.evaluation.benchmarks if chosen else ()))


def full_keys(overrides: Sequence[str]) -> list[str]:
    """Return overrides as `load_config` takes them: the commands that measure take `benchmarks=` for short."""
    return [f"evaluation.{key}" if key.startswith("benchmarks=") else key for key in overrides]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.evaluate",
        description="Measure trained runs on benchmarks; predictions, scores and report land in each run's folder, or "
        "in one of its variants/ where another checkpoint or other settings are asked for. What is answered already is "
        "kept: a call that was stopped goes on where it was.",
        epilog="Example: python -m salmonn_lab.evaluate --run runs/quickstart benchmarks=[asterisk]",
    )
    parser.add_argument("--run", required=True, action="append", type=Path, help="a run's folder; repeat for several")
    parser.add_argument("--checkpoint", type=Path, help="another checkpoint than the run's last.ckpt")
    parser.add_argument("--again", action="store_true", help="answer anew what is complete")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="score the predictions that are there, without a model; --run may name one of a run's variants/",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="benchmarks=[NAME or MANIFEST, ...], model.lora.scale=2.0, evaluation.audio=mute, trainer.devices=2",
    )
    options = parser.parse_intermixed_args(arguments)
    if options.again and options.rescore:
        parser.error("--again answers anew, --rescore does not answer: choose one")
    if options.checkpoint and len(options.run) > 1:
        parser.error("--checkpoint is one run's: give one --run with it")
    return options


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = parse(sys.argv[1:])
    overrides = full_keys(options.overrides)
    measured, failed = {}, []
    for place in options.run:
        try:
            if options.rescore:
                measured[str(place)] = evaluate_stored(place, options.checkpoint, overrides)
            else:
                measured[str(place)] = evaluate(runs.find(place), options.checkpoint, overrides, again=options.again)
        except Exception as error:  # whatever it is, the other runs are worth measuring
            if len(options.run) == 1:
                raise
            failed.append(str(place))
            if not isinstance(error, MENDABLE):
                console.print_exception()
            console.print(f"[bold red]{escape(str(place))}:[/] {escape(' '.join(str(error).split()))}", soft_wrap=True)
    if len(options.run) > 1 and runs.first_process():
        console.print(headline_table(measured))
    if failed:
        raise ValueError(f"{len(failed)} of {len(options.run)} runs were not measured: {', '.join(failed)}")


if __name__ == "__main__":
    run_command(main)
