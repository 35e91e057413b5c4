"""The sound bank's reader and renderer on a bank of one sample, and the plan of the quickstart's sounds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from salmonn_lab.data.corpora import soundfont, sounds
from salmonn_lab.data.corpora.soundfont import PERCUSSION, Note, read_bank, render

RATE = 22_050
ROOT = 60
PERIOD = 84  # 22,050 / 84 = 262.5 Hz, which is 0.057 semitones above middle C
SPLITS: tuple[sounds.Split, ...] = ("train", "validation", "test")
LOOPED = ((soundfont.MODES, 1),)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def write_bank(
    path: Path,
    generators: Sequence[tuple[int, int]] = (),
    presets: Sequence[tuple[int, int]] = ((0, 0),),
    preset_generators: Sequence[tuple[int, int]] = (),
    seconds: float = 0.5,
) -> Path:
    """Write a bank whose presets, (bank, program), all play one sine; its loop is four periods long."""
    sine = np.round(16_000 * np.sin(2 * np.pi * np.arange(round(seconds * RATE)) / PERIOD)).astype("<i2")
    outer, inner = [*preset_generators, (soundfont.INSTRUMENT, 0)], [*generators, (soundfont.SAMPLE, 0)]
    pairs = list(enumerate([*presets, (0, 0)]))
    tables = {
        b"phdr": b"".join(struct.pack("<20sHHH12x", b"p", program, bank, index) for index, (bank, program) in pairs),
        b"pbag": b"".join(struct.pack("<HH", index * len(outer), 0) for index, _ in pairs),
        b"pgen": b"".join(struct.pack("<Hh", *generator) for generator in outer * len(presets)),
        b"inst": struct.pack("<20sH", b"i", 0) + struct.pack("<20sH", b"EOI", 1),
        b"ibag": struct.pack("<HH", 0, 0) + struct.pack("<HH", len(inner), 0),
        b"igen": b"".join(struct.pack("<Hh", *generator) for generator in inner),
        b"shdr": struct.pack("<20s5IBbHH", b"s", 0, len(sine), 20 * PERIOD, 24 * PERIOD, RATE, ROOT, 0, 0, 1)
        + bytes(46),
    }
    samples = chunk(b"LIST", b"sdta" + chunk(b"smpl", sine.tobytes()))
    records = chunk(b"LIST", b"pdta" + b"".join(chunk(*table) for table in tables.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chunk(b"RIFF", b"sfbk" + samples + records))
    return path


def pitch(wave: NDArray[np.float32]) -> float:
    """Return the strongest frequency as a key, to a hundredth."""
    size = 1 << 19
    peak = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size)).argmax()
    sharp = 12 * np.log2(RATE / PERIOD / 440) + 69 - ROOT  # what the sample itself is off by
    return float(12 * np.log2(peak * soundfont.SAMPLE_RATE / size / 440) + 69 - sharp)


def sounding(wave: NDArray[np.float32]) -> float:
    """Return the second of the last sample that can be heard."""
    return float(np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())[-1]) / soundfont.SAMPLE_RATE


@pytest.mark.parametrize("key", [48, 60, 69, 79])
def test_a_note_has_the_pitch_of_its_key(tmp_path: Path, key: int) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", LOOPED))
    assert pitch(render(bank, 0, [Note(0, 1.0, key)], 1.0)) == pytest.approx(key, abs=0.02)


def test_tuning_adds_up_over_preset_and_instrument(tmp_path: Path) -> None:
    path = write_bank(tmp_path / "a.sf2", [*LOOPED, (soundfont.COARSE, 12)], preset_generators=[(soundfont.FINE, -50)])
    assert pitch(render(read_bank(path), 0, [Note(0, 1.0, 60)], 1.0)) == pytest.approx(71.5, abs=0.02)


def test_a_zone_that_ignores_keys_is_still_tuned(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", [*LOOPED, (soundfont.SCALE, 0), (soundfont.COARSE, 7)]))
    for key in (50, 72):
        assert pitch(render(bank, 0, [Note(0, 1.0, key)], 1.0)) == pytest.approx(67, abs=0.02)


def test_the_root_of_a_zone_overrides_that_of_its_sample(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", [*LOOPED, (soundfont.ROOT, 72)]))
    assert pitch(render(bank, 0, [Note(0, 1.0, 72)], 1.0)) == pytest.approx(60, abs=0.02)


def test_a_looped_note_lasts_as_long_as_it_is_held(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", LOOPED))
    assert sounding(render(bank, 0, [Note(0, 1.5, 60)], 3.0)) == pytest.approx(1.5, abs=0.05)


def test_a_note_without_a_loop_lasts_as_long_as_its_sample(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2"))
    assert sounding(render(bank, 0, [Note(0, 2.0, 60)], 3.0)) == pytest.approx(0.5, abs=0.02)
    assert sounding(render(bank, 0, [Note(0, 2.0, 72)], 3.0)) == pytest.approx(0.25, abs=0.02)


def test_a_loop_has_no_seam(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", LOOPED))
    wave = render(bank, 0, [Note(0, 2.0, 60)], 1.5)[1600:-1600].astype(np.float64)
    times = 2 * np.pi * RATE / PERIOD * np.arange(len(wave)) / soundfont.SAMPLE_RATE
    basis = np.stack([np.sin(times), np.cos(times)], axis=1)
    rest = wave - basis @ np.linalg.lstsq(basis, wave, rcond=None)[0]
    assert rest.std() < 0.005 * wave.std()


def test_what_lies_above_eight_kilohertz_does_not_fold_down(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", [*LOOPED, (soundfont.COARSE, 40)]))  # 262.5 Hz at key 60: 2.6 kHz
    heard, above = (render(bank, 0, [Note(0, 1.0, key)], 1.0) for key in (60, 84))  # 10.6 kHz at key 84
    assert np.abs(above[1600:-1600]).max() < 0.01 * np.abs(heard).max()


def test_attenuation_is_in_centibels(tmp_path: Path) -> None:
    plain, quiet = (
        render(
            read_bank(write_bank(tmp_path / f"{extra}.sf2", [*LOOPED, (soundfont.ATTENUATION, extra)])),
            0,
            [Note(0, 1, 60)],
            1,
        )
        for extra in (0, 200)
    )
    assert np.abs(quiet).max() / np.abs(plain).max() == pytest.approx(0.1, rel=0.01)


def test_keys_outside_a_zone_are_refused(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path / "a.sf2", [(soundfont.KEYS, 70 << 8 | 50), *LOOPED]))
    render(bank, 0, [Note(0, 1, 70)], 1)
    with pytest.raises(ValueError, match="program 0 of bank 0 has no sound for key 71"):
        render(bank, 0, [Note(0, 1, 71)], 1)
    with pytest.raises(ValueError, match="no program 3 in bank 128"):
        render(bank, 3, [Note(0, 1, 60)], 1, number=PERCUSSION)


def test_what_is_no_whole_bank_is_refused(tmp_path: Path) -> None:
    path = write_bank(tmp_path / "a.sf2")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match="cut short"):
        read_bank(path)
    (tmp_path / "b.sf2").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(ValueError, match="not a SoundFont"):
        read_bank(tmp_path / "b.sf2")


def test_splits_share_no_pitch_tempo_speed_or_recording() -> None:
    for one, other in combinations(SPLITS, 2):
        for table in (sounds.PITCH_CLASSES, sounds.TEMPI, sounds.PAUSES, sounds.SPEEDS):
            assert not set(table[one]) & set(table[other])
        first, second = sounds.plan(one), sounds.plan(other)
        for label in sounds.INSTRUMENTS:
            keys, others = (
                {note.key for clip in clips if clip.label == label for note in clip.notes} for clips in (first, second)
            )
            assert keys
            assert others
            assert not keys & others
        recorded, held_out = ({clip.recording for clip in clips if clip.recording} for clips in (first, second))
        assert recorded
        assert not recorded & held_out
        assert not {clip.id for clip in first} & {clip.id for clip in second}


def test_every_split_has_every_label() -> None:
    assert len(sounds.LABELS) == len(set(sounds.LABELS)) >= 44
    for split in SPLITS:
        clips = sounds.plan(split)
        assert {clip.label for clip in clips} == set(sounds.LABELS)
        assert len(clips) == sounds.PER_LABEL[split] * len(sounds.LABELS)
        assert len(sounds.plan(split, 0.01)) == len(sounds.LABELS)


def test_a_plan_is_the_same_each_time_and_a_small_one_part_of_a_large_one() -> None:
    assert sounds.plan("train") == sounds.plan("train")
    assert set(sounds.plan("train", 0.2)) < set(sounds.plan("train"))


@pytest.mark.parametrize(("split", "scale", "message"), [("dev", 1.0, "got 'dev'"), ("test", 0.0, "above 0, got 0")])
def test_an_impossible_plan_is_refused(split: sounds.Split, scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sounds.plan(split, scale)


def test_figures_are_what_their_names_say() -> None:
    for clip in (clip for split in SPLITS for clip in sounds.plan(split)):
        keys, starts = [note.key for note in clip.notes], [note.start for note in clip.notes]
        if clip.figure in ("rising", "falling"):
            assert len(set(keys)) == len(keys) >= 3
            assert keys == sorted(keys, reverse=clip.figure == "falling")
            assert starts == sorted(set(starts))
        elif clip.figure == "repeated":
            assert len(set(keys)) == 1
            assert len(set(starts)) == len(keys) >= 3
        elif clip.figure == "chord":
            assert clip.label in sounds.CHORDAL
            assert len(set(keys)) == 3
            assert len(set(starts)) == 1
        elif clip.figure == "hits":
            assert clip.hits == len(clip.notes)


def test_captions_name_the_label_and_differ() -> None:
    for clip in sounds.plan("train"):
        captions = sounds.caption(clip)
        assert 2 <= len(set(captions)) == len(captions) <= 3
        assert any(clip.label in caption for caption in captions)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """Return parts whose bank plays a short sine for every program, and whose recordings are a shorter one."""
    programs = {(clip.bank, clip.program) for clip in sounds.plan("train", 0.01)}
    # The same at every key: a low one would stretch a hit into the next.
    write_bank(tmp_path / "pretty_midi/pretty_midi/TimGM6mb.sf2", [(soundfont.SCALE, 0)], sorted(programs), seconds=0.1)
    for split in SPLITS:
        for part, name in {clip.recording for clip in sounds.plan(split) if clip.recording}:
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / part / name, 0.5 * np.sin(np.arange(4410) / 10), 44_100)
    return {name: tmp_path / name for name in ("pretty_midi", "supriya")}


def test_rendered_clips_keep_to_length_and_loudness(parts: dict[str, Path]) -> None:
    for clip in sounds.plan("test", 0.01):
        wave = sounds.render_clip(clip, parts)
        assert wave.dtype == np.float32
        assert 1.2 <= len(wave) / soundfont.SAMPLE_RATE <= 2.5
        assert np.abs(wave).max() == pytest.approx(clip.peak, rel=1e-5)
        np.testing.assert_array_equal(wave, sounds.render_clip(clip, parts))


def test_as_many_hits_are_heard_as_the_clip_says(parts: dict[str, Path]) -> None:
    heard = set()
    for clip in (clip for clip in sounds.plan("train", 0.3) if clip.hits):
        wave = sounds.render_clip(clip, parts)
        loud = np.array([np.abs(piece).max() for piece in np.array_split(wave, len(wave) // 400)]) > 0.25 * clip.peak
        assert loud[0] + np.count_nonzero(loud[1:] & ~loud[:-1]) == clip.hits, clip.id
        heard.add(clip.hits)
    assert heard == {1, 2, 3, 4}


def test_noise_lies_between_30_and_45_decibel(parts: dict[str, Path]) -> None:
    clips = [clip for clip in sounds.plan("test", 0.5) if not clip.recording]
    ratios = []
    for clip in clips:
        wave = sounds.render_clip(clip, parts)
        before = wave[:250]  # the first note begins after 20 ms, or 17 ms where it is played faster
        ratios.append(20 * np.log10(wave.std() / before.std()))
    assert min(ratios) > 30 - 1.5
    assert max(ratios) < 45 + 1.5
    assert np.mean(ratios) == pytest.approx(37.5, abs=2)
