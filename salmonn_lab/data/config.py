"""The configuration of the data of a run, without the libraries that read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Heard = Literal["clip", "mute", "noise", "shuffled", "no_whisper", "no_audio_encoder"]
"""`clip` is the clip itself. `mute`: as many samples of 0. `noise`: as many of white noise, as loud as the clip on the
whole. `shuffled`: another clip of the same benchmark. The last two: the clip, the frames of one encoder being 0."""
Storage = Literal["float32", "bfloat16", "float16"]
Channels = Literal["first", "mean"]
"""Which channel of several is kept: the first, or the mean of all."""


@dataclass(frozen=True)
class AudioReading:
    """How a run turns audio into waveforms (`data.min_seconds`, ...); the defaults are the original's."""

    min_seconds: float = 1.0
    max_seconds: float = 30.0
    channels: Channels = "first"

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds <= self.max_seconds < math.inf or self.max_seconds == 0:
            raise ValueError(
                "data.min_seconds and data.max_seconds must satisfy 0 <= min <= max and max > 0, "
                f"got {self.min_seconds} and {self.max_seconds}"
            )
        if self.channels not in get_args(Channels):
            raise ValueError(f"data.channels must be one of {', '.join(get_args(Channels))}, got {self.channels!r}")


@dataclass
class SourceConfig:
    """One manifest to draw from."""

    manifest: str
    """A JSONL manifest, or the original SALMONN's JSON."""
    weight: float | None = 1.0
    """Examples drawn from here, relative to the other sources; null (for all sources, or none) is its size."""
    tasks: list[str] | None = None
    """Keep the examples of these tasks only."""
    speeds: list[float] | None = None
    """How fast its clips are played in training; null is `data.speeds`."""


@dataclass
class DataConfig:
    """What is trained and validated on. The defaults are the published recipe."""

    sources: list[SourceConfig] = field(default_factory=list)
    """What is trained on."""
    validation: list[SourceConfig] = field(default_factory=list)
    """What the validation loss is taken on, all of it; weights and speeds do not count."""
    prompts: str | None = None
    """A YAML or JSON file of prompts by task, such as the original's; null is `data/prompts.yaml`."""
    epoch_size: int | None = None
    """Examples in an epoch; null is as many as the sources hold."""
    batch_budget: int = 16_000
    """Bounds a batch: its examples times (encoder frames of the longest * `frame_cost` + text tokens of the longest).
    Examples for which that sum is alike share a batch."""
    frame_cost: float = 1.0
    """What a frame of 20 ms costs, in text tokens. Where frames come from the feature store only their audio tokens
    cost: 2 queries for every 17 frames make 0.12."""
    max_batch_size: int | None = 8
    """Also bounds a batch; null leaves it to the budget."""
    predict_scale: int = 1
    """How many times as large batches may be where nothing is trained: without gradients more fits, and generation
    spends its time on reading the weights, however many rows share them."""
    max_target_tokens: int = 300
    """Longer targets are cut; the end token stays."""
    min_seconds: float = 1.0
    """Shorter clips are padded with zeros."""
    max_seconds: float = 30.0
    """Longer clips are cut."""
    channels: Channels = "first"
    """What to keep of stereo; the original keeps the first channel."""
    speeds: list[float] = field(default_factory=lambda: [1.0])
    """Each time a clip is trained on it is played at one of these, such as [0.9, 1.0, 1.1], drawn by seed, epoch and
    index; ours, the original has no augmentation."""
    on_error: Literal["stop", "skip"] = "stop"
    """Where a clip cannot be read while training or validating: stop, or leave it out and warn."""
    num_workers: int = 4
    """Loader processes; 0 loads in the training process."""

    def __post_init__(self) -> None:
        for name in ("epoch_size", "batch_budget", "max_batch_size", "predict_scale"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        if self.max_target_tokens < 2:
            raise ValueError(f"data.max_target_tokens must be at least 2, got {self.max_target_tokens}")
        if self.num_workers < 0:
            raise ValueError(f"data.num_workers must not be negative, got {self.num_workers}")
        if not self.frame_cost > 0:
            raise ValueError(f"data.frame_cost must be above 0, got {self.frame_cost}")
        reading(self)
        check_speeds(self.speeds, "data.speeds")
        for index, source in enumerate(self.sources):
            check_speeds(self.speeds_of(source), f"data.sources[{index}].speeds")
        weights = [source.weight for source in self.sources]
        for index, weight in enumerate(weights):
            if weight is not None and not 0 <= weight < float("inf"):
                raise ValueError(f"data.sources[{index}].weight must be a number from 0 up, got {weight}")
        if None in weights and any(weight is not None for weight in weights):
            raise ValueError("data.sources: give every source a weight, or null to all of them (then sizes count)")
        if weights and None not in weights and not any(weights):
            raise ValueError("data.sources: every weight is 0, so nothing would be trained on")
        for name in ("sources", "validation"):
            for index, source in enumerate(getattr(self, name)):
                if source.tasks is not None and not source.tasks:
                    raise ValueError(f"data.{name}[{index}].tasks is empty; null keeps every task")

    def speeds_of(self, source: SourceConfig) -> list[float]:
        """Return how fast a source's clips are played in training."""
        return self.speeds if source.speeds is None else source.speeds


def check_speeds(speeds: Sequence[float], key: str) -> None:
    """Refuse speeds that no speech has."""
    if not speeds or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ValueError(f"{key} must be numbers from 0.5 to 2, got {speeds}")


def reading(config: DataConfig) -> AudioReading:
    """How a configuration has audio read."""
    return AudioReading(config.min_seconds, config.max_seconds, config.channels)
