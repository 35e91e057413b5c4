"""A SoundFont 2 bank: its reader and a renderer of notes.

SoundFont Technical Specification 2.04, https://freepats.zenvoid.org/sf2/sfspec24.pdf
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
OVERSAMPLING = 2
"""Notes are interpolated at 32 kHz: what folds at that rate lands above 8 kHz, where the decimation removes it."""
PERCUSSION = 128
LONGEST_RELEASE = 0.4

_RECORDS = {
    b"phdr": np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "V12")]),
    b"pbag": np.dtype([("generator", "<u2"), ("modulator", "<u2")]),
    b"pgen": np.dtype([("kind", "<u2"), ("amount", "<i2")]),
    b"inst": np.dtype([("name", "S20"), ("bag", "<u2")]),
    b"ibag": np.dtype([("generator", "<u2"), ("modulator", "<u2")]),
    b"igen": np.dtype([("kind", "<u2"), ("amount", "<i2")]),
    b"shdr": np.dtype(
        [
            ("name", "S20"),
            *((name, "<u4") for name in ("start", "end", "loop", "loop_end", "rate")),
            ("key", "u1"),
            ("cents", "i1"),
            ("link", "<u2"),
            ("type", "<u2"),
        ]
    ),
}

# Generators (section 8.1.2): their numbers, and what a missing one means.
START, END, LOOP, LOOP_END = 0, 1, 2, 3
START_COARSE, END_COARSE, LOOP_COARSE, LOOP_END_COARSE = 4, 12, 45, 50
ATTACK, HOLD, DECAY, SUSTAIN, RELEASE = 34, 35, 36, 37, 38
INSTRUMENT, KEYS, VELOCITIES, ATTENUATION = 41, 43, 44, 48
COARSE, FINE, SAMPLE, MODES, SCALE, ROOT = 51, 52, 53, 54, 56, 58
DEFAULTS = {ATTACK: -12000, HOLD: -12000, DECAY: -12000, RELEASE: -12000, SCALE: 100, ROOT: -1}
RELATIVE = (ATTACK, HOLD, DECAY, SUSTAIN, RELEASE, ATTENUATION, COARSE, FINE)
"""What a preset adds to its instrument's value."""


@dataclass(frozen=True, eq=False)
class Zone:
    """One sample of a preset, and the keys and velocities that sound it."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    samples: NDArray[np.float32]
    """At `rate`, in -1 to 1."""
    rate: int
    root: int
    """The key at which the samples sound as they were recorded, but for `tuning`."""
    tuning: float
    """Semitones added at every key."""
    semitones_per_key: float
    gain: float
    loop: tuple[int, int] | None
    attack: float
    hold: float
    decay: float
    """Seconds of a fall by 100 dB."""
    sustain: float
    """How many dB the decay falls."""
    release: float


@dataclass(frozen=True)
class Note:
    """One note: seconds, a MIDI key (which may be fractional) and a MIDI velocity."""

    start: float
    duration: float
    key: float
    velocity: int = 100


Bank = Mapping[tuple[int, int], Sequence[Zone]]
"""The zones of every preset, by bank number and program number."""


def read_bank(path: str | Path) -> Bank:
    """Read an SF2 file.

    Of the generators, the volume envelope, tuning, attenuation and loops are kept; filters, modulators, panning and
    the rest are ignored.

    Raises:
        ValueError: the file is no SoundFont, is cut short, or lacks a table.
    """
    data = Path(path).read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise ValueError(f"{path}: not a SoundFont 2 file")
    chunks = dict(_chunks(data, 12, len(data)))
    if missing := [name.decode() for name in (b"smpl", *_RECORDS) if name not in chunks]:
        raise ValueError(f"{path}: the SoundFont is cut short: it has no chunk {', '.join(missing)}")
    tables = {name: np.frombuffer(chunks[name], dtype) for name, dtype in _RECORDS.items()}
    pool = np.frombuffer(chunks[b"smpl"], "<i2").astype(np.float32) / np.float32(32768)
    instruments = [_zones(tables, b"i", index, SAMPLE) for index in range(len(tables[b"inst"]) - 1)]
    bank: dict[tuple[int, int], list[Zone]] = {}
    for index, preset in enumerate(tables[b"phdr"][:-1]):
        bank[int(preset["bank"]), int(preset["program"])] = [
            zone
            for outer in _zones(tables, b"p", index, INSTRUMENT)
            for inner in instruments[outer[INSTRUMENT]]
            if (zone := _zone(outer, inner, tables[b"shdr"], pool)) is not None
        ]
    return bank


def render(bank: Bank, program: int, notes: Sequence[Note], seconds: float, *, number: int = 0) -> NDArray[np.float32]:
    """Return notes as 16 kHz mono, `seconds` long.

    Args:
        bank: of `read_bank`.
        program: 0 to 127.
        notes: in any order; a looped sample sounds until a note's duration is over, any other to its end.
        seconds: notes are cut there.
        number: the bank's number; `PERCUSSION` holds the drum kits, where a key is a drum.

    Raises:
        ValueError: the bank has no such program, or no zone for a note.
    """
    if (number, program) not in bank:
        raise ValueError(f"the sound bank has no program {program} in bank {number}")
    frames = round(seconds * SAMPLE_RATE)
    rate = SAMPLE_RATE * OVERSAMPLING
    mix = np.zeros(frames * OVERSAMPLING)
    for note in notes:
        # The fraction of a key is its tuning; the key itself chooses the zone.
        key = round(note.key)
        zones = bank[number, program]
        found = [zone for zone in zones if _holds(zone.keys, key) and _holds(zone.velocities, note.velocity)]
        if not found:
            raise ValueError(f"program {program} of bank {number} has no sound for key {key}, velocity {note.velocity}")
        start = round(note.start * rate)
        for zone in found:
            sound = _sound(zone, note, rate, len(mix) - start)
            mix[start : start + len(sound)] += sound
    return _decimate(mix).astype(np.float32)


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and content of every chunk, those inside lists too."""
    while start + 8 <= end:
        name, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if start + 8 + size > end:
            return
        if name == b"LIST":
            yield from _chunks(data, start + 12, start + 8 + size)
        else:
            yield name, data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2


def _zones(tables: Mapping[bytes, NDArray[np.void]], level: bytes, index: int, last: int) -> list[dict[int, int]]:
    """Return the generators of every zone of a preset or an instrument; `last` is the one that a zone ends with."""
    headers = tables[b"phdr" if level == b"p" else b"inst"]
    bags, generators = tables[level + b"bag"], tables[level + b"gen"]
    shared: dict[int, int] = {}
    zones = []
    for number, bag in enumerate(range(headers["bag"][index], headers["bag"][index + 1])):
        own = {
            int(kind): int(amount)
            for kind, amount in generators[bags["generator"][bag] : bags["generator"][bag + 1]].tolist()
        }
        if last in own:
            zones.append(shared | own)
        elif number == 0:  # a first zone without a sample is global: it holds what the others default to
            shared = own
    return zones


def _zone(
    outer: Mapping[int, int], inner: Mapping[int, int], headers: NDArray[np.void], pool: NDArray[np.float32]
) -> Zone | None:
    """Return what a preset's zone and an instrument's zone make together, if any key sounds both."""

    def value(kind: int) -> int:
        return inner.get(kind, DEFAULTS.get(kind, 0)) + (outer.get(kind, 0) if kind in RELATIVE else 0)

    def limits(kind: int) -> tuple[int, int]:
        ranges = [zone.get(kind, 127 << 8) & 0xFFFF for zone in (outer, inner)]
        return max(both & 0xFF for both in ranges), min(both >> 8 for both in ranges)

    keys, velocities = limits(KEYS), limits(VELOCITIES)
    if keys[0] > keys[1] or velocities[0] > velocities[1]:
        return None
    header = headers[inner[SAMPLE]]
    start, end, loop, loop_end = (
        int(header[name]) + value(fine) + 32768 * value(coarse)
        for name, fine, coarse in (
            ("start", START, START_COARSE),
            ("end", END, END_COARSE),
            ("loop", LOOP, LOOP_COARSE),
            ("loop_end", LOOP_END, LOOP_END_COARSE),
        )
    )
    looped = value(MODES) & 1 and start <= loop < loop_end <= end
    root = value(ROOT) if 0 <= value(ROOT) <= 127 else int(header["key"])
    return Zone(
        keys,
        velocities,
        pool[start:end],
        int(header["rate"]),
        root,
        value(COARSE) + (value(FINE) + int(header["cents"])) / 100,
        value(SCALE) / 100,
        10 ** (-max(0, value(ATTENUATION)) / 200),
        (loop - start, loop_end - start) if looped else None,
        attack=2 ** (value(ATTACK) / 1200),
        hold=2 ** (value(HOLD) / 1200),
        decay=2 ** (value(DECAY) / 1200),
        sustain=min(max(value(SUSTAIN), 0), 1440) / 10,
        release=2 ** (value(RELEASE) / 1200),
    )


def _holds(limits: tuple[int, int], value: int) -> bool:
    return limits[0] <= value <= limits[1]


def _sound(zone: Zone, note: Note, rate: int, room: int) -> NDArray[np.float64]:
    """Return one note of one zone at a rate, at most `room` long."""
    # The scale is of keys alone: a zone that sounds the same at every key is still tuned (section 8.1.3, scaleTuning).
    step = 2 ** (((note.key - zone.root) * zone.semitones_per_key + zone.tuning) / 12) * zone.rate / rate
    release = min(max(zone.release, 0.01), LONGEST_RELEASE)
    # A drum's zone is not cut when its key is let go: it rings to its end, as players send such notes.
    last = (len(zone.samples) - 1) / step if zone.loop is None else (note.duration + release) * rate
    frames = max(0, min(room, int(last)))
    positions = np.arange(frames) * step
    if zone.loop is not None:
        loop, end = zone.loop
        beyond = positions >= end
        positions[beyond] = loop + (positions[beyond] - loop) % (end - loop)
    before = positions.astype(np.int64)
    after = np.minimum(before + 1, len(zone.samples) - 1)
    if zone.loop is not None:
        after[after >= zone.loop[1]] = zone.loop[0]
    samples = zone.samples[before] + (positions - before) * (zone.samples[after] - zone.samples[before])
    times = np.arange(frames) / rate
    fall = np.clip((times - zone.attack - zone.hold) * 100 / max(zone.decay, 0.001), 0, zone.sustain)
    envelope = np.minimum(times / max(zone.attack, 0.002), 1) * 10 ** (-fall / 20)
    if zone.loop is not None:
        envelope *= np.clip(1 - (times - note.duration) / release, 0, 1) ** 2
    return samples * envelope * (zone.gain * (note.velocity / 127) ** 2)


def _decimate(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every second sample of what is below half of the band."""
    taps = np.arange(-31, 32)
    kernel = np.sinc(taps * 0.95 / OVERSAMPLING) * np.kaiser(len(taps), 7)
    return np.convolve(samples, kernel / kernel.sum(), "same")[::OVERSAMPLING]
