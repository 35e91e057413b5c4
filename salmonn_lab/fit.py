"""The command that trains a run and measures it: `python -m salmonn_lab.fit --config FILE [key=value ...]`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_fit)

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback, LearningRateMonitor
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from salmonn_lab import report, runs
from salmonn_lab.assets import resolve
from salmonn_lab.clock import PartClock
from salmonn_lab.config import RunConfig, concealed, first_line, load_config, revealed, to_yaml
from salmonn_lab.console import console, progress, run_command, table
from salmonn_lab.data.config import reading
from salmonn_lab.data.modules import SpeechDataModule, check_data
from salmonn_lab.encode import clips_of, fill
from salmonn_lab.evaluate import data_module, find_benchmarks, measure, publish
from salmonn_lab.model.config import CHAT
from salmonn_lab.model.cost import Clip, audio_tokens, part_costs
from salmonn_lab.optim import precision_of
from salmonn_lab.plain import read_plain
from salmonn_lab.progress import progress_callbacks, quiet_libraries
from salmonn_lab.salmonn import Salmonn
from salmonn_lab.training.checkpoints import (
    LOSS,
    PREVIOUS,
    BestCheckpoint,
    DurableCheckpointIO,
    LastCheckpoint,
    owes_validation,
    settle,
)
from salmonn_lab.training.metrics_csv import MetricsCsv, rewind

VALIDATING = ("accelerator", "devices", "num_nodes", "strategy", "precision", "limit_val_batches")
"""Trainer options that a validation outside training takes over from it."""
ESTIMATED_TEXT = (40, 20)
"""Tokens of text, and how many of them are predicted, of the clip that `--estimate` weighs."""


def fit(config: RunConfig, *, resume: bool = False, wait: bool = False) -> runs.Run:
    """Measure, train, measure again and report; everything lands in `config.out_dir`.

    With `resume`, a run that was stopped at any moment goes on from its last checkpoint and ends with the weights
    of a run that was never stopped; one that is finished stays as it is. With `wait`, another process that is at work
    on the run is waited for.

    Raises:
        BlockingIOError: another process is at work on the run, and `wait` is False.
        FileExistsError: if `out_dir` holds a run and `resume` is False.
        ValueError: if there is no such benchmark; or a manifest has changed since the training began that is resumed.
        FloatingPointError: when the loss is not finite; the clips of the batch are named.
    """
    say_missing(config.evaluation.benchmarks)
    with runs.locked(Path(revealed(config.out_dir)), wait=wait):
        return train_and_measure(config, resume=resume)


def train_and_measure(config: RunConfig, *, resume: bool) -> runs.Run:
    """Do what `fit` does, in a folder that is this process's own."""
    run = runs.start(config, resume=resume)
    if run.finished():
        if runs.first_process() and not (run.folder / "report.html").is_file():  # killed between scores and report
            report.write_report(run.folder)
        console.print(
            f"{run.folder} is finished: nothing is left to do. python -m salmonn_lab.evaluate --run {run.folder} "
            "measures it on other benchmarks",
            soft_wrap=True,
        )
        return run
    config = run.config()
    if runs.first_process():
        _, remark = settle(run.checkpoint.parent)
        if remark:
            console.print(remark, soft_wrap=True)
    with timed(run, "preparation"):
        local = runs.localize(config)
        hashes = check_manifests(run, local)
        lightning.seed_everything(config.seed, verbose=False)
        model = Salmonn(local.model, local.optim, seed=config.seed, reading=reading(config.data))
        if config.init_from and not run.checkpoint.is_file():
            coverage = runs.initialize(model, config.init_from)
            if runs.first_process():
                console.print(f"init_from {config.init_from}: {coverage}")
        data = data_module(local, model)
        run.record(weights=model.fingerprints(), manifests=hashes, parameters=(counts := parameters(model)))
        run.record(**settled(config, model))
        if runs.first_process():
            console.print(f"{counts['total'] / 1e6:,.1f} M weights, {counts['trainable'] / 1e6:,.1f} M of them learn")
    names, heard = config.evaluation.benchmarks, config.evaluation.audio
    model.likelihood = config.evaluation.likelihood
    if config.features is not None:
        with timed(run, "encoding"):
            data.features = fill(local, model.encoders, clips_of(local))
    if (compared := config.evaluation.compared) and not run.before.is_file():
        with timed(run, "measuring before"):
            results = measure(model, data, compared, run.predictions_before, config.trainer, heard=heard)
            if runs.first_process():
                report.write_scores(run.before, results)
    with timed(run, "training") as so_far:
        train(model, data, config, run, so_far)
    with timed(run, "measuring after"):
        results = measure(model, data, names, run.predictions, config.trainer, heard=heard)
    if runs.first_process():
        publish(run, run.folder, results)
    return run


def say_missing(names: Sequence[str]) -> None:
    """Say which benchmarks will not be measured because their data is not here: better now than after training.

    Raises:
        ValueError: there is no such benchmark, or two have the same name.
        AssetError: what one is made of cannot be fetched.
    """
    for benchmark in find_benchmarks(names):
        try:
            resolve(benchmark.manifest)
        except FileNotFoundError as error:
            if runs.first_process():
                console.print(f"{benchmark.name} will not be measured: {error}", soft_wrap=True, markup=False)


def check_manifests(run: runs.Run, config: RunConfig) -> dict[str, str]:
    """Hash of each manifest that a run trains and validates on, by path; `config` is localized.

    Raises:
        ValueError: one has changed since the training began that is to be resumed; the file is named.
    """
    paths = [source.manifest for source in (*config.data.sources, *config.data.validation)]
    hashes = {path: runs.file_hash(Path(path)) for path in paths if Path(path).is_file()}
    recorded = run.provenance().get("manifests", {}) if run.checkpoint.is_file() else {}
    for path, digest in hashes.items():
        if recorded.get(path, digest) != digest:
            raise ValueError(
                f"{path} has changed since the training of {run.folder} began: put the manifest back as it was to "
                "resume, or start a new run with another out_dir=..."
            )
    return hashes


def train(model: Salmonn, data: SpeechDataModule, config: RunConfig, run: runs.Run, so_far: Callable[[], None]) -> None:
    """Train from the last checkpoint, or from the start, to the end, and leave the last checkpoint there.

    `so_far` is called with every checkpoint: what a run took until then counts, though the process may be killed.
    """
    checkpoint = read_plain(run.checkpoint) if run.checkpoint.is_file() else {}
    resumed = int(checkpoint.get("global_step", 0))
    owed = owes_validation(checkpoint) and bool(config.data.validation)
    options = runs.settle_precision(config.trainer)
    if isinstance(options.get("val_check_interval"), int):  # batches of the whole training, not of an epoch
        options = {"check_val_every_n_epoch": None, **options}
    if runs.first_process():
        rewind(run.folder / "metrics.csv", resumed, without=LOSS if owed else None)
    logged = loggers(config, run)
    rates = [LearningRateMonitor()] if logged else []
    folder = run.checkpoint.parent
    best = [BestCheckpoint(folder)] if config.data.validation else []
    trainer = lightning.Trainer(
        **{"enable_model_summary": False, **options, "plugins": with_durable_checkpoints(options.get("plugins"))},
        logger=logged,
        callbacks=[
            LastCheckpoint(folder, config.checkpoint_every),
            *best,
            LambdaCallback(on_save_checkpoint=lambda *_: so_far()),
            PartClock(run),
            *rates,
            *progress_callbacks("training"),
        ],
        default_root_dir=run.folder,
        use_distributed_sampler=False,
    )
    check_strategy(config, trainer)
    model.total_steps = total_steps(config, data, trainer)
    if owed:
        validate(model, data, checkpoint, config, logged, best[0])
    trainer.fit(model, data, ckpt_path=run.checkpoint if resumed else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.save_checkpoint(run.checkpoint)
    if runs.first_process():
        (folder / PREVIOUS).unlink(missing_ok=True)


def with_durable_checkpoints(plugins: Any) -> list[Any]:
    """Lightning's plugins that a config asks for, and the one that writes checkpoints."""
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    return [*given, DurableCheckpointIO()]


def validate(
    model: Salmonn,
    data: SpeechDataModule,
    checkpoint: Mapping[str, Any],
    config: RunConfig,
    logged: Sequence[Logger],
    best: BestCheckpoint,
) -> None:
    """Run the validation that a kill cut short at the step of a checkpoint, which Lightning would skip."""
    model.load_checkpoint(checkpoint, "the checkpoint")
    step = int(checkpoint["global_step"])
    console.print(f"the validation of step {step} was cut short and is run again")
    options = {key: value for key, value in runs.settle_precision(config.trainer).items() if key in VALIDATING}
    validator = lightning.Trainer(
        **{"enable_model_summary": False, "enable_checkpointing": False, **options},
        logger=False,
        callbacks=progress_callbacks("validation"),
        use_distributed_sampler=False,
    )
    loss = validator.validate(model, datamodule=data, verbose=False)[0][LOSS]
    for logger in logged:
        logger.log_metrics({LOSS: loss, "epoch": int(checkpoint["epoch"])}, step - 1)
        logger.save()
    if validator.is_global_zero:
        best.save_validated(checkpoint, loss)
    validator.strategy.barrier()


def check_strategy(config: RunConfig, trainer: lightning.Trainer) -> None:
    """Refuse what DDP would end in mid-training with a long message: weights without a gradient."""
    finds = not isinstance(trainer.strategy, DDPStrategy) or trainer.strategy._ddp_kwargs.get("find_unused_parameters")
    if config.optim.align_steps and not finds:
        raise ValueError(
            "optim.align_steps trains the bridge without LoRA: on several devices set "
            "trainer.strategy=ddp_find_unused_parameters_true"
        )


def total_steps(config: RunConfig, data: SpeechDataModule, trainer: lightning.Trainer) -> int:
    """Optimizer steps of the whole training, over which the learning rate decays: Lightning stops at the first limit.

    `trainer.estimated_stepping_batches` is not asked: it starts the loaders before a checkpoint is read.

    Raises:
        ValueError: nothing says when training ends.
    """
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        data.trainer = trainer
        data.setup("fit")
        batches = limited(len(data.train_dataloader()), trainer.limit_train_batches)
        limits.append(math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs)
    if not limits:
        raise ValueError("trainer.max_steps or trainer.max_epochs must say when training ends")
    if config.trainer.get("max_time") is not None and runs.first_process():
        console.print(
            f"trainer.max_time may end training before the learning rate has decayed over {min(limits)} steps"
        )
    return min(limits)


def limited(batches: int, limit: int | float) -> int:
    """Batches of an epoch under `trainer.limit_train_batches`: a number of them, or a fraction."""
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def loggers(config: RunConfig, run: runs.Run) -> list[Logger]:
    """Configured loggers, opened, so that one that cannot log is known before training.

    Raises:
        ValueError: a logger's package is missing, its options are not Lightning's, or its server refuses; named by key.
    """
    made: list[Logger] = []
    for name, options in revealed(config.loggers).items():
        if options is None:
            continue
        try:
            made.append(LOGGERS[name](run.folder, options))
            cast(Any, made[-1]).experiment  # noqa: B018  # W&B and MLflow connect on first use
        except Exception as error:  # of packages that this kit does not depend on
            raise ValueError(f"loggers.{name}: {concealed(first_line(error), options)}") from error
    return made


LOGGERS: dict[str, Callable[[Path, dict[str, Any]], Logger]] = {
    "csv": lambda folder, options: MetricsCsv(folder, **options),
    "tensorboard": lambda folder, options: TensorBoardLogger(folder, name="tensorboard", version="", **options),
    "wandb": lambda folder, options: WandbLogger(**{"save_dir": folder, "name": folder.name, **options}),
    "mlflow": lambda folder, options: MLFlowLogger(**{"run_name": folder.name, **options}),
}


def parameters(model: Salmonn) -> dict[str, int]:
    """Return how many weights there are and how many of them learn."""
    weights = list(model.parameters())
    return {
        "total": sum(weight.numel() for weight in weights),
        "trainable": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def settled(config: RunConfig, model: Salmonn) -> dict[str, Any]:
    """What the config left to the machine, the tokenizer or the hub, as it was for this run."""
    facts: dict[str, Any] = {"precision": precision_of(runs.settle_precision(config.trainer))}
    if revisions := model.revisions():
        facts["revisions"] = revisions
    if config.model.llm.prompt_template == CHAT:
        facts["prompt_template"] = model.llm.prompt_template
    return facts


@contextmanager
def timed(run: runs.Run, part: str) -> Iterator[Callable[[], None]]:
    """Add the seconds that a part takes to the run's provenance, which then also holds the peak memory so far.

    Yields:
        what adds the seconds so far, for a part of which something is kept where it is cut short.
    """
    start = time.monotonic()

    def add() -> None:
        nonlocal start
        record = run.provenance()
        seconds = record.get("seconds", {})
        known = seconds.get(part, 0.0)
        seconds[part] = round(known + time.monotonic() - start, 1)
        start += seconds[part] - known  # what was rounded off is counted the next time
        peak = max(record.get("peak_memory_gib", 0.0), runs.peak_memory_gib())
        run.record(seconds=seconds, peak_memory_gib=peak)

    yield add
    add()


def check_trainer(config: RunConfig) -> None:
    """Refuse options that Lightning's Trainer does not take, before anything is loaded.

    Raises:
        ValueError: one line of what it says.
    """
    options = {"enable_model_summary": False, "enable_progress_bar": False, **runs.settle_precision(config.trainer)}
    try:
        lightning.Trainer(**options, logger=False, enable_checkpointing=False, use_distributed_sampler=False)
    except (MisconfigurationException, ImportError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())}") from None


def print_problems(config: RunConfig) -> None:
    """Scan the data of a run; problems go to standard output, a line each, and end the command with an error."""
    with progress() as bar:
        task = bar.add_task("checking data", total=None)
        check = check_data(
            runs.localize(config.data), lambda done, total: bar.update(task, completed=done, total=total)
        )
    for note in check.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for problem in check.problems:
        print(problem)
    if check.problems:
        raise ValueError(f"{len(check.problems)} problems with the data")
    console.print("no problems with the data")


def print_estimate(config: RunConfig, seconds: float) -> None:
    """Print what a model costs; no weight is loaded."""
    model = Salmonn.skeleton(runs.localize(config).model)
    clip = Clip(seconds, *ESTIMATED_TEXT)
    parts = part_costs(model.encoders, model.bridge, model.llm, config.model.llm.quantization, clip)
    numbers = [
        (
            part.weights,
            part.trainable,
            part.weight_bytes / 2**30,
            part.optimizer_bytes / 2**30,
            part.flops / 1e9,
            part.backward / 1e9,
        )
        for part in parts
    ]
    sums = tuple(sum(column) for column in zip(*numbers, strict=True))
    rows = [
        (name, f"{row[0]:,}", f"{row[1]:,}", f"{row[2]:.2f}", f"{row[3]:.2f}", f"{row[4]:.1f}", f"{row[5]:.1f}")
        for name, row in zip([*(part.name for part in parts), "all"], [*numbers, sums], strict=True)
    ]
    columns = ("part", "weights", "trainable", "weights GiB", "optimizer GiB", "GFLOP forward", "GFLOP backward")
    tokens = audio_tokens(seconds, model.bridge)
    console.print(table(f"A clip of {seconds:g} s: {tokens} audio tokens, {clip.text_tokens} of text", columns, rows))
    console.print("Operations are of one clip. Activations come on top of the memory; the optimizer's is for training.")
    encoders = {type(stream).__name__ for stream in model.encoders.streams}
    whole = sum(part.flops + part.backward for part in parts)
    share = sum(part.flops for part in parts if part.name in encoders) / whole
    console.print(
        f"The encoders do {share:.0%} of a training step's operations. Runs that share a feature store leave them out: "
        f"a sweep is up to {1 / (1 - share):.2f} times as fast.",
        soft_wrap=True,
    )


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_fit(sys.argv[1:])
    config = load_config(options.config, options.overrides)
    if options.print_config:
        print(to_yaml(config), end="")
    elif options.estimate is not None:
        print_estimate(config, options.estimate)
    elif options.check_data:
        print_problems(config)
    else:
        check_trainer(config)
        fit(config, resume=options.resume, wait=options.wait)


if __name__ == "__main__":
    run_command(main, "the same command with --resume goes on from the last checkpoint")
