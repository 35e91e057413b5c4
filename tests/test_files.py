"""Files that are written whole or not at all, and what is left of those that were not finished."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salmonn_lab import files
from salmonn_lab.files import remove_unfinished, write_atomically, writing

WRITER = """
import sys, time
from pathlib import Path
from salmonn_lab.files import writing
with writing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """Start another process that is writing a file."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_atomically(path, "old")
    with writing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), writing(path) as file:
        file.write(bytes(1 // 0))
    assert path.read_text() == "new"
    assert names(tmp_path) == ["scores.json"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent/scores\.json'"):
        write_atomically(tmp_path / "absent" / "scores.json", "new")


def test_what_a_killed_process_was_writing_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed, living = writer(tmp_path / "a.json"), writer(tmp_path / "b.json")
    killed.kill()
    killed.wait()
    assert len(names(tmp_path)) == 2
    remove_unfinished(tmp_path)
    (left,) = names(tmp_path)
    assert left.startswith(".b.json.")
    living.send_signal(signal.SIGTERM)
    living.wait()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == []


def test_an_unfinished_file_that_is_taken_for_abandoned_too_early_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks between the moment in which the file is made and that in which it is locked."""
    flock, looks = files.fcntl.flock, []

    def look_first(file: object, how: int) -> None:
        if how == files.fcntl.LOCK_EX and not looks:
            looks.append(how)
            remove_unfinished(tmp_path)
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(files.fcntl, "flock", look_first)
    write_atomically(tmp_path / "scores.json", "new")
    assert looks
    assert (tmp_path / "scores.json").read_text() == "new"
    assert names(tmp_path) == ["scores.json"]


def test_where_there_are_no_locks_an_old_unfinished_file_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    old, new = tmp_path / ".a.json.01234567.tmp", tmp_path / ".b.json.01234567.tmp"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, times=(time.time() - 3700,) * 2)
    write_atomically(tmp_path / "scores.json", "new")
    remove_unfinished(tmp_path)
    assert names(tmp_path) == [new.name, "scores.json"]
