"""The streams that MP3 and Ogg files hold one after another, the first of which is what libsndfile reads.

Of an MP3 stream without a Xing frame libsndfile guesses the length from the first frame's bit rate, and reads no
further. Such a stream is given an Info frame that states how many frames it has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

RATES = (44_100, 48_000, 32_000)
"""Of MPEG-1; MPEG-2 has half of them, MPEG-2.5 a quarter."""
KILOBITS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Of layer III, MPEG-1 and later, for the bit rate indices 1 to 14."""
TAG_BYTES = 512
"""How far the size that a Xing frame states may miss the end of the file, where small tags stand."""
LEFTOVER_FRAMES = 2
"""So few frames after those that a Xing frame counts are no stream: some encoders count one too few."""
MISSING_FRAMES = 13
"""So many frames, 0.3 to 0.5 s, may be missing of those that a Xing frame counts."""
DECODER_DELAY = 529
"""Samples that libmpg123 leaves out beside the encoder's delay, where a frame states one."""
LAME_DELAY = 21
"""Bytes of LAME's extension to a Xing frame before the delay."""
WAV_HEAD_BYTES = 4096
OGG_PAGE = b"OggS\0"
OGG_FIRST_PAGE = re.compile(rb"OggS\0\x02")
FLAC_START = re.compile(rb"fLaC[\0\x80]\0\0\x22")


class BrokenStreamError(ValueError):
    """A stream that breaks off; the message says where."""


@dataclass(frozen=True)
class Stream:
    """A stretch of a file that libsndfile reads as a file of its own, behind some bytes that go before it."""

    start: int
    stop: int
    prefix: bytes = b""

    def read(self, path: str) -> bytes:
        """The bytes of the stream."""
        with Path(path).open("rb") as file:
            file.seek(self.start)
            return self.prefix + file.read(self.stop - self.start)


def ogg_streams(path: str) -> tuple[Stream, ...]:
    """The links of a chained Ogg file, in order; none for any other Ogg file.

    Raises:
        BrokenStreamError: the last page is longer than what is left of the file.
    """
    content = Path(path).read_bytes()
    starts: list[int] = []
    after = -1
    for match in OGG_FIRST_PAGE.finditer(content):
        if match.start() != after:  # else it opens another stream of the same link
            starts.append(match.start())
        after = match.start() + _page_size(content, match.start())
    last = content.rfind(OGG_PAGE)
    if last >= 0 and last + _page_size(content, last) > len(content):
        raise BrokenStreamError("the file breaks off within an Ogg page")
    return tuple(map(Stream, starts, [*starts[1:], len(content)])) if len(starts) > 1 else ()


def _page_size(content: bytes, start: int) -> int:
    """The bytes of an Ogg page: header, segment table, segments."""
    count = content[start + 26] if start + 26 < len(content) else 0
    return 27 + count + sum(content[start + 27 : start + 27 + count])


def flac_streams(path: str) -> int:
    """How many FLAC streams a file holds one after another."""
    return len(FLAC_START.findall(Path(path).read_bytes()))


def endless_wav(path: str) -> Stream | None:
    """The samples of a WAV file whose data chunk has the size 0 though bytes follow, as where it went to a pipe."""
    with Path(path).open("rb") as file:
        head = file.read(WAV_HEAD_BYTES)
        length = file.seek(0, 2)
    start = head.find(b"data\0\0\0\0") + 8
    if start < 8 or length - start < 2:
        return None
    sizes = [(length - 8).to_bytes(8, "little")[:4], (length - start).to_bytes(8, "little")[:4]]
    return Stream(start, length, head[:4] + sizes[0] + head[8 : start - 4] + sizes[1])


@dataclass(frozen=True)
class _Frame:
    """An MPEG audio frame of layer III, by its header."""

    bytes: int
    tag: int
    """Where a Xing frame has its name."""
    samples: int
    kind: tuple[int, int, bool]
    """Version, rate, whether it is mono: what does not change within a stream."""


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> _Frame | None:
    """The frame that a header of 4 bytes opens; None where it is none of layer III with a bit rate of the table."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = {3: 1, 2: 2, 0: 4}.get(header[1] >> 3 & 3), header[1] >> 1 & 3
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version is None or layer != 1 or not 0 < bits < 15 or rate == 3:
        return None
    hertz = RATES[rate] // version
    kilobits = KILOBITS[0 if version == 1 else 1][bits - 1]
    size = (144_000 if version == 1 else 72_000) * kilobits // hertz + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 1 else (9 if mono else 17)
    return _Frame(size, 4 + side, 1152 if version == 1 else 576, (version, hertz, mono))


def mp3_streams(path: str) -> tuple[Stream, ...]:
    """The streams of an MP3 file, in order; none where the whole file is one whose Xing frame can be trusted.

    Only where that frame's size is not the file's are all frames looked for.

    Raises:
        BrokenStreamError: a stream has fewer frames than its Xing frame counts.
    """
    with Path(path).open("rb") as file:
        start = _tag_size(file.read(10))
        file.seek(start)
        head = file.read(4096)
        length = file.seek(0, 2)
    first = _frame(head[:4])
    counts = None if first is None else _counts(head, 0, first)
    if counts and all(counts) and abs(start + counts[1] - length) <= TAG_BYTES:
        return ()
    return _scan(Path(path).read_bytes())


def _scan(content: bytes) -> tuple[Stream, ...]:
    """The streams among all frames: one starts at a Xing frame, after the last frame that one counts, or where version,
    rate or channels change."""
    found: list[tuple[int, int, int, int | None]] = []
    """Of each stream its first and last byte, its frames and how many its Xing frame counts."""
    kind, position = None, 0
    while (position := _next_frame(content, position)) >= 0:
        frame = _frame(content[position : position + 4])
        assert frame is not None
        stop = position + frame.bytes
        counts = _counts(content, position, frame)
        start, _, frames, counted = found[-1] if found else (0, 0, 0, None)
        if counts is not None and counts[0]:
            found.append((position, stop, 0, counts[0]))
        elif counts is not None:  # a Xing frame that counts nothing holds no audio
            found.append((stop, stop, 0, None))
        elif not found or frame.kind != kind or frames == counted:
            found.append((position, stop, 1, None))
        else:
            # After a Xing frame that counts nothing there may be damage before the first frame of audio.
            found[-1] = (start if frames or counted else position, stop, frames + 1, counted)
        kind, position = frame.kind, stop
    streams = []
    for _, _, frames, counted in found:
        if counted is not None and counted - frames > MISSING_FRAMES:
            raise BrokenStreamError(f"only {frames} of {counted} MP3 frames are in the file")
    for index, (start, stop, frames, counted) in enumerate(found):
        if counted is None and frames == 0:
            continue
        if counted is None and index and found[index - 1][3] is not None and frames <= LEFTOVER_FRAMES:
            continue
        streams.append(Stream(start, stop, b"" if counted else _info_frame(content[start : start + 4], frames)))
    return tuple(streams)


def _next_frame(content: bytes, position: int) -> int:
    """Where the next whole frame starts, at a position or behind it; -1 where there is none.

    Away from where the last one ended, what looks like a frame must be followed by another.
    """
    expected = position
    while 0 <= position <= len(content) - 4:
        if content.startswith(b"ID3", position):
            position = expected = position + _tag_size(content[position : position + 10])
        frame = _frame(content[position : position + 4])
        if frame is not None and position + frame.bytes <= len(content):
            after = position + frame.bytes
            follower = _frame(content[after : after + 4])
            if position == expected or after == len(content) or (follower and follower.kind == frame.kind):
                return position
        position = content.find(b"\xff", position + 1)
    return -1


def _tag_size(head: bytes) -> int:
    """The bytes of an ID3v2 tag, by its first 10; 0 where it is none."""
    if len(head) < 10 or not head.startswith(b"ID3") or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _counts(content: bytes, position: int, frame: _Frame) -> tuple[int, int] | None:
    """How many frames and bytes a Xing, Info or VBRI frame states, 0 where it does not say; None where it is none."""

    def number(at: int) -> int:
        return int.from_bytes(content[at : at + 4], "big")

    place = position + frame.tag
    if content[place : place + 4] in (b"Xing", b"Info"):
        flags = number(place + 4)
        frames = number(place + 8) if flags & 1 else 0
        return frames, number(place + (12 if flags & 1 else 8)) if flags & 2 else 0
    if content.startswith(b"VBRI", position + 36):
        return 0, 0  # libmpg123 does not know it
    return None


def _info_frame(header: bytes, frames: int) -> bytes:
    """An Info frame that states the number of frames of a stream, for a frame of which this is the header.

    libmpg123 leaves out 529 samples more than the encoder's delay that such a frame states, its own delay. A silent
    frame follows, and the delay is such that it is what is left out.
    """
    opening = bytes([header[0], header[1] | 1, 14 << 4 | header[2] & 0x0C, header[3]])
    frame = _frame(opening)
    assert frame is not None
    count = b"Info" + (1).to_bytes(4, "big") + (frames + 1).to_bytes(4, "big")
    delay = ((frame.samples - DECODER_DELAY) << 12).to_bytes(3, "big")
    stated = opening + bytes(frame.tag - 4) + count + b"LAME".ljust(LAME_DELAY, b"\0") + delay
    return stated.ljust(frame.bytes, b"\0") + opening.ljust(frame.bytes, b"\0")
