"""Decoding of audio files with soundfile, forward and whole where their headers cannot be trusted."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from salmonn_lab.data.config import Channels
from salmonn_lab.data.streams import BrokenStreamError, Stream, endless_wav, flac_streams, mp3_streams, ogg_streams

Samples = NDArray[np.float32]

OVERSHOOT_SECONDS = 0.5
"""How far a stretch may run past the end of its file, where it is cut; Kaldi's `extract-segments` allows as much."""
LOWEST_RATE, HIGHEST_RATE = 1, 768_000
"""Hz."""
HIGHEST_PEAK = 16.0
"""Full scale is 1, and decoders of MP3 and Opus overshoot it a little; samples above this are in another unit."""
BLOCK_SAMPLES = 2**18
"""So many samples, of all channels together, are decoded at once."""
UNKNOWN_FRAMES = 2**48
"""More than any file holds: libsndfile states the largest number where the header has none."""
STREAMED_BYTES = range(0x7FFF0000, 2**32)
"""What programs that write to a pipe state as the size of what is still to come."""
SIZES = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile logs of a chunk that is longer than what is left of its file."""
RF64_FRAMES = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
NIST_FRAMES = re.compile(rb"^sample_count -i (\d+)", re.MULTILINE)
TRUNCATED = "Seems to be a truncated file"
"""What libsndfile logs of VOC files."""
FFMPEG = "ffmpeg"
EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC", "IMA_ADPCM", "MS_ADPCM", "VORBIS", "OPUS")
"""Codecs in which libsndfile's seeks lead to the very sample; in others they fail, or come near."""
HEADERLESS = (".raw", ".pcm", ".vox", ".ul", ".al")
READ_ERRORS = (soundfile.SoundFileError, OSError, ValueError, TypeError)
"""What soundfile raises about files."""


class AudioError(ValueError):
    """A file that cannot be read as asked; the message names the file."""


@dataclass(frozen=True)
class Header:
    """What is known of an audio file before it is decoded."""

    frames: int
    rate: int
    """Hz."""
    format: str
    """As soundfile calls it; `FFMPEG` where only FFmpeg reads the file."""
    streams: tuple[Stream, ...] = ()
    """Read one after another; none where the file is read as it is."""
    seeks: bool = True
    """Whether a seek leads to the very sample."""


class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from where it stands to the end of its samples.

    soundfile seeks to where it is after each read: libsndfile loses its place by that in MP3 of variable bit rate, and
    fails in FLAC whose header has no length.
    """

    def seekable(self) -> bool:
        """False, so that reading does not seek; `seek` is there all the same."""
        return False

    def blocks(self, frames: int = UNKNOWN_FRAMES) -> Iterator[Samples]:
        """The next frames, or as many as are left, in blocks of shape (frames, channels)."""
        most = max(1, BLOCK_SAMPLES // self.channels)
        while frames and len(block := self.read(min(most, frames), dtype="float32", always_2d=True)):
            frames -= len(block)
            yield block


def read_header(path: str) -> Header:
    """Length and rate of an audio file.

    Raises:
        AudioError: it is no file, or none that can be read; the message names it.
    """
    try:
        state = Path(path).stat()
    except FileNotFoundError:
        raise AudioError(f"{shown(path)}: no such audio file") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise AudioError(f"{shown(path)}: cannot be opened: {reason(error)}") from None
    if stat.S_ISDIR(state.st_mode):
        raise AudioError(f"{shown(path)}: no such audio file: it is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise AudioError(f"{shown(path)}: no audio file: it is a pipe, a device or a socket")
    if state.st_size == 0:
        raise AudioError(f"{shown(path)}: the file is empty")
    return _read_header(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_header(path: str, size: int, changed: int) -> Header:
    """As `read_header`; size and time of modification tell whether it is the file of before."""
    try:
        with _open(path) as file:
            seeks = soundfile.SoundFile.seekable(file) and file.subtype.startswith(EXACT)
            kind = "MP3" if file.subtype == "MPEG_LAYER_III" else file.format  # a WAV file may hold MP3
            header, log = Header(file.frames, file.samplerate, kind, seeks=seeks), file.extra_info
    except soundfile.LibsndfileError as error:
        header, log = _ffmpeg_header(path, error), ""
    except READ_ERRORS as error:
        raise AudioError(f"{shown(path)}: cannot be read: {reason(error)}") from None
    if not LOWEST_RATE <= header.rate <= HIGHEST_RATE:
        raise AudioError(
            f"{shown(path)}: the sample rate is {header.rate} Hz; it must be from {LOWEST_RATE} to {HIGHEST_RATE}"
        )
    _check_breaks(path, header, log)
    if header.format in ("MP3", "OGG"):
        header = _with_streams(path, header)
    elif header.format in ("WAV", "WAVEX") and header.frames == 0 and (stream := endless_wav(path)):
        with _errors_of(path), ForwardFile(io.BytesIO(stream.read(path))) as file:
            header = Header(file.frames, header.rate, header.format, (stream,), seeks=False)
    elif header.frames > UNKNOWN_FRAMES:
        with _errors_of(path), _open(path) as file:
            header = Header(sum(map(len, file.blocks())), header.rate, header.format, seeks=False)
    if header.frames <= 0:
        raise AudioError(f"{shown(path)}: the file holds no audio, or its header is corrupt")
    return header


def _check_breaks(path: str, header: Header, log: str) -> None:
    """Raise AudioError where a file ends before its header says it does, which libsndfile mends in silence."""
    sizes = [*SIZES.findall(log), *((stated, held) for held, stated in RF64_FRAMES.findall(log))]
    if header.format == "NIST":
        with Path(path).open("rb") as file:
            sizes += [(stated, header.frames) for stated in NIST_FRAMES.findall(file.read(1024))]
    seconds = header.frames / header.rate
    for stated, held in sizes:
        if int(held) and int(stated) <= UNKNOWN_FRAMES and int(stated) not in STREAMED_BYTES:
            promised = seconds * int(stated) / int(held)
            if promised - seconds > OVERSHOOT_SECONDS:
                raise AudioError(f"{shown(path)}: corrupt: only {seconds:.2f} of {promised:.2f} s are in the file")
    if TRUNCATED in log:
        raise AudioError(f"{shown(path)}: corrupt: the file breaks off after {seconds:.2f} s")


def _with_streams(path: str, header: Header) -> Header:
    """The header of a file that may hold several streams, of which libsndfile has looked at the first."""
    try:
        streams = mp3_streams(path) if header.format == "MP3" else ogg_streams(path)
    except (BrokenStreamError, OSError) as error:
        raise AudioError(f"{shown(path)}: corrupt: {reason(error)}") from None
    if not streams:
        return header
    frames, rates = 0, set()
    for stream in streams:
        with _errors_of(path), ForwardFile(io.BytesIO(stream.read(path))) as file:
            frames += file.frames
            rates.add(file.samplerate)
    if len(rates) > 1:
        listed = ", ".join(map(str, sorted(rates)))
        raise AudioError(f"{shown(path)}: holds streams of several sample rates ({listed} Hz): make them one")
    return Header(frames, rates.pop(), header.format, streams, seeks=False)


def decode(path: str, header: Header, start: int, frames: int, channels: Channels) -> Iterator[Samples]:
    """Mono samples of a stretch of a file, in blocks; fewer than asked for where the file ends before.

    Whatever the place, samples are those that decoding from the file's start gives: where no seek leads to the very
    sample, it is decoded from the start, and what comes before the stretch is dropped.

    Raises:
        AudioError: it is corrupt, or holds samples that are not finite or in another unit than full scale = 1.
    """
    if header.format == "FLAC" and start + frames >= header.frames and (count := _flac_streams(path)) > 1:
        raise AudioError(f"{shown(path)}: holds {count} FLAC streams one after another: make them one")
    jump = start if header.seeks else 0
    before, left = start - jump, frames
    for block in _blocks(path, header, jump, start - jump + frames):
        chosen = block[min(before, len(block)) :][:left]
        before -= min(before, len(block))
        left -= len(chosen)
        if len(chosen):
            mono = chosen[:, 0] if channels == "first" else chosen.mean(axis=1)
            check_samples(mono, shown(path))
            yield np.ascontiguousarray(mono)
        if not left:
            return


def _blocks(path: str, header: Header, jump: int, frames: int) -> Iterator[Samples]:
    """All channels of so many frames of a file, from a frame on, in blocks of shape (frames, channels)."""
    if header.format == FFMPEG:
        yield _ffmpeg_decode(path, jump, frames, header.rate)
        return
    with _errors_of(path):
        if not header.streams:
            with _open(path) as file:
                if jump:
                    file.seek(jump)
                yield from file.blocks(frames)
        for stream in header.streams:
            with ForwardFile(io.BytesIO(stream.read(path))) as file:
                yield from file.blocks()


def check_samples(samples: Samples, name: str) -> None:
    """Raise AudioError where samples are not finite, or so large that full scale cannot be 1."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds samples that are not finite")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > HIGHEST_PEAK:
        raise AudioError(f"{name}: holds samples up to {peak:g}, where full scale is 1; 16-bit values divide by 32768")


@contextmanager
def _open(path: str) -> Iterator[ForwardFile]:
    """A file by its descriptor: soundfile would take its name as UTF-8, and its ending for its format."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        with ForwardFile(descriptor, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Turn what soundfile raises of a file into AudioErrors that name it."""
    try:
        yield
    except AudioError:
        raise
    except READ_ERRORS as error:
        raise AudioError(f"{shown(path)}: corrupt: {reason(error)}") from None


def _flac_streams(path: str) -> int:
    """How many FLAC streams a file holds."""
    state = Path(path).stat()
    return _counted_flac_streams(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _counted_flac_streams(path: str, size: int, changed: int) -> int:
    return flac_streams(path)


def shown(path: str) -> str:
    """A path as one line that can be printed, whatever bytes are in it."""
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in path)


def reason(error: Exception) -> str:
    """What an error says, in one line, without the file's name or number."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())


def _ffmpeg_header(path: str, error: soundfile.LibsndfileError) -> Header:
    if Path(path).suffix.lower() in HEADERLESS:
        raise AudioError(f"{shown(path)}: samples without a header, which have no rate: convert the file to WAV")
    if importlib.util.find_spec("torchcodec") is None:
        raise AudioError(
            f"{shown(path)}: not audio that soundfile reads ({reason(error)}); "
            "if FFmpeg can read it: pip install torchcodec, or convert the file"
        )
    from torchcodec.decoders import AudioDecoder

    try:
        metadata = AudioDecoder(path).metadata
    except (RuntimeError, ValueError) as problem:
        raise AudioError(f"{shown(path)}: neither soundfile nor FFmpeg reads it: {problem}") from None
    frames = math.floor((metadata.duration_seconds_from_header or 0.0) * metadata.sample_rate)
    return Header(frames, metadata.sample_rate, FFMPEG)


def _ffmpeg_decode(path: str, start: int, frames: int, rate: int) -> Samples:
    from torchcodec.decoders import AudioDecoder

    try:
        samples = AudioDecoder(path).get_samples_played_in_range(start / rate, (start + frames) / rate)
    except (RuntimeError, ValueError) as problem:
        raise AudioError(f"{shown(path)}: corrupt: {problem}") from None
    data: Samples = samples.data.numpy()
    return data.T
