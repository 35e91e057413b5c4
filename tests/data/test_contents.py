"""The hash of a manifest's audio changes with any byte of a file, and with nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from salmonn_lab.data.contents import audio_digest, file_digests
from salmonn_lab.data.manifest import cache_folder, read_manifest


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(corpus.parent, tmp_path / "own")
    return tmp_path / "own" / "corpus.jsonl"


def digest(manifest: Path) -> str | None:
    return audio_digest(read_manifest(manifest))


def test_equal_audio_has_an_equal_hash_wherever_it_lies(corpus: Path, own: Path) -> None:
    assert digest(corpus) == digest(own) is not None
    os.utime(own.parent / "0.flac")
    assert digest(own) == digest(corpus)


def test_one_byte_or_the_order_of_files_changes_it(own: Path) -> None:
    before, clip = digest(own), own.parent / "0.flac"
    content = bytearray(clip.read_bytes())
    content[-1] ^= 1
    clip.write_bytes(content)
    changed = digest(own)
    assert changed != before
    content[-1] ^= 1
    clip.write_bytes(content)
    assert digest(own) == before
    first, second = own.parent / "0.flac", own.parent / "1.flac"
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert digest(own) not in (before, changed)


def test_a_file_is_read_again_only_where_size_or_time_changed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(own)
    read: list[str] = []
    original = Path.open

    def note(self: Path, *arguments: object, **options: object) -> object:
        read.append(self.name)
        return original(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", note)
    assert digest(own) == before
    assert not [name for name in read if name.endswith(".flac")]
    os.utime(own.parent / "2.flac", ns=(1, 1))
    assert digest(own) == before
    assert [name for name in read if name.endswith(".flac")] == ["2.flac"]


def test_a_file_that_is_not_there_leaves_it_open(own: Path) -> None:
    (own.parent / "3.flac").unlink()
    assert digest(own) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": [1, 2]}', "null"])
def test_a_torn_or_foreign_cache_is_made_anew(own: Path, content: str) -> None:
    before = digest(own)
    folder = cache_folder() / "audio"
    newest = max(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    newest.write_text(content)
    assert digest(own) == before
    assert newest.read_text() not in ("", content)


def test_names_that_are_no_unicode_are_hashed_too(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.wav")
    Path(name).write_bytes(b"RIFF")
    found = file_digests([name], tmp_path / "m.jsonl")
    assert found is not None
    assert found == file_digests([name], tmp_path / "m.jsonl")
