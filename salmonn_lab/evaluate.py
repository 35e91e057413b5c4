"""The command that measures a trained run: `python -m salmonn_lab.evaluate --run RUN [benchmarks=[...]]`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_evaluate)

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from huggingface_hub import try_to_load_from_cache
from lightning.pytorch.callbacks import Callback
from rich.markup import escape
from rich.table import Table
from torch.utils.data import DataLoader

from salmonn_lab import benchmarks, report, runs
from salmonn_lab.assets import resolve
from salmonn_lab.batch import Batch, Example, Prediction
from salmonn_lab.command_line import full_keys
from salmonn_lab.config import MACHINE_KEYS, RunConfig, flatten, hidden
from salmonn_lab.console import MENDABLE, console, run_command, table
from salmonn_lab.data.config import DataConfig, Heard
from salmonn_lab.data.contents import audio_digest
from salmonn_lab.data.counterfactual import WAVEFORMS, altered, shuffled
from salmonn_lab.data.features import READING
from salmonn_lab.data.manifest import cache_folder, read_manifest
from salmonn_lab.data.modules import Benchmark as Examples
from salmonn_lab.data.modules import SpeechDataModule, benchmark_clips
from salmonn_lab.data.prompts import PromptPool
from salmonn_lab.encode import examples_of, fill, predicting_trainer
from salmonn_lab.files import read_json_object, write_atomically
from salmonn_lab.model.config import DecodingConfig, ModelConfig
from salmonn_lab.model.fingerprint import hash_weights
from salmonn_lab.plain import read_plain
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
HOW = (
    *MACHINE_KEYS,
    *("evaluation.before", "evaluation.benchmarks", "evaluation.likelihood", "trainer", "loggers", "checkpoint_every"),
    *("data.batch_budget", "data.frame_cost", "data.max_batch_size", "data.on_error"),
)
"""Keys that say how a model is measured, not what it is; those below them too."""
LONGEST_NAME = 150
"""Characters of a variant's folder; a longer name ends in a hash."""


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
        examples: Sequence[Example] = read_manifest(resolve(self.benchmark.manifest))
        ids = [example.id for example in examples]
        if trainer.is_global_zero and (remark := self.answers.prepare(ids, again=self.again)):
            console.print(f"{self.benchmark.name}: {remark}", soft_wrap=True)
        trainer.strategy.barrier()
        answered = self.answers.read()
        if self.heard == "shuffled":
            examples = shuffled(examples)
        missing = [example for example in examples if example.id not in answered]
        if trainer.is_global_zero and answered:
            say_what_is_there(self.benchmark, len(examples) - len(missing), len(examples))
            if strange := sorted(answered.keys() - set(ids)):
                left_out = f"{len(strange)} answers to ids that the manifest lacks are left out, such as '{strange[0]}'"
                console.print(f"{self.benchmark.name}: {left_out}", soft_wrap=True)
        if not missing:
            return []
        self.data.trainer = trainer  # the loader splits the examples among the trainer's processes
        loader = self.data.predict_loader(Examples(missing, self.benchmark.prompt))
        if trainer.is_global_zero:
            console.print(f"{self.benchmark.name}: {len(missing)} to answer, the longest first, {len(loader)} batches")
        return [loader]


def say_what_is_there(benchmark: benchmarks.Benchmark, answered: int, count: int) -> None:
    """Print how much of a benchmark is answered already."""
    hint = "" if answered < count else "; --again answers them anew"
    console.print(f"{benchmark.name}: {answered} of {count} answers are there already{hint}", soft_wrap=True)


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


@dataclass(frozen=True)
class Subject:
    """What answers, as far as its answers depend on it."""

    config: ModelConfig
    """Localized."""
    weights: Mapping[str, str]
    """Hashes of the trainable weights, under `learned`, and of each frozen part."""
    template: str
    """Around a prompt."""
    storage: str | None
    """Of the frames in the feature store; None where the encoders run."""
    likelihood: bool


def subject_of(model: Salmonn, data: SpeechDataModule) -> Subject:
    """A loaded model with its loaders as what answers."""
    weights = {"learned": hash_weights(model.trainable_state()), **model.fingerprints()}
    storage = None if data.features is None else data.features.storage
    return Subject(model.config, weights, data.template, storage, model.likelihood)


def model_provenance(subject: Subject, data: DataConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that a model's answers depend on, whatever the benchmark: what is equal gives equal answers.

    How many devices there are of which kind, and what shares a batch, does not count.
    """
    return {
        "model": hidden(asdict(subject.config)),
        "weights": dict(subject.weights),
        "data": {key: getattr(data, key) for key in ("min_seconds", "max_seconds", "channels")},
        "frames": subject.storage,
        "trainer": {"precision": runs.settle_precision(options).get("precision")},
        "likelihood": subject.likelihood,
        "version": {name: version(name) for name in CODE},
    }


def benchmark_provenance(benchmark: benchmarks.Benchmark, prompts: PromptPool, template: str) -> dict[str, Any]:
    """All that answers depend on besides the model: the examples and their audio, the prompt, how text is generated.

    The hash of the audio is left out where a file is not there.
    """
    manifest = read_manifest(resolve(benchmark.manifest))
    if benchmark.prompt is not None:
        asked = {"every task": benchmark.prompt}
    else:
        tasks = sorted(manifest.column("task").unique().to_pylist())
        prompts.check_tasks(tasks, benchmark.name)
        asked = {task: prompts.prompts[task][0] for task in tasks}
    audio = audio_digest(manifest)
    return {
        "manifest": manifest.digest,
        "manifest_path": manifest_place(benchmark.manifest),
        **({} if audio is None else {"audio": audio}),
        "reading": READING,
        "prompt": {task: template.replace("{}", prompt) for task, prompt in asked.items()},
        "decoding": asdict(DecodingConfig(**benchmark.decoding)),
    }


def manifest_place(reference: str) -> str:
    """A benchmark's manifest by a name that is equal from wherever it is asked for."""
    return reference if reference.startswith(("asset:", "data:")) else str(Path(reference).resolve())


def answers_of(
    benchmark: benchmarks.Benchmark, folder: Path, subject: dict[str, Any], prompts: PromptPool, template: str
) -> Answers:
    """The answers of a model to a benchmark, in a folder of predictions.

    Args:
        benchmark: its manifest is there.
        folder: of the predictions.
        subject: provenance of the model's, with what is heard.
        prompts: of the run.
        template: around a prompt.

    Raises:
        ValueError: the folder holds answers to another manifest of the same name.
    """
    provenance = flatten(subject | benchmark_provenance(benchmark, prompts, template))
    answers = Answers(folder / f"{benchmark.name}.jsonl", provenance, benchmark.name)
    for stored in filter(None, (answers.begun(), answers.whole())):
        place = stored.get("manifest_path") or stored_manifest(folder.parent / runs.SCORES, benchmark.name)
        if stored.get("manifest") != provenance["manifest"] and place not in (None, provenance["manifest_path"]):
            raise ValueError(
                f"evaluation.benchmarks: {folder} holds answers to {place} under the name '{benchmark.name}', which "
                f"{benchmark.manifest} would overwrite: give one of the two files another name"
            )
    return answers


def stored_manifest(scores: Path, name: str) -> str | None:
    """The manifest of a benchmark that a file of scores names; None where it does not."""
    found = [result.manifest for result in read_results(scores) if result.benchmark == name and result.manifest]
    return manifest_place(found[0]) if found else None


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
    results: list[report.BenchmarkResult] = []
    subject = subject_of(model, data)
    remember(subject)
    made_from = model_provenance(subject, data.config, trainer_options) | {"heard": heard}
    for benchmark in find_benchmarks(names):
        if (skipped := without_data(benchmark)) is not None:
            results.append(skipped)
            continue
        answers = answers_of(benchmark, folder, made_from, data.prompts, data.template)
        predictions = predict(model, data, benchmark, answers, trainer_options, heard=heard, again=again)
        results.append(report.measure(benchmark, predictions))
    return results


def without_data(benchmark: benchmarks.Benchmark) -> report.BenchmarkResult | None:
    """The result of a benchmark whose data is not there, which is said; None where it is."""
    try:
        resolve(benchmark.manifest)
    except FileNotFoundError as error:
        console.print(escape(f"{benchmark.name}: skipped: {error}"), soft_wrap=True)
        return report.BenchmarkResult(benchmark.name, skipped=str(error))
    return None


def stored_results(
    run: runs.Run, checkpoint: Path | None, config: RunConfig, folder: Path, *, heard: Heard
) -> list[report.BenchmarkResult] | None:
    """Results of the benchmarks where every answer is there already, which no model needs to be built for.

    Args:
        run: whose checkpoint it is.
        checkpoint: another than the run's last one.
        config: of the run, with what is changed.
        folder: of the predictions.
        heard: what the model hears in place of clips.

    Returns:
        None where an answer is missing or was made from anything else, or where that cannot be told without the model.
    """
    rows = find_benchmarks(config.evaluation.benchmarks)
    local = runs.localize(config)
    subject = stored_subject(checkpoint or run.checkpoint, local)
    if subject is None:
        return None
    made_from = model_provenance(subject, local.data, config.trainer) | {"heard": heard}
    prompts = PromptPool.load(local.data.prompts)
    found: list[tuple[benchmarks.Benchmark, list[Prediction]]] = []
    for benchmark in rows:
        with suppress(FileNotFoundError):
            ids = [example.id for example in read_manifest(resolve(benchmark.manifest))]
            answers = answers_of(benchmark, folder, made_from, prompts, subject.template)
            by_id = answers.complete(ids)
            if by_id is None:
                return None
            if runs.first_process() and (remark := answers.prepare(ids)):
                console.print(escape(f"{benchmark.name}: {remark}"), soft_wrap=True)
            found.append((benchmark, [by_id[id] for id in ids]))
    predictions = {benchmark.name: answered for benchmark, answered in found}
    results = []
    for benchmark in rows:
        if benchmark.name in predictions:
            answered = predictions[benchmark.name]
            say_what_is_there(benchmark, len(answered), len(answered))
            results.append(report.measure(benchmark, answered))
        elif (skipped := without_data(benchmark)) is not None:
            results.append(skipped)
    return results


def stored_subject(checkpoint: Path, config: RunConfig) -> Subject | None:
    """What a checkpoint answers as, without building its model; None where that cannot be told.

    Frozen parts are those that this machine has loaded before from the same files; a checkpoint that was trained beside
    others, or is none of this kit's, is left to `runs.load_model` to judge.
    """
    known = remembered(config.model)
    if known is None or not checkpoint.is_file():
        return None
    try:
        stored = read_plain(checkpoint)
    except ValueError:
        return None
    state, beside = stored.get("state_dict"), stored.get("frozen")
    if not isinstance(state, dict) or not isinstance(beside, dict):
        return None
    weights = known["weights"]
    if any(weights.get(name) != value for name, value in beside.items()):
        return None
    if not all(isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in state.items()):
        return None
    used = config.features is not None and config.evaluation.audio not in WAVEFORMS
    return Subject(
        config.model,
        {"learned": hash_weights(state), **weights},
        known["template"],
        config.features_dtype if used else None,
        config.evaluation.likelihood,
    )


def remember(subject: Subject) -> None:
    """Keep the hashes of a model's frozen parts, and its template, by the files that they were loaded from."""
    if runs.first_process() and (place := memory(subject.config)) is not None and not place.is_file():
        weights = {name: value for name, value in subject.weights.items() if name != "learned"}
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps({"weights": weights, "template": subject.template}) + "\n")


def remembered(config: ModelConfig) -> dict[str, Any] | None:
    """What `remember` kept of a model's frozen parts, None where their files are others, or were never loaded here."""
    place = memory(config)
    if place is None or not place.is_file():
        return None
    try:
        known = read_json_object(place)
    except (OSError, ValueError):
        return None  # it is a cache: the model is built, which writes it anew where it is removed
    whole = isinstance(known.get("weights"), dict) and isinstance(known.get("template"), str)
    return known if whole else None


def memory(config: ModelConfig) -> Path | None:
    """The file that `remember` writes, named by all that frozen parts depend on; None where they are not on disk."""
    facts: list[Any] = [{name: version(name) for name in CODE}, torch.cuda.is_available()]
    for part in (config.whisper, config.audio_encoder, config.llm):
        if part is None:
            continue
        files = checkpoint_files(part.checkpoint, getattr(part, "revision", None))
        if not files:
            return None
        stamps = [(str(file), (state := file.stat()).st_size, state.st_mtime_ns, state.st_ctime_ns) for file in files]
        facts.append([asdict(part), stamps])
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "frozen" / f"{digest[:32]}.json"


def checkpoint_files(name: str, revision: str | None) -> list[Path]:
    """The files of a checkpoint: a file itself, those of a folder, or those that a hub name has in the local cache."""
    path = Path(name)
    if path.is_file():
        return [path]
    if not path.is_dir():
        try:
            cached = try_to_load_from_cache(name, "config.json", revision=revision)
        except ValueError:  # no name of the hub
            return []
        if not isinstance(cached, str):
            return []
        path = Path(cached).parent
    return sorted(file for file in path.rglob("*") if file.is_file())


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
    results = []
    for benchmark in rows:
        predictions = read_predictions(there[benchmark.name], benchmark.name)
        for remark in report.disagreements(benchmark, predictions, report.read_examples(benchmark, [])):
            console.print(escape(remark), soft_wrap=True)
        with report.about(there[benchmark.name]):
            results.append(report.measure(benchmark, predictions))
    return results


def set_aside(scores: Path) -> None:
    """Rename a file of scores that cannot be read, which is said: what predictions tell is scored again."""
    try:
        read_results(scores)
    except ValueError as error:
        broken = scores.with_suffix(".broken.json")
        scores.replace(broken)
        console.print(f"{escape(str(error))}: kept as {broken.name}, and made anew", soft_wrap=True)


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
    earlier = measured_before(run, results)
    results = [result.since(earlier[result.benchmark]) if result.benchmark in earlier else result for result in results]
    scores = folder / runs.SCORES
    report.write_scores(scores, joined(scores, results))
    page = report.write_report(folder)
    console.print(report.summary_table(results, f"Results of {folder}"))
    console.print(f"report: {page}", soft_wrap=True)
    return results


def measured_before(run: runs.Run, results: Sequence[report.BenchmarkResult]) -> dict[str, report.BenchmarkResult]:
    """Results of the untrained model by benchmark, scored again where a metric has a newer version than it had then."""
    earlier = {result.benchmark: result for result in read_results(run.before)}
    outdated = [
        each.benchmark for each in results if each.benchmark in earlier and not each.compares(earlier[each.benchmark])
    ]
    if outdated:
        console.print(f"{', '.join(outdated)}: the answers before training are scored again, as metrics have changed")
        again = rescore_files(run, run.predictions_before, run.before, ())
        earlier = {result.benchmark: result for result in again}
        report.write_scores(run.before, again)
    return earlier


def headline_table(measured: Mapping[str, Sequence[report.BenchmarkResult]]) -> Table:
    """Return a line for each run's headline score on each benchmark, those of a benchmark together."""
    rows = [(run, *report.score_rows([result])[0]) for run, results in measured.items() for result in results]
    escaped = [[escape(cell) for cell in row] for row in sorted(rows, key=lambda row: row[1])]
    return table(f"Results of {len(measured)} runs", ("run", *report.COLUMNS), escaped)


def destination(run: runs.Run, checkpoint: Path | None, overrides: Sequence[str]) -> Path:
    """Where results go: a run's own folder, or one of its `variants/` where the model is not as it was trained.

    A variant is named after what differs, such as `model.lora.scale=2`. Values decide, not how they are written: 2.0 is
    2, what the run was trained with is no variant, and neither is what only says where or how it is measured.
    """
    changed = variant_values(run, overrides)
    pieces = {key: folder_text(f"{key}={value_text(value)}") for key, value in changed.items()}
    name = ",".join([*([folder_text(checkpoint.stem)] if checkpoint else []), *pieces.values()])
    if not name:
        return run.folder
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    variants = run.folder / "variants"
    # Earlier versions named a variant as its overrides were written.
    written = {text.partition("=")[0]: folder_text(text) for text in overrides}
    older = ",".join(
        [
            *([checkpoint.stem] if checkpoint else []),
            *sorted(text for key, text in written.items() if key in changed),
        ]
    )
    for candidate in (name, older, *alike(variants, pieces, changed, checkpoint)):
        if candidate and (variants / candidate).is_dir():
            return variants / candidate
    return variants / name


def variant_values(run: runs.Run, overrides: Sequence[str]) -> dict[str, Any]:
    """The values by dotted key in which a run with overrides is another model than the run."""
    stored = flatten(asdict(run.config()))
    values = flatten(asdict(run.config(overrides)))
    return {
        key: value
        for key, value in sorted(values.items())
        if (key not in stored or stored[key] != value)
        and not any(key == how or key.startswith(f"{how}.") for how in HOW)
    }


def alike(
    variants: Path, pieces: Mapping[str, str], changed: Mapping[str, Any], checkpoint: Path | None
) -> Iterator[str]:
    """Names of the variants there are whose numbers are equal, however they are written."""
    head = [folder_text(checkpoint.stem)] if checkpoint else []
    for folder in sorted(variants.glob("*=*")):
        words = folder.name.split(",")
        given = dict(word.split("=", 1) for word in words[len(head) :] if "=" in word)
        if (
            words[: len(head)] == head
            and len(given) == len(words) - len(head)
            and given.keys() == changed.keys()
            and all(
                f"{key}={text}" == pieces[key] or number_of(text) == changed[key] is not None
                for key, text in given.items()
            )
        ):
            yield folder.name


def number_of(text: str) -> float | None:
    """The number that a text is, None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def value_text(value: Any) -> str:
    """A value as a variant's name has it: whole numbers without a point, null, true and false as in YAML."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def folder_text(text: str) -> str:
    """A text as a part of a folder's name."""
    return re.sub(r"[^\w.,=-]+", "_", text)


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
    run: runs.Run, checkpoint: Path | None, overrides: Sequence[str], *, again: bool, wait: bool = False
) -> list[report.BenchmarkResult]:
    """Measure a run on the benchmarks of its configuration, with `overrides`, and publish what comes out.

    Where every answer is there already, no model is built.
    """
    config = run.config(overrides)
    names, heard = config.evaluation.benchmarks, config.evaluation.audio
    folder = destination(run, checkpoint, overrides)
    predictions = folder / runs.PREDICTIONS
    for scores in (run.before, folder / runs.SCORES):
        read_results(scores)  # a torn one is better known now than after the measuring
    with runs.locked(folder, wait=wait):
        results = None if again else stored_results(run, checkpoint, config, predictions, heard=heard)
        if results is None:
            model, data = ready(run, checkpoint, config)
            results = measure(model, data, names, predictions, config.trainer, heard=heard, again=again)
        return publish(run, folder, results) if runs.first_process() else results


def evaluate_stored(
    place: Path, checkpoint: Path | None, overrides: Sequence[str], *, wait: bool = False
) -> list[report.BenchmarkResult]:
    """Score what a run, or one of its variants, has answered; without `benchmarks` among the overrides, all of it."""
    run = report.owner(place)
    config = run.config(overrides)
    folder = destination(run, checkpoint, overrides) if place == run.folder else place
    chosen = any(override.startswith("evaluation.benchmarks=") for override in overrides)
    with runs.locked(folder, wait=wait):
        for scores in (run.before, folder / runs.SCORES):
            set_aside(scores)
        return publish(run, folder, rescore(run, folder, config.evaluation.benchmarks if chosen else ()))


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_evaluate(sys.argv[1:])
    overrides = full_keys(options.overrides)
    measured, failed = {}, []
    for place in options.run:
        try:
            if options.rescore:
                measured[str(place)] = evaluate_stored(place, options.checkpoint, overrides, wait=options.wait)
            else:
                measured[str(place)] = evaluate(
                    runs.find(place), options.checkpoint, overrides, again=options.again, wait=options.wait
                )
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
    run_command(main, "the same command goes on from there")
