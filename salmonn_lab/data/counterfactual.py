"""What a model may hear in place of a clip, to see how much of its score comes from hearing at all."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.config import Heard
from salmonn_lab.data.features import Reader

WAVEFORMS: tuple[Heard, ...] = ("mute", "noise")
"""Those that change samples, so that the encoders have to run."""


def altered(read: Reader, heard: Heard) -> Reader:
    """Return a reader that puts silence or noise in place of what `read` finds; `read` itself for all the others."""
    return partial(read_altered, read, heard) if heard in WAVEFORMS else read


def read_altered(
    read: Reader, heard: Heard, audio: Sequence[Segment], *, speed: float = 1.0
) -> Float[Tensor, " samples"]:
    """Read a clip, and return silence or noise of its length; the noise of a clip is always the same."""
    waveform = read(audio, speed=speed)
    if heard == "mute":
        return torch.zeros_like(waveform)
    generator = torch.Generator().manual_seed(zlib.crc32(waveform.numpy().tobytes()))
    loudness = waveform.square().mean().sqrt()
    return torch.randn(waveform.shape, generator=generator) * loudness


def shuffled(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Return examples of which each plays the clip of another, in no case its own; those of one clip share the other.

    Raises:
        ValueError: all examples play the same clip.
    """
    seconds = {example.audio: example.duration for example in examples}
    clips = list(seconds)
    if len(clips) < 2:
        raise ValueError("evaluation.audio=shuffled needs a benchmark of at least two clips")
    order = np.random.default_rng(seed).permutation(len(clips)).tolist()
    other = {clips[one]: clips[next] for one, next in zip(order, [*order[1:], order[0]], strict=True)}
    return [
        replace(example, audio=other[example.audio], duration=seconds[other[example.audio]]) for example in examples
    ]
