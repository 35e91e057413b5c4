"""Reading audio files: any format, rate and channel count to mono at 16 kHz."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.transforms import Resample

from salmonn_lab.batch import Segment

SAMPLE_RATE = 16_000
GAP_SECONDS = 0.1
"""Silence between joined clips (the original's dataset.py: 1,600 zeros)."""
OVERSHOOT_SECONDS = 0.5
"""How far a stretch may run past the end of its file, where it is cut; Kaldi's `extract-segments` allows as much."""


class AudioError(ValueError):
    """A file that cannot be read as asked; the message names the file."""


def read_audio(
    segments: Sequence[Segment],
    *,
    gap_seconds: float = GAP_SECONDS,
    min_seconds: float = 0.0,
    max_seconds: float = 30.0,
    channels: Literal["first", "mean"] = "first",
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


def audio_seconds(segments: Sequence[Segment], *, gap_seconds: float = GAP_SECONDS) -> float:
    """Return the length of the joined segments from the files' headers alone; errors as in `read_audio`."""
    total = gap_seconds * (len(segments) - 1)
    for segment in segments:
        frames, rate = _header(segment.path)
        start, stop = _stretch(segment, frames, rate)
        total += (stop - start) / rate
    return total


def _read_segment(segment: Segment, max_seconds: float, channels: Literal["first", "mean"], speed: float) -> Tensor:
    frames, rate = _header(segment.path)
    start, stop = _stretch(segment, frames, rate)
    wanted = min(stop - start, math.ceil(max_seconds * rate * speed))
    samples = _decode(segment.path, start, wanted, rate)
    if wanted - samples.shape[1] > OVERSHOOT_SECONDS * rate:
        raise AudioError(f"{segment.path}: corrupt: only {samples.shape[1] / rate:.2f} of {wanted / rate:.2f} s decode")
    mono = samples[0] if channels == "first" else samples.mean(0)
    if not torch.isfinite(mono).all():
        raise AudioError(f"{segment.path}: holds samples that are not finite")
    played = round(rate * speed)
    return mono if played == SAMPLE_RATE else _resampler(played)(mono)


def _stretch(segment: Segment, frames: int, rate: int) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last."""
    length = frames / rate
    start = round(segment.offset * rate)
    if start >= frames:
        raise AudioError(f"{segment.path}: the segment starts at {segment.offset:g} s, the file is {length:.2f} s long")
    if segment.duration is None:
        return start, frames
    end = segment.offset + segment.duration
    if end > length + OVERSHOOT_SECONDS:
        raise AudioError(f"{segment.path}: the segment ends at {end:g} s, the file is {length:.2f} s long")
    return start, min(frames, max(start + 1, round(end * rate)))


@lru_cache(maxsize=16)
def _resampler(rate: int) -> Resample:
    """Return torchaudio's windowed-sinc resampler, whose kernel is costly to make and the same for every file."""
    return Resample(rate, SAMPLE_RATE)


def _header(path: str) -> tuple[int, int]:
    """Return a file's frames and sample rate."""
    if not Path(path).is_file():
        raise AudioError(f"{path}: no such audio file")
    if Path(path).stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty")
    try:
        info = soundfile.info(path)
        frames, rate = info.frames, info.samplerate
    except soundfile.LibsndfileError as error:
        frames, rate = _ffmpeg_header(path, error)
    if frames <= 0:
        raise AudioError(f"{path}: the file holds no audio, or its header is corrupt")
    return frames, rate


def _decode(path: str, start: int, frames: int, rate: int) -> Float[Tensor, "channels samples"]:
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:  # `_header` has seen to it that FFmpeg is there
        return _ffmpeg_decode(path, start, frames, rate)
    with file:
        try:
            file.seek(start)
            return torch.from_numpy(file.read(frames, dtype="float32", always_2d=True)).T
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: corrupt: {error}") from None


def _ffmpeg_header(path: str, error: soundfile.LibsndfileError) -> tuple[int, int]:
    if importlib.util.find_spec("torchcodec") is None:
        raise AudioError(
            f"{path}: not audio that soundfile reads ({error.error_string}); "
            "if FFmpeg can read it: pip install torchcodec, or convert the file"
        )
    from torchcodec.decoders import AudioDecoder

    try:
        metadata = AudioDecoder(path).metadata
    except (RuntimeError, ValueError) as problem:
        raise AudioError(f"{path}: neither soundfile nor FFmpeg reads it: {problem}") from None
    return math.floor((metadata.duration_seconds_from_header or 0.0) * metadata.sample_rate), metadata.sample_rate


def _ffmpeg_decode(path: str, start: int, frames: int, rate: int) -> Float[Tensor, "channels samples"]:
    from torchcodec.decoders import AudioDecoder

    try:
        samples = AudioDecoder(path).get_samples_played_in_range(start / rate, (start + frames) / rate)
    except (RuntimeError, ValueError) as problem:
        raise AudioError(f"{path}: corrupt: {problem}") from None
    data: Tensor = samples.data
    return data[:, :frames]
