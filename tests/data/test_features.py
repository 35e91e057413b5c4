"""What is put into the feature store comes out of it, whole or not at all, whoever else writes or breaks it."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab import files
from salmonn_lab.batch import ClipFrames, EncoderSpec, Segment
from salmonn_lab.data import features
from salmonn_lab.data.audio import AudioError, read_audio
from salmonn_lab.data.features import Clip, FeatureStore, FeatureWriter, Storage, content_key, source_key
from salmonn_lab.data.manifest import read_manifest

SPEECH = EncoderSpec("Speech", "a" * 32, dim=4, repeats=1, fixed_frames=None)
SOUNDS = EncoderSpec("Sounds", "b" * 32, dim=6, repeats=16, fixed_frames=None)
READ = partial(read_audio, max_seconds=30.0)


def answer(number: int, spec: EncoderSpec) -> ClipFrames:
    """Return frames that differ from clip to clip, in number too."""
    count = 20 + 7 * number
    vectors = torch.randn(-(-count // spec.repeats), spec.dim, generator=torch.Generator().manual_seed(number))
    return ClipFrames(vectors, spec.repeats, torch.arange(count) != 3)


@pytest.fixture
def played(clips: Path) -> list[Clip]:
    return [Clip(example.audio) for example in read_manifest(clips)][:6]


def make(folder: Path, storage: Storage = "float32", specs: tuple[EncoderSpec, ...] = (SPEECH, SOUNDS)) -> FeatureStore:
    store = FeatureStore(folder, specs, storage)
    store.scan()
    return store


def fill(store: FeatureStore, clips: list[Clip], first: int = 0, shift: int = 0) -> None:
    """Answer to some clips as one process does, three to a shard."""
    writer = FeatureWriter(store)
    for number, clip in enumerate(clips, start=first):
        content = content_key(READ(clip.audio))
        for encoder, spec in enumerate(store.encoders):
            if writer.wants(encoder, content):
                writer.put(encoder, content, answer(number + shift, spec))
        writer.note(source_key(clip, READ), content)
        if number % 3 == 2:
            writer.publish()
    writer.publish()


def assert_holds(store: FeatureStore, clips: list[Clip], first: int = 0) -> None:
    for number, clip in enumerate(clips, start=first):
        for spec, got in zip(store.encoders, store.frames(clip), strict=True):
            wanted = answer(number, spec)
            assert torch.equal(got.vectors, wanted.vectors)
            assert torch.equal(got.mask, wanted.mask)
            assert torch.equal(got.expand(), wanted.expand())


def test_a_store_gives_back_what_was_put_in_and_knows_what_is_missing(tmp_path: Path, played: list[Clip]) -> None:
    store = make(tmp_path)
    assert store.find(played, READ) == played
    fill(store, played[:5])
    again = make(tmp_path)
    assert again.find(played, READ) == played[5:]
    assert_holds(again, played[:5])
    assert_holds(pickle.loads(pickle.dumps(again)), played[:5])
    with pytest.raises(AudioError, match=r"5\.wav: its frames are not in the feature store"):
        again.frames(played[5])


def test_frames_are_views_of_the_mapped_file_and_not_copies(tmp_path: Path, played: list[Clip]) -> None:
    fill(make(tmp_path), played)
    store = make(tmp_path)
    store.find(played, READ)
    one, other = (store.frames(clip)[0].vectors for clip in played[:2])
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    maps = Path("/proc/self/maps").read_text()
    assert any(shard.name in maps for shard in (tmp_path / store.names()[0]).iterdir())


@pytest.mark.parametrize(("storage", "error"), [("bfloat16", 2**-8), ("float16", 2**-10)])
def test_shorter_types_round_and_nothing_else(
    tmp_path: Path, played: list[Clip], storage: Storage, error: float
) -> None:
    fill(make(tmp_path, storage), played)
    store = make(tmp_path, storage)
    assert store.find(played, READ) == []
    assert make(tmp_path).find(played, READ) == played, "another type is another answer"
    for number, clip in enumerate(played):
        for spec, got in zip(store.encoders, store.frames(clip), strict=True):
            assert got.vectors.dtype == getattr(torch, storage)
            torch.testing.assert_close(got.vectors.float(), answer(number, spec).vectors, rtol=error, atol=1e-6)


def test_float16_refuses_what_it_would_turn_into_infinity(tmp_path: Path) -> None:
    writer = FeatureWriter(make(tmp_path, "float16"))
    loud = ClipFrames(torch.full((1, 4), 1e5), 1, torch.ones(1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"features_dtype=float16 cannot hold 1e\+05, which Speech answered"):
        writer.put(0, "0" * 32, loud)


def test_one_encoder_of_two_is_found_by_a_run_that_has_no_other(tmp_path: Path, played: list[Clip]) -> None:
    fill(make(tmp_path), played)
    alone = make(tmp_path, specs=(SPEECH,))
    assert alone.find(played, READ) == []
    assert_holds(alone, played)
    other = make(tmp_path, specs=(EncoderSpec("Speech", "c" * 32, 4, 1, None),))
    assert other.find(played, READ) == played, "other weights have answered nothing yet"


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_a_torn_shard_is_told_and_its_clips_are_missing(
    tmp_path: Path, played: list[Clip], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = make(tmp_path)
    fill(store, played)
    first, second = features.shards(tmp_path / store.names()[1])
    content = first.read_bytes()
    first.write_bytes({"cut": content[:-1], "empty": b"", "garbage": b"\xff" * len(content)}[damage])
    with caplog.at_level(logging.WARNING):
        again = make(tmp_path)
    assert f"{first} is torn" in caplog.text
    assert again.find(played, READ) == played[:3]
    assert_holds(again, played[3:], first=3)
    fill(again, played[:3])
    healed = make(tmp_path)
    assert healed.find(played, READ) == []
    assert_holds(healed, played)
    assert second.is_file()


def test_a_changed_byte_shows_where_content_is_verified(
    tmp_path: Path, played: list[Clip], caplog: pytest.LogCaptureFixture
) -> None:
    store = make(tmp_path)
    fill(store, played)
    first = features.shards(tmp_path / store.names()[0])[0]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    store.scan(verify=True)
    assert store.find(played, READ) == played[:3]
    assert "its content is not what was written" in caplog.text


def test_a_shard_of_another_encoder_is_told_and_not_read(
    tmp_path: Path, played: list[Clip], caplog: pytest.LogCaptureFixture
) -> None:
    store = make(tmp_path)
    fill(store, played)
    mine, theirs = (tmp_path / name for name in store.names())
    for shard in features.shards(mine):
        shard.unlink()
    shutil.copy(features.shards(theirs)[0], mine)
    store.scan()
    assert store.find(played, READ) == played
    assert "is foreign (it holds 'Sounds-" in caplog.text
    assert [path.suffix for path in mine.iterdir()] == [".foreign"]


def test_of_two_processes_that_write_at_once_the_first_answer_counts(tmp_path: Path, played: list[Clip]) -> None:
    one, other = make(tmp_path), make(tmp_path)
    fill(one, played[:4])
    fill(other, played[2:], first=2, shift=100)
    store = make(tmp_path)
    assert store.find(played, READ) == []
    assert_holds(store, played[:4])
    assert torch.equal(store.frames(played[5])[0].vectors, answer(105, SPEECH).vectors)


def test_a_file_that_changed_is_read_again_and_one_that_was_only_touched_is_not_encoded_again(
    tmp_path: Path, played: list[Clip]
) -> None:
    copies = [Clip((Segment(str(shutil.copy(clip.audio[0].path, tmp_path))),)) for clip in played]
    fill(make(tmp_path / "store"), copies)
    os.utime(copies[0].audio[0].path, (0, 0))
    shutil.copy(copies[1].audio[0].path, copies[2].audio[0].path)
    store = make(tmp_path / "store")
    assert store.find(copies, READ) == [copies[0], copies[2]]
    before = len(features.shards(tmp_path / "store" / store.names()[0]))
    fill(store, [copies[0], copies[2]])
    assert len(features.shards(tmp_path / "store" / store.names()[0])) == before, "their samples were known"
    assert make(tmp_path / "store").find(copies, READ) == []


def test_how_a_clip_is_read_is_part_of_its_key(played: list[Clip]) -> None:
    readers = [READ, partial(read_audio, max_seconds=20.0), partial(read_audio, max_seconds=30.0, channels="mean")]
    played_as = [played[0], Clip(played[0].audio, 1.1), Clip((Segment(played[0].audio[0].path, 0.01),))]
    keys = {source_key(clip, read) for clip in played_as for read in readers}
    assert len(keys) == 9


def test_a_reader_that_changes_waveforms_is_refused(played: list[Clip], tmp_path: Path) -> None:
    def add_noise(segments: tuple[Segment, ...], speed: float = 1.0) -> torch.Tensor:
        clean = read_audio(segments, speed=speed)
        return clean + torch.randn_like(clean)

    with pytest.raises(ValueError, match=r"features must be null where waveforms are changed.*add_noise"):
        make(tmp_path).find(played, add_noise)


def test_samples_that_changed_behind_the_back_of_the_date_do_not_agree(tmp_path: Path, played: list[Clip]) -> None:
    path = Path(shutil.copy(played[0].audio[0].path, tmp_path))
    clip, state = Clip((Segment(str(path)),)), path.stat()
    fill(make(tmp_path / "store"), [clip])
    store = make(tmp_path / "store")
    store.find([clip], READ)
    assert store.agrees(clip, READ)
    path.write_bytes(path.read_bytes()[:-400] + bytes(400))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert store.find([clip], READ) == [], "size and time are those of before"
    assert not store.agrees(clip, READ)
    store.distrust()
    assert store.find([clip], READ) == [clip]


def test_pruning_leaves_what_is_needed_and_other_files_alone(tmp_path: Path, played: list[Clip]) -> None:
    store = make(tmp_path)
    fill(store, played)
    fill(make(tmp_path, "float16"), played)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / store.names()[0] / "x.torn").write_bytes(bytes(1000))
    kept = [played[0], played[4]]
    contents = {content_key(READ(clip.audio)) for clip in kept}
    before = features.size(tmp_path)
    freed = features.prune(tmp_path, dict.fromkeys(store.names(), contents), {source_key(clip, READ) for clip in kept})
    assert freed == before - features.size(tmp_path) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"sources", *store.names(), "notes.txt", "photos"}
    assert not list(tmp_path.glob("*/*.torn"))
    after = make(tmp_path)
    assert after.find(played, READ) == [clip for clip in played if clip not in kept]
    for number in (0, 4):
        assert_holds(after, [played[number]], first=number)
    assert features.prune(tmp_path, {}, set()) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "photos"}


def test_a_full_disk_is_told_before_anything_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = shutil.disk_usage(tmp_path).free
    features.check_room(tmp_path / "store", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**33, 2**33 - 2**30, 2**30))
    with pytest.raises(OSError, match=r"the missing frames take about 3\.0 GiB, the disk has 1\.0 GiB free"):
        features.check_room(tmp_path / "store", 3 * 2**30)
    assert needed > 0


def test_a_disk_that_fills_up_leaves_whole_shards_and_no_other(
    tmp_path: Path, played: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make(tmp_path), played[:3])

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="the disk is full; what was written stays, and the same command goes on"):
            fill(make(tmp_path), played[3:], first=3)
    assert not list(tmp_path.glob("*/.*"))
    store = make(tmp_path)
    assert store.find(played, READ) == played[3:]
    fill(store, played[3:], first=3)
    store.scan()
    store.find(played, READ)
    assert_holds(store, played)


def test_what_a_killed_process_left_unfinished_is_not_read_and_goes_at_once(tmp_path: Path, played: list[Clip]) -> None:
    store = make(tmp_path)
    fill(store, played[:3])
    shard = features.shards(tmp_path / store.names()[0])[0]
    left = shard.with_name(f".{shard.name}.0a1b2c3d.tmp")
    left.write_bytes(shard.read_bytes()[:100])
    with files.writing(shard.with_name("9.safetensors")) as file:
        file.write(shard.read_bytes())
        (at_work,) = (path for path in shard.parent.glob(".*.tmp") if path != left)
        store.scan()
        assert store.find(played, READ) == played[3:]
        assert not left.exists()
        assert at_work.exists(), "its writer is still at it"
    assert sorted(shard.parent.glob(".*")) == []


def test_two_processes_that_meet_the_same_torn_shard_both_go_on(
    tmp_path: Path, played: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path)
    fill(store, played[:3])
    for name in (*store.names(), "sources"):
        shard = features.shards(tmp_path / name)[0]
        shard.write_bytes(shard.read_bytes()[:100])
    open_file = features.map_file

    def meet(path: Path) -> Any:
        """Let another process be faster at setting the shard aside."""
        try:
            return open_file(path)
        except features.SafetensorError:
            path.rename(path.with_suffix(".torn"))
            raise

    monkeypatch.setattr(features, "map_file", meet)
    store.scan()
    assert store.find(played, READ) == played
    assert len(list(tmp_path.glob("*/*.torn"))) == 3


def test_a_shard_that_has_gone_since_it_was_seen_is_named(tmp_path: Path, played: list[Clip]) -> None:
    fill(make(tmp_path), played[:3])
    store = make(tmp_path)
    store.scan()
    store.find(played, READ)
    (shard,) = features.shards(tmp_path / store.names()[0])
    shard.unlink()
    with pytest.raises(OSError, match=rf"{shard.name}: another process has removed .* the same command encodes again"):
        store.frames(played[0])


def test_the_size_of_a_store_is_told_while_others_write(
    tmp_path: Path, played: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make(tmp_path), played[:1])
    whole = features.size(tmp_path)
    listing = Path.iterdir
    gone = ".gone.safetensors.0a1b2c3d.tmp"
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*listing(folder), folder / gone])
    assert features.size(tmp_path) == whole


def test_the_size_that_is_told_in_advance_is_the_size_on_disk(tmp_path: Path, played: list[Clip]) -> None:
    store = make(tmp_path)
    fill(store, played)
    told = sum(features.frame_bytes(spec, 20 + 7 * number, "float32") for spec in store.encoders for number in range(6))
    vectors = sum(
        shard["vectors"].nbytes + shard["masks"].nbytes
        for name in store.names()
        for path in features.shards(tmp_path / name)
        if (shard := features.open_shard(path, name)) is not None
    )
    assert told == vectors
