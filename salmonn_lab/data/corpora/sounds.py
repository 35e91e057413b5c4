"""Sounds and music of the quickstart corpus: what each clip plays, in figures of a sound bank or from recordings."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from salmonn_lab.batch import Segment
from salmonn_lab.data.audio import read_audio
from salmonn_lab.data.corpora.soundfont import PERCUSSION, SAMPLE_RATE, Bank, Note, read_bank, render
from salmonn_lab.data.corpora.splits import Split, check_plan, generator_of

Figure = Literal["rising", "falling", "repeated", "chord", "long", "hits", "effect", "recording"]

PER_LABEL: Mapping[Split, int] = {"train": 36, "validation": 3, "test": 5}
"""Clips of each label at scale 1."""
SHORTEST, LONGEST = 1.2, 2.5
"""Seconds of a clip."""
SNR_DECIBEL = (30.0, 45.0)

# What the splits do not share. Every pitch class, tempo, speed and recording belongs to one split alone.
PITCH_CLASSES: Mapping[Split, tuple[int, ...]] = {
    "train": (0, 2, 4, 5, 7, 9, 11),  # the white keys
    "validation": (1, 3),
    "test": (6, 8, 10),
}
TEMPI: Mapping[Split, tuple[float, ...]] = {
    "train": (0.22, 0.26, 0.32, 0.40),
    "validation": (0.24, 0.34),
    "test": (0.23, 0.29, 0.36),
}
"""Seconds from one note to the next."""
PAUSES: Mapping[Split, tuple[float, ...]] = {
    "train": (0.45, 0.52, 0.60),
    "validation": (0.48,),
    "test": (0.50, 0.56),
}
"""Seconds from one hit to the next: far enough apart to be counted."""
SPEEDS: Mapping[Split, tuple[float, ...]] = {
    "train": (0.84, 0.92, 1.0, 1.08, 1.16),
    "validation": (0.88,),
    "test": (0.96, 1.12),
}
"""Multipliers of the speed, and so of the pitch, of drums, effects and recordings."""

# Label: General-MIDI program (from 0), lowest and highest key that is played.
INSTRUMENTS: Mapping[str, tuple[int, int, int]] = {
    "piano": (0, 48, 79),
    "harpsichord": (6, 48, 76),
    "music box": (10, 67, 91),
    "vibraphone": (11, 55, 79),
    "marimba": (12, 48, 72),
    "xylophone": (13, 67, 91),
    "church bell": (14, 55, 74),
    "organ": (16, 48, 76),
    "accordion": (21, 53, 77),
    "harmonica": (22, 60, 81),
    "acoustic guitar": (25, 43, 69),
    "electric guitar": (30, 40, 67),
    "bass guitar": (36, 28, 48),
    "violin": (40, 60, 86),
    "cello": (42, 36, 57),
    "harp": (46, 48, 79),
    "choir": (52, 50, 74),
    "trumpet": (56, 58, 79),
    "trombone": (57, 43, 65),
    "tuba": (58, 29, 50),
    "saxophone": (66, 48, 72),
    "oboe": (68, 62, 84),
    "clarinet": (71, 53, 77),
    "flute": (73, 65, 91),
    "sitar": (104, 50, 74),
    "banjo": (105, 50, 74),
    "bagpipes": (109, 55, 74),
    "steel drum": (114, 55, 77),
}
# Label: the keys of the General-MIDI kit that are this drum, or other kinds of it.
DRUMS: Mapping[str, tuple[int, ...]] = {
    "bass drum": (35, 36),
    "snare drum": (38, 40),
    "crash cymbal": (49, 57),
    "hi-hat": (42, 44),
    "tambourine": (54,),
    "cowbell": (56,),
    "bongo": (60, 61),
    "maracas": (70,),
    "wood block": (76, 77),
    "triangle": (80, 81),
    "hand clap": (39,),
    "whistle": (71, 72),
}
# Label: General-MIDI program, the keys it is played at, what is heard.
EFFECTS: Mapping[str, tuple[int, tuple[int, int], str]] = {
    "ocean waves": (122, (55, 66), "ocean waves roll in"),
    "telephone": (124, (60, 72), "a telephone rings"),
    "helicopter": (125, (55, 66), "a helicopter flies"),
    "applause": (126, (55, 66), "people clap and cheer"),
    "gunshot": (127, (55, 66), "a gun is fired"),
}
# Label: the part and path of its recordings, the numbers of those that each split holds, what is heard.
RECORDINGS: Mapping[str, tuple[str, str, Mapping[Split, tuple[int, ...]], str]] = {
    "bird": (
        "supriya",
        "supriya/samples/birds-0{}.wav",
        {"train": (1, 2, 3, 5, 6, 7), "validation": (4,), "test": (8, 9)},
        "a bird sings",
    ),
}
CHORDAL = (
    *("piano", "harpsichord", "music box", "vibraphone", "marimba", "organ", "accordion", "harmonica", "harp"),
    *("acoustic guitar", "electric guitar", "banjo", "choir", "steel drum"),
)
"""Instruments that play chords."""
LABELS = tuple(sorted([*INSTRUMENTS, *DRUMS, *EFFECTS, *RECORDINGS]))

COUNTS = ("never", "once", "twice", "three times", "four times")
NUMBERS = ("zero", "one", "two", "three", "four", "five")
PLURALS = ("applause", "maracas", "bagpipes", "ocean waves")
"""Labels without an article."""


@dataclass(frozen=True)
class SoundClip:
    """What one clip plays."""

    id: str
    label: str
    figure: Figure
    hits: int
    """How many separate hits are heard; 0 where counting makes no sense."""
    notes: tuple[Note, ...]
    """What a program of the sound bank plays; empty for a recording."""
    program: int
    bank: int
    recording: tuple[str, str] | None
    """The part and path of a recording."""
    speed: float
    peak: float
    seconds: float
    """At most; a recording may be shorter."""


def plan(split: Split, scale: float = 1.0) -> list[SoundClip]:
    """Return what one split plays: `scale` times `PER_LABEL` clips of every label, at least one.

    No pitch class, tempo or recording is in two splits, and no speed of a drum, an effect or a recording. A drum or an
    effect is itself one recording of the bank: there the splits differ by speed and rhythm alone.

    Raises:
        ValueError: if there is no such split, or `scale` is not above 0.
    """
    check_plan(split, scale)
    count = max(1, round(PER_LABEL[split] * scale))
    return [_clip(split, label, index) for label in LABELS for index in range(count)]


def _clip(split: Split, label: str, index: int) -> SoundClip:
    """Return one clip; it depends on its split, label and index alone."""
    name = f"{split}-{label.replace(' ', '-')}-{index:03d}"
    chance = random.Random(name)
    peak = round(chance.uniform(0.3, 0.9), 3)
    if label in RECORDINGS:
        part, path, numbers, _ = RECORDINGS[label]
        number = numbers[split][index % len(numbers[split])]
        recording, speed = (part, path.format(number)), chance.choice(SPEEDS[split])
        repeats = tuple(Note(0, 0, 0) for _ in range(chance.choice((1, 2, 2, 3))))
        return SoundClip(name, label, "recording", 0, repeats, 0, 0, recording, speed, peak, LONGEST)
    if label in DRUMS:
        pause, hits = chance.choice(PAUSES[split]), chance.choice((1, 2, 3, 4))
        key = chance.choice(DRUMS[label])
        notes = tuple(Note(0.02 + hit * pause, 0.3, key, chance.randint(85, 120)) for hit in range(hits))
        speed = chance.choice(SPEEDS[split])
        return SoundClip(name, label, "hits", hits, notes, 0, PERCUSSION, None, speed, peak, hits * pause + 0.5)
    if label in EFFECTS:
        program, (low, high), _ = EFFECTS[label]
        key, length = _keys(split, low, high, chance)[0], chance.uniform(1.6, 2.4)
        speed = chance.choice(SPEEDS[split])
        notes = (Note(0.02, length, key),)
        return SoundClip(name, label, "effect", 0, notes, program, 0, None, speed, peak, length + 0.3)
    program, low, high = INSTRUMENTS[label]
    keys = _keys(split, low, high, chance)
    figures: list[Figure] = ["repeated", "long"]
    if len(keys) >= 3:  # held-out pitch classes leave a small instrument few keys: two are no scale
        figures += ["rising", "falling"]
        if label in CHORDAL and len(keys) >= 5:
            figures.append("chord")
    figure = chance.choice(figures)
    notes = _figure(figure, keys, chance.choice(TEMPI[split]), chance)
    seconds = max(note.start + note.duration for note in notes) + 0.4
    return SoundClip(name, label, figure, 0, notes, program, 0, None, 1.0, peak, min(seconds, LONGEST))


def _keys(split: Split, low: int, high: int, chance: random.Random) -> list[int]:
    """Return up to five neighbouring keys of the split's pitch classes, lowest first."""
    keys = [key for key in range(low, high + 1) if key % 12 in PITCH_CLASSES[split]]
    first = chance.randrange(max(1, len(keys) - 4))
    return keys[first : first + 5]


def _figure(figure: Figure, keys: Sequence[int], tempo: float, chance: random.Random) -> tuple[Note, ...]:
    """Return the notes of a figure of the given keys."""
    loudness = chance.randint(80, 120)
    if figure == "chord":
        return tuple(Note(0.02, 1.3, key, loudness) for key in keys[::2])
    if figure == "long":
        return (Note(0.02, 1.6, chance.choice(keys), loudness),)
    if figure == "repeated":
        keys = [chance.choice(keys)] * chance.choice((3, 4, 5))
    line = sorted(keys, reverse=figure == "falling")
    return tuple(Note(0.02 + place * tempo, tempo, key, loudness) for place, key in enumerate(line))


def caption(clip: SoundClip) -> tuple[str, ...]:
    """Return captions of what the clip plays, the one to learn first."""
    if clip.label in RECORDINGS:
        return RECORDINGS[clip.label][3], f"the sound of {_article(clip.label)}"
    if clip.label in EFFECTS:
        return EFFECTS[clip.label][2], f"the sound of {_article(clip.label)}"
    name = _article(clip.label)
    many = clip.label in PLURALS
    if clip.figure == "hits":
        count = COUNTS[clip.hits]
        hits = f"{NUMBERS[clip.hits]} {'hit' if clip.hits == 1 else 'hits'}"
        verb = "are" if many else "is"
        return f"{name} {verb} played {count}", f"{name} {verb} hit {count}", f"{hits} of {name}"
    play, hold, repeat = ("play", "hold", "repeat") if many else ("plays", "holds", "repeats")
    up, down = f"{name} {play} notes that go up", f"{name} {play} notes that go down"
    return {
        "rising": (f"{name} {play} a rising scale", up, f"a rising scale on {name}"),
        "falling": (f"{name} {play} a falling scale", down, f"a falling scale on {name}"),
        "repeated": (f"{name} {play} one note again and again", f"{name} {repeat} a note"),
        "chord": (f"{name} {play} a chord", f"several notes of {name} at once", f"a chord on {name}"),
        "long": (f"{name} {hold} a long note", f"{name} {play} one long note", f"a long note of {name}"),
    }[clip.figure]


def _article(label: str) -> str:
    if label in PLURALS:
        return label
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


@cache
def _bank(path: Path) -> Bank:
    return read_bank(path)


@cache
def _recording(path: Path) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = read_audio([Segment(str(path))]).numpy()
    return wave


def render_clip(clip: SoundClip, parts: Mapping[str, Path]) -> NDArray[np.float32]:
    """Return the sound, float32 at 16 kHz, with white noise at 30 to 45 dB SNR; equal clips sound equal.

    Args:
        clip: of `plan`.
        parts: the unzipped wheels, by name.
    """
    if clip.recording is not None:
        part, path = clip.recording
        once = _recording(parts[part] / path)
        pause = np.zeros(round(0.25 * SAMPLE_RATE), np.float32)
        wave = np.concatenate([piece for _ in clip.notes for piece in (once, pause)])
    else:
        bank = _bank(parts["pretty_midi"] / "pretty_midi" / "TimGM6mb.sf2")
        wave = render(bank, clip.program, clip.notes, clip.seconds, number=clip.bank)
    if clip.speed != 1:
        wave = _played_at(wave, clip.speed)
    wave = wave[: round(LONGEST * SAMPLE_RATE)]
    wave = np.pad(wave, (0, max(0, round(SHORTEST * SAMPLE_RATE) - len(wave))))
    generator = generator_of(clip.id)
    noise = generator.standard_normal(len(wave))
    wave = wave + noise * (wave.std() * 10 ** (-generator.uniform(*SNR_DECIBEL) / 20))
    return np.asarray(wave * (clip.peak / np.abs(wave).max()), np.float32)


def _played_at(wave: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Return a wave played faster or slower, its pitch with it."""
    resampled = torchaudio.functional.resample(torch.from_numpy(wave), round(100 * speed), 100)
    return np.asarray(resampled.numpy(), np.float32)
