"""Audio of any format comes out mono at 16 kHz, and what cannot be read is named."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.transforms import Resample

from salmonn_lab.batch import Segment
from salmonn_lab.data.audio import AudioError, audio_seconds, read_audio


def tone(seconds: float, rate: int, pitch: float = 440.0) -> np.ndarray[Any, Any]:
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: np.ndarray[Any, Any], rate: int, **options: Any) -> Segment:
    soundfile.write(path, samples, rate, **options)
    return Segment(str(path))


@pytest.mark.parametrize(
    ("name", "rate", "options"),
    [
        ("a.wav", 8_000, {}),
        ("a.wav", 16_000, {"subtype": "FLOAT"}),
        ("a.wav", 22_050, {"subtype": "PCM_24"}),
        ("a.flac", 44_100, {}),
        ("a.ogg", 48_000, {}),
        ("a.opus", 48_000, {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", 44_100, {}),
    ],
)
def test_every_format_and_rate_gives_the_same_tone(tmp_path: Path, name: str, rate: int, options: Any) -> None:
    segment = write(tmp_path / name, tone(2.0, rate), rate, **options)
    wave = read_audio([segment])
    assert wave.dtype == torch.float32
    assert wave.shape == (32_000,)
    middle = slice(4_000, 28_000)
    assert torch.allclose(wave[middle], torch.from_numpy(tone(2.0, 16_000)).float()[middle], atol=0.02)
    assert audio_seconds([segment]) == pytest.approx(2.0, abs=1e-3)


def test_a_faster_clip_is_shorter_and_higher(tmp_path: Path) -> None:
    segment = write(tmp_path / "a.wav", tone(2.0, 8_000, 400.0), 8_000)
    for speed in (0.9, 1.0, 1.1):
        wave = read_audio([segment], speed=speed)
        assert len(wave) == pytest.approx(32_000 / speed, abs=2)
        peak = np.abs(np.fft.rfft(wave.numpy())).argmax() / len(wave) * 16_000
        assert peak == pytest.approx(400.0 * speed, abs=2.0)
    assert len(read_audio([segment], speed=0.5, max_seconds=3.0)) == 48_000


def test_of_stereo_the_first_channel_is_kept_or_the_mean(tmp_path: Path) -> None:
    left, right = tone(1.0, 16_000, 300.0), tone(1.0, 16_000, 900.0)
    segment = write(tmp_path / "s.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    assert torch.allclose(read_audio([segment]), torch.from_numpy(left).float())
    assert torch.allclose(read_audio([segment], channels="mean"), torch.from_numpy((left + right) / 2).float())


def test_a_segment_is_the_stretch_it_names(tmp_path: Path) -> None:
    ramp = np.arange(16_000 * 4) / 100_000
    path = write(tmp_path / "ramp.wav", ramp, 16_000, subtype="FLOAT").path
    part = Segment(path, 1.5, 0.5)
    assert torch.allclose(read_audio([part]), torch.from_numpy(ramp[24_000:32_000]).float())
    assert audio_seconds([part]) == 0.5
    assert audio_seconds([Segment(path, 3.0)]) == 1.0
    slightly_over = Segment(path, 3.5, 0.9)
    assert len(read_audio([slightly_over])) == 8_000
    assert audio_seconds([slightly_over]) == 0.5


def test_segments_are_joined_with_silence_between(tmp_path: Path) -> None:
    one = write(tmp_path / "1.wav", tone(0.5, 16_000), 16_000, subtype="FLOAT")
    two = write(tmp_path / "2.wav", np.ones(8_000 // 4) * 0.5, 8_000)
    joined = read_audio([one, two, one])
    assert len(joined) == 8_000 + 1_600 + 4_000 + 1_600 + 8_000
    assert joined[8_000:9_600].abs().max() == 0
    assert torch.equal(joined[:8_000], joined[-8_000:])
    assert audio_seconds([one, two, one]) == pytest.approx(len(joined) / 16_000)


def test_clips_are_padded_if_asked_and_cut(tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", tone(0.5, 16_000), 16_000)
    long = write(tmp_path / "long.flac", tone(31.0, 44_100), 44_100)
    assert len(read_audio([short])) == 8_000
    padded = read_audio([short], min_seconds=1.0)
    assert len(padded) == 16_000
    assert padded[8_000:].abs().max() == 0
    assert len(read_audio([long])) == 480_000
    assert len(read_audio([long], max_seconds=2.5)) == 40_000
    assert len(read_audio([short, long], max_seconds=0.55)) == 8_800
    assert len(read_audio([short, Segment("never opened")], max_seconds=0.5)) == 8_000
    assert audio_seconds([long]) == pytest.approx(31.0)


def test_missing_empty_foreign_and_hollow_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "junk.wav").write_bytes(b"hello" * 1000)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    write(tmp_path / "hollow.wav", np.zeros(0), 16_000)
    for name, message in [
        ("none.wav", r"none\.wav: no such audio file"),
        ("empty.wav", r"empty\.wav: the file is empty"),
        ("junk.wav", r"junk\.wav: not audio that soundfile reads.*pip install torchcodec"),
        ("a.m4a", r"a\.m4a: not audio that soundfile reads.*pip install torchcodec"),
        ("hollow.wav", r"hollow\.wav: the file holds no audio"),
        (".", "no such audio file"),
    ]:
        for read in (read_audio, audio_seconds):
            with pytest.raises(AudioError, match=message):
                read([Segment(str(tmp_path / name))])


def test_a_segment_outside_its_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2.0, 16_000), 16_000).path
    for segment, message in [
        (Segment(path, 2.0), r"a\.wav: the segment starts at 2 s, the file is 2\.00 s long"),
        (Segment(path, 1.0, 5.0), r"a\.wav: the segment ends at 6 s, the file is 2\.00 s long"),
    ]:
        for read in (read_audio, audio_seconds):
            with pytest.raises(AudioError, match=message):
                read([segment])


@pytest.mark.parametrize("name", ["t.flac", "t.mp3"])
def test_a_file_that_breaks_off_is_corrupt(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    segment = write(tmp_path / name, tone(5.0, 44_100), 44_100)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=rf"{name}: corrupt"):
        read_audio([segment])


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    segment = write(tmp_path / "nan.wav", np.array([0.0, np.nan] * 100), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: holds samples that are not finite"):
        read_audio([segment])


def test_torchcodec_reads_what_soundfile_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    wave = torch.from_numpy(np.stack([tone(2.0, 44_100), tone(2.0, 44_100, 900.0)])).float()

    class AudioDecoder:  # the part of torchcodec's interface that is used; it is not installed for tests
        def __init__(self, source: str) -> None:
            if "broken" in source:
                raise RuntimeError("moov atom not found")
            self.metadata = SimpleNamespace(duration_seconds_from_header=2.0, sample_rate=44_100)

        def get_samples_played_in_range(self, start: float, stop: float) -> SimpleNamespace:
            return SimpleNamespace(data=wave[:, round(start * 44_100) : round(stop * 44_100)])

    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.AudioDecoder = AudioDecoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    segment = Segment(str(tmp_path / "a.m4a"), 0.5, 1.0)
    assert audio_seconds([segment]) == 1.0
    expected = torch.from_numpy(tone(2.0, 16_000)).float()[8_000:24_000]
    assert torch.allclose(read_audio([segment])[500:-500], expected[500:-500], atol=0.01)
    (tmp_path / "broken.m4a").write_bytes(bytes(1000))
    with pytest.raises(AudioError, match=r"broken\.m4a: neither soundfile nor FFmpeg reads it: moov atom not found"):
        read_audio([Segment(str(tmp_path / "broken.m4a"))])


@pytest.mark.parametrize("speed", [0.5, 0.97, 2.0])
@pytest.mark.parametrize("rate", [1, 3, 160, 7_999, 11_025, 44_101, 96_001, 767_999, 768_000])
def test_every_rate_at_every_speed_gives_the_tone_in_little_time(tmp_path: Path, rate: int, speed: float) -> None:
    seconds = max(1.0, 300 / rate) * speed
    pitch = min(440.0, rate / 8)
    segment = write(tmp_path / "a.wav", tone(seconds, rate, pitch), rate, subtype="FLOAT")
    start = time.monotonic()
    wave = read_audio([segment], speed=speed, max_seconds=1000.0).numpy()
    assert time.monotonic() - start < 1.0
    samples = round(seconds * rate)
    assert len(wave) == math.ceil(samples * 16_000 / (rate * speed) - 1e-6)
    expected = 0.3 * np.sin(2 * np.pi * pitch * speed * np.arange(len(wave)) / 16_000)
    middle = slice(len(wave) // 3, 2 * len(wave) // 3)
    assert np.abs(wave[middle] - expected[middle]).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000])
def test_ordinary_rates_are_resampled_as_by_the_original(tmp_path: Path, rate: int) -> None:
    segment = write(tmp_path / "a.wav", tone(0.5, rate), rate, subtype="FLOAT")
    expected = Resample(rate, 16_000)(torch.from_numpy(tone(0.5, rate)).float())
    assert torch.equal(read_audio([segment]), expected)


@pytest.mark.slow
def test_thirty_seconds_of_any_rate_take_little_memory(tmp_path: Path) -> None:
    code = """
import resource, sys
import numpy as np, soundfile
from torchaudio.transforms import Resample

from salmonn_lab.batch import Segment
from salmonn_lab.data.audio import read_audio
noise = 0.1 * np.random.default_rng(0).standard_normal((2**16, 2))
soundfile.write("/dev/null", noise[:9], 16_000, format="WAV")
for rate, speed in [(1, 0.5), (7_999, 1.0), (44_101, 1.0), (44_100, 0.97), (96_000, 1.0), (768_000, 1.0)]:
    with soundfile.SoundFile("a.wav", "w", rate, 2) as file:
        for first in range(0, round(30 * rate * speed), len(noise)):
            file.write(noise[: round(30 * rate * speed) - first])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_audio([Segment("a.wav")], speed=speed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 200, f"{grown:.0f} MiB for {rate} Hz at {speed}"
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
