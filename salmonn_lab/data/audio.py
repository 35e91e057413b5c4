"""Reading audio files: any format, rate and channel count to mono at 16 kHz."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.transforms import Resample

from salmonn_lab.batch import Segment
from salmonn_lab.data.config import AudioReading, Channels
from salmonn_lab.data.decoding import (
    OVERSHOOT_SECONDS,
    AudioError,
    Header,
    Samples,
    check_samples,
    decode,
    read_header,
    shown,
)

__all__ = ["OVERSHOOT_SECONDS", "AudioError", "AudioReading"]

SAMPLE_RATE = 16_000
GAP_SECONDS = 0.1
"""Silence between joined clips (the original's dataset.py: 1,600 zeros)."""
KERNEL_WEIGHTS = 1_000_000
TORCHAUDIO_RATE = 96_000
"""Hz; above it, soxr, which takes the file block by block."""
FULL_SCALE = {torch.int16: 2**15, torch.int32: 2**31}
"""The integers that samples come in, by what is full scale."""

log = logging.getLogger(__name__)


def read_audio(
    segments: Sequence[Segment],
    *,
    gap_seconds: float = GAP_SECONDS,
    min_seconds: float = 0.0,
    max_seconds: float = 30.0,
    channels: Channels = "first",
    speed: float = 1.0,
) -> Float[Tensor, " samples"]:
    """Return the joined segments, mono at 16 kHz, float32.

    Args:
        segments: read in order; only the stretch that is needed is decoded.
        gap_seconds: silence between two segments.
        min_seconds: a shorter clip is padded with zeros at its end (the original: 1 s).
        max_seconds: a longer clip is cut.
        channels: of a stereo file keep the `first` channel, as the original does, or the `mean` of all.
        speed: a factor; a clip at 1.1 is shorter and higher (speed perturbation, Ko et al. 2015).

    Raises:
        AudioError: where a file is missing, empty, corrupt, or ends before the segment starts.
    """
    limit = round(max_seconds * SAMPLE_RATE)
    parts: list[Tensor] = []
    length = 0
    for segment in segments:
        if parts:
            parts.append(torch.zeros(round(gap_seconds * SAMPLE_RATE)))
            length += len(parts[-1])
        if length >= limit:
            break
        parts.append(_read_segment(segment, (limit - length) / SAMPLE_RATE, channels, speed))
        length += len(parts[-1])
    parts.append(torch.zeros(max(0, round(min_seconds * SAMPLE_RATE) - length)))
    return torch.cat(parts)[:limit]


def read_clip(clip: Tensor | str | Path, reading: AudioReading, name: str) -> Float[Tensor, " samples"]:
    """A clip as a run reads it, mono at 16 kHz, float32; where it is cut, a warning says so.

    Args:
        clip: the path of an audio file, or samples, mono at 16 kHz: floating point of full scale 1, int16 or int32 of
            full scale 32,768 or 2,147,483,648.
        reading: the run's.
        name: what errors call samples; files have their own.

    Raises:
        AudioError: a file cannot be read, or samples have another shape, type or scale, or are not finite.
    """
    if isinstance(clip, str | Path):
        segments = [Segment(str(clip))]
        warn_if_cut(segments[0].path, audio_seconds(segments), reading)
        return read_audio(
            segments, min_seconds=reading.min_seconds, max_seconds=reading.max_seconds, channels=reading.channels
        )
    samples = as_samples(clip, name)
    warn_if_cut(name, len(samples) / SAMPLE_RATE, reading)
    samples = samples[: round(reading.max_seconds * SAMPLE_RATE)]
    return torch.cat([samples, torch.zeros(max(0, round(reading.min_seconds * SAMPLE_RATE) - len(samples)))])


def warn_if_cut(name: str, seconds: float, reading: AudioReading) -> None:
    """Log a warning where a clip is longer than what is read of it."""
    if round(seconds * SAMPLE_RATE) > round(reading.max_seconds * SAMPLE_RATE):
        log.warning(
            "%s lasts %.2f s: cut to its first %g s (data.max_seconds)", shown(name), seconds, reading.max_seconds
        )


def as_samples(values: Any, name: str) -> Float[Tensor, " samples"]:
    """Samples of full scale 1, float32, on the CPU; errors as in `read_clip`."""
    try:
        samples = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"{name}: must be a path or a tensor of samples, got {type(values).__name__}: {error}"
        ) from None
    if samples.ndim != 1 or not len(samples):
        hint = "; of several channels give one, such as [0]" if samples.ndim == 2 else ""
        raise AudioError(f"{name}: must have the shape (samples,), got {tuple(samples.shape)}{hint}")
    if samples.dtype in FULL_SCALE:
        return samples.float() / FULL_SCALE[samples.dtype]
    if not samples.is_floating_point():
        raise AudioError(f"{name}: must be floating point of full scale 1, int16 or int32, got {samples.dtype}")
    samples = samples.float()
    check_samples(samples.numpy(), name)
    return samples


def audio_seconds(segments: Sequence[Segment], *, gap_seconds: float = GAP_SECONDS) -> float:
    """Seconds of the joined segments; errors as in `read_audio`.

    From the files' headers, but for MP3 and Ogg files, in which streams are looked for, and for FLAC without a length,
    which is decoded.
    """
    total = gap_seconds * (len(segments) - 1)
    for segment in segments:
        header = read_header(segment.path)
        start, stop = _stretch(segment, header)
        total += (stop - start) / header.rate
    return total


def _read_segment(segment: Segment, max_seconds: float, channels: Channels, speed: float) -> Tensor:
    header = read_header(segment.path)
    rate = header.rate
    start, stop = _stretch(segment, header)
    wanted = min(stop - start, max(1, math.ceil(max_seconds * rate * speed)))
    counted = 0

    def blocks() -> Iterator[Samples]:
        nonlocal counted
        for block in decode(segment.path, header, start, wanted, channels):
            counted += len(block)
            yield block

    samples = resample(blocks(), rate * speed)
    if wanted - counted > OVERSHOOT_SECONDS * rate or not counted:
        raise AudioError(f"{shown(segment.path)}: corrupt: only {counted / rate:.2f} of {wanted / rate:.2f} s decode")
    return samples


def _stretch(segment: Segment, header: Header) -> tuple[int, int]:
    """The first frame of a segment, and the one after its last."""
    frames, rate, name = header.frames, header.rate, shown(segment.path)
    length = frames / rate
    start = round(segment.offset * rate)
    if start >= frames:
        raise AudioError(f"{name}: the segment starts at {segment.offset:g} s, the file is {length:.2f} s long")
    if segment.duration is None:
        return start, frames
    end = segment.offset + segment.duration
    if end > length + OVERSHOOT_SECONDS:
        raise AudioError(f"{name}: the segment ends at {end:g} s, the file is {length:.2f} s long")
    return start, min(frames, max(start + 1, round(end * rate)))


def resample(blocks: Iterable[Samples], rate: float) -> Float[Tensor, " samples"]:
    """Samples at 16 kHz of blocks at another rate (Hz).

    torchaudio's windowed sinc, the original's, does it up to 96 kHz where its table of weights is small; the table has
    (rate / d) * (16,000 / d) of them, d being the greatest common divisor. Every other rate is soxr's, whose memory and
    time do not depend on it (quality HQ: what it adds lies 120 dB below full scale).
    """
    whole = round(rate)
    divisor = math.gcd(whole, SAMPLE_RATE)
    simple = math.isclose(rate, whole, rel_tol=1e-9) and whole // divisor * (SAMPLE_RATE // divisor) <= KERNEL_WEIGHTS
    if simple and whole <= TORCHAUDIO_RATE:
        parts = [torch.from_numpy(block) for block in blocks]
        joined = torch.cat(parts) if parts else torch.zeros(0)
        return joined if whole == SAMPLE_RATE or not len(joined) else _resampler(whole)(joined)
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    count, resampled = 0, []
    for block in blocks:
        count += len(block)
        resampled.append(torch.from_numpy(stream.resample_chunk(block)))
    resampled.append(torch.from_numpy(stream.resample_chunk(np.zeros(0, np.float32), last=True)))
    length = math.ceil(count * SAMPLE_RATE / rate - 1e-6)
    joined = torch.cat(resampled)[:length]
    return torch.cat([joined, torch.zeros(length - len(joined))])


@lru_cache(maxsize=16)
def _resampler(rate: int) -> Resample:
    """torchaudio's windowed-sinc resampler, whose kernel is costly to make and the same for every file."""
    return Resample(rate, SAMPLE_RATE)
