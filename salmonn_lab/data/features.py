"""The feature store: what frozen encoders answered to clips, on disk, written once and read by every run.

A clip is known by its samples, an encoder by its signature (weights, preprocessing, span):

    STORE/sources/*.safetensors                         key of the files a clip is read from -> key of its samples
    STORE/NAME-SIGNATURE-TYPE/*.safetensors             key of a clip's samples -> what that encoder answered

Each file (a shard) is written by one process and appears whole or not at all, so several processes may write at once;
where two have answered the same clip, the first answer counts.

What is trusted: a file whose path, size and time of modification are those of before holds the samples of before (a
few clips are read again at every start, all of them by `encode --verify`); a shard whose size, header and encoder are
right holds what was written (`encode` hashes its content, `fit` and `evaluate` do not); weights are told apart by a
thousand values of every tensor.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from salmonn_lab.batch import ClipFrames, EncoderSpec, Segment
from salmonn_lab.data.audio import AudioError, read_audio
from salmonn_lab.data.config import Storage
from salmonn_lab.files import remove_unfinished, writing

Reader = Callable[..., Tensor]
"""Makes a waveform of segments; takes `speed`."""
Shard = dict[str, Tensor]

FORMAT = "salmonn_lab features, version 1"
READING = 2
"""Raise it whenever `read_audio` would read other samples from the same file."""
SOURCES = "sources"
ENCODER_FOLDER = re.compile(rf".+-[0-9a-f]{{32}}-({'|'.join(get_args(Storage))})")
SHARD_BYTES = 128 * 2**20
PUBLISH_SECONDS = 60.0
"""A kill loses at most so much work, or a shard."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """Audio as a run plays it."""

    audio: tuple[Segment, ...]
    speed: float = 1.0
    seconds: float = field(default=math.nan, compare=False)
    """At this speed; nan where nobody has measured it yet."""

    @property
    def key(self) -> str:
        """A hash of the places that it is read from, whatever they hold."""
        return _hash(repr((self.audio, float(self.speed))).encode())


def _hash(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_key(waveform: Tensor) -> str:
    """Return a hash of a clip's samples."""
    return _hash(waveform.contiguous().numpy())


def source_key(clip: Clip, read: Reader, stamps: dict[str, tuple[int, int]] | None = None) -> str:
    """Return a hash of what decides a clip's samples, short of reading them.

    Args:
        clip: which stretches of which files, how fast.
        read: how they are read.
        stamps: sizes and times of modification of files that were looked at before; grows.
    """
    stamps = {} if stamps is None else stamps
    for segment in clip.audio:
        if segment.path not in stamps:
            try:
                state = Path(segment.path).stat()
            except OSError:
                stamps[segment.path] = (-1, -1)  # reading says what is wrong with it
            else:
                stamps[segment.path] = (state.st_size, state.st_mtime_ns)
    files = [(segment, stamps[segment.path]) for segment in clip.audio]
    return _hash(repr((READING, reading_settings(read), float(clip.speed), files)).encode())


def reading_settings(read: Reader) -> str:
    """Return what a reader does to audio besides reading it.

    Raises:
        ValueError: it is not `read_audio` with some settings: it may give other samples each time.
    """
    if not isinstance(read, partial) or read.func is not read_audio:
        name = getattr(read, "__name__", type(read).__name__)
        raise ValueError(
            f"features must be null where waveforms are changed after reading ({name}): the feature store holds the "
            "frames of clips as their files have them"
        )
    return repr(sorted(read.keywords.items()))


class MappedFrames:
    """The rows of a shard that is mapped into memory."""

    def __init__(self, shard: Shard) -> None:
        self._vectors, self._masks = shard["vectors"], shard["masks"]
        self._repeats = shard["repeats"].tolist()
        self._vector_ends, self._frame_ends = [0, *shard["vector_ends"].tolist()], [0, *shard["frame_ends"].tolist()]

    def __getitem__(self, row: int) -> ClipFrames:
        vectors = self._vectors[self._vector_ends[row] : self._vector_ends[row + 1]]
        mask = self._masks[self._frame_ends[row] : self._frame_ends[row + 1]]
        return ClipFrames(vectors, self._repeats[row], mask)


class FeatureStore:
    """A folder of frames, for one set of encoders and one type of storage."""

    def __init__(self, folder: str | Path, encoders: Sequence[EncoderSpec], storage: Storage) -> None:
        self.folder, self.encoders, self.storage = Path(folder), tuple(encoders), storage
        self.dtype: torch.dtype = getattr(torch, storage)
        self._contents: dict[str, str] = {}
        """Of a source, the key of its samples."""
        self._places: list[dict[str, tuple[Path, int]]] = [{} for _ in encoders]
        """Of each encoder and a clip's samples, the shard and the row in it."""
        self._found: dict[str, str] = {}
        """Of a clip, the key of its samples."""
        self._mapped: dict[Path, MappedFrames] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave maps of files behind: each process makes its own."""
        return {**self.__dict__, "_mapped": {}}

    def names(self) -> list[str]:
        """Return the name of each encoder's folder."""
        return [f"{encoder.name}-{encoder.signature}-{self.storage}" for encoder in self.encoders]

    def scan(self, *, verify: bool = False) -> None:
        """See what the folder holds; torn and foreign shards are renamed, and what they held counts as missing.

        With `verify`, the content of every shard is hashed as well.
        """
        self._contents, self._found, self._mapped = {}, {}, {}
        self._places = [{} for _ in self.encoders]
        for path in shards(self.folder / SOURCES):
            if (shard := open_shard(path, SOURCES, verify=verify)) is not None:
                self._contents.update(zip(_texts(shard["sources"]), _texts(shard["contents"]), strict=True))
        for places, name in zip(self._places, self.names(), strict=True):
            for path in shards(self.folder / name):
                if (shard := open_shard(path, name, verify=verify)) is not None:
                    for row, content in enumerate(_texts(shard["contents"])):
                        places.setdefault(content, (path, row))

    def find(self, clips: Iterable[Clip], read: Reader) -> list[Clip]:
        """Look clips up; `frames` knows those that are there from now on, the others are returned."""
        stamps: dict[str, tuple[int, int]] = {}
        missing = []
        for clip in clips:
            content = self._contents.get(source_key(clip, read, stamps))
            if content is None or any(content not in places for places in self._places):
                missing.append(clip)
            else:
                self._found[clip.key] = content
        return missing

    def agrees(self, clip: Clip, read: Reader) -> bool:
        """Read a clip that was found, and tell whether it has the samples that its files are trusted to hold."""
        try:
            return content_key(read(clip.audio, speed=clip.speed)) == self._found[clip.key]
        except AudioError:
            return False

    def distrust(self) -> None:
        """Forget what files are known to hold, so that every clip is missing until it is read again."""
        self._contents, self._found = {}, {}

    def content(self, clip: Clip) -> str | None:
        """Return the key of a clip's samples, where it was found."""
        return self._found.get(clip.key)

    def frames(self, clip: Clip) -> tuple[ClipFrames, ...]:
        """Return what each encoder answered to a clip, as views of mapped files.

        Raises:
            AudioError: nobody has encoded it.
        """
        content = self._found.get(clip.key)
        if content is None:
            raise AudioError(
                f"{clip.audio[0].path}: its frames are not in the feature store {self.folder}: it could not be read "
                "when they were written"
            )
        return tuple(self._row(*places[content]) for places in self._places)

    def has(self, encoder: int, content: str) -> bool:
        """Tell whether an encoder has answered to these samples."""
        return content in self._places[encoder]

    def knows(self, source: str, content: str) -> bool:
        """Tell whether a source is written down as holding these samples."""
        return self._contents.get(source) == content

    def _row(self, path: Path, row: int) -> ClipFrames:
        if (mapped := self._mapped.get(path)) is None:
            try:
                mapped = self._mapped[path] = MappedFrames(map_file(path)[0])
            except (FileNotFoundError, SafetensorError) as error:
                raise OSError(
                    f"{path}: another process has removed or damaged it since this one looked at the feature store "
                    f"({error}); the same command encodes again what it held"
                ) from None
        return mapped[row]

    def add(self, encoder: int, clips: Mapping[str, ClipFrames]) -> None:
        """Write what an encoder answered to some clips, by the keys of their samples, as one shard."""
        path = write_shard(self.folder, self.names()[encoder], _pack(clips))
        for row, content in enumerate(clips):
            self._places[encoder].setdefault(content, (path, row))

    def note(self, sources: Mapping[str, str]) -> None:
        """Write which samples some sources hold."""
        contents = {"sources": _digests(sources), "contents": _digests(sources.values())}
        write_shard(self.folder, SOURCES, contents)
        self._contents.update(sources)


class FeatureWriter:
    """Gathers one process' answers, and writes them to a store shard by shard."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self._clips: list[dict[str, ClipFrames]] = [{} for _ in store.encoders]
        self._sources: dict[str, str] = {}
        self._bytes, self._since = 0, time.monotonic()

    def wants(self, encoder: int, content: str) -> bool:
        """Tell whether an encoder has yet to answer to these samples."""
        return content not in self._clips[encoder] and not self.store.has(encoder, content)

    def put(self, encoder: int, content: str, frames: ClipFrames) -> None:
        """Take an encoder's answer.

        Raises:
            ValueError: the type of storage cannot hold it.
        """
        vectors = frames.vectors.to(self.store.dtype, copy=True)
        if self.store.storage == "float16" and not torch.isfinite(vectors).all():
            raise ValueError(
                f"features_dtype=float16 cannot hold {float(frames.vectors.abs().max()):.3g}, which "
                f"{self.store.encoders[encoder].name} answered; use bfloat16 or float32"
            )
        self._clips[encoder][content] = ClipFrames(vectors, frames.repeats, frames.mask.clone())
        self._bytes += vectors.nbytes

    def note(self, source: str, content: str) -> None:
        """Take down which samples a source holds, once every encoder has answered; write when there is enough."""
        if not self.store.knows(source, content):
            self._sources[source] = content
        if self._bytes > SHARD_BYTES * len(self._clips) or time.monotonic() - self._since > PUBLISH_SECONDS:
            self.publish()

    def publish(self) -> None:
        """Write what was gathered."""
        for encoder, clips in enumerate(self._clips):
            if clips:
                self.store.add(encoder, clips)
                clips.clear()
        if self._sources:  # last: a source whose clip has no frames would be looked for in vain
            self.store.note(self._sources)
            self._sources.clear()
        self._bytes, self._since = 0, time.monotonic()


def frame_bytes(encoder: EncoderSpec, frames: int, storage: Storage) -> int:
    """Return the bytes that an encoder's answer to a clip of so many frames takes in a store, a little too high."""
    count = encoder.fixed_frames or frames
    return math.ceil(count / encoder.repeats) * encoder.dim * int(getattr(torch, storage).itemsize) + count


def check_room(folder: Path, needed: int) -> None:
    """Raise OSError if the disk has not as many bytes free as are about to be written."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OSError(
            f"features={folder}: the missing frames take about {needed / 2**30:.1f} GiB, the disk has "
            f"{free / 2**30:.1f} GiB free; choose another folder, features_dtype=bfloat16, or encode --prune"
        )


def prune(folder: Path, needed: Mapping[str, Collection[str]], sources: Collection[str]) -> int:
    """Remove shards, or their rows, that nobody needs, and what was torn, foreign or left unfinished.

    Not while a run reads the store: it may look for a shard that has been rewritten.

    Args:
        folder: the store's.
        needed: by the name of an encoder's folder, the keys of the samples whose frames stay.
        sources: keys of the sources that stay known.

    Returns:
        The bytes that were freed.
    """
    before = size(folder)
    for place in folders(folder):
        for path in place.iterdir():
            if path.suffix in (".torn", ".foreign", ".tmp"):
                path.unlink(missing_ok=True)
        seen: set[str] = set()
        for path in shards(place):
            if place.name == SOURCES:
                _prune_sources(path, sources)
            else:
                _prune_frames(path, place.name, needed.get(place.name, ()), seen)
        if not any(place.iterdir()):
            place.rmdir()
    return before - size(folder)


def _prune_sources(path: Path, sources: Collection[str]) -> None:
    if (shard := open_shard(path, SOURCES)) is None:
        return
    held = dict(zip(_texts(shard["sources"]), _texts(shard["contents"]), strict=True))
    kept = {source: content for source, content in held.items() if source in sources}
    if len(kept) < len(held):
        if kept:
            contents = {"sources": _digests(kept), "contents": _digests(kept.values())}
            write_shard(path.parent.parent, SOURCES, contents, name=path.name)
        else:
            path.unlink()


def _prune_frames(path: Path, holds: str, needed: Collection[str], seen: set[str]) -> None:
    if (shard := open_shard(path, holds)) is None:
        return
    held, kept, mapped = _texts(shard["contents"]), {}, MappedFrames(shard)
    for row, content in enumerate(held):
        if content in needed and content not in seen:
            seen.add(content)
            kept[content] = mapped[row]
    if len(kept) < len(held):
        if kept:
            write_shard(path.parent.parent, holds, _pack(kept), name=path.name)
        else:
            path.unlink()


def size(folder: Path) -> int:
    """Return the bytes of a store."""
    total = 0
    for place in folders(folder):
        for path in place.iterdir():
            with suppress(FileNotFoundError):  # another process has finished it meanwhile
                total += path.stat().st_size
    return total


def folders(folder: Path) -> list[Path]:
    """Return the folders of shards in a store, whatever else lies there."""
    if not folder.is_dir():
        return []
    return sorted(
        place
        for place in folder.iterdir()
        if place.is_dir() and (place.name == SOURCES or ENCODER_FOLDER.fullmatch(place.name))
    )


def shards(folder: Path) -> list[Path]:
    """Return the shards in a folder in the order in which they were written; what a killed process left goes."""
    if not folder.is_dir():
        return []
    remove_unfinished(folder)
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def write_shard(store: Path, holds: str, tensors: Shard, *, name: str | None = None) -> Path:
    """Write a file of tensors into one of a store's folders, whole or not at all.

    Args:
        store: the store's folder.
        holds: the name of the folder in it, which the file states as well.
        tensors: what to write.
        name: of a file to replace; by default a new one, whose name sorts behind all earlier ones.

    Raises:
        OSError: the disk is full; what was written before stays.
    """
    folder = store / holds
    name = name or f"{time.time_ns():020d}-{secrets.token_hex(4)}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / name) as file:
            file.write(save(tensors, {"format": FORMAT, "holds": holds, "hash": shard_hash(tensors)}))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"features={store}: the disk is full; what was written stays, and the same command goes on from there"
            ) from error
        raise
    return folder / name


def open_shard(path: Path, holds: str, *, verify: bool = False) -> Shard | None:
    """Map a shard into memory; one that is torn or somebody else's is renamed, with a warning, and None is returned."""
    try:
        tensors, facts = map_file(path)
    except FileNotFoundError:
        return None  # pruned meanwhile
    except SafetensorError as error:
        _set_aside(path, "torn", str(error))
        return None
    if facts.get("format") != FORMAT or facts.get("holds") != holds:
        _set_aside(path, "foreign", f"it holds {facts.get('holds')!r} of {facts.get('format')!r}")
        return None
    if verify and facts.get("hash") != shard_hash(tensors):
        _set_aside(path, "torn", "its content is not what was written")
        return None
    return tensors


def map_file(path: Path) -> tuple[Shard, dict[str, str]]:
    """Map a file of tensors into memory, and return them with what the file says of itself."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def shard_hash(tensors: Shard) -> str:
    """Return a hash of tensors' bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _set_aside(path: Path, fault: str, reason: str) -> None:
    try:
        path.rename(path.with_suffix(f".{fault}"))
    except FileNotFoundError:
        return  # another process has met it too, and was faster
    log.warning("%s is %s (%s): renamed; what it held is encoded again", path, fault, reason)


def _pack(clips: Mapping[str, ClipFrames]) -> Shard:
    frames = list(clips.values())
    return {
        "contents": _digests(clips),
        "vectors": torch.cat([clip.vectors for clip in frames]),
        "vector_ends": torch.tensor([len(clip.vectors) for clip in frames]).cumsum(0),
        "repeats": torch.tensor([clip.repeats for clip in frames]),
        "masks": torch.cat([clip.mask for clip in frames]),
        "frame_ends": torch.tensor([len(clip.mask) for clip in frames]).cumsum(0),
    }


def _digests(texts: Iterable[str]) -> Tensor:
    return torch.frombuffer(bytearray().join(map(bytes.fromhex, texts)), dtype=torch.uint8).reshape(-1, 16)


def _texts(digests: Tensor) -> list[str]:
    joined = digests.numpy().tobytes().hex()
    return [joined[start : start + 32] for start in range(0, len(joined), 32)]
