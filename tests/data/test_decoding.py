"""Files whose headers mislead are decoded to their end, at the very sample, or refused with their name in one line."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from salmonn_lab.batch import Segment
from salmonn_lab.data.audio import AudioError, audio_seconds, read_audio
from salmonn_lab.data.decoding import read_header

GOLDEN = Path(__file__).parent.parent / "golden" / "audio"


def sweep(seconds: float, rate: int = 16_000, low: float = 300.0) -> np.ndarray[Any, Any]:
    """A tone that rises all the time, so that a stretch is found nowhere else."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * (low + 250 * time) * time)


def write(path: Path, seconds: float, rate: int = 16_000, low: float = 300.0, **options: Any) -> bytes:
    soundfile.write(path, sweep(seconds, rate, low), rate, **options)
    return path.read_bytes()


def whole(path: Path) -> np.ndarray[Any, Any]:
    return read_audio([Segment(str(path))]).numpy()


def first_mp3_frame(content: bytes) -> int:
    """The bytes of the Xing frame that opens what soundfile writes: MPEG-2, 16 kHz."""
    kilobits = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[(content[2] >> 4) - 1]
    return 72_000 * kilobits // 16_000 + (content[2] >> 1 & 1)


def test_an_mp3_without_a_xing_frame_is_read_to_its_end(tmp_path: Path) -> None:
    path = GOLDEN / "without_xing.mp3"
    assert soundfile.info(path).duration == pytest.approx(0.49, abs=0.01), "what libsndfile guesses"
    assert len(whole(path)) == 114 * 576
    assert audio_seconds([Segment(str(path))]) == 114 * 576 / 16_000
    assert audio_seconds([Segment(str(path), 3.0, 1.0)]) == 1.0
    assert np.array_equal(read_audio([Segment(str(path), 3.0, 1.0)]).numpy(), whole(path)[48_000:64_000])
    with_xing = write(tmp_path / "a.mp3", 3.0)
    bare = with_xing[first_mp3_frame(with_xing) :]
    assert b"Info" not in bare[:200]
    assert b"Xing" not in bare[:200]
    (tmp_path / "b.mp3").write_bytes(b"ID3\3\0\0\0\0\1\0" + bytes(128) + bare + b"TAG" + bytes(125))
    delay = len(whole(tmp_path / "b.mp3")) - 48_000
    assert 0 < delay < 4 * 576, "what a Xing frame has libmpg123 leave out at both ends"
    one, other = whole(tmp_path / "a.mp3")[:40_000], whole(tmp_path / "b.mp3")
    errors = [np.abs(other[shift:][:40_000] - one).max() for shift in range(delay + 1)]
    assert min(errors) < 1e-5


@pytest.mark.parametrize("name", ["variable_rate.mp3", "without_xing.mp3"])
def test_a_stretch_of_an_mp3_of_variable_bit_rate_is_that_of_the_whole(name: str) -> None:
    clip = whole(GOLDEN / name)
    for start in (0.5, 1.0, 2.5, 3.0, 3.6):
        part = read_audio([Segment(str(GOLDEN / name), start, 0.4)]).numpy()
        first = round(start * 16_000)
        assert np.array_equal(part, clip[first : first + 6_400]), start


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp3", {}), ("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})],
)
def test_files_joined_end_to_end_are_read_to_their_end(tmp_path: Path, name: str, options: Any) -> None:
    contents = [write(tmp_path / f"{n}{name}", seconds, low=300 * n, **options) for n, seconds in ((1, 2.0), (2, 1.5))]
    contents += [contents[0]]
    (tmp_path / name).write_bytes(b"".join(contents))
    expected = np.concatenate([whole(tmp_path / f"{n}{name}") for n in (1, 2, 1)])
    assert len(expected) == 88_000
    assert np.array_equal(whole(tmp_path / name), expected)
    assert audio_seconds([Segment(str(tmp_path / name))]) == 5.5
    part = read_audio([Segment(str(tmp_path / name), 1.8, 2.0)]).numpy()
    assert np.array_equal(part, expected[28_800:60_800])


def test_an_mp3_without_a_xing_frame_behind_one_with_it_is_heard(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.mp3", 2.0), write(tmp_path / "2.mp3", 1.5, low=900)
    (tmp_path / "bare.mp3").write_bytes(two[first_mp3_frame(two) :])
    (tmp_path / "both.mp3").write_bytes(one + (tmp_path / "bare.mp3").read_bytes())
    expected = np.concatenate([whole(tmp_path / "1.mp3"), whole(tmp_path / "bare.mp3")])
    assert np.array_equal(whole(tmp_path / "both.mp3"), expected)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_streams_of_several_channel_counts_are_each_made_mono(tmp_path: Path, name: str) -> None:
    one = write(tmp_path / f"1{name}", 1.0)
    soundfile.write(tmp_path / f"2{name}", np.stack([sweep(1.0), -sweep(1.0)], 1), 16_000)
    (tmp_path / name).write_bytes(one + (tmp_path / f"2{name}").read_bytes())
    clip = whole(tmp_path / name)
    assert np.array_equal(clip, np.concatenate([whole(tmp_path / f"1{name}"), whole(tmp_path / f"2{name}")]))
    assert np.abs(clip[16_000:]).max() > 0.2
    mean = read_audio([Segment(str(tmp_path / name))], channels="mean").numpy()
    assert np.abs(mean[:16_000]).max() > 0.2
    assert np.abs(mean[17_000:]).max() < 0.05


def test_streams_of_several_sample_rates_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp3", "a.ogg"):
        one, two = write(tmp_path / f"1{name}", 1.0), write(tmp_path / f"2{name}", 1.0, 22_050)
        (tmp_path / name).write_bytes(one + two)
        with pytest.raises(AudioError, match=rf"{name}: holds streams of several sample rates \(16000, 22050 Hz\)"):
            whole(tmp_path / name)


def test_flac_files_joined_end_to_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(2 * write(tmp_path / "a.flac", 1.0))
    with pytest.raises(AudioError, match=r"a\.flac: holds 2 FLAC streams one after another"):
        whole(tmp_path / "a.flac")
    assert len(read_audio([Segment(str(tmp_path / "a.flac"), 0.0, 0.5)])) == 8_000


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_32", "IMA_ADPCM", "MS_ADPCM", "ULAW", "ALAW"])
def test_telephone_codecs_are_read_whole_and_by_the_stretch(tmp_path: Path, subtype: str) -> None:
    write(tmp_path / "a.wav", 2.0, 8_000, subtype=subtype)
    clip = whole(tmp_path / "a.wav")
    assert len(clip) == pytest.approx(32_000, abs=1_000)
    assert np.abs(clip[4_000:28_000] - sweep(2.0)[4_000:28_000]).mean() < 0.05
    part = read_audio([Segment(str(tmp_path / "a.wav"), 1.0, 0.5)]).numpy()
    assert np.abs(part - clip[16_000:24_000])[200:-200].max() < 1e-3


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("AIFF", "GSM610"),
        ("W64", "GSM610"),
        ("AU", "G723_24"),
        ("XI", "DPCM_16"),
        ("AIFF", "DWVW_16"),
        ("CAF", "ALAC_16"),
    ],
)
def test_codecs_without_a_seek_are_read_by_the_stretch(tmp_path: Path, form: str, subtype: str) -> None:
    write(tmp_path / "a", 2.0, format=form, subtype=subtype)
    clip = whole(tmp_path / "a")
    part = read_audio([Segment(str(tmp_path / "a"), 0.3, 0.25)]).numpy()
    rate = read_header(str(tmp_path / "a")).rate
    assert len(part) == pytest.approx(4_000, abs=2)
    if rate == 16_000:
        assert np.array_equal(part, clip[4_800:8_800])


def test_mp3_in_a_wav_file_is_read_to_its_end(tmp_path: Path) -> None:
    frames = (GOLDEN / "without_xing.mp3").read_bytes()[45:]
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16_000, 2_000, 1, 0, 12, 1, 2, 576, 1, 1393)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(frames)) + frames
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert np.array_equal(whole(tmp_path / "a.wav"), whole(GOLDEN / "without_xing.mp3"))


def test_a_flac_file_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.flac", 2.0))
    expected = whole(tmp_path / "a.flac")
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert soundfile.info(tmp_path / "a.flac").frames == 2**63 - 1
    assert np.array_equal(whole(tmp_path / "a.flac"), expected)
    assert audio_seconds([Segment(str(tmp_path / "a.flac"))]) == 2.0
    part = read_audio([Segment(str(tmp_path / "a.flac"), 0.5, 0.25)]).numpy()
    assert np.array_equal(part, expected[8_000:12_000])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.au", {}),
        ("a.w64", {}),
        ("a.caf", {}),
        ("a.aiff", {}),
        ("a.sph", {"format": "NIST"}),
        ("a.wav", {"format": "RF64"}),
        ("a.voc", {}),
    ],
)
def test_containers_are_read_and_what_breaks_off_is_corrupt(tmp_path: Path, name: str, options: Any) -> None:
    content = write(tmp_path / name, 4.0, **options)
    assert len(whole(tmp_path / name)) == 64_000
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=rf"{name}: (corrupt|not audio that soundfile reads)"):
        whole(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.mp3"])
def test_a_file_that_breaks_off_is_corrupt_though_libsndfile_does_not_mind(tmp_path: Path, name: str) -> None:
    content = write(tmp_path / name, 4.0) if name == "a.wav" else write(tmp_path / name, 20.0)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    for read in (read_audio, audio_seconds):
        with pytest.raises(
            AudioError,
            match=rf"{name}: corrupt: .*(only 2\.00 of 4\.00 s|breaks off within|only \d+ of \d+ MP3 frames)",
        ):
            read([Segment(str(tmp_path / name))])


@pytest.mark.parametrize("size", [0, 0x7FFFF024, 0xFFFFFFFF])
def test_a_wav_file_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    content = bytearray(write(tmp_path / "a.wav", 2.0))
    content[4:8] = struct.pack("<I", size)
    content[40:44] = struct.pack("<I", max(size - 36, 0) if size < 2**32 - 1 else size)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(whole(tmp_path / "a.wav")) == 32_000


def test_what_is_no_file_of_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(sweep(0.1).astype("<f4").tobytes())
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    for name, message in [
        ("a.raw", r"a\.raw: samples without a header"),
        ("folder.wav", r"folder\.wav: no such audio file: it is a folder"),
        ("pipe.wav", r"pipe\.wav: no audio file: it is a pipe"),
        ("a\0b.wav", r"a\\x00b\.wav: cannot be opened"),
        ("x" * 300, r"cannot be opened: File name too long"),
        ("\ud800.wav", r"ud800\.wav: cannot be opened"),
    ]:
        for read in (read_audio, audio_seconds):
            with pytest.raises(AudioError, match=message):
                read([Segment(str(tmp_path / name))])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.1)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match=r"a\.wav: cannot be read: Permission denied"):
        whole(tmp_path / "a.wav")


def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    try:
        (tmp_path / "a.wav").rename(name)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert len(whole(Path(name))) == 8_000
    with pytest.raises(AudioError, match=r"\\udcff\.wavv: no such audio file") as error:
        read_audio([Segment(f"{name}v")])
    assert str(error.value).encode()


def test_a_raw_ending_does_not_matter_where_there_is_a_header(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(whole(tmp_path / "a.raw")) == 8_000


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    (tmp_path / "junk.wav").write_bytes(b"junk" * 100)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("the system does not list descriptors")
    before = len(list(descriptors.iterdir()))
    for number in range(20):
        os.utime(tmp_path / "junk.wav", (number, number))
        with pytest.raises(AudioError):
            read_header(str(tmp_path / "junk.wav"))
        whole(tmp_path / "a.wav")
    assert len(list(descriptors.iterdir())) == before


def test_samples_in_another_unit_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 32_768 * sweep(0.5), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: holds samples up to 98\d\d.*, where full scale is 1"):
        whole(tmp_path / "a.wav")


def test_a_rate_that_no_audio_has_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sweep(0.5), 768_001)
    with pytest.raises(AudioError, match=r"a\.wav: the sample rate is 768001 Hz; it must be from 1 to 768000"):
        whole(tmp_path / "a.wav")
