"""The command that fills the feature store: `python -m salmonn_lab.encode --config FILE [key=value ...]`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_encode)

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from salmonn_lab import benchmarks, runs
from salmonn_lab.assets import resolve
from salmonn_lab.batch import ClipBatch, EncoderSpec
from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.console import console, run_command, table
from salmonn_lab.data import features
from salmonn_lab.data.features import Clip, FeatureStore, FeatureWriter
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.modules import (
    Benchmark,
    benchmark_clips,
    clip_frames,
    clip_loader,
    reader,
    trained_clips,
)
from salmonn_lab.model.encoders import Encoders
from salmonn_lab.progress import progress_callbacks, quiet_libraries

HARDWARE_KEYS = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""What the trainer of a prediction takes over from that of the training."""
READ_AGAIN = 16
"""So many clips are compared with what their files are trusted to hold, at every start."""


class ClipEncoder(lightning.LightningModule):
    """Encodes clips into a store, on whatever device a trainer puts it; nothing where it is `idle`."""

    def __init__(self, encoders: Encoders, store: FeatureStore, *, idle: bool = False) -> None:
        super().__init__()
        self.encoders, self.writer, self.idle = encoders, FeatureWriter(store), idle

    def predict_step(self, clips: ClipBatch, batch_idx: int) -> None:
        """Encode what a batch holds of clips that the store lacks; equal clips once."""
        if self.idle:
            return
        rows = {content: row for row, content in enumerate(clips.contents)}
        for number in range(len(self.encoders.streams)):
            wanted = {content: row for content, row in rows.items() if self.writer.wants(number, content)}
            if wanted:
                chosen = torch.tensor(list(wanted.values()), device=clips.lengths.device)
                answers = self.encoders.encode_clips(number, clips.waveforms[chosen], clips.lengths[chosen])
                for content, frames in zip(wanted, answers, strict=True):
                    self.writer.put(number, content, frames)
        for source, content in zip(clips.sources, clips.contents, strict=True):
            self.writer.note(source, content)

    def on_predict_end(self) -> None:
        """Write what is left."""
        self.writer.publish()


def predicting_trainer(options: dict[str, Any], name: str, *callbacks: Callback) -> lightning.Trainer:
    """Return a trainer that predicts on the hardware that the training's options ask for."""
    return lightning.Trainer(
        logger=False,
        callbacks=[*callbacks, *progress_callbacks(name)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{key: value for key, value in runs.settle_precision(options).items() if key in HARDWARE_KEYS},
    )


def examples_of(names: Sequence[str]) -> list[Benchmark]:
    """Return the examples of those benchmarks whose data is there."""
    found = []
    for benchmark in map(benchmarks.find, names):
        with suppress(FileNotFoundError):
            found.append(Benchmark(read_manifest(resolve(benchmark.manifest))))
    return found


def clips_of(config: RunConfig) -> list[Clip]:
    """Return every clip that a run plays: training at each speed, validation, benchmarks; `config` is localized."""
    examples = examples_of(config.evaluation.benchmarks)
    return list(dict.fromkeys([*trained_clips(config.data), *benchmark_clips(examples)]))


def open_store(config: RunConfig, encoders: Encoders) -> FeatureStore:
    """Return the store that a configuration names."""
    if config.features is None:
        raise ValueError("features is null: name the folder of the feature store, such as features=runs/features")
    if (folder := Path(config.features)).exists() and not folder.is_dir():
        raise ValueError(f"features={folder} is not a folder")
    return FeatureStore(folder, encoders.specs(), config.features_dtype)


def fill(
    config: RunConfig,
    encoders: Encoders,
    clips: Sequence[Clip],
    *,
    verify_shards: bool = False,
    read_again: int | None = READ_AGAIN,
) -> FeatureStore:
    """Encode those clips that the store lacks, and return the store, which then knows all of them.

    Args:
        config: of the run, localized.
        encoders: its encoders.
        clips: what it plays.
        verify_shards: hash the content of shards before trusting it.
        read_again: how many clips are read and compared with what is stored; None is all.

    Raises:
        AudioError: a clip cannot be read, and `data.on_error` is not `skip`.
        OSError: the disk has too little room for what is missing, which is known before anything is encoded.
    """
    store, data = open_store(config, encoders), config.data
    store.scan(verify=verify_shards)
    if not clips:
        return store
    missing = find_missing(store, clips, config, read_again)
    trainer = predicting_trainer(encoding_options(config.trainer), "encoding")
    if missing or trainer.world_size > 1:  # every process must take part, or none
        frames = dict(zip(missing, clip_frames(missing, data).tolist(), strict=True))
        counts = frames.values()
        sizes = [features.frame_bytes(spec, count, store.storage) for spec in store.encoders for count in counts]
        features.check_room(store.folder, sum(sizes))
        if runs.first_process():
            console.print(
                f"features={store.folder}: {len(missing)} of {len(clips)} clips are to be encoded, "
                f"up to {sum(sizes) / 2**30:.2f} GiB",
                soft_wrap=True,
            )
        # By its key, not its place, so that processes agree even where another one fills the store meanwhile.
        mine = [clip for clip in missing if int(clip.key, 16) % trainer.world_size == trainer.global_rank]
        mine.sort(key=lambda clip: -frames[clip])
        loader = clip_loader(mine or clips[:1], data, data.on_error)  # Lightning wants something on every process
        trainer.predict(ClipEncoder(encoders, store, idle=not mine), loader, return_predictions=False)
        trainer.strategy.barrier()
        store.scan()
        lost = store.find(clips, reader(data))
        if lost and data.on_error == "stop":
            raise OSError(f"features={store.folder}: {lost[0].audio[0].path} was encoded and has gone again")
        if lost and runs.first_process():
            console.print(f"features={store.folder}: {len(lost)} clips could not be read and are left out")
    return store


def encoding_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return a training's trainer options as far as encoding takes them over.

    Encoders run in the type of their own weights. What shards a model has all processes take the same number of
    steps; here each has its own share of the clips, and a copy of the encoders.
    """
    kept = {key: value for key, value in options.items() if key in ("accelerator", "devices", "num_nodes")}
    strategy = str(options.get("strategy", "auto"))
    return {**kept, "strategy": strategy} if strategy.startswith("ddp") else kept


def find_missing(store: FeatureStore, clips: Sequence[Clip], config: RunConfig, read_again: int | None) -> list[Clip]:
    """Return the clips that a store lacks: all of them, where one has changed behind the back of its file's date."""
    read = reader(config.data)
    missing = store.find(clips, read)
    found = [clip for clip in clips if store.content(clip) is not None]
    step = 1 if read_again is None else max(1, len(found) // read_again)
    for clip in found[::step]:
        if not store.agrees(clip, read):
            console.print(
                f"{clip.audio[0].path} no longer holds the samples that were encoded, though its size and time of "
                "modification are the same: every clip is read again",
                soft_wrap=True,
            )
            store.distrust()
            return list(clips)
    return missing


def load_encoders(config: RunConfig, *, load: bool = True) -> Encoders:
    """Return a run's encoders without the rest of its model; `config` is localized."""
    model = config.model
    whole = model.bridge.span == "thirty_seconds"
    return Encoders(model.whisper, model.audio_encoder, thirty_seconds=whole, load=load)


def print_estimate(config: RunConfig) -> None:
    """Print what all clips of a configuration take in a store; no weight is loaded and nothing is encoded."""
    with torch.device("meta"):
        specs: list[EncoderSpec] = load_encoders(config, load=False).specs()
    clips = clips_of(config)
    counts = clip_frames(clips, config.data).tolist()
    storage = config.features_dtype
    sizes = [sum(features.frame_bytes(spec, count, storage) for count in counts) for spec in specs]
    rows = [(spec.name, str(spec.dim), f"{size / 2**30:.2f}") for spec, size in zip(specs, sizes, strict=True)]
    hours = sum(counts) / 50 / 3600
    title = f"{len(clips):,} clips, {hours:.1f} hours, stored as {storage}"
    console.print(table(title, ("encoder", "width", "GiB"), [*rows, ("all", "", f"{sum(sizes) / 2**30:.2f}")]))


def prune(configs: Sequence[RunConfig]) -> None:
    """Remove from the store of the first configuration what none of them needs; they are localized."""
    needed: dict[str, set[str]] = {}
    sources: set[str] = set()
    folder = Path(configs[0].features or "")
    for config in configs:
        store, read = open_store(config, load_encoders(config)), reader(config.data)
        if store.folder.resolve() != folder.resolve():
            raise ValueError(f"--prune: the configs name different stores, features={folder} and {store.folder}")
        store.scan()
        clips = clips_of(config)
        store.find(clips, read)
        contents = {content for clip in clips if (content := store.content(clip)) is not None}
        sources |= {features.source_key(clip, read) for clip in clips}
        for name in store.names():
            needed.setdefault(name, set()).update(contents)
    freed = features.prune(folder, needed, sources)
    console.print(f"features={folder}: {freed / 2**30:.2f} GiB removed, {features.size(folder) / 2**30:.2f} GiB stay")


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_encode(sys.argv[1:])
    config = runs.localize(load_config(options.config, options.overrides))
    if options.estimate:
        print_estimate(config)
    elif options.prune:
        prune([config, *(runs.localize(load_config([file])) for file in options.keep)])
    else:
        again = None if options.verify else READ_AGAIN
        store = fill(config, load_encoders(config), clips_of(config), verify_shards=True, read_again=again)
        if runs.first_process():
            console.print(f"features={store.folder}: complete, {features.size(store.folder) / 2**30:.2f} GiB")


if __name__ == "__main__":
    run_command(main, "the same command goes on from there")
