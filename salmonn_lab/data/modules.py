"""The data of a run: its configuration, and the loaders that Lightning asks for."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any, Literal, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.loops.progress import _ProcessedTracker
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from salmonn_lab.batch import Batch, ClipBatch, Example
from salmonn_lab.data.audio import OVERSHOOT_SECONDS, AudioError, audio_seconds, read_audio
from salmonn_lab.data.collate import collate, collate_clips
from salmonn_lab.data.config import DataConfig, SourceConfig, reading
from salmonn_lab.data.dataset import ClipDataset, SpeechDataset, at_full_speed, duration_problem
from salmonn_lab.data.features import Clip, FeatureStore, Reader
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.mixture import (
    BYTES_PER_TOKEN,
    FRAMES_PER_SECOND,
    PROMPT_TOKENS,
    Indices,
    Mixture,
    Plan,
    ResumableBatchSampler,
    WarmUp,
)
from salmonn_lab.data.prompts import PromptPool

SCAN_THREADS = 16
SCAN_AT_ONCE = 10_000
TEXTS_AT_ONCE = 10_000
ENCODED_AT_ONCE = 16
"""Clips, where `max_batch_size` does not say."""

Seconds = NDArray[np.float64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Benchmark:
    """Examples to predict on."""

    examples: Sequence[Example]
    prompt: str | None = None
    """Asked about every example; None is the first prompt of the example's task."""


class SpeechDataModule(lightning.LightningDataModule):
    """Loaders for training, validation and prediction; the Trainer needs `use_distributed_sampler=False`.

    A resumed `fit` goes on with the batch after the last one trained on. The place is the trainer's own count of
    processed batches, which `ResumableBatchSampler` reads; the count is in this module's state too, because Lightning
    restores its own only after `trainer.estimated_stepping_batches`, if touched, has started the loader (#20550).
    """

    def __init__(
        self,
        config: DataConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str = "USER: {}\nASSISTANT:",
        seed: int = 0,
        fixed_frames: int | None = None,
        warm_up_batches: int = 0,
        warm_up_tasks: Collection[str] = (),
        benchmarks: Sequence[Benchmark] = (),
    ) -> None:
        """Keep what loaders are made of.

        Args:
            config: sources, batches, audio.
            tokenizer: of the LLM.
            template: the LLM's, around a prompt.
            seed: of the order of examples and the choice of prompts.
            fixed_frames: encoder frames that a clip costs whatever its length (1500 where the model always spends
                30 s); None counts 50 a second.
            warm_up_batches: how many batches of each rank come first that hold examples of `warm_up_tasks` alone.
            warm_up_tasks: their tasks.
            benchmarks: what `predict_dataloader` yields, one loader each.
        """
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.template = template
        self.seed = seed
        self.fixed_frames = fixed_frames
        self.warm_up_batches = warm_up_batches
        self.warm_up_tasks = warm_up_tasks
        self.benchmarks = benchmarks
        self.prompts = PromptPool.load(config.prompts)
        self.read: Reader = reader(config)
        """Makes waveforms of segments; one that is no plain reading of them excludes `features`."""
        self.features: FeatureStore | None = None
        """Where set, frames come from here and no audio is read; it has found every clip."""
        self._training: Mixture | None = None
        self._validation: Mixture | None = None
        self._plan: Plan | None = None
        self._warm_up: WarmUp | None = None
        self._restored: dict[str, Any] = {}
        self._contents: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Open the manifests, check what can be checked without audio, and plan the batches."""
        if stage == "fit":
            if not self.config.sources:
                raise ValueError("data.sources is empty: there is nothing to train on")
            self._training, self._restored = self._open("sources"), {}
            self._plan, self._warm_up = self._plan_training(self._training)
        if stage in ("fit", "validate") and self.config.validation:
            self._validation = self._open("validation")
        if stage == "fit":
            self._contents = self._hash_contents()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader that starts at the first batch not yet trained on.

        Raises:
            ValueError: where a checkpoint is resumed whose batches were not these.
        """
        assert self._training is not None, "setup('fit') comes first"
        assert self._plan is not None
        self._check_contents()
        if self._restored and self._restored["plan"] != self._fingerprint():
            raise ValueError(
                "cannot resume: the checkpoint's batches are not this run's, because the data, the seed, optim.align, "
                "data.epoch_size, data.batch_budget, data.max_batch_size, data.frame_cost, the encoder frames of a "
                "clip or the number of processes changed; restore them, or start a new run from the checkpoint's "
                "weights"
            )
        speeds = list(map(self.config.speeds_of, self.config.sources))
        dataset = self._dataset(self._training, "train", speeds=partial(speeds_of_source, self._training, speeds))
        return self._loader(dataset, self._plan, self._consumed, self._warm_up)

    def target_pieces(self) -> list[int]:
        """Return the word pieces that occur in training targets, and the end symbol, sorted."""
        assert self._training is not None, "setup('fit') comes first"
        pieces = {cast(int, self.tokenizer.eos_token_id)}
        for manifest in set(self._training.manifests):
            texts = manifest.column("target").unique().to_pylist()
            for first in range(0, len(texts), TEXTS_AT_ONCE):
                some = texts[first : first + TEXTS_AT_ONCE]
                pieces.update(*self.tokenizer(some, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        return sorted(pieces)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the loader over all validation sources, none if there are none.

        With several processes, up to one batch each comes twice: they must make equal steps.
        """
        if self._validation is None:
            return []
        return self._loader(self._dataset(self._validation, "validate"), self._plan_all(self._validation))

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return one loader per benchmark; with several processes an example may come twice, never not at all."""
        return [self.predict_loader(benchmark) for benchmark in self.benchmarks]

    def predict_loader(self, benchmark: Benchmark) -> DataLoader[Batch]:
        """Return a loader over a benchmark; a clip that cannot be read stops it, whatever `data.on_error` says."""
        # Lightning cannot know that this sampler leaves nothing out, and would warn of it.
        warnings.filterwarnings("ignore", message="You are using a custom batch sampler")
        examples, prompts = benchmark.examples, self.prompts
        if not examples:
            raise ValueError("a benchmark has no examples")
        if benchmark.prompt is not None:
            tasks = {example.task for example in examples}
            prompts = PromptPool({task: [benchmark.prompt] for task in tasks}, "the benchmark's prompt")
        seconds = np.array([np.nan if example.duration is None else example.duration for example in examples])
        text = np.array([len(example.question.encode()) for example in examples])
        tokens = np.ceil(text / BYTES_PER_TOKEN + PROMPT_TOKENS).astype(np.int64)
        frames = self._frames(examples, seconds, "stop")
        plan = self._plan_arrays(frames, tokens, [len(examples)])
        return self._loader(self._dataset(examples, "predict", prompts), plan)

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches each process has trained on, and hashes of their order and of what they hold."""
        if self._plan is None:
            return {}
        return {"consumed": self._consumed(), "plan": self._fingerprint(), "contents": self._contents}

    def _hash_contents(self) -> dict[str, str]:
        """Hash of what is trained and validated on, by key of the configuration: every line of a manifest, prompts."""
        assert self._training is not None, "setup('fit') comes first"
        digests = {}
        for key, mixture in (("data.sources", self._training), ("data.validation", self._validation)):
            sources = len(self.config.sources if key == "data.sources" else self.config.validation)
            for index, manifest in enumerate([] if mixture is None else mixture.manifests[:sources]):
                digests[f"{key}[{index}].manifest"] = manifest.digest
        asked = {task: list(self.prompts.prompts[task]) for task in self._training.tasks()}
        digests["data.prompts"] = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return digests

    def _check_contents(self) -> None:
        """Refuse to go on with a checkpoint where files hold something else than what was trained on before it."""
        stored = self._restored.get("contents")  # checkpoints of earlier versions have none
        if not isinstance(stored, dict):
            return
        files = {
            f"{key}[{index}].manifest": source.manifest
            for key, sources in (("data.sources", self.config.sources), ("data.validation", self.config.validation))
            for index, source in enumerate(sources)
        }
        files["data.prompts"] = self.config.prompts or "the kit's own prompts"
        changed = [key for key, digest in self._contents.items() if stored.get(key, digest) != digest]
        if changed:
            raise ValueError(
                "cannot resume: what the checkpoint was trained on has been edited since: "
                f"{', '.join(f'{key} ({files[key]})' for key in changed)}; restore it, or start a new run from the "
                "checkpoint's weights with init_from"
            )

    def _fingerprint(self) -> str:
        assert self._plan is not None
        if self._warm_up is None:
            return self._plan.fingerprint
        return f"{self._warm_up.batches} {self._warm_up.plan.fingerprint} {self._plan.fingerprint}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the place that `train_dataloader` starts from."""
        self._restored = state_dict

    def _consumed(self) -> int:
        trained = 0
        if self.trainer is not None:
            total = cast(_ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total)
            trained = total.processed  # `completed` lags behind while a checkpoint is written at a batch's end
        return max(trained, int(self._restored.get("consumed", 0)))

    def _open(self, key: Literal["sources", "validation"]) -> Mixture:
        sources: list[SourceConfig] = getattr(self.config, key)
        mixture = Mixture([read_manifest(source.manifest) for source in sources], [source.tasks for source in sources])
        if key == "sources" and self.warm_up_batches:
            mixture = self._add_warm_up(mixture)
        self.prompts.check_tasks(mixture.tasks(), f"data.{key}")
        if (example := mixture.first_without_target()) is not None:
            raise ValueError(f"data.{key}: example '{example.id}' has an empty target: it can only be predicted")
        return mixture

    def _add_warm_up(self, mixture: Mixture) -> Mixture:
        """Return the sources, and after them the examples of each that a warm-up draws from."""
        tasks = [source.tasks for source in self.config.sources]
        chosen = [sorted(self.warm_up_tasks if kept is None else {*self.warm_up_tasks} & {*kept}) for kept in tasks]
        present = [
            [task for task in some if task in manifest.column("task").unique().to_pylist()]
            for manifest, some in zip(mixture.manifests, chosen, strict=True)
        ]
        if not any(present):
            raise ValueError(f"no source in data.sources has a task of optim.align: {', '.join(self.warm_up_tasks)}")
        return Mixture([*mixture.manifests, *mixture.manifests], [*tasks, *present])

    def _plan_training(self, mixture: Mixture) -> tuple[Plan, WarmUp | None]:
        """Return what is trained on, and what before that."""
        frames, tokens = self._costs(mixture)
        given = [source.weight for source in self.config.sources]
        weights = [
            0.0 if size == 0 else float(size if weight is None else weight)
            for size, weight in zip(mixture.sizes, cycle(given), strict=False)
        ]
        if not self.warm_up_batches:
            return self._plan_arrays(frames, tokens, mixture.sizes, weights), None
        off = [0.0 for _ in given]
        main, first = [*weights[: len(given)], *off], [*off, *weights[len(given) :]]
        warm_up = self._plan_arrays(frames, tokens, mixture.sizes, first)
        return self._plan_arrays(frames, tokens, mixture.sizes, main), WarmUp(warm_up, self.warm_up_batches)

    def _plan_all(self, mixture: Mixture) -> Plan:
        return self._plan_arrays(*self._costs(mixture), mixture.sizes)

    def _costs(self, mixture: Mixture) -> tuple[Indices, Indices]:
        """Return what each example's frames cost, and its text tokens."""
        frames = self._frames(mixture, mixture.seconds(), self.config.on_error)
        return frames, mixture.text_tokens(self.config.max_target_tokens)

    def _plan_arrays(
        self, frames: Indices, tokens: Indices, sizes: Sequence[int], weights: Sequence[float] | None = None
    ) -> Plan:
        """Return a plan that draws from sources by weight, or, without weights, takes every example once."""
        config = self.config
        scale = config.predict_scale if weights is None else 1
        drawn = sizes if weights is None else [size for size, weight in zip(sizes, weights, strict=True) if weight]
        return Plan(
            frames=frames,
            tokens=tokens,
            sizes=sizes,
            weights=sizes if weights is None else weights,
            epoch_size=config.epoch_size or sum(drawn),
            budget=scale * config.batch_budget,
            max_batch_size=None if config.max_batch_size is None else scale * config.max_batch_size,
            world_size=1 if self.trainer is None else self.trainer.world_size,
            accumulate=1 if self.trainer is None else self.trainer.accumulate_grad_batches,
            seed=self.seed,
            shuffle=weights is not None,
        )

    def _frames(self, examples: Sequence[Example], seconds: Seconds, on_error: Literal["stop", "skip"]) -> Indices:
        """Return what each clip's frames cost, from its header where nobody wrote down its duration."""
        config = self.config
        unknown = np.flatnonzero(np.isnan(seconds)) if self.fixed_frames is None else np.empty(0, dtype=np.int64)
        if len(unknown):
            log.info("reading %d audio headers for durations that the manifest lacks", len(unknown))
        for index, result in zip(unknown, _scan(examples, unknown), strict=True):
            if isinstance(result, AudioError) and on_error == "stop":
                raise result
            seconds[index] = config.max_seconds if isinstance(result, AudioError) else result
        cut = int((seconds > config.max_seconds + OVERSHOOT_SECONDS).sum())
        if cut:
            log.warning("%d of %d clips are longer than %g s and are cut", cut, len(seconds), config.max_seconds)
        frames = np.clip(seconds, config.min_seconds, config.max_seconds) * FRAMES_PER_SECOND
        if self.fixed_frames is not None:
            frames = np.full(len(seconds), float(self.fixed_frames))
        return np.ceil(np.ceil(frames) * config.frame_cost).astype(np.int64)

    def _dataset(
        self,
        examples: Sequence[Example],
        mode: Literal["train", "validate", "predict"],
        prompts: PromptPool | None = None,
        speeds: Callable[[int], Sequence[float]] = at_full_speed,
    ) -> SpeechDataset:
        config = self.config
        return SpeechDataset(
            examples,
            self.tokenizer,
            prompts or self.prompts,
            self.template,
            mode=mode,
            seed=self.seed,
            max_target_tokens=config.max_target_tokens,
            speeds=speeds,
            read=self.read,
            features=self.features,
            on_error="stop" if mode == "predict" else config.on_error,
        )

    def _loader(
        self,
        dataset: SpeechDataset,
        plan: Plan,
        consumed: Callable[[], int] = int,
        warm_up: WarmUp | None = None,
    ) -> DataLoader[Batch]:
        pad_id = self.tokenizer.pad_token_id
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=ResumableBatchSampler(
                plan, 0 if self.trainer is None else self.trainer.global_rank, consumed, warm_up
            ),
            collate_fn=partial(collate, pad_id=self.tokenizer.eos_token_id if pad_id is None else pad_id),
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        return loader


def speeds_of_source(mixture: Mixture, speeds: Sequence[Sequence[float]], index: int) -> Sequence[float]:
    """Return how fast an example may be played, given the speeds of each source; a warm-up repeats the sources."""
    return speeds[mixture.source_of(index) % len(speeds)]


def reader(config: DataConfig) -> Reader:
    """Return what makes a waveform of an example's segments."""
    return partial(read_audio, **asdict(reading(config)))


def trained_clips(config: DataConfig) -> list[Clip]:
    """Return what training and validation play, a clip at every speed that it is trained on."""
    clips: dict[Clip, None] = {}
    played = [(source, config.speeds_of(source)) for source in config.sources if source.weight != 0]
    played += [(source, [1.0]) for source in config.validation]
    for source, speeds in played:
        for example in read_manifest(source.manifest):
            if source.tasks is None or example.task in source.tasks:
                clips.update(dict.fromkeys(_clip(example, speed) for speed in speeds))
    return list(clips)


def benchmark_clips(benchmarks: Iterable[Benchmark]) -> list[Clip]:
    """Return what benchmarks play."""
    return list(dict.fromkeys(_clip(example, 1.0) for benchmark in benchmarks for example in benchmark.examples))


def _clip(example: Example, speed: float) -> Clip:
    return Clip(example.audio, speed, np.nan if example.duration is None else example.duration / speed)


def clip_frames(clips: Sequence[Clip], config: DataConfig) -> Indices:
    """Return the frames of 20 ms of each clip as it is read, from its header where nobody wrote down its duration.

    A clip whose header cannot be read counts as the longest: who reads it is told.
    """
    seconds = np.array([clip.seconds for clip in clips], dtype=np.float64)
    unknown = np.flatnonzero(np.isnan(seconds))
    for index, result in zip(unknown.tolist(), _scan(clips, unknown), strict=True):
        seconds[index] = np.inf if isinstance(result, AudioError) else result / clips[index].speed
    frames = np.clip(seconds, config.min_seconds, config.max_seconds) * FRAMES_PER_SECOND
    return np.maximum(np.ceil(frames), 1).astype(np.int64)


def clip_loader(clips: Sequence[Clip], config: DataConfig, on_error: Literal["stop", "skip"]) -> DataLoader[ClipBatch]:
    """Return a loader over clips alone, in batches as large as a training step's may be, in the order given."""
    dataset: Any = ClipDataset(clips, reader(config), on_error)
    return DataLoader(
        dataset,
        batch_size=config.max_batch_size or ENCODED_AT_ONCE,
        collate_fn=collate_clips,
        num_workers=config.num_workers,
        pin_memory=torch.cuda.is_available(),
    )


@dataclass(frozen=True)
class DataCheck:
    """What a look at the data of a run has shown, a line each."""

    problems: list[str]
    """What training would stop at, skip, or do otherwise than the manifest says."""
    notes: list[str]
    """What training does without complaint, such as cutting long clips."""


def check_data(config: DataConfig, on_progress: Callable[[int, int], None] | None = None) -> DataCheck:
    """What is wrong with the data of a run: manifests, tasks without prompts, and every audio header.

    `on_progress` is called with (clips read, clips in this source). Damage behind a header shows only on decoding.
    """
    problems: list[str] = []
    notes: list[str] = []
    prompts = PromptPool.load(config.prompts)
    for key in ("sources", "validation"):
        for index, source in enumerate(getattr(config, key)):
            where = f"data.{key}[{index}]"
            try:
                mixture = Mixture([read_manifest(source.manifest)], [source.tasks])
                prompts.check_tasks(mixture.tasks(), where)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            if (example := mixture.first_without_target()) is not None:
                problems.append(f"{where}: example '{example.id}' has an empty target: it can only be predicted")
            stated, cut = mixture.seconds(), 0
            for row, result in enumerate(_scan(mixture, range(len(mixture)))):
                if isinstance(result, AudioError):
                    problems.append(f"{where}: example '{mixture[row].id}': {result}")
                elif abs(result - stated[row]) > OVERSHOOT_SECONDS:
                    example = mixture[row]
                    problem = duration_problem(Clip(example.audio), stated[row], result)
                    problems.append(f"{where}: example '{example.id}': {problem}")
                else:
                    cut += result > config.max_seconds + OVERSHOOT_SECONDS
                if on_progress is not None:
                    on_progress(row + 1, len(mixture))
            if cut:
                limit = f"data.max_seconds={config.max_seconds:g}"
                notes.append(f"{where}: {cut} of {len(mixture)} clips are longer than {limit} and are cut")
    return DataCheck(problems, notes)


def _scan(examples: Sequence[Example] | Sequence[Clip], indices: Iterable[int]) -> Iterator[float | AudioError]:
    """Yield the seconds of each example, or what is wrong with its audio, in order."""

    def read(index: int) -> float | AudioError:
        try:
            return audio_seconds(examples[int(index)].audio)
        except AudioError as error:
            return error

    rest = iter(indices)
    with ThreadPoolExecutor(SCAN_THREADS) as threads:
        while chunk := list(islice(rest, SCAN_AT_ONCE)):
            yield from threads.map(read, chunk)
